"""Read a folder of order files, or single ones, whole: every order, and every problem of every file.

Nothing here decides what takes effect: `cdnblock.sources.live_orders` does.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from cdnblock.errors import ConfigError, OrderError, Problem, Severity
from cdnblock.matching.ruleset import RuleSet, compile_orders
from cdnblock.orders.model import Addition, Mode, Order, Position
from cdnblock.orders.names_file import ReadBefore
from cdnblock.orders.parse import parse_order
from cdnblock.orders.protected import Protected
from cdnblock.sources.protected_list import load_holidays, load_protected
from cdnblock.sources.slow_release import collecting_by_hand
from cdnblock.sources.yaml_child import LONG_YAML, parse_in_child

MAX_FILE: Final = 64 * 1024 * 1024  # order-file.md, "What loading refuses"

_SUFFIXES: Final = (".yaml", ".yml")
_EDITORS_PREFIXES: Final = (".", "#", "~")
_EDITORS_SUFFIXES: Final = ("~", "#", ".swp", ".tmp", ".bak")


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderFile:
    """One file as it was read: its order, or None and the reasons.

    `beside` are the names files it asked for, found or not; `digest` covers their contents too. `text` and
    `beside_texts` hold all these octets when they were to be kept. `protected` is the list that its names were held
    against.
    """

    path: Path
    order: Order | None
    problems: tuple[Problem, ...]
    digest: str = ""
    beside: tuple[Path, ...] = ()
    text: bytes = b""
    beside_texts: Mapping[str, bytes] = field(default_factory=dict)
    protected: Protected | None = field(default=None, compare=False, repr=False)

    def lists(self) -> Iterator[tuple[str, ReadBefore]]:
        """Yield each names file whose octets were kept, by its name."""
        parts: tuple[Order | Addition, ...] = () if self.order is None else (self.order, *self.order.additions)
        for part in parts:
            if part.names_file is not None:
                name = Path(part.names_file.file).name
                if name in self.beside_texts:
                    yield name, ReadBefore(data=self.beside_texts[name], names_file=part.names_file)


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderSet:
    """All files that were asked for, in name order."""

    files: tuple[OrderFile, ...]
    general: tuple[Problem, ...] = ()

    @property
    def orders(self) -> tuple[Order, ...]:
        """The orders of the valid files."""
        return tuple(file.order for file in self.files if file.order is not None)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Every problem, warnings included, file by file."""
        return (*self.general, *(problem for file in self.files for problem in file.problems))

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems that keep a file from loading."""
        return tuple(problem for problem in self.problems if problem.severity is Severity.ERROR)


def load_orders(*paths: Path | str) -> RuleSet:
    """Return the rules of an orders folder, or of single files.

    Raises:
        OrderError: something in them is wrong; `.problems` lists all of it.
        ConfigError: a path does not exist.

    """
    found = read_orders(*paths)
    if found.errors:
        raise OrderError(found.problems)
    return compile_orders(found.orders)


def read_orders(*paths: Path | str, progress: Callable[[int, int], object] | None = None) -> OrderSet:
    """Read folders and files; two files with one id are a problem of the later one.

    `progress` is told after each file how many of a folder's have been read, and how many there are.

    Raises:
        ConfigError: a path does not exist, or is neither a folder nor a file.

    """
    files: list[OrderFile] = []
    general: list[Problem] = []
    for path in map(Path, paths):
        folder, members = (path, order_files(path)) if path.is_dir() else (path.parent, [path])
        if not path.exists():
            raise ConfigError(f"{path}: no such file or folder; give a folder of *.yaml order files, or one such file")
        protected, problems = load_protected(folder)
        _, holiday_problems = load_holidays(folder)
        general += [*problems, *holiday_problems]
        for number, member in enumerate(members, start=1):
            files.append(read_file(member, protected))
            if progress is not None:
                progress(number, len(members))
    return OrderSet(files=tuple(_without_shared_ids(files)), general=tuple(general))


def as_reported(file: OrderFile) -> OrderFile:
    """Return a file with its order in mode report, whatever the file says: a dry run of everything reads it so."""
    return file if file.order is None else replace(file, order=replace(file.order, mode=Mode.REPORT))


def order_files(folder: Path) -> list[Path]:
    """Return the order files at the top of a folder in name order: no hidden ones, no editors' temporary ones.

    A folder or a FIFO called `x.yaml` is among them, so that reading it says what is wrong.

    Raises:
        ConfigError: the folder cannot be listed.

    """
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be listed: {error.strerror}") from error
    return [folder / name for name in names if is_order_file(name)]


def is_order_file(name: str) -> bool:
    """Tell whether a file of that name in an orders folder is an order."""
    return name.endswith(_SUFFIXES) and not name.startswith(_EDITORS_PREFIXES) and not name.endswith(_EDITORS_SUFFIXES)


def read_file(
    path: Path,
    protected: Protected,
    *,
    keep_texts: bool = False,
    pause: Callable[[], None] | None = None,
    last: OrderFile | None = None,
) -> OrderFile:
    """Read and parse one order file with the names files beside it. Never raises for what is in the file.

    `keep_texts` keeps the octets of all of them, for whoever wants to write them down elsewhere. `pause` is for a
    thread that reads beside others that must not wait: it is called about once a millisecond, and what cannot be done
    in such small steps is done by another process. `last` is this file as it was read before: a names file of which few
    lines are others is quicker then.
    """
    try:
        text = read_bounded(path)
    except OSError as error:
        problem = Problem(file=str(path), line=1, column=1, key="", message=_unreadable(error))
        return OrderFile(path=path, order=None, problems=(problem,))

    def read_beside(name: str) -> bytes:
        return read_bounded(path.parent / name)

    return _parsed(path, text, read_beside, protected, keep_texts=keep_texts, pause=pause, last=last)


def parse_kept(
    path: Path, text: bytes, beside: Mapping[str, bytes], *, pause: Callable[[], None] | None = None
) -> OrderFile:
    """Parse a file and its names files as they were kept: what was protected only later stays in force.

    `pause` as for `read_file`.
    """

    def read_beside(name: str) -> bytes:
        if name not in beside:
            raise FileNotFoundError(2, "No such file", name)
        return beside[name]

    return _parsed(path, text, read_beside, Protected({}), keep_texts=True, pause=pause)


def digest_on_disk(file: OrderFile) -> str:
    """Return what `file.digest` would be if the file were read now; empty when it cannot be."""
    try:
        return _digest(read_bounded(path) for path in (file.path, *file.beside))
    except OSError:
        return ""


def _parsed(
    path: Path,
    text: bytes,
    read_beside: Callable[[str], bytes],
    protected: Protected,
    *,
    keep_texts: bool,
    pause: Callable[[], None] | None = None,
    last: OrderFile | None = None,
) -> OrderFile:
    lists = dict(last.lists()) if last is not None and last.protected is protected else {}
    texts: dict[str, bytes] = {}
    asked_for: dict[Path, None] = {}

    def reading(name: str) -> bytes:
        asked_for[path.parent / name] = None
        content = texts[name] = read_beside(name)
        return content

    found = None
    with collecting_by_hand() if pause is not None else nullcontext():
        if pause is not None and len(text) > LONG_YAML:
            found = parse_in_child(text, str(path), read_names_file=reading, protected=protected, pause=pause)
        if found is None:
            found = parse_order(text, str(path), read_names_file=reading, protected=protected, pause=pause, last=lists)
    order, problems = found
    return OrderFile(
        path=path,
        order=order,
        problems=problems,
        digest=_digest([text, *texts.values()]),
        beside=tuple(asked_for),
        text=text if keep_texts else b"",
        beside_texts=texts if keep_texts else {},
        protected=protected,
    )


def _digest(contents: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for content in contents:
        digest.update(content)
    return f"sha256:{digest.hexdigest()}"


def read_bounded(path: Path) -> bytes:
    """Return the content of a regular file of at most `MAX_FILE` octets.

    Raises:
        OSError: it cannot be read, is too large, or is no regular file; a FIFO is not waited for.

    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(0, f"is a {_kind(found.st_mode)}; an order is a regular file")
        content = b""
        if found.st_size <= MAX_FILE:
            with open(descriptor, "rb", closefd=False) as file:  # opened already, without waiting
                content = file.read(found.st_size + 1)  # asked for more, it would take the memory for more
                if len(content) > found.st_size:  # it has grown meanwhile
                    content += file.read(MAX_FILE)
    finally:
        os.close(descriptor)
    if max(found.st_size, len(content)) > MAX_FILE:
        raise OSError(0, f"is larger than {MAX_FILE // 1024**2} MiB; move long lists of names into a names_file")
    return content


