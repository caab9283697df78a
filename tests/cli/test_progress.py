"""The progress bar: after two seconds, on a terminal, and nowhere else."""

from __future__ import annotations

import os
import select
import time
from contextlib import redirect_stderr

import pytest

from cdnblock.cli.progress import progress_bar


@pytest.fixture
def terminal():
    """A real terminal as stderr; what is read from it is what a person would see."""
    master, slave = os.openpty()
    with os.fdopen(slave, "w") as stderr:

        def seen():
            text = ""
            while select.select([master], [], [], 0.3)[0]:
                text += os.read(master, 10_000).decode()
            return text

        yield stderr, seen
    os.close(master)


def test_what_is_quick_draws_no_bar(terminal):
    """Under two seconds there is nothing to see."""
    stderr, seen = terminal
    with redirect_stderr(stderr), progress_bar("files read") as progress:
        progress(1, 2)
    assert seen() == ""


def test_what_takes_long_draws_a_bar(terminal):
    """It fills up, counts, and ends its line."""
    stderr, seen = terminal
    with redirect_stderr(stderr), progress_bar("files read") as progress:
        time.sleep(2.05)
        progress(1_500, 3_000)
    assert seen() == f"\r[{'#' * 15}{' ' * 15}] 1,500 files read \r\n"


def test_without_a_terminal_there_is_no_bar(capsys):
    """Logs and pipes stay clean."""
    with progress_bar("files read") as progress:
        time.sleep(2.05)
        progress(1, 2)
    assert capsys.readouterr().err == ""
