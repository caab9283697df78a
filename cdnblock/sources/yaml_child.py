"""Long YAML is parsed by a child process, so that no request in this one waits for it.

PyYAML and pydantic hold the interpreter's lock for up to a tenth of a second on the 100,000 names that an order file
may list. The child reads the same octets with the same parser, and its order comes back slice by slice.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import IO, Any, Final

from cdnblock.errors import Problem
from cdnblock.orders.model import Addition, Order
from cdnblock.orders.name_list import NameList, name_list
from cdnblock.orders.parse import parse_order
from cdnblock.orders.protected import Protected

LONG_YAML: Final = 128 * 1024  # octets; some 6,000 names, of which this process makes steps of a few milliseconds

_SLICE: Final = 500  # names that come back at once
_PATIENCE: Final = 60  # seconds; the longest YAML that is allowed takes some four
_CHILD: Final = f"from {__name__} import main; main()"
_BROKEN: Final = (OSError, EOFError, pickle.PickleError, AttributeError, ImportError, ValueError)


def parse_in_child(
    text: bytes,
    file: str,
    *,
    read_names_file: Callable[[str], bytes],
    protected: Protected,
    pause: Callable[[], None],
) -> tuple[Order | None, tuple[Problem, ...]] | None:
    """Return what `parse_order` returns, or None where no child can be had; then `read_names_file` may have been called.

    `pause` is called about once a millisecond. Never raises.
    """
    if not _is_python(sys.executable):
        return None
    try:
        child = _start()
    except OSError:
        return None
    deadline = threading.Timer(_PATIENCE, child.kill)
    deadline.daemon = True
    deadline.start()
    try:
        return _asked(child, (text, file, protected), read_names_file, pause)
    except _BROKEN:
        return None
    finally:
        deadline.cancel()
        child.kill()
        with suppress(OSError):  # what could not be written any more
            child.__exit__(None, None, None)


def main() -> None:
    """Answer one question of a parent: what the child does."""
    asking, answering = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever else is printed must not come between
    text, file, protected = pickle.load(asking)  # noqa: S301 (from our own parent)

    def read_names_file(name: str) -> bytes:
        _send(answering, name)
        content = pickle.load(asking)  # noqa: S301 (the same)
        if isinstance(content, Exception):
            raise content
        return bytes(content)

    order, problems = parse_order(text, file, read_names_file=read_names_file, protected=protected)
    _send(answering, problems)
    for part in _dismantled(order) if order is not None else (None,):
        _send(answering, part)


def _is_python(executable: str | None) -> bool:
    """Tell whether this is an interpreter, and not a program that has one inside and would start itself once more."""
    return bool(executable) and Path(str(executable)).name.startswith("python") and not getattr(sys, "frozen", False)


def _start() -> subprocess.Popen[bytes]:
    path = os.pathsep.join(filter(None, sys.path))
    return subprocess.Popen(  # noqa: S603 (ourselves)
        [sys.executable, "-P", "-c", _CHILD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": path},
    )


def _asked(
    child: subprocess.Popen[bytes],
    question: tuple[bytes, str, Protected],
    read_names_file: Callable[[str], bytes],
    pause: Callable[[], None],
) -> tuple[Order | None, tuple[Problem, ...]]:
    asking, answers = child.stdin, child.stdout
    if asking is None or answers is None:
        raise OSError(0, "no pipes")
    _send(asking, question)
    while isinstance(answer := pickle.load(answers), str):  # noqa: S301 (from our own child)
        content: bytes | Exception
        try:
            content = read_names_file(answer)
        except (OSError, ValueError) as error:
            content = error
        _send(asking, content)

    def received() -> Any:
        pause()
        return pickle.load(answers)  # noqa: S301 (the same)

    return _assembled(received, pause), answer


def _send(to: IO[bytes], value: object) -> None:
    pickle.dump(value, to, protocol=5)
    to.flush()


def _dismantled(order: Order) -> Iterator[Any]:
    """Yield an order without its names; then, for it and each addition: its names, a names file, that one's names.

    Names come in slices, None ends them. Shards stay here: hashes differ between processes.
    """
    additions = tuple(replace(addition, names=(), names_file=None) for addition in order.additions)
    yield replace(order, names=(), names_file=None, additions=additions)
    parts: tuple[Order | Addition, ...] = (order, *order.additions)
    for part in parts:
        yield from (part.names[start : start + _SLICE] for start in range(0, len(part.names), _SLICE))
        yield None
        if part.names_file is None:
            yield None
        else:
            yield replace(part.names_file, names=())
            yield from name_list(part.names_file.names).pieces
            yield None


def _assembled(received: Callable[[], Any], pause: Callable[[], None]) -> Order | None:
    """Put together what `_dismantled` took apart."""
    order: Order | None = received()
    if order is None:
        return None

    def with_names(part: Any) -> Any:
        names = tuple(chain.from_iterable(iter(received, None)))
        names_file = received()
        if names_file is not None:
            names_file = replace(names_file, names=NameList(iter(received, None), pause))
        return replace(part, names=names, names_file=names_file)

    additions = order.additions
    order = with_names(order)
    return replace(order, additions=tuple([with_names(addition) for addition in additions]))
