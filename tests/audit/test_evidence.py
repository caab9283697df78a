"""One file of evidence: whole, with nothing of other orders, and any change in it is found."""

from __future__ import annotations

import base64
import io
import json
import re
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest
from trails import AT, ORDER, PROXY, decision_about, enforce, flushed, rules_of, segments, write_trail

from cdnblock.audit.chain import anchor, link, read_anchor, seal
from cdnblock.audit.checking import verify_evidence
from cdnblock.audit.evidence import export
from cdnblock.audit.records import Kind
from cdnblock.audit.settings import OrderText, Settings
from cdnblock.audit.tally import Tally
from cdnblock.audit.trail import Trail
from cdnblock.audit.verifying import verify
from cdnblock.audit.walking import Wrong

TEXT = "id: motogp # élève \u202e\n".encode()
NAMES = b"\xff\xfe names"


@pytest.fixture(scope="module")
def trail(tmp_path_factory):
    """A trail of two runs and two orders, in several segments."""
    folder = tmp_path_factory.mktemp("evidence") / "audit"
    decision, other = decision_about(), rules_of("secret.example", order="other")
    about_other = other.decide("secret.example", country="FR", at=datetime.fromtimestamp(AT, UTC))
    texts = [
        OrderText(order=ORDER, file="motogp.yaml", text=TEXT, beside={"names.txt": NAMES}),
        OrderText(order="other", file="other.yaml", text=b"a secret order"),
    ]
    with Trail(folder, Tally()) as before:
        before.event(Kind.ORDER_STARTED, order="other")
    with Trail(folder, tally := Tally()) as trail:
        trail.loaded(texts[1:], revision="sha256:0")
        trail.loaded(texts[:1], revision=decision.revision, before="sha256:0")
        for _ in range(20):
            enforce(tally, decision, times=3)
            for _ in range(5):
                tally.note(about_other, "secret.example", "192.0.2.1", measures=PROXY, action="answer", adapter="x")
                trail.event(Kind.ORDER_LIFTED, order="other", names=["secret.example"], about="x" * 100)
            flushed(trail)
    return folder


@pytest.fixture(scope="module")
def octets(trail):
    out = io.BytesIO()
    export(trail, ORDER, out, at=AT)
    return out.getvalue()


@pytest.fixture
def evidence(octets, tmp_path):
    path = tmp_path / "elsewhere" / "evidence.json"
    path.parent.mkdir()
    path.write_bytes(octets)
    return path


def sealed_again(told):
    """Write changed members as somebody would who knows how the checksum is made."""
    text = ",\n".join(f"{json.dumps(key)}:{json.dumps(value)}" for key, value in told.items() if key != "sha256")
    octets = b"{" + text.encode()
    return octets + b',\n"sha256":"' + sha256(octets).hexdigest().encode() + b'"}\n'


def test_evidence_verifies_elsewhere(evidence, trail):
    """With nothing but itself; and its head is the trail's."""
    result = verify_evidence(evidence)
    assert result.ok, result.findings
    assert result.head == verify(trail).head
    assert result.omitted >= 100


def test_evidence_holds_the_order_and_nothing_of_others(octets, trail):
    """Its records in full, the order file and its names as they were; of another order not even the id."""
    told = json.loads(octets)
    full = [item for item in told["chain"] if "seq" in item]
    mine = [item for item in full if item.get("order") == ORDER]
    assert [item["kind"] for item in mine] == ["enforced", "counted"]
    assert [item["kind"] for item in full[:2]] == ["trail-opened", "loaded"]
    assert full[-1]["kind"] == "trail-closed"
    files = {item["file"]: item for item in told["files"]}
    assert files["motogp.yaml"]["text"].encode() == TEXT
    assert base64.b64decode(files["names.txt"]["base64"]) == NAMES
    assert files.keys() == {"motogp.yaml", "names.txt"}
    assert told["revisions"] == [decision_about().revision]
    assert told["exported"]["software"].startswith("cdnblock ")
    assert full[0]["clock"].keys() >= {"synchronised", "utc"}
    # The record that says that the other order is gone tells of it; nothing else does.
    assert b"secret" not in octets
    assert told["before"] != anchor(0, bytes(32))


