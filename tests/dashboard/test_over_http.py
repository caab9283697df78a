"""The dashboard without a browser: who may look, what every answer carries, and that nothing can be changed."""

from __future__ import annotations

import base64
import hashlib
import http.client
import re
import socket
from contextlib import ExitStack
from urllib.parse import urlencode

import pytest
from running_dashboards import ask, running, written

from cdnblock.adapters import _decision_door
from cdnblock.dashboard.door import Door, keep_strangers_out, read_token
from cdnblock.errors import ConfigError

TOKEN = "0123456789abcdef0123456789abcdef"
PAGES = ("/", "/orders", "/orders/motogp", "/try?host=motogpstream.me", "/decisions", "/trail")


@pytest.fixture(scope="module")
def locked(tmp_path_factory, small_mmdb):
    """A dashboard with a token and a name."""
    folder = tmp_path_factory.mktemp("locked")
    with running(written(folder / "orders"), small_mmdb, token=TOKEN, names=["Blocks.example"]) as found:
        yield found


@pytest.mark.parametrize("path", [*PAGES, "/nowhere", "/orders/nobody", "/orders/motogp/report.json"])
def test_every_answer_is_kept_to_itself(dashboard, path):
    """A strict policy, no sniffing, no framing, no referrer, nothing stored, nothing for other origins."""
    status, fields, _ = ask(dashboard, path)
    assert status == (404 if "no" in path.rpartition("/")[2] else 200)
    policy = dict(part.split(" ", 1) for part in fields["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["frame-ancestors"] == "'none'"
    assert set(policy.values()) == {"'none'", "'self'"}
    assert fields["Cache-Control"] == "no-store"
    assert fields["X-Content-Type-Options"] == "nosniff"
    assert fields["X-Frame-Options"] == "DENY"
    assert fields["Referrer-Policy"] == "no-referrer"
    assert fields["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "Access-Control-Allow-Origin" not in fields


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"])
@pytest.mark.parametrize("path", ["/", "/orders/motogp", "/login", "/nowhere"])
def test_nothing_can_be_changed(dashboard, method, path):
    """Whatever reads is answered; everything else is 405, and carries the same fields."""
    status, fields, _ = ask(dashboard, path, method, body=b"" if method != "TRACE" else None)
    assert (status, fields["Allow"]) == (405, "GET, HEAD")
    assert "default-src 'none'" in fields["Content-Security-Policy"]


def test_head_has_no_body(dashboard):
    """HEAD is GET without its text."""
    status, fields, text = ask(dashboard, "/orders", "HEAD")
    assert (status, text) == (200, "")
    assert int(fields["Content-Length"]) > 1000


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200), ("127.0.0.1:9460", 200), ("localhost:1", 200), ("[::1]:9460", 200), ("LOCALHOST.", 200),
        ("192.0.2.1", 200), ("evil.example", 421), ("evil.example:9460", 421), ("127.0.0.1.evil.example", 421),
        ("localhost.evil.example", 421), ("", 421), ("[evil", 421), ("blocks.example", 421),
    ],
)  # fmt: skip
def test_a_site_that_rebinds_its_name_gets_nothing(dashboard, host, status):
    """Only addresses, localhost and listed names are answered."""
    found, _, text = ask(dashboard, "/", Host=host)
    assert found == status
    assert ("motogp" in text) is (status == 200)


def test_a_listed_name_is_answered(locked):
    """A proxy in front may offer the dashboard under a name of its own."""
    assert ask(locked, "/login", Host="blocks.example:443")[0] == 200


def test_a_token_is_asked_for(locked):
    """Pages send to the log-in, live updates say so, and a program may give the token as a bearer's."""
    status, fields, text = ask(locked, "/orders")
    assert (status, fields["Location"], text) == (303, "/login", "")
    assert ask(locked, "/orders?part=live")[0] == 401
    assert ask(locked, "/orders/motogp/report.json")[0] == 303
    assert ask(locked, "/orders", Authorization=f"Bearer {TOKEN}")[0] == 200
    for wrong in (TOKEN[:-1], TOKEN + "0", "", TOKEN.upper(), "é" * 9000):
        assert ask(locked, "/orders", Authorization=f"Bearer {wrong}".encode("utf-8", "replace"))[0] in (303, 400)


