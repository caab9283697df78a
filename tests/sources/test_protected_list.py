"""The files beside the orders: protected.txt and holidays.txt, and the list that comes with the package."""

from __future__ import annotations

from datetime import date

import pytest

from cdnblock.orders.calendar import french_public_holidays
from cdnblock.sources.protected_list import load_holidays, load_protected, shipped_protected


@pytest.mark.parametrize(
    "name",
    ["root-servers.net", "google.com", "drive.usercontent.google.com", "usercontent.google.com", "t.me", "googleapis.com",
     "wikipedia.org", "archive.org", "raw.githubusercontent.com", "amazonaws.com", "cloudflare.com", "letsencrypt.org",
     "torrent.fedoraproject.org", "legifrance.gouv.fr", "arcom.fr"],
)  # fmt: skip
def test_shipped_list_holds_what_was_really_blocked(name):
    """The accidents of the past, and what stands above them, are protected without any file."""
    assert shipped_protected().too_broad(name) is not None


@pytest.mark.parametrize("name", ["motogpstream.me", "livetv822.me", "pirate.example", "films.drive.google.com"])
def test_shipped_list_lets_orders_be(name):
    """Names that orders really list are on no list of ours."""
    assert shipped_protected().too_broad(name) is None


def test_folder_adds_its_own_names(tmp_path):
    """The folder's list comes on top of the shipped one, and messages say which line protects."""
    (tmp_path / "protected.txt").write_bytes(b"# ours\nedge.example\n")
    protected, problems = load_protected(tmp_path)
    assert problems == ()
    assert "(protected.txt:2)" in protected.too_broad("edge.example")
    assert "(cdnblock's protected.txt:" in protected.too_broad("t.me")


def test_folder_without_lists(tmp_path):
    """Both files may be missing."""
    assert load_protected(tmp_path) == (shipped_protected(), ())
    assert load_holidays(tmp_path) == (french_public_holidays, ())


def test_broken_list_still_protects(tmp_path):
    """A line that is no name is reported with its place; all other lines hold."""
    (tmp_path / "protected.txt").write_bytes(b"edge.example\n*.cdn.example\n")
    protected, (problem,) = load_protected(tmp_path)
    assert protected.too_broad("edge.example") is not None
    assert (problem.file, problem.line) == (str(tmp_path / "protected.txt"), 2)


def test_holidays_of_the_folder(tmp_path):
    """`holidays.txt` changes what a working day is."""
    (tmp_path / "holidays.txt").write_bytes(b"2025-12-26\n")
    holidays, problems = load_holidays(tmp_path)
    assert problems == ()
    assert date(2025, 12, 26) in holidays(2025)


@pytest.mark.parametrize(("load", "name"), [(load_protected, "protected.txt"), (load_holidays, "holidays.txt")])
def test_folder_in_place_of_a_list(tmp_path, load, name):
    """What is no regular file is a problem, not an exception."""
    (tmp_path / name).mkdir()
    _, (problem,) = load(tmp_path)
    assert "is no regular file" in problem.message