def test_a_head_from_elsewhere_is_compared(evidence, octets):
    """An anchor anywhere between its first record and its last, those left out included."""
    head = json.loads(octets)["head"]
    assert verify_evidence(evidence, expect=head).ok
    seq = head.partition(":")[0]
    (finding,) = verify_evidence(evidence, expect=f"{seq}:{'0' * 64}").findings
    assert finding.wrong == Wrong.EXPECTED


def test_any_changed_octet_is_found(octets, tmp_path):
    """Wherever it is: in a record, a digest, a file, the circumstances or the checksum."""
    path = tmp_path / "evidence.json"
    for at in range(0, len(octets), 61):
        path.write_bytes(octets[:at] + bytes([octets[at] ^ 1]) + octets[at + 1 :])
        assert not verify_evidence(path).ok, at
    for changed in (octets[:-1], octets + b" ", octets[1:], b"", b"{}", b"[]", b"\xff", b"[" * 100_000, b"7"):
        path.write_bytes(changed)
        assert not verify_evidence(path).ok


def record_of(told, kind=Kind.ENFORCED):
    return next(item for item in told["chain"] if item.get("kind") == kind)


def change_record(told):
    record_of(told)["client"] = "192.0.2.0/24"


def change_count(told):
    record_of(told, Kind.COUNTED)["count"] = 1


def delete_record(told):
    told["chain"].remove(record_of(told))
    told["records"] -= 1


def swap_records(told):
    one, two = [index for index, item in enumerate(told["chain"]) if "seq" in item][1:3]
    told["chain"][one], told["chain"][two] = told["chain"][two], told["chain"][one]


def cut_end(told):
    del told["chain"][-1]
    told["records"] -= 1


def change_digest(told):
    run = next(item for item in told["chain"] if "omitted" in item)
    run["digests"] = base64.b64encode(bytes(32 * run["omitted"])).decode()


def delete_run(told):
    run = next(item for item in told["chain"] if "omitted" in item)
    told["chain"].remove(run)
    told["omitted"] -= run["omitted"]


def change_file(told):
    told["files"][0]["text"] = "id: another\n"


def change_file_and_digest(told):
    told["files"][0] |= {"text": "x", "digest": f"sha256:{sha256(b'x').hexdigest()}"}


def delete_file(told):
    del told["files"][0]


def add_file(told):
    told["files"].append({"file": "x", "digest": f"sha256:{sha256(b'x').hexdigest()}", "text": "x"})


def change_software(told):
    told["software"] = ["cdnblock 99"]


def change_revisions(told):
    told["revisions"] = []


def change_order(told):
    told["order"] = "other"


def change_before(told):
    told["before"] = anchor(3, bytes(32))


def cut_beginning(told):
    """As somebody does it who knows what `before` is for."""
    at = told["chain"].index(record_of(told)) + 1
    gone = told["chain"][:at]
    left_out = sum(item.get("omitted", 0) for item in gone)
    before, _ = read_anchor(told["before"])
    told["before"] = f"{before + len(gone) - sum('omitted' in item for item in gone) + left_out}:{gone[-1]['chain']}"
    told["chain"] = told["chain"][at:]
    told["records"] = sum("seq" in item for item in told["chain"])
    told["omitted"] -= left_out
    told["software"] = sorted({item["software"] for item in told["chain"] if item.get("kind") == Kind.TRAIL_OPENED})
    own = [item for item in told["chain"] if item.get("order") == ORDER]
    told["revisions"] = sorted({item["revision"] for item in own})
    files = {item["file"] for item in own}
    told["files"] = [file for file in told["files"] if file["digest"] in files]


def begin_with_another_chain(told):
    told["before"] = anchor(0, bytes(31) + b"x")
    told["chain"] = [item for item in told["chain"] if "seq" in item]
    told["omitted"] = 0
    chain = read_anchor(told["before"])[1]
    for number, item in enumerate(told["chain"], start=1):
        item["seq"] = number
        del item["chain"]
        _, chain = seal(chain, json.dumps(item, separators=(",", ":")).encode()[:-1])
        item["chain"] = chain.hex()
    told["head"] = anchor(len(told["chain"]), chain)


