"""HTTP/2 and HTTP/3 through a real mitmdump: each stream decides by its own authority."""

from __future__ import annotations

import pytest
from mitmproxy_clients import GERMANY, Http2, http3


def test_each_stream_decides(edge):
    """On one connection, whose SNI is innocent: covered authorities are refused, others pass (coalescing)."""
    with Http2(edge.http, sni="other.example") as client:
        refused = client.get("blocked.example")
        passed = client.get("other.example")
        again = client.get("WWW.blocked.example.:443", "/x")
    assert (refused.status, passed.status, again.status) == (451, 200, 451)
    assert "Code du sport" in refused.body.decode()
    assert refused.headers["cache-control"] == "no-store"
    assert passed.body == b"hello"


def test_a_covered_server_name_does_not_condemn_the_connection(edge):
    """SNI is no request: what is asked for on the connection is another host."""
    with Http2(edge.http, sni="blocked.example") as client:
        assert client.get("other.example").status == 200
        assert client.get("blocked.example").status == 451


@pytest.mark.parametrize(
    ("authority", "extra", "status"),
    [
        ("other.example", [("host", "blocked.example")], None),
        ("blocked.example", [("host", "other.example")], None),
        ("", [("host", "blocked.example")], 451),
        ("", [("host", "other.example")], 200),
        ("", [], None),
        ("xn--bcher-kva.example", [], 451),
    ],
)
def test_every_name_of_a_stream_counts(edge, authority, extra, status):
    """`:authority` and Host are both asked for; None: they differ or lack, and mitmproxy ends the connection itself."""
    before = len(edge.origin.seen)
    with Http2(edge.http, sni="other.example") as client:
        assert client.get(authority, extra=extra).status == (status or 0)
        assert client.closed == (status is None)
    assert len(edge.origin.seen) - before == (status == 200)


def test_close_resets_one_stream(edge):
    """Variant close ends the stream alone: the connection and its other streams go on."""
    with Http2(edge.http, sni="other.example") as client:
        live = client.open("other.example", "/live")
        client.pump(until=lambda: live.body)
        closed = client.get("closed.example")
        assert (closed.status, closed.reset is not None) == (0, True)
        already = len(live.body)
        client.pump(0.3)
        assert len(live.body) > already
        assert client.get("other.example").status == 200


def test_head_and_upload(edge):
    """HEAD has no body; an upload is refused, and the origin never sees it."""
    before = len(edge.origin.seen)
    with Http2(edge.http, sni="other.example") as client:
        head = client.get("blocked.example", method="HEAD")
        assert (head.status, head.body, head.ended) == (451, b"", True)
        assert client.get("blocked.example", method="POST", body=b"x" * 100_000).status == 451
        assert client.get("closed.example", method="POST", body=b"x" * 100_000).reset is not None
    assert len(edge.origin.seen) == before


def test_caching_is_switched_off_over_http2(edge):
    """Measure cdn in lower-case field names, as HTTP/2 wants them, for the territory alone."""
    with Http2(edge.http, sni="cached.example") as client:
        inside, outside = client.get("cached.example"), client.get("cached.example", client=GERMANY)
    assert (inside.headers["cache-control"], "age" in inside.headers) == ("no-store", False)
    assert outside.headers["cache-control"] == "public, max-age=600"


def test_http2_origin_hears_nothing(edge):
    """Behind an HTTP/2 origin it is the same: refused streams open nothing there."""
    connections, before = edge.http2_origin.connections, len(edge.http2_origin.seen)
    with Http2(edge.https, sni="blocked.example") as client:
        assert client.get("blocked.example").status == 451
        assert (edge.http2_origin.connections, len(edge.http2_origin.seen)) == (connections, before)
        assert client.get("other.example").status == 200
    assert len(edge.http2_origin.seen) == before + 1


def test_http3_streams_decide(edge):
    """Over QUIC too each stream decides: 451, a reset and an answer on one connection, whatever its SNI."""
    before = len(edge.http2_origin.seen)

    async def scenario(client) -> None:
        refused, closed = await client.get("Blocked.Example.:443"), await client.get("closed.example")
        assert (refused.status, "Code du sport" in refused.body.decode()) == (451, True)
        assert (closed.status, closed.reset is not None) == (0, True)
        assert (await client.get("other.example", extra=[("host", "blocked.example")])).status == 451
        assert len(edge.http2_origin.seen) == before
        passed, abroad = await client.get("other.example"), await client.get("blocked.example", client=GERMANY)
        assert (passed.status, passed.body, abroad.status) == (200, b"hello", 200)

    http3(edge.https, "other.example", scenario)
    http3(edge.https, "blocked.example", scenario=lambda client: client.get("other.example"))
    assert len(edge.http2_origin.seen) == before + 3


def test_a_body_without_a_length_stays_a_body(edge):
    """An HTTP/2 upload that names no length must not become the next request on a connection of HTTP/1.1."""
    body = b"GET /x HTTP/1.1\r\nHost: blocked.example\r\n\r\n"
    before = len(edge.origin.seen)
    with Http2(edge.http, sni="other.example") as client:
        assert client.get("other.example", "/upload", method="POST", body=body).status == 200
        assert client.get("other.example", "/after").status == 200
    assert [(seen.target, seen.body) for seen in edge.origin.seen[before:]] == [("/upload", body), ("/after", b"")]
