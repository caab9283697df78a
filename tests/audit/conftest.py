"""A folder, a tally and a clock that is set by hand, for trails."""

from __future__ import annotations

import pytest
from trails import Clock

from cdnblock.audit.tally import Tally


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def tally(clock):
    return Tally(clock=clock)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "audit"
