"""Room for many connections: each takes a file, and the usual limit is a thousand."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

_FILES: Final = 65_536


def allow_many_files() -> None:
    """Raise this process's limit of open files as far as it may be raised; where that is not possible, leave it."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
