"""The last good set of order files, kept on disk: a start with broken files goes on with what was in force.

    lock             held by the one process that owns the folder, with its pid
    last-good.json   the manifest: which files there are, by hash, under a checksum of its own
    files/<sha256>   their contents, each once

A save writes new contents first and the manifest last, each of them beside its place, flushed and then renamed: a
process that is killed at any moment, or a machine that loses power, leaves the set of before or the new one, whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import weakref
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Self

from cdnblock.errors import ConfigError, Problem, Severity
from cdnblock.sources.durable_files import CHUNK, SAFELY, Stamp, put, stamp, take
from cdnblock.sources.owned_folder import open_folder, take_lock

MANIFEST: Final = "last-good.json"

_FORMAT: Final = 1
_CONTENTS: Final = "files"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptFile:
    """One order file as it was when it was last good: its octets, and those of the names files beside it by name.

    `held_since` is when a change of it was first held back (RFC 3339), None when none is.
    """

    name: str
    text: bytes
    beside: Mapping[str, bytes] = field(default_factory=dict)
    held_since: str | None = None


class StateFolder:
    """The folder that one running instance owns, and no other meanwhile, neither in this process nor in another.

    It is made, for this user alone, where there is none. `save` and `load` may be called from any thread. A child
    made by `os.fork` does not own it: there the object is closed, so that no orphan keeps the next owner out.
    """

    def __init__(self, path: Path | str) -> None:
        """Open the folder and take its lock.

        Raises:
            ConfigError: it cannot be made, is no folder, belongs to another user, others may write to it, or another
                instance owns it, whose pid the message tells.

        """
        self.path = Path(path).absolute()
        self._busy = threading.RLock()
        self._intact: dict[str, Stamp] = {}  # contents found whole, with what a later change of them would change
        self._lock = -1
        self._folder = open_folder(self.path)
        try:
            self._lock = take_lock(self._folder, self.path)
        except ConfigError:
            self.close()
            raise
        _OPEN.add(self)

    def save(self, files: Mapping[str, KeptFile]) -> None:
        """Make this the set that `load` returns from now on; it is on the disk when this returns.

        Raises:
            OSError: it could not be written. The set of before is still there, whole.

        """
        with self._busy:
            self._require_same_folder()
            with _contents(self._folder) as contents:
                listed = [self._keep(contents, file) for _, file in sorted(files.items())]
                os.fsync(contents)
                put(self._folder, MANIFEST, _manifest(listed))
                os.fsync(self._folder)
                self._forget_all_but(contents, {digest for entry in listed for digest in entry.digests})

    def load(self) -> tuple[Mapping[str, KeptFile], tuple[Problem, ...]]:
        """Return the set that was saved last, by file name, and what is wrong with it (as warnings).

        A file is returned only if each of its octets is as it was saved. Whatever is in the folder, this never raises.
        """
        with self._busy:
            try:
                listed = self._listed()
            except _DamagedError as damage:
                return {}, (self._problem(f"{damage}; no last good version can be restored from it"),)
            files: dict[str, KeptFile] = {}
            problems: list[Problem] = []
            contents: dict[str, bytes] = {}
            for entry in listed:
                try:
                    files[entry.name] = self._restored(entry, contents)
                except _DamagedError as damage:
                    lost = f"the last good version of {entry.name!r} cannot be restored: {damage}"
                    problems.append(self._problem(f"{lost}; make sure that the order file itself is valid"))
            return files, tuple(problems)

    def close(self) -> None:
        """Let another process own the folder; further saves fail with OSError. Closing twice does no harm."""
        with self._busy:
            for descriptor in (self._lock, self._folder):
                if descriptor >= 0:
                    os.close(descriptor)
            self._lock = self._folder = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def let_go_in_child(self) -> None:
        """Close in a child made by `os.fork`, where the thread that was busy does not exist any more."""
        self._busy = threading.RLock()
        self.close()

    def _require_same_folder(self) -> None:
        """Raise OSError when the folder is no longer where a restart would look for it."""
        there, here = self.path.stat(), os.fstat(self._folder)
        if (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino):
            raise FileNotFoundError(0, f"{self.path} was moved away or made anew; restart to use it")

    def _keep(self, contents: int, file: KeptFile) -> _Entry:
        beside = {name: self._keep_content(contents, content) for name, content in sorted(file.beside.items())}
        text = self._keep_content(contents, file.text)
        return _Entry(name=file.name, text=text, beside=beside, held_since=file.held_since)

    def _keep_content(self, contents: int, content: bytes) -> str:
        """Write a content that is not there yet, or no longer whole; return its digest."""
        digest = _digest(content)
        known = self._intact.get(digest)
        if known is None or known != stamp(contents, digest):
            if not _holds(contents, digest, content):
                put(contents, digest, content)
            self._intact[digest] = stamp(contents, digest)
        return digest

    def _forget_all_but(self, contents: int, wanted: Collection[str]) -> None:
        """Remove what the manifest does not name: older contents, and what a killed process was writing."""
        for name in set(os.listdir(contents)) - set(wanted):
            self._intact.pop(name, None)
            with suppress(OSError):  # it is in nobody's way
                os.unlink(name, dir_fd=contents)

    def _listed(self) -> tuple[_Entry, ...]:
        """Return what the manifest names, nothing for a folder that was never saved to."""
        try:
            return _parse_manifest(take(self._folder, MANIFEST))
        except FileNotFoundError:
            if stamp(self._folder, _CONTENTS):
                raise _DamagedError("is missing although something was saved") from None
            return ()
        except OSError as error:
            raise _DamagedError(f"cannot be read: {error.strerror}") from error

    def _restored(self, entry: _Entry, contents: dict[str, bytes]) -> KeptFile:
        for digest in entry.digests:
            if digest not in contents:
                contents[digest] = self._content(digest)
        beside = {name: contents[digest] for name, digest in entry.beside.items()}
        return KeptFile(name=entry.name, text=contents[entry.text], beside=beside, held_since=entry.held_since)

    def _content(self, digest: str) -> bytes:
        try:
            folder = os.open(_CONTENTS, os.O_RDONLY | os.O_DIRECTORY | SAFELY, dir_fd=self._folder)
            try:
                content = take(folder, digest)
            finally:
                os.close(folder)
        except OSError as error:
            raise _DamagedError(f"{_CONTENTS}/{digest}: {error.strerror}") from error
        if _digest(content) != digest:
            raise _DamagedError(f"{_CONTENTS}/{digest}: its octets have changed")
        return content

    def _problem(self, message: str) -> Problem:
        file = str(self.path / MANIFEST)
        return Problem(file=file, line=1, column=1, key="", message=message, severity=Severity.WARNING)


class _DamagedError(Exception):
    """Something in the folder is not as it was saved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """One file in the manifest, with digests in the place of octets."""

    name: str
    text: str
    beside: Mapping[str, str]
    held_since: str | None = None

    @property
    def digests(self) -> tuple[str, ...]:
        return (self.text, *self.beside.values())


