"""The control socket: one request, one reply, for the user it runs as, whatever others send."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from cdnblock.errors import ConfigError
from cdnblock.sources.control_socket import SOCKET, ControlServer, ask

ROOT = Path(__file__).parents[2]
BOUND = 5.0  # seconds; far above what it takes


@pytest.fixture
def folder(tmp_path):
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    return state


@contextmanager
def serving(folder, handle=lambda request: {"got": request}, **options):
    server = ControlServer(folder, handle, **options)
    try:
        yield server
    finally:
        server.close()


@contextmanager
def connected(folder):
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(BOUND)
        client.connect(str(folder / SOCKET))
        yield client


def names_in(folder):
    return [path.name for path in Path(folder).iterdir()]


def everything(client):
    received = b""
    while chunk := client.recv(65_536):
        received += chunk
    return received


@pytest.mark.parametrize(
    "request_",
    [{}, {"command": "status"}, {"é": ["\ud800", None, 1.5, {"a": "\n"}]}, {"long": "x" * 60_000}],
    ids=lambda request: repr(request)[:30],
)
def test_a_request_gets_its_reply(folder, request_):
    """Any JSON object there and back, twice."""
    with serving(folder):
        for _ in range(2):
            assert ask(folder, request_) == {"got": request_}


def test_a_reply_may_be_long(folder):
    """A status names every file and every problem."""
    reply = {"files": ["x" * 100] * 50_000}
    with serving(folder, lambda _: reply):
        assert ask(folder, {}) == reply


def test_requests_are_answered_side_by_side(folder):
    """A status is not kept waiting by a reload that takes its time."""
    entered, release = threading.Event(), threading.Event()

    def handle(request):
        if request["command"] == "reload":
            entered.set()
            release.wait(BOUND)
        return request

    with serving(folder, handle):
        replies = []
        slow = threading.Thread(target=lambda: replies.append(ask(folder, {"command": "reload"})))
        slow.start()
        assert entered.wait(BOUND)
        assert ask(folder, {"command": "status"}) == {"command": "status"}
        release.set()
        slow.join()
        assert replies == [{"command": "reload"}]


@pytest.mark.parametrize("umask", [0, 0o077])
def test_only_this_user_may_connect_from_the_first_moment(folder, umask):
    """0600 whatever the umask: no moment at which it is open to others, and the process's umask is not touched."""
    seen, stop = set(), threading.Event()

    def look():
        while not stop.is_set():
            for path in folder.iterdir():
                try:
                    seen.add(stat.S_IMODE(path.lstat().st_mode))
                except FileNotFoundError:
                    continue

    before = os.umask(umask)
    looking = threading.Thread(target=look)
    looking.start()
    try:
        for _ in range(50):
            ControlServer(folder, dict).close()
        with serving(folder):
            assert stat.S_IMODE((folder / SOCKET).stat().st_mode) == 0o600
    finally:
        stop.set()
        looking.join()
        assert os.umask(before) == umask
    assert seen == {0o600}


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        (b"\n", "no JSON"), (b"nonsense\n", "no JSON"), (b"\xff\xfe\n", "no JSON"), (b"[" * 60_000 + b"\n", "no JSON"),
        (b"[]\n", "no JSON object"), (b"null\n", "no JSON object"), (b'"status"\n', "no JSON object"), (b"7\nmore\n", "no JSON object"),
    ],
    ids=lambda value: repr(value)[:20],
)  # fmt: skip
def test_what_is_no_request_is_answered_with_an_error(folder, sent, error):
    """And the next client is served."""
    with serving(folder):
        with connected(folder) as client:
            client.sendall(sent)
            assert error in json.loads(everything(client))["error"]
        assert ask(folder, {}) == {"got": {}}


@pytest.mark.parametrize("sent", [b"", b"{", b"x" * 200_000, b"x" * 10_000_000], ids=len)
def test_what_has_no_end_is_cut_off(folder, sent):
    """Memory is bounded: nobody gets to send more than a request may have."""
    with serving(folder), connected(folder) as client:
        try:
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)
            assert everything(client) == b""
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert ask(folder, {}) == {"got": {}}


def test_silent_and_slow_clients_block_nobody(folder):
    """They are cut off after a while; meanwhile others are served, at once."""
    with serving(folder, patience=0.5), connected(folder) as silent, connected(folder) as slow:
        started = time.monotonic()
        assert ask(folder, {}) == {"got": {}}
        assert time.monotonic() - started < 0.4
        until_cut_off(slow)
        assert everything(silent) == b""


def until_cut_off(client):
    """Send an octet now and then, which does not buy more time."""
    until = time.monotonic() + BOUND
    while time.monotonic() < until:
        try:
            client.sendall(b" ")
        except (BrokenPipeError, ConnectionResetError):
            return
        time.sleep(0.05)
    pytest.fail("not cut off")


def test_a_client_that_does_not_read_is_cut_off(folder):
    """A reply that nobody takes does not hold a thread for ever."""
    before = threading.active_count()
    with serving(folder, lambda _: {"long": "x" * 10_000_000}, patience=0.3), connected(folder) as client:
        client.sendall(b"{}\n")
        until = time.monotonic() + BOUND
        while threading.active_count() > before + 1:
            assert time.monotonic() < until
            time.sleep(0.01)


