"""The shape of an order file: its keys, their types and what they mean. Its JSON Schema comes from here.

What a date, a name or a territory may hold is read elsewhere, with messages of its own; the patterns here are for
editors (`# yaml-language-server: $schema=`).
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    WithJsonSchema,
)
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from cdnblock.orders.dsa import CATEGORY_OF, MEMBER_STATES, NOT_A_MEMBER_STATE
from cdnblock.orders.examples import EXAMPLES
from cdnblock.orders.model import VARIANTS, Anchor, Measure, Mode, UnknownLocation
from cdnblock.orders.moments import DAY_PATTERN, DELAY_PATTERN, MOMENT_PATTERN
from cdnblock.orders.territories import COUNTRIES, PRESETS, WORLD

FORMAT_VERSION: Final = 1
MAX_TEXT: Final = 2_000
ID_PATTERN: Final = r"^[a-z0-9][a-z0-9._-]{0,63}$"

# Tags of the two ways to write a value. No key of an order file begins with these, so paths can be freed of them.
AS_TEXT: Final = "\0text"
AS_LIST: Final = "\0list"
AS_MAPPING: Final = "\0mapping"


def _way_of_writing(value: Any) -> str | None:
    """Choose by the value's kind, so that a mistake is reported once, and for the way that was meant."""
    match value:
        case str():
            return AS_TEXT
        case list():
            return AS_LIST
        case dict() | BaseModel():
            return AS_MAPPING
        case _:
            return None


def _pattern(pattern: str) -> Any:
    return Field(json_schema_extra={"pattern": pattern})


Text: TypeAlias = Annotated[str, StringConstraints(max_length=MAX_TEXT, pattern=r"\S")]
DayText: TypeAlias = Annotated[Text, _pattern(DAY_PATTERN)]
MomentText: TypeAlias = Annotated[Text, _pattern(MOMENT_PATTERN)]
DelayText: TypeAlias = Annotated[Text, _pattern(DELAY_PATTERN)]
# No length here: an over-long name gets the message about host names.
NameText: TypeAlias = Annotated[str, Field(json_schema_extra={"pattern": r"^[^\s/:@*,;]+\.[^\s/:@*,;]+$"})]


def _exact(value: Any) -> Any:
    return Decimal(value) if type(value) is int else value


def _whole(value: Any) -> Any:
    # True and 1.0 equal 1, and a Literal is compared by equality.
    return value if type(value) is int else str(value)


Amount: TypeAlias = Annotated[Decimal, BeforeValidator(_exact), WithJsonSchema({"type": "number", "minimum": 0})]


