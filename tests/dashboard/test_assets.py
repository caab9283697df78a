"""What is vendored is what its makers published, with its licence; what is ours matches its sum."""

from __future__ import annotations

import hashlib
from pathlib import Path

import cdnblock.dashboard
from cdnblock.dashboard.assets import TYPES

STATIC = Path(cdnblock.dashboard.__file__).parent / "static"
PUBLISHED = {
    # htmx.org 2.0.11 as npm has it: dist/htmx.min.js
    "htmx.min.js": "d8e6adcd0cb51fe65dfc822b8ebd5372e0c6a8b5de1e16e8a00c8963529d40c2a7af82d9db6937d4604b7582879958e0",
}


def test_each_file_matches_its_sum():
    """SHA384SUMS names each file that is served, and each is what it says."""
    sums = dict(line.split()[::-1] for line in (STATIC / "SHA384SUMS").read_text().splitlines())
    assert sums.keys() == TYPES.keys()
    for name, digest in sums.items():
        assert hashlib.sha384((STATIC / name).read_bytes()).hexdigest() == digest, name


def test_vendored_files_are_as_published_and_have_their_licences():
    """htmx is unchanged, and its licence lies beside it; nothing else is there."""
    for name, digest in PUBLISHED.items():
        assert hashlib.sha384((STATIC / name).read_bytes()).hexdigest() == digest
    assert "Zero-Clause BSD" in (STATIC / "htmx.LICENSE").read_text()
    assert {path.name for path in STATIC.iterdir()} == {*TYPES, "SHA384SUMS", "htmx.LICENSE"}
