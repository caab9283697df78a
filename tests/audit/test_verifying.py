"""Whatever is done to a trail is found, and where; and what is right is right."""

from __future__ import annotations

import os
import resource
import shutil
from datetime import timedelta

import pytest
from trails import AT, lines, segments, write_trail

from cdnblock.audit.chain import START, anchor, read_line, seal
from cdnblock.audit.records import MAX_LINE, Kind
from cdnblock.audit.segments import Head
from cdnblock.audit.verifying import verify
from cdnblock.audit.walking import MOST_FINDINGS, Walk, Wrong
from cdnblock.audit.writing import Writer


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pristine") / "audit"
    write_trail(folder, 40)
    return folder


@pytest.fixture
def trail(pristine, tmp_path):
    return shutil.copytree(pristine, tmp_path / "audit")


def lines_of(path):
    return path.read_bytes().splitlines(keepends=True)


def put(path, lines):
    path.write_bytes(b"".join(lines))


def found(trail, **more):
    return [(finding.wrong, finding.file, finding.line, finding.seq) for finding in verify(trail, **more).findings]


def test_a_trail_that_was_not_touched_verifies(pristine):
    """Its records are counted, and its head is that of the last one."""
    result = verify(pristine)
    last = read_line(lines(pristine)[-1])
    assert result.ok
    assert (result.records, result.first, result.segments) == (len(lines(pristine)), 1, len(segments(pristine)))
    assert result.head == Head(last.seq, last.chain)
    assert result.segments >= 4
    assert not result.notes
    assert not result.in_use


def test_every_changed_octet_is_found_where_it_is(trail):
    """One other octet anywhere is a finding in its own line, or in the next where it made two lines of one."""
    path = segments(trail)[1]
    octets = path.read_bytes()
    for at in range(0, len(octets), 37):
        path.write_bytes(octets[:at] + bytes([octets[at] ^ 1]) + octets[at + 1 :])
        line = octets[:at].count(b"\n") + 1
        places = found(trail)
        assert places, at
        assert (places[0][1], places[0][2] in (line, line + 1)) == (path.name, True), (at, places)
    path.write_bytes(octets)
    assert verify(trail).ok


@pytest.mark.parametrize("which", range(8))
def test_a_deleted_line_is_found(trail, which):
    """What is missing is named, and before which line."""
    path = segments(trail)[1]
    kept = lines_of(path)
    gone = read_line(kept[which].rstrip(b"\n")).seq
    put(path, kept[:which] + kept[which + 1 :])
    expected = (Wrong.MISSING, path.name, which + 1, gone)
    assert expected in found(trail)
    assert [wrong for wrong, *_ in found(trail)] == [Wrong.MISSING] if which else True


def test_a_doubled_line_is_found(trail):
    """The second one is a duplicate."""
    path = segments(trail)[0]
    kept = lines_of(path)
    put(path, [*kept[:4], kept[3], *kept[4:]])
    assert found(trail) == [(Wrong.DUPLICATE, path.name, 5, 4)]


def test_swapped_lines_are_found(trail):
    """A record that comes too late is out of order, and is not told to be missing as well."""
    path = segments(trail)[0]
    kept = lines_of(path)
    kept[3], kept[4] = kept[4], kept[3]
    put(path, kept)
    assert found(trail) == [(Wrong.REORDERED, path.name, 5, 4)]


def test_a_deleted_segment_is_found(trail):
    """Its records are missing before the next one's first."""
    path, following = segments(trail)[1:3]
    first = read_line(path.read_bytes().splitlines()[0]).seq
    path.unlink()
    assert found(trail) == [(Wrong.MISSING, following.name, 1, first)]


def test_deleted_first_segments_are_found(trail):
    """Nothing says that their time was over."""
    for path in segments(trail)[:2]:
        path.unlink()
    assert found(trail) == [(Wrong.MISSING, segments(trail)[0].name, 1, 1)]


def test_swapped_segments_are_found(trail):
    """Each record of theirs is out of order, and the names are wrong."""
    one, other = segments(trail)[1:3]
    octets = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(octets)
    kinds = {wrong for wrong, *_ in found(trail)}
    assert kinds >= {Wrong.RENAMED, Wrong.REORDERED}


@pytest.mark.parametrize("cut", [1, 3], ids=["one record", "three records"])
def test_a_cut_end_is_found(trail, cut):
    """The file head knows better."""
    path = segments(trail)[-1]
    kept = lines_of(path)
    put(path, kept[:-cut])
    last = read_line(kept[-1].rstrip()).seq
    assert found(trail) == [(Wrong.CUT, "head", None, last - cut + 1)]