class _Keys(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class NameEntry(_Keys):
    """The long form of a name."""

    name: NameText = Field(description="The host name; U-labels are fine.")
    subdomains: bool = Field(default=True, description="false: this exact name only. Default: everything below it too.")
    note: Text | None = Field(default=None, description="A remark, such as where the order lists it.")
    overbroad: Text | None = Field(
        default=None,
        description="The written reason that lets a public suffix or a protected name through; a warning stays.",
    )


NameOrEntry: TypeAlias = Annotated[
    Annotated[NameText, Tag(AS_TEXT)] | Annotated[NameEntry, Tag(AS_MAPPING)], Discriminator(_way_of_writing)
]
Names: TypeAlias = Annotated[list[NameOrEntry], Field(min_length=1)]
NamesFileText: TypeAlias = Annotated[Text, _pattern(r"^[^./\\][^/\\]*$")]

TerritoryText: TypeAlias = Annotated[str, Field(json_schema_extra={"enum": [WORLD, *PRESETS, *sorted(COUNTRIES)]})]
TerritoryEntry: TypeAlias = Annotated[str, Field(json_schema_extra={"enum": [*PRESETS, *sorted(COUNTRIES)]})]
TerritoryKeys: TypeAlias = Annotated[
    Annotated[TerritoryText, Tag(AS_TEXT)] | Annotated[list[TerritoryEntry], Field(min_length=1), Tag(AS_LIST)],
    Discriminator(_way_of_writing),
]


class MeasuresKeys(_Keys):
    """Each measure is a separate duty; at least one."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    dns: Literal[VARIANTS[Measure.DNS]] | None = Field(  # type: ignore[valid-type]  # the model's table is the source
        default=None, description="How our resolver answers: refuse (REFUSED + EDE 16), nxdomain or nodata."
    )
    cdn: Literal[VARIANTS[Measure.CDN]] | None = Field(  # type: ignore[valid-type]  # the same
        default=None, description="disable: caching is off for these names."
    )
    proxy: Literal[VARIANTS[Measure.PROXY]] | None = Field(  # type: ignore[valid-type]  # the same
        default=None, description="terminate (HTTP 451) or close (the connection is closed without an answer)."
    )


class WindowKeys(_Keys):
    """A span inside which the order is enforced."""

    from_: MomentText = Field(alias="from", description="Start; a bare date is its 00:00.")
    until: MomentText = Field(description="End, exclusive; a bare date is that whole day, up to 24:00.")
    label: Text | None = Field(default=None, description="Such as the match.")


class AdditionKeys(_Keys):
    """Names notified while the order runs. They have the order's territory, measures and end."""

    model_config = ConfigDict(json_schema_extra={"anyOf": [{"required": ["names"]}, {"required": ["names_file"]}]})

    notice: Text = Field(description="The notification's own reference.")
    authority: Text | None = Field(default=None, description="Who notified.")
    notified: MomentText = Field(description="When; the deadline of `comply_within` counts from here.")
    comply_within: DelayText | None = Field(default=None, description="N minutes, hours, days, working days or months.")
    from_: MomentText | None = Field(default=None, alias="from", description="Enforcement starts; default: `notified`.")
    names: Names | None = Field(default=None, description="The names.")
    names_file: NamesFileText | None = Field(
        default=None, description="A plain text file beside this one, a name a line."
    )


class LiftingKeys(_Keys):
    """A release before the order's end; of the whole order when `names` is left out."""

    at: MomentText = Field(description="From when on.")
    names: Annotated[list[NameText], Field(min_length=1)] | None = Field(
        default=None, description="Names that the order lists, or names below those."
    )
    reason: Text | None = Field(default=None, description="Why.")


class PenaltyKeys(_Keys):
    """The periodic penalty payment (astreinte)."""

    amount: Amount = Field(ge=0, le=Decimal(10) ** 15, description="How much.")
    currency: str = Field(pattern=r"^[A-Z]{3}$", description="ISO 4217 code.")
    per: Text | None = Field(default=None, description="For each of what.")


class OrderKeys(_Keys):
    """One court order, as cdnblock enforces it."""

    model_config = ConfigDict(
        title="cdnblock order file, version 1",
        json_schema_extra={
            "anyOf": [{"required": ["names"]}, {"required": ["names_file"]}, {"required": ["additions"]}],
            "oneOf": [{"required": ["until"]}, {"required": ["for"]}],
            "dependentRequired": {"for": ["counted_from"], "counted_from": ["for"]},
        },
    )

    cdnblock: Annotated[Literal[1], BeforeValidator(_whole)] = Field(description="The format's version.")
    id: str = Field(pattern=ID_PATTERN, description="Unique in the folder; in logs, metrics and the 451 notice.")
    title: Text | None = Field(default=None, description="How people call the case.")
    court: Text = Field(description="Who decided.")
    case: Text | None = Field(default=None, description="Docket number.")
    decided: DayText = Field(description="Date of the decision.")
    legal_basis: Text = Field(description="Goes into the 451 notice.")
    claimant: Text = Field(description="Goes into the 451 notice.")
    addressee: Text | None = Field(default=None, description="Whom the order binds: the operator of this edge.")
    member_state: Text | None = Field(
        default=None,
        description="Of the EU, whose authority issued the order; none: it is not one. For `report dsa-15` alone.",
        json_schema_extra={"enum": [*sorted(MEMBER_STATES), NOT_A_MEMBER_STATE]},
    )
    illegal_content: Text | None = Field(
        default=None,
        description="Its type, as Implementing Regulation (EU) 2024/2835 calls it. For `report dsa-15` alone.",
        json_schema_extra={"enum": list(CATEGORY_OF)},
    )
    received: MomentText | None = Field(default=None, description="When the order reached the addressee.")
    acknowledged: MomentText | None = Field(
        default=None, description="When its receipt was confirmed to whoever issued it."
    )
    served: MomentText | None = Field(default=None, description="Service; the deadline's clock starts here.")
    comply_within: DelayText | None = Field(
        default=None, description="N minutes, hours, days, working days or months from `served`."
    )
    implemented: MomentText | None = Field(default=None, description="When enforcement really began.")
    from_: MomentText | None = Field(
        default=None, alias="from", description="Enforcement starts; default: 00:00 of `served`, else of `decided`."
    )
    until: MomentText | None = Field(
        default=None, description="Enforcement ends, exclusive; a bare date is that whole day, up to 24:00."
    )
    for_: DelayText | None = Field(default=None, alias="for", description="Instead of `until`, with `counted_from`.")
    counted_from: Literal[tuple(anchor.value for anchor in Anchor)] | None = Field(  # type: ignore[valid-type]  # a table
        default=None, description="The event that `for` counts from; it must be in the file."
    )
    timezone: Text = Field(
        default="Europe/Paris", description="IANA zone; times without an offset are legal time there."
    )
    territory: TerritoryKeys = Field(description="ISO 3166-1 alpha-2 codes and presets, or `world` alone.")
    unknown_location: Literal[tuple(choice.value for choice in UnknownLocation)] = Field(  # type: ignore[valid-type]  # a table
        default=UnknownLocation.ALLOW.value, description="A client whose country cannot be told: allow or enforce."
    )
    measures: MeasuresKeys = Field(description="What is ordered; at least one.")
    mode: Literal[tuple(mode.value for mode in Mode)] = Field(  # type: ignore[valid-type]  # a table
        default=Mode.ENFORCE.value,
        description="enforce, or report: decided, recorded and counted as what would be enforced; nothing is refused.",
    )
    names: Names | None = Field(default=None, description="Each with everything below it, or in long form.")
    names_file: NamesFileText | None = Field(
        default=None, description="A plain text file beside this one: a name a line, # comments."
    )
    windows: Annotated[list[WindowKeys], Field(min_length=1)] | None = Field(
        default=None, description="Enforce only inside these, such as live matches."
    )
    additions: Annotated[list[AdditionKeys], Field(min_length=1)] | None = Field(
        default=None, description="Names that an authority notified while the order runs."
    )
    lifted: Annotated[list[LiftingKeys], Field(min_length=1)] | None = Field(
        default=None, description="Names, or the whole order, released before the end."
    )
    publication: Text | None = Field(
        default=None,
        description="Where the order can be read; goes into the 451 notice.",
        json_schema_extra={"format": "uri", "pattern": "^https?://"},
    )
    penalty: PenaltyKeys | None = Field(default=None, description="The penalty payment behind the order.")
    costs: Text | None = Field(default=None, description="Who bears them; free text.")
    contact: Text | None = Field(default=None, description="Goes into the 451 notice.")


def order_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of an order file, for editors and for other programs that write orders."""
    schema = OrderKeys.model_json_schema(by_alias=True, schema_generator=_Schema)
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "urn:cdnblock:order-file:1"}
    for keys in [schema, *schema["$defs"].values()]:
        for key, value in keys.get("properties", {}).items():
            value.pop("title", None)
            if EXAMPLES[key][0] not in "[{":
                value["examples"] = [_typed(EXAMPLES[key])]
    return {**head, **schema}


class _Schema(GenerateJsonSchema):
    """A key without a value is refused, so no value of the schema is null."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        described = super().default_schema(schema)
        if described.get("default", ...) is None:
            del described["default"]
        return described


def _typed(example: str) -> Any:
    if example in ("true", "false"):
        return example == "true"
    return int(example) if example.isdigit() else example.strip('"')