_OPEN: Final[weakref.WeakSet[StateFolder]] = weakref.WeakSet()


def _let_go_in_child() -> None:
    for folder in tuple(_OPEN):
        folder.let_go_in_child()


os.register_at_fork(after_in_child=_let_go_in_child)


@contextmanager
def _contents(folder: int) -> Iterator[int]:
    """Open the folder of contents. It is made after a first, empty manifest: one that is lost later is missed."""
    if not stamp(folder, _CONTENTS):
        if not stamp(folder, MANIFEST):
            put(folder, MANIFEST, _manifest(()))
        os.mkdir(_CONTENTS, 0o700, dir_fd=folder)
    contents = os.open(_CONTENTS, os.O_RDONLY | os.O_DIRECTORY | SAFELY, dir_fd=folder)
    try:
        yield contents
    finally:
        os.close(contents)


def _manifest(listed: Collection[_Entry]) -> bytes:
    files = [
        {"name": entry.name, "text": entry.text, "beside": dict(entry.beside)}
        | ({} if entry.held_since is None else {"held_since": entry.held_since})
        for entry in listed
    ]
    content = {"format": _FORMAT, "files": files}
    return json.dumps({"checksum": _checksum(content), "content": content}, indent=1).encode("ascii")


def _parse_manifest(data: bytes) -> tuple[_Entry, ...]:
    try:
        document = json.loads(data)
        content = document["content"]
        if document["checksum"] != _checksum(content):
            raise _DamagedError("its octets have changed")
        if content["format"] != _FORMAT:
            raise _DamagedError(f"has the format {content['format']!r}, not {_FORMAT}: another version wrote it")
        return tuple(_entry(item) for item in content["files"])
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise _DamagedError("is no manifest") from error


def _entry(item: Mapping[str, Any]) -> _Entry:
    name, text, beside, held_since = item["name"], item["text"], dict(item["beside"]), item.get("held_since")
    if not all(isinstance(value, str) for value in (name, *beside)):
        raise TypeError
    if not all(isinstance(digest, str) and _is_digest(digest) for digest in (text, *beside.values())):
        raise ValueError
    if held_since is not None and datetime.fromisoformat(held_since).tzinfo is None:
        raise ValueError
    return _Entry(name=name, text=text, beside=beside, held_since=held_since)


def _is_digest(text: str) -> bool:
    return len(text) == 2 * hashlib.sha256().digest_size and not text.strip("0123456789abcdef")


def _checksum(content: object) -> str:
    return "sha256:" + _digest(json.dumps(content, sort_keys=True, separators=(",", ":")).encode("ascii"))


def _digest(content: bytes) -> str:
    digest = hashlib.sha256()
    octets = memoryview(content)
    for start in range(0, len(octets), CHUNK):
        digest.update(octets[start : start + CHUNK])
    return digest.hexdigest()


def _holds(folder: int, name: str, content: bytes) -> bool:
    try:
        return take(folder, name) == content
    except OSError:
        return False
