"""Folders with short paths, for Unix sockets: theirs may have some hundred characters, and pytest's folders are deep."""

from __future__ import annotations

import atexit
import shutil
import tempfile


def short_folder() -> str:
    """Return a new folder, which goes when the tests end."""
    folder = tempfile.mkdtemp(prefix="cdnblock-", dir="/tmp")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