def test_a_cut_end_with_half_a_line_is_found(trail):
    """Half a record at the end is what a killed process leaves, but not after the head was told."""
    path = segments(trail)[-1]
    path.write_bytes(path.read_bytes()[:-20])
    assert [wrong for wrong, *_ in found(trail)] == [Wrong.CUT]


def test_a_cut_end_with_its_own_head_is_found_by_a_head_from_elsewhere(trail):
    """Whoever writes another head is found out by one that was written down."""
    head = verify(trail).head
    told = anchor(head.seq, head.chain)
    path = segments(trail)[-1]
    kept = lines_of(path)
    put(path, kept[:-2])
    line = read_line(kept[-3].rstrip())
    (trail / "head").write_bytes(Head(line.seq, line.chain).octets())
    assert verify(trail).ok
    assert found(trail, expect=told) == [(Wrong.EXPECTED, str(trail), None, head.seq)]


def test_a_trail_written_anew_is_found_by_a_head_from_elsewhere(trail, tmp_path):
    """A whole other trail verifies; the head of the right one does not fit it."""
    right = verify(trail).head
    write_trail(tmp_path / "other", 40, order="another")
    assert verify(tmp_path / "other").ok
    wrong = verify(tmp_path / "other", expect=anchor(right.seq, right.chain))
    assert [finding.wrong for finding in wrong.findings] == [Wrong.EXPECTED]
    assert verify(trail, expect=anchor(right.seq, right.chain)).ok


def test_any_head_on_the_way_may_be_expected(trail):
    """Not only the last one: that of a week ago as well."""
    line = read_line(lines(trail)[6])
    assert verify(trail, expect=anchor(line.seq, line.chain)).ok
    assert found(trail, expect=anchor(line.seq, bytes(32))) == [(Wrong.EXPECTED, str(trail), None, line.seq)]


def test_a_changed_chain_is_one_finding(trail):
    """Only the chain of a line was changed: the next one follows from what it should be."""
    path = segments(trail)[0]
    kept = lines_of(path)
    line = read_line(kept[4].rstrip())
    kept[4] = kept[4].replace(line.chain.hex().encode(), b"0" * 64)
    put(path, kept)
    assert found(trail) == [(Wrong.CHANGED, path.name, 5, 5)]


def test_a_record_put_between_is_found(trail):
    """A forged record that follows from the one before makes the next one stand there again."""
    path = segments(trail)[0]
    kept = lines_of(path)
    before = read_line(kept[4].rstrip())
    forged, _ = seal(before.chain, b'{"seq":6,"at":"2026-11-22T03:50:05.000000Z","kind":"enforced"')
    put(path, [*kept[:5], forged, *kept[5:]])
    assert [(wrong, line) for wrong, _, line, _ in found(trail)] == [(Wrong.DUPLICATE, 7), (Wrong.CHANGED, 8)]


@pytest.mark.parametrize(
    "rubbish", [b"\n", b"\0" * 500 + b"\n", b"{}\n", b"\xff\xfe\n", b"x" * (MAX_LINE + 5) + b"\n"],
    ids=["empty", "nul", "json", "octets", "endless"],
)  # fmt: skip
def test_rubbish_between_is_found(trail, rubbish):
    """It is no record; those around it are right."""
    path = segments(trail)[1]
    kept = lines_of(path)
    put(path, [*kept[:3], rubbish, *kept[3:]])
    assert [(wrong, file, line) for wrong, file, line, _ in found(trail)] == [(Wrong.MALFORMED, path.name, 4)]