def no_before(told):
    told["before"] = "x"


def add_member(told):
    told["note"] = "x"


def add_item(told):
    told["chain"].append({"rubbish": 1})


def add_record(told):
    record = told["chain"][-1]
    body = b'{"seq":%d,"at":"2026-11-22T03:50:00.000000Z","kind":"gap"' % (record["seq"] + 1)
    told["chain"].append(json.loads(seal(bytes.fromhex(record["chain"]), body)[0]))


FORGERIES = [
    change_record, change_count, delete_record, swap_records, cut_end, change_digest, delete_run, change_file,
    change_file_and_digest, delete_file, add_file, change_software, change_revisions, change_order, change_before,
    cut_beginning, begin_with_another_chain, no_before, add_member, add_item, add_record,
]  # fmt: skip


@pytest.mark.parametrize("forge", FORGERIES, ids=lambda forge: forge.__name__)
def test_a_forger_who_makes_the_checksum_again_is_found(octets, tmp_path, forge):
    """The chain, the digests of the files and what the records say hold each other."""
    told = json.loads(octets)
    path = tmp_path / "evidence.json"
    path.write_bytes(sealed_again(told))
    assert verify_evidence(path).ok
    forge(told)
    path.write_bytes(sealed_again(told))
    assert not verify_evidence(path).ok


def test_what_a_forger_can_do_is_found_by_a_head_from_elsewhere(octets, tmp_path):
    """Whoever makes the whole chain anew makes another head: that is what a chain alone cannot prove."""
    told = json.loads(octets)
    head = told["head"]
    for item in told["chain"]:
        if item.get("kind") == Kind.COUNTED:
            item["count"] = 1
    _, chain = read_anchor(told["before"])
    for item in told["chain"]:
        if "omitted" in item:
            digests = base64.b64decode(item["digests"])
            for at in range(0, len(digests), 32):
                chain = link(chain, digests[at : at + 32])
        else:
            del item["chain"]
            body = json.dumps(item, separators=(",", ":")).encode()[:-1]
            _, chain = seal(chain, body)
            item["chain"] = chain.hex()
    told["head"] = anchor(int(head.partition(":")[0]), chain)
    path = tmp_path / "evidence.json"
    path.write_bytes(sealed_again(told))
    assert verify_evidence(path).ok
    assert not verify_evidence(path, expect=head).ok


def test_what_is_wrong_with_the_trail_is_wrong_with_its_evidence(tmp_path):
    """A changed record of another order is found in the evidence, too."""
    folder = tmp_path / "audit"
    write_trail(folder, 40)
    path = segments(folder)[1]
    path.write_bytes(re.sub(rb'"order":"other"', b'"order":"othex"', path.read_bytes(), count=1))
    out = tmp_path / "evidence.json"
    with out.open("wb") as file:
        done = export(folder, ORDER, file, at=AT)
    assert not done.verification.ok
    messages = [str(finding) for finding in verify_evidence(out).findings]
    assert any("was changed" in message for message in messages)
    assert any("did not verify when this was exported" in message for message in messages)


def test_an_order_that_the_trail_does_not_know_has_no_evidence(trail):
    """Nothing is written that proves nothing."""
    with pytest.raises(LookupError, match="no record tells of the order 'nobody'"):
        export(trail, "nobody", io.BytesIO(), at=AT)


def test_evidence_after_retirement_begins_where_the_trail_does(tmp_path):
    """What was deleted in its time is not missing from it."""
    now = [AT]
    settings = Settings(retention=timedelta(days=2))
    for _ in range(6):
        with Trail(tmp_path / "audit", Tally(), settings=settings, clock=lambda: now[0]) as trail:
            trail.event(Kind.ORDER_STARTED, order=ORDER)
            flushed(trail)
        now[0] += 86_400
    out = tmp_path / "evidence.json"
    with out.open("wb") as file:
        done = export(tmp_path / "audit", ORDER, file, at=AT)
    assert done.verification.ok
    assert done.verification.first > 1
    assert verify_evidence(out).ok
