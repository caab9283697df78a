"""The door of a running instance: a unix socket in its state folder, for the user it runs as.

One JSON object a line: a request, then its reply, then the connection ends. Whoever may write to the socket may reload
the orders; it has the permissions 0600 from its first moment, and nothing listens on a network.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeAlias

from cdnblock.errors import ConfigError

SOCKET: Final = "control.sock"

_MAX_REQUEST: Final = 64 * 1024  # octets; a request is a word and a flag
_MAX_REPLY: Final = 64 * 1024 * 1024  # octets; a status names every file and problem
_MAX_CLIENTS: Final = 32  # at once, each with its thread; one more is turned away
_PATIENCE: Final = 5.0  # seconds
_PAUSE: Final = 0.1  # seconds, when the system has no descriptor left for a client
_MAX_ADDRESS: Final = 107  # octets of a unix socket's path, without the final NUL (unix(7))
_CHUNK: Final = 64 * 1024  # octets received at a time
_LOG: Final = logging.getLogger("cdnblock.sources")

Message: TypeAlias = dict[str, Any]


class ControlServer:
    """Answers requests with `handle`, which is called on a thread of its own for each client.

    Slow and silent clients are cut off after a while and block nobody. What `handle` raises is logged and becomes
    the reply `{"error": …}`. Whoever makes one owns the folder (`StateFolder`): a socket that is there is a dead
    process's and is replaced, with no moment between at which nobody listens.
    """

    def __init__(self, folder: Path, handle: Callable[[Message], Message], *, patience: float = _PATIENCE) -> None:
        """Listen at once. `patience` is how long a client may take to send its request, and to take the reply (s).

        Raises:
            ConfigError: the socket cannot be made.

        """
        self.path = folder / SOCKET
        self._handle = handle
        self._patience = patience
        self._changing = threading.Lock()
        self._clients: dict[socket.socket, threading.Thread] = {}
        self._closed = False
        try:
            self._listener = _listen(folder)
            self._inode = self.path.lstat().st_ino
        except (OSError, ValueError) as error:
            why = (error.strerror or error) if isinstance(error, OSError) else error
            message = f"{self.path}: cannot be listened on: {why}; give a state folder that this user may write to"
            raise ConfigError(message) from error
        self._thread = threading.Thread(target=self._accept, name="cdnblock-control", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop answering and remove the socket; clients being answered are cut off. Closing twice does no harm."""
        with self._changing:
            if self._closed:
                return
            self._closed = True
            clients = dict(self._clients)
        with suppress(OSError):
            if self.path.lstat().st_ino == self._inode:
                self.path.unlink()
        for open_socket in (self._listener, *clients):
            with suppress(OSError):
                open_socket.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits for it
        until = time.monotonic() + _PATIENCE
        for thread in (self._thread, *clients.values()):
            if thread is not threading.current_thread():
                thread.join(timeout=max(0.0, until - time.monotonic()))
        self._listener.close()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                if not self._closed:
                    time.sleep(_PAUSE)
                continue
            self._serve_apart(client)

    def _serve_apart(self, client: socket.socket) -> None:
        thread = threading.Thread(target=self._serve, args=(client,), name="cdnblock-control-client", daemon=True)
        with self._changing:
            if self._closed or len(self._clients) >= _MAX_CLIENTS:
                client.close()
                return
            self._clients[client] = thread
            try:
                thread.start()
            except RuntimeError:  # the system has no thread left
                del self._clients[client]
                client.close()

    def _serve(self, client: socket.socket) -> None:
        try:
            with client:
                line = _receive_line(client, _MAX_REQUEST, time.monotonic() + self._patience)
                reply = self._answer(line)
                client.settimeout(self._patience)
                client.sendall(reply)
        except (OSError, ValueError) as error:  # the client's own doing: too slow, too long, gone
            _LOG.debug("control socket: a client was cut off: %s", error)
        finally:
            with self._changing:
                self._clients.pop(client, None)

    def _answer(self, line: bytes) -> bytes:
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            return _encoded({"error": "the request is no JSON"})
        if not isinstance(request, dict):
            return _encoded({"error": "the request is no JSON object"})
        try:
            return _encoded(self._handle(request))
        except Exception as error:  # noqa: BLE001 (logged with its trace; whoever asked gets to know)
            _LOG.exception("cdnblock: a request on the control socket failed")
            return _encoded({"error": f"{type(error).__name__}: {error}"})


def ask(state: Path | str, request: Message, timeout: float = 5.0) -> Message:
    """Return the reply of the instance that owns a state folder; `timeout` in seconds for the whole exchange.

    Raises:
        ConnectionError: no instance answers there, or not in time, or not as an instance does.

    """
    path = Path(state) / SOCKET
    until = time.monotonic() + timeout
    try:
        with _address(Path(state)) as folder, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
            server.settimeout(timeout)
            server.connect(f"{folder}/{SOCKET}")
            server.sendall(_encoded(request))
            reply = json.loads(_receive_line(server, _MAX_REPLY, until))
    except TimeoutError as error:
        raise ConnectionError(f"{path}: no answer within {timeout:g} seconds") from error
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise ConnectionError(f"{path}: no running instance has this state folder") from error
    except OSError as error:
        raise ConnectionError(f"{path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise ConnectionError(f"{path}: what answers there is no cdnblock: {error}") from error
    if not isinstance(reply, dict):
        raise ConnectionError(f"{path}: what answers there is no cdnblock")
    return reply


def _listen(folder: Path) -> socket.socket:
    """Return the listening socket, which takes its place in the folder when it already listens."""
    path, new = folder / SOCKET, folder / f"{SOCKET}.new"
    if path.exists() and not stat.S_ISSOCK(path.lstat().st_mode):
        raise FileExistsError(0, "it is no socket")
    new.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.fchmod(listener.fileno(), 0o600)  # on Linux, the permissions that `bind` gives the file
        with _address(folder) as short:
            listener.bind(f"{short}/{new.name}")
        new.chmod(0o600)  # elsewhere, where the folder itself keeps others out until here
        listener.listen()
        new.rename(path)
    except BaseException:
        listener.close()
        new.unlink(missing_ok=True)
        raise
    return listener


@contextmanager
def _address(folder: Path) -> Iterator[str]:
    """Yield a path of the folder that is short enough for its sockets' addresses."""
    if len(os.fsencode(folder / f"{SOCKET}.new")) <= _MAX_ADDRESS:
        yield str(folder)
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _receive_line(peer: socket.socket, limit: int, until: float) -> bytes:
    """Return the first line that a peer sends.

    Raises:
        OSError: it went away, or the time (of `time.monotonic`) was over; TimeoutError then.
        ValueError: the line is longer than `limit` octets.

    """
    received = bytearray()
    while b"\n" not in received[-_CHUNK:]:
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        peer.settimeout(left)
        chunk = peer.recv(_CHUNK)
        if not chunk:
            raise ConnectionAbortedError(0, "the connection ended before the message did")
        received += chunk
        if len(received) > limit:
            raise ValueError(f"the line is longer than {limit} octets")
    return bytes(received.partition(b"\n")[0])


def _encoded(message: Message) -> bytes:
    return json.dumps(message).encode("ascii") + b"\n"