def test_too_many_clients_are_turned_away_and_told(folder):
    """Threads are bounded; those who are in stay in, and when they have gone there is room again."""
    with serving(folder) as server:
        crowd = [socket.socket(socket.AF_UNIX) for _ in range(32)]
        for client in crowd:
            client.connect(str(server.path))
        with pytest.raises(ConnectionError, match=r"control\.sock: .*(ended|reset)"):
            ask(folder, {})
        crowd[0].sendall(b"{}\n")
        assert json.loads(everything(crowd[0])) == {"got": {}}
        for client in crowd:
            client.close()
        until = time.monotonic() + BOUND
        while True:
            try:
                assert ask(folder, {}) == {"got": {}}
                break
            except ConnectionError:
                assert time.monotonic() < until


@pytest.mark.parametrize("reply", [lambda _: 1 / 0, lambda _: {"not": object()}], ids=["raises", "no JSON"])
def test_a_failing_handler_is_logged_and_answered(folder, reply, caplog):
    """Whoever asked learns that it failed; the server goes on."""
    with serving(folder, reply):
        for _ in range(2):
            assert "Error: " in ask(folder, {})["error"]
    assert "a request on the control socket failed" in caplog.text


def test_closing_removes_the_socket_and_every_thread(folder):
    """With a client still connected; closing twice does no harm."""
    before = set(threading.enumerate())
    server = ControlServer(folder, dict)
    with connected(folder) as client:
        assert ask(folder, {"a": 1}) == {"a": 1}
        started = time.monotonic()
        server.close()
        server.close()
        assert time.monotonic() - started < BOUND / 2
        assert everything(client) == b""
    assert names_in(folder) == []
    assert set(threading.enumerate()) <= before
    with pytest.raises(ConnectionError, match="no running instance"):
        ask(folder, {})


def test_the_socket_of_a_dead_process_is_replaced(folder):
    """`kill -9` removes nothing; until the next start nobody answers, after it somebody does."""
    code = (
        "import sys, time, pathlib\nfrom cdnblock.sources.control_socket import ControlServer\n"
        "server = ControlServer(pathlib.Path(sys.argv[1]), dict)\nprint('up', flush=True)\ntime.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(folder)], cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"up\n"
        assert ask(folder, {"a": 1}) == {"a": 1}
        process.send_signal(signal.SIGKILL)
    assert (folder / SOCKET).exists()
    with pytest.raises(ConnectionError, match="no running instance"):
        ask(folder, {})
    (folder / f"{SOCKET}.new").write_text("left by a process that was killed while it started")
    with serving(folder):
        assert ask(folder, {}) == {"got": {}}
    assert names_in(folder) == []


def test_closing_leaves_a_successors_socket_alone(folder):
    """An instance that is closed late does not make the next one unreachable."""
    first = ControlServer(folder, lambda _: {"first": True})
    with serving(folder, lambda _: {"second": True}):
        first.close()
        assert ask(folder, {}) == {"second": True}


@pytest.mark.parametrize("depth", [1, 10])
def test_a_path_longer_than_a_socket_address_works(folder, depth):
    """A unix socket's address has 108 octets; a state folder's path may have more."""
    deep = folder.joinpath(*["a-rather-long-name-of-a-folder" * 3] * depth)
    deep.mkdir(parents=True)
    descriptors = names_in("/proc/self/fd")
    with serving(deep):
        assert ask(deep, {"a": 1}) == {"got": {"a": 1}}
        assert (deep / SOCKET).is_socket()
    assert names_in(deep) == []
    assert len(names_in("/proc/self/fd")) == len(descriptors)


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.write_text("mine")], ids=["folder", "file"])
def test_what_is_no_socket_is_not_replaced(folder, make):
    """It is somebody's; the operator is told."""
    make(folder / SOCKET)
    with pytest.raises(ConfigError, match="it is no socket"):
        ControlServer(folder, dict)
    assert names_in(folder) == [SOCKET]


@pytest.mark.parametrize("path", ["missing", "\0"], ids=repr)
def test_where_there_can_be_no_socket_is_a_config_error(folder, path):
    """With the path in the message."""
    with pytest.raises(ConfigError, match="cannot be listened on"):
        ControlServer(folder / path, dict)


@pytest.mark.parametrize("path", ["missing", "\0", "x" * 5000], ids=["missing", "nul", "too long"])
def test_asking_where_nobody_is(folder, path):
    """A ConnectionError, whatever the reason."""
    with pytest.raises(ConnectionError):
        ask(folder / path, {})


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (b"", "ended"), (b"{}", "ended"), (b"nonsense\n", "no cdnblock"), (b"[]\n", "no cdnblock"), (b"\xff\n", "no cdnblock"),
        (b"[" * 100_000 + b"\n", "no cdnblock"), (None, "within 0.3 seconds"),
    ],
    ids=lambda value: repr(value)[:20],
)  # fmt: skip
def test_what_answers_like_no_instance(folder, reply, why):
    """The client is patient for as long as it was told, and believes nothing."""
    done = threading.Event()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / SOCKET))
        listener.listen()

        def answer():
            client, _ = listener.accept()
            with client:
                client.recv(1000)
                if reply is None:
                    done.wait(BOUND)
                else:
                    client.sendall(reply)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(ConnectionError, match=why):
            ask(folder, {}, timeout=0.3)
        done.set()
        thread.join()