def test_logging_in_and_out(locked):
    """A session lives in a cookie that no script and no other site can use, and ends when it is ended."""
    form = {"Content_Type": "application/x-www-form-urlencoded"}
    assert ask(locked, "/login", "POST", urlencode({"token": "wrong"}), **form)[0] == 403
    status, fields, _ = ask(locked, "/login", "POST", urlencode({"token": TOKEN}), **form)
    assert (status, fields["Location"]) == (303, "/")
    cookie = fields["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert TOKEN not in cookie
    session = cookie.partition(";")[0]
    assert ask(locked, "/orders", Cookie=session)[0] == 200
    assert ask(locked, "/logout", "POST", "", Sec_Fetch_Site="cross-site", Cookie=session)[0] == 403
    assert ask(locked, "/logout", "POST", "", Cookie=session)[0] == 303
    assert ask(locked, "/orders", Cookie=session)[0] == 303


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "blocks.example"])
def test_without_a_token_it_is_for_this_machine_alone(host):
    """Any other address is refused before anything listens, and says what would be right."""
    with pytest.raises(ConfigError, match="--dashboard-token-file"):
        keep_strangers_out(host, None)
    keep_strangers_out(host, TOKEN)
    keep_strangers_out("127.0.0.1", None)
    keep_strangers_out("::1", None)


@pytest.mark.parametrize(
    ("content", "mode", "words"),
    [(b"short\n", 0o600, "at least 16"), (b"x" * 5000, 0o600, "at least 16"), (b"\xff" * 40, 0o600, "cannot be read"),
     (TOKEN.encode(), 0o644, "chmod 640"), (f"{TOKEN}\n{TOKEN}".encode(), 0o600, "one line")],
    ids=["short", "long", "octets", "readable", "two"],
)  # fmt: skip
def test_a_bad_token_file_is_refused(tmp_path, content, mode, words):
    """Too short, unreadable, for all to read, or two lines."""
    file = tmp_path / "token"
    file.write_bytes(content)
    file.chmod(mode)
    with pytest.raises(ConfigError, match=words):
        read_token(file)
    file.write_text(f"{TOKEN}\n")
    file.chmod(0o640)
    assert read_token(file) == TOKEN


def test_sessions_are_bounded():
    """Whoever logs in again and again pushes out his own oldest sessions, and fills no memory."""
    door = Door(TOKEN)
    sessions = [door.log_in(TOKEN) for _ in range(1_100)]
    assert len(door._sessions) == 1_000
    assert len(set(sessions)) == 1_100


def test_what_pages_load_is_of_this_package_and_has_its_hash(dashboard):
    """Every script and style has an `integrity` that its octets match, and an address for good."""
    _, _, text = ask(dashboard, "/")
    loaded = re.findall(r'<(?:script|link)[^>]* (?:src|href)="([^"]+)"', text)
    hashed = re.findall(r'(?:src|href)="(/static/[^"]+)" integrity="([^"]+)"', text)
    assert len(loaded) == 4
    assert {path for path in loaded if not path.endswith(".svg")} == {path for path, _ in hashed}
    for path in loaded:
        status, fields, _ = ask(dashboard, path)
        assert status == 200
        assert "immutable" in fields["Cache-Control"]
    for path, integrity in hashed:
        connection = http.client.HTTPConnection("127.0.0.1", dashboard.port, timeout=20)
        connection.request("GET", path)
        digest = hashlib.sha384(connection.getresponse().read()).digest()
        connection.close()
        assert integrity == f"sha384-{base64.b64encode(digest).decode()}"
    assert ask(dashboard, "/static/0000000000000000/htmx.min.js")[0] == 404
    assert ask(dashboard, "/static/../../etc/passwd")[0] == 404