def _kind(mode: int) -> str:
    kinds: Mapping[str, Callable[[int], bool]] = {
        "folder": stat.S_ISDIR,
        "FIFO": stat.S_ISFIFO,
        "socket": stat.S_ISSOCK,
        "device": stat.S_ISCHR,
    }
    return next((kind for kind, matches in kinds.items() if matches(mode)), "special file")


def _unreadable(error: OSError) -> str:
    what = error.strerror or str(error)
    return what if what.startswith("is ") else f"cannot be read: {what}; make it a readable regular file"


def _without_shared_ids(files: Iterable[OrderFile]) -> Iterator[OrderFile]:
    owner: dict[str, Path] = {}
    for file in files:
        first = owner.setdefault(file.order.id, file.path) if file.order else file.path
        yield file if first == file.path else refused_for_its_id(file, first)


def refused_for_its_id(file: OrderFile, first: Path) -> OrderFile:
    """Return a file as invalid because the order of another one, `first`, has the same id."""
    if file.order is None:
        return file
    place = file.order.position or Position(str(file.path), 1)
    message = f"{first} has the id {file.order.id} too; give each order of the folder an id of its own"
    problem = Problem(file=str(file.path), line=place.line, column=place.column, key="id", message=message)
    return replace(file, order=None, problems=(*file.problems, problem))
