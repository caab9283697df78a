"""The JSON Schema that editors complete keys from."""

from __future__ import annotations

import json

from cdnblock.orders.examples import EXAMPLES
from cdnblock.orders.schema import order_schema

SCHEMA = order_schema()
TOP = SCHEMA["properties"]


def test_schema_says_what_it_is():
    """Draft, identity and title, in plain JSON."""
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert SCHEMA["$id"] == "urn:cdnblock:order-file:1"
    assert SCHEMA["title"] == "cdnblock order file, version 1"
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA


def test_schema_knows_every_key_of_the_page():
    """Keys as they are written, in the page's order; nothing else is allowed."""
    assert list(TOP) == [
        "cdnblock", "id", "title", "court", "case", "decided", "legal_basis", "claimant", "addressee",
        "member_state", "illegal_content", "received", "acknowledged", "served", "comply_within", "implemented", "from", "until", "for", "counted_from", "timezone", "territory",
        "unknown_location", "measures", "mode", "names", "names_file", "windows", "additions", "lifted", "publication",
        "penalty", "costs", "contact",
    ]  # fmt: skip
    assert SCHEMA["additionalProperties"] is False
    assert all(keys["additionalProperties"] is False for keys in SCHEMA["$defs"].values())


def test_schema_requires_what_loading_requires():
    """The required keys, and the choices between keys."""
    assert SCHEMA["required"] == [
        "cdnblock", "id", "court", "decided", "legal_basis", "claimant", "territory", "measures",
    ]  # fmt: skip
    assert SCHEMA["oneOf"] == [{"required": ["until"]}, {"required": ["for"]}]
    assert {"required": ["names_file"]} in SCHEMA["anyOf"]
    assert SCHEMA["dependentRequired"]["for"] == ["counted_from"]
    assert SCHEMA["$defs"]["WindowKeys"]["required"] == ["from", "until"]
    assert SCHEMA["$defs"]["AdditionKeys"]["required"] == ["notice", "notified"]
    assert SCHEMA["$defs"]["MeasuresKeys"]["minProperties"] == 1


def test_every_key_is_described_and_none_is_null():
    """Editors show the descriptions; an empty value is a mistake, so no type is null."""
    mappings = [SCHEMA, *SCHEMA["$defs"].values()]
    assert all(value.get("description") for keys in mappings for value in keys["properties"].values())
    assert '"null"' not in json.dumps(SCHEMA)
    assert {key for keys in mappings for key in keys["properties"]} == set(EXAMPLES)


def test_values_of_tables_are_enumerated():
    """Measures, territories and the like complete too."""
    assert SCHEMA["$defs"]["MeasuresKeys"]["properties"]["dns"]["enum"] == ["refuse", "nxdomain", "nodata"]
    assert TOP["counted_from"]["enum"] == ["decided", "served", "implemented"]
    assert TOP["unknown_location"]["enum"] == ["allow", "enforce"]
    assert TOP["mode"]["enum"] == ["enforce", "report"]
    assert TOP["mode"]["default"] == "enforce"
    one, several = TOP["territory"]["oneOf"]
    assert {"world", "france-2024-10-10", "FR"} < set(one["enum"])
    assert len(several["items"]["enum"]) == 249 + 3
