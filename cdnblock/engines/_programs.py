"""Programs that are run to their end, and processes that are told something: without a shell, and bounded in time."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from cdnblock.engines._engine import DownError, Means, NotTakenError, RefusedError

PATIENCE: Final = 120.0  # seconds that an engine may take to check or to load what it is given: a million names take 15
_LONGEST_PID: Final = 64  # octets of the file that names a process
_SHOWN: Final = 12  # lines of what a program said that an error repeats
_NOISE: Final = re.compile(r"^\s*$|^\[NOTICE\]")  # what explains nothing
_FOLDERS: Final = "/usr/sbin:/usr/local/sbin:/sbin"  # where servers are, which is not on every user's path


def checked(command: Sequence[str | Path], *, cwd: Path | None = None) -> None:
    """Run a checker; raises RefusedError with what it says when it is not content."""
    code, said = run(command, cwd=cwd)
    if code != 0:
        raise RefusedError(f"{_shown(command)} does not accept the new configuration: {said}")


def told(command: Sequence[str | Path]) -> str:
    """Run a command that tells an engine something, and return what it says; raises NotTakenError when it fails."""
    code, said = run(command)
    if code != 0:
        raise NotTakenError(f"{_shown(command)} failed: {said}")
    return said


def reloaded_by_operator(means: Means) -> bool:
    """Run the operator's own reload command; return whether there is one. Raises NotTakenError when it fails."""
    command = means.command("reload")
    if command:
        told(command)
    return bool(command)


def run(command: Sequence[str | Path], *, cwd: Path | None = None, lines: int | None = _SHOWN) -> tuple[int, str]:
    """Return a program's exit code, and what it says: its last `lines`, None for all of them.

    Raises NotTakenError when it cannot be started or does not end.
    """
    environment = {**os.environ, "PATH": f"{os.environ.get('PATH', os.defpath)}:{_FOLDERS}", "LC_ALL": "C.UTF-8"}
    try:
        done = subprocess.run(  # noqa: S603 (the operator's own command, without a shell)
            [str(word) for word in command], cwd=cwd, env=environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=PATIENCE, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise NotTakenError(f"{_shown(command)} did not end within {PATIENCE:.0f} s") from None
    except (OSError, ValueError) as error:
        raise NotTakenError(f"{_shown(command)} cannot be run: {error}") from None
    said = [line for line in done.stdout.decode(errors="replace").splitlines() if not _NOISE.match(line)]
    return done.returncode, "\n".join(said[-lines if lines else None :]) or f"exit code {done.returncode}"


def running(pid_file: str, program: str) -> int:
    """Return the process of an engine. Raises DownError when there is none: a number may be somebody else's by now."""
    try:
        said = _beginning_of(pid_file).split()
        if not said or not said[0].isdigit():
            raise DownError(f"{program} does not run: {pid_file} names no process")
        pid = int(said[0])
        name = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise DownError(f"{program} does not run: {pid_file}: {error}") from None
    if name != program:
        raise DownError(f"{program} does not run: {pid_file} names the process {pid}, which is {name}")
    return pid


def _beginning_of(file: str) -> bytes:
    """Return the first octets of a file that somebody else writes: it may be a device or a pipe, and is not waited for."""
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return os.read(descriptor, _LONGEST_PID)
    finally:
        os.close(descriptor)


def started(pid: int) -> float | None:
    """Return when a process was started, in seconds since 1970 to a hundredth; None where nobody knows."""
    try:
        ticks = int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + ticks / os.sysconf("SC_CLK_TCK")


def put_in_place(folder: Path, names: Iterable[str]) -> float:
    """Return when the last of some files came to be where it is, in seconds since 1970; whatever date it bears."""
    found = [0.0]
    for name in names:
        with suppress(OSError):
            found.append((folder / name).stat().st_ctime)
    return max(found)


def send(pid: int, number: signal.Signals, program: str) -> None:
    """Send a signal. Raises DownError when nobody is there, NotTakenError when it is not ours to send."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        raise DownError(f"{program} does not run any more") from None
    except PermissionError:
        raise NotTakenError(f"{program}, process {pid}, cannot be sent {number.name}: it is another user's") from None


def wait_until(holds: Callable[[], bool], patience: float, complaint: str) -> None:
    """Wait for an engine; raises NotTakenError with the complaint when that takes longer than `patience` (s)."""
    deadline, pause = time.monotonic() + patience, 0.005
    while not holds():
        if time.monotonic() > deadline:
            raise NotTakenError(f"{complaint} within {patience:g} s")
        time.sleep(pause)
        pause = min(0.1, pause * 1.5)


def children(pid: int) -> dict[int, str]:
    """Return the child processes of one, each with its title."""
    found = {}
    with suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split():
            with suppress(OSError):
                title = Path(f"/proc/{child}/cmdline").read_bytes()
                found[int(child)] = title.replace(b"\0", b" ").decode(errors="replace").strip()
    return found


def _shown(command: Sequence[str | Path]) -> str:
    return f"`{' '.join(map(str, command))}`"