@pytest.mark.parametrize("path", PAGES)
def test_pages_name_no_other_machine(dashboard, path):
    """No address of anywhere else but the order's own publication; no inline script, style or handler."""
    _, _, text = ask(dashboard, path)
    assert set(re.findall(r'(?:src|href|action|hx-get)="((?:https?:)?//[^"]*)"', text)) <= {
        "https://court.example/decision?id=1&amp;part=2"
    }
    assert re.findall(r"<style|<script(?![^>]* src=)|\sstyle=|\son[a-z]+=|javascript:", text) == []


@pytest.mark.parametrize(
    ("asked", "language"),
    [("fr", "fr"), ("fr-CA,en;q=0.5", "fr"), ("en", "en"), ("de", "en"), ("", "en"), ("en;q=0, fr", "fr")],
)
def test_the_language_is_the_browsers(dashboard, asked, language):
    """Accept-Language chooses; English for whoever reads neither."""
    assert f'<html lang="{language}"' in ask(dashboard, "/", Accept_Language=asked)[2]


@pytest.mark.parametrize(
    ("path", "location", "cookie"),
    [
        ("/orders?q=a%20b&language=fr", "/orders?q=a+b", "language=fr"),
        ("/?theme=dark", "/", "theme=dark"),
        ("//evil.example/?theme=dark", "/evil.example/", "theme=dark"),
        ("/%5C%5Cevil.example?theme=dark", "/%5C%5Cevil.example", "theme=dark"),
        ("/?theme=%3Cscript%3E", "/", None),
    ],
)
def test_a_preference_is_a_cookie_and_leads_back(dashboard, path, location, cookie):
    """The same page without the parameter, on this machine whatever the path looks like; nonsense sets nothing."""
    status, fields, _ = ask(dashboard, path)
    assert (status, fields["Location"]) == (303, location)
    assert (fields.get("Set-Cookie", "") or "").partition(";")[0] == (cookie or "")


def test_a_request_without_a_host_is_none_of_ours(dashboard):
    """HTTP/1.0 may leave the Host field out; nobody asks a name server for one."""
    with socket.create_connection(("127.0.0.1", dashboard.port), 10) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert connection.recv(4096).split(b" ")[1] == b"421"


def test_a_log_in_that_is_no_form_is_refused(locked):
    """A body of another kind, or a broken one, is no token."""
    for kind in ("multipart/form-data", "multipart/form-data; boundary=x", "application/json", "text/plain"):
        assert ask(locked, "/login", "POST", "--x\r\nnonsense", Content_Type=kind)[0] in (400, 403)
    assert ask(locked, "/login", "POST", b"token=" + b"a" * 100_000)[0] in (403, 413)


def test_whoever_opens_connections_takes_none_from_what_is_enforced(tmp_path, small_mmdb, monkeypatch):
    """More than its share are closed at once, those that ask nothing soon after; who has asked is kept."""
    monkeypatch.setattr(_decision_door, "FIRST_HEAD", 1.0)
    with running(written(tmp_path / "orders"), small_mmdb) as found, ExitStack() as opened:
        kept = http.client.HTTPConnection("127.0.0.1", found.port, timeout=10)
        opened.callback(kept.close)
        kept.request("GET", "/try")
        kept.getresponse().read()
        silent = [opened.enter_context(socket.create_connection(("127.0.0.1", found.port), 10)) for _ in range(140)]
        for one in silent[:100]:
            one.sendall(b"GET / HTTP/1.1\r\nHost: local")
        assert silent[139].recv(1) == b""
        assert silent[0].recv(1) == b""  # in the end; a connection that is held for ever runs into its timeout
        kept.request("GET", "/try")
        assert kept.getresponse().status == 200
        assert ask(found, "/try")[0] == 200