def test_a_huge_line_is_read_in_bounded_memory(tmp_path):
    """100 MB without a newline are one finding, and never in memory at once."""
    write_trail(tmp_path / "audit", 3)
    with segments(tmp_path / "audit")[-1].open("ab") as file:
        file.truncate(100_000_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = verify(tmp_path / "audit")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30_000
    assert result.notes or result.findings


def test_a_trail_of_rubbish_has_a_bounded_number_of_findings(tmp_path):
    """Findings beyond a thousand are counted."""
    folder = tmp_path / "audit"
    folder.mkdir()
    (folder / "trail-000000000001-2026-11-22.jsonl").write_bytes(b"rubbish\n" * 5_000)
    result = verify(folder)
    assert len(result.findings) == MOST_FINDINGS
    assert result.more == 4_001  # and the head is missing


def test_a_link_instead_of_a_segment_is_found(trail):
    """A segment is a regular file: nobody is led elsewhere."""
    path = segments(trail)[1]
    elsewhere = trail.parent / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    assert (Wrong.UNREADABLE, path.name) in [(wrong, file) for wrong, file, *_ in found(trail)]


def test_a_pipe_instead_of_a_segment_is_found(trail):
    """Nobody waits for it."""
    path = segments(trail)[1]
    path.unlink()
    os.mkfifo(path)
    assert (Wrong.UNREADABLE, path.name) in [(wrong, file) for wrong, file, *_ in found(trail)]


@pytest.mark.parametrize("content", [None, b"", b"rubbish", b'{"seq":true,"chain":""}', b"[" * 100_000], ids=range(5))
def test_a_head_that_is_none_is_found(trail, content):
    """Without it nobody can tell whether the end was cut."""
    (trail / "head").unlink()
    if content is not None:
        (trail / "head").write_bytes(content)
    assert found(trail) == [(Wrong.HEAD, "head", None, None)]


def test_a_head_that_is_another_is_found(trail):
    """The last record is not the one that was written last."""
    (trail / "head").write_bytes(Head(verify(trail).head.seq, b"\1" * 32).octets())
    assert [wrong for wrong, *_ in found(trail)] == [Wrong.HEAD]


@pytest.mark.parametrize("seq", [0, 3], ids=["of nothing", "of a deleted record"])
def test_a_head_from_before_the_first_record_is_found(tmp_path, seq):
    """What was deleted was recorded as deleted, and the head told after that: a head from before is not this trail's."""
    write_trail(trail := tmp_path / "audit", 40)
    writer = Writer(trail, segment_size=4096, on_record=lambda _: None)
    assert len(list(writer.retire(AT + 100, timedelta(seconds=70)))) == 2
    writer.close()
    assert verify(trail).ok
    (trail / "head").write_bytes(Head(seq, bytes(32)).octets())
    assert found(trail) == [(Wrong.HEAD, "head", None, seq)]


def test_segments_that_are_deleted_while_a_trail_is_verified_are_not_missing(tmp_path):
    """The record that tells of it may stand in a segment that began meanwhile: then all is looked at again."""
    writer = Writer(tmp_path / "audit", segment_size=600_000, on_record=lambda _: None)
    for number in range(12_000):
        writer.append(AT + number, AT + number, Kind.ORDER_STARTED, {})
    last = segments(tmp_path / "audit")[-1]
    writer.tell_head()

    def retire(*_):
        if last == segments(tmp_path / "audit")[-1]:
            assert len(list(writer.retire(AT + 200_000, timedelta(days=1)))) == 2

    result = verify(tmp_path / "audit", progress=retire)
    writer.close()
    first = int(segments(tmp_path / "audit")[0].name.split("-")[1])
    assert (result.findings, result.first, first > 1) == ((), first, True)


@pytest.mark.parametrize("digits", [13, 18])
def test_a_segment_with_more_zeros_in_its_name_is_none(trail, digits):
    """One number, one name: what is called otherwise is missing, and keeps nobody from reading the others."""
    path, following = segments(trail)[1:3]
    first = read_line(path.read_bytes().splitlines()[0]).seq
    path.rename(path.with_name(f"trail-{first:0{digits}}-{path.name[-16:]}"))
    assert found(trail) == [(Wrong.MISSING, following.name, 1, first)]


def test_a_loss_of_which_nobody_knows_the_number_is_not_told_as_none(tmp_path):
    """A worker that died took along what it alone had counted."""
    writer = Writer(tmp_path / "audit", segment_size=4096, on_record=lambda _: None)
    writer.append(AT, AT, Kind.GAP, {"why": "a worker died", "of": "enforced", "lost": None})
    writer.append(AT, AT, Kind.GAP, {"why": "it was full", "lost": {}})
    writer.close()
    lost = [note.partition("lost: ")[2] for note in verify(tmp_path / "audit").notes if "gap" in note]
    assert lost == ["nobody knows how many enforced", "nothing"]


def test_a_folder_without_a_trail_does_not_verify(tmp_path):
    """An empty folder proves nothing; one that is not there is an error."""
    assert found(tmp_path) == [(Wrong.MISSING, str(tmp_path), None, None)]
    with pytest.raises(OSError, match="No such file"):
        verify(tmp_path / "nowhere")


def test_a_trail_that_was_emptied_does_not_verify(trail):
    """All segments gone, and the head left: the end was cut."""
    for path in segments(trail):
        path.unlink()
    assert [wrong for wrong, *_ in found(trail)] == [Wrong.CUT]


def test_one_line_that_does_not_fit_does_not_end_the_way():
    """Findings stay where the changes are: ten changed lines of a thousand are ten findings."""
    walk, chain = Walk(), START
    for seq in range(1, 1001):
        line, chain = seal(chain, b'{"seq":%d,"at":"2026-11-22T03:50:00.000000Z","kind":"enforced"' % seq)
        walk.line(line[:-1].replace(b"enforced", b"enforcer") if seq % 100 == 0 else line[:-1], "trail", seq)
    assert [finding.seq for finding in walk.found()] == list(range(100, 1001, 100))
