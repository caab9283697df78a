"""The folder that an engine reads: files change all together or not at all, and there is a way back."""

from __future__ import annotations

import shutil

import pytest

from cdnblock.engines._folder import ConfigFolder
from cdnblock.errors import ConfigError

BEFORE = {"a.conf": b"a\n", "b.conf": b"b\n"}
AFTER = {"a.conf": b"A\n", "b.conf": b"B\n", "c/d.conf": b"new\n"}


def there(folder):
    found = (path for path in folder.rglob("*") if path.is_file() and not str(path.relative_to(folder)).startswith("."))
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "somebody-elses").write_bytes(b"stays\n")
    with ConfigFolder(tmp_path) as folder:
        folder.swap(BEFORE, {}).close()
        yield folder


def test_what_is_put_in_place_can_be_undone(folder):
    """What changed is as it was, what is new is gone, what is somebody else's was never touched."""
    others = {"somebody-elses": b"stays\n"}
    swap = folder.swap(AFTER, BEFORE)
    assert there(folder.path) == AFTER | others
    swap.undo()
    assert there(folder.path) == BEFORE | others
    assert not [*(folder.path / ".cdnblock-new").iterdir()]


def test_where_one_file_cannot_be_put_none_is(folder):
    """A folder stands where the last file belongs: those before it are as they were."""
    (folder.path / "z.conf").mkdir()
    with pytest.raises(OSError, match=r"z\.conf"):
        folder.swap(AFTER | {"z.conf": b"z\n"}, BEFORE)
    assert there(folder.path) == BEFORE | {"somebody-elses": b"stays\n"}


def test_each_file_is_dated_later_than_the_one_before(folder):
    """By whole seconds: engines that watch a file look at no more than that."""
    times = []
    for number in range(3):
        folder.swap({"a.conf": b"%d\n" % number}, BEFORE).close()
        times.append(int((folder.path / "a.conf").stat().st_mtime))
    assert times == sorted({*times})


def test_what_was_right_survives_a_restart(folder):
    """With the names whose caches were off; and files that are no part of it any more go."""
    folder.keep(BEFORE, frozenset())
    folder.swap({"a.conf": b"A\n"}, BEFORE).close()
    folder.keep({"a.conf": b"A\n"}, frozenset({("x.example", True), ("y.example", False)}))
    folder.close()
    assert there(folder.path) == {"a.conf": b"A\n", "somebody-elses": b"stays\n"}
    with ConfigFolder(folder.path) as again:
        assert again.right == {"a.conf": b"A\n"}
        assert again.uncached == {("x.example", True), ("y.example", False)}
        assert again.differing({"a.conf": b"A\n"}) == []
        assert again.differing({"a.conf": b"?\n", "e.conf": b""}) == ["a.conf", "e.conf"]


def test_a_folder_that_somebody_removes_is_kept_again_by_one_alone(folder):
    """With its lock: whoever comes first keeps it, and the other is told."""
    folder.keep(BEFORE, frozenset())
    shutil.rmtree(folder.path)
    assert not folder.is_kept()
    folder.swap(AFTER, BEFORE).close()
    folder.keep(AFTER, frozenset())
    assert folder.is_kept()
    with pytest.raises(ConfigError, match="is in use by"):
        ConfigFolder(folder.path)
    shutil.rmtree(folder.path)
    with ConfigFolder(folder.path) as other:
        with pytest.raises(ConfigError, match="is in use by"):
            folder.keep(AFTER, frozenset())
        folder.close()
        assert other.right == {}
    with ConfigFolder(folder.path) as again:
        assert again.right == {}


def test_the_checker_gets_files_that_name_each_other_where_they_are_tried(folder):
    """Paths to the folder are those of the trial; nothing else in the text changes."""
    text = f"include {folder.path}/b.conf; not {folder.path}-other/b.conf;".encode()
    folder.try_out({"a.conf": text}, folder.path)
    trial = folder.trial(folder.path)
    assert (trial / "a.conf").read_bytes().decode() == f"include {trial}/b.conf; not {folder.path}-other/b.conf;"
