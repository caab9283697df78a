"""The caching edge over real sockets: what it stores, for whom, and what orders do to that."""

from __future__ import annotations

import asyncio
import functools

import aiohttp
import pytest
from aiohttp import web
from order_texts import order_text
from sandbox.staging import BEGINS, ENDS, FRANCE, GERMANY, NOWHERE, OPERATOR, eventually, staged

from cdnblock.sources.staging_clock import stop_at

HOST = "motogpstream.me"
UNCACHED = "{cdn: disable}"
CLOSED = "{proxy: close}"


def on_loop(test):
    """Run an async test."""

    @functools.wraps(test)
    def run(*args, **kwargs):
        asyncio.run(asyncio.wait_for(test(*args, **kwargs), 30))

    return run


@on_loop
async def test_a_second_client_gets_the_stored_answer(tmp_path):
    """One number of the origin, twice: MISS, then HIT with an Age."""
    async with staged(tmp_path) as stage:
        first, second = await stage.ask("other.example", FRANCE), await stage.ask("other.example", GERMANY)
    assert (first.status, first.state, second.state) == (200, "MISS", "HIT")
    assert first.number == second.number != ""
    assert first.body == second.body
    assert second.headers["Age"] == "0"


@on_loop
async def test_a_covered_client_is_served_from_the_origin_each_time(tmp_path):
    """Measure cdn: the lookup is bypassed, nothing is stored, and no other cache may store it."""
    async with staged(tmp_path, measures=UNCACHED) as stage:
        first, second = await stage.ask(HOST, FRANCE), await stage.ask(HOST, FRANCE)
        stored = len(stage.edge.cache)
    assert (first.status, first.state, second.state) == (200, "BYPASS", "BYPASS")
    assert first.number != second.number
    assert first.headers.getall("Cache-Control") == ["no-store"]
    assert first.headers.getall("CDN-Cache-Control") == ["no-store"]
    assert stored == 0


@on_loop
async def test_inside_and_outside_never_share_an_answer(tmp_path):
    """Whatever the order of requests, a covered client's answer is nobody else's, and the cache stays hot."""
    asked = [FRANCE, GERMANY, FRANCE, NOWHERE, GERMANY, FRANCE, GERMANY]
    async with staged(tmp_path, measures=UNCACHED) as stage:
        answers = [(client, await stage.ask(HOST, client)) for client in asked]
    inside = [answer.number for client, answer in answers if client == FRANCE]
    outside = [answer.number for client, answer in answers if client != FRANCE]
    assert len(set(inside)) == 3
    assert len(set(outside)) == 1
    assert not set(inside) & set(outside)
    assert [answer.state for client, answer in answers if client != FRANCE] == ["MISS", "HIT", "HIT", "HIT"]


@pytest.mark.parametrize(("before", "at"), [(BEGINS - 1, BEGINS), (ENDS - 1, ENDS)], ids=["start", "end"])
@on_loop
async def test_the_cache_is_purged_when_the_measure_starts_and_when_it_ends(tmp_path, before, at):
    """What was stored of the host goes, what was stored of others stays."""
    async with staged(tmp_path, at=before, measures=UNCACHED) as stage:
        for _ in range(2):
            named, other = await stage.ask(f"www.{HOST}", GERMANY), await stage.ask(f"my{HOST}", GERMANY)
        assert (named.state, other.state) == ("HIT", "HIT")
        stop_at(stage.clock, at)

        async def purged():
            return len(stage.edge.cache) == 1

        assert await eventually(purged)
        assert (await stage.ask(f"my{HOST}", GERMANY)).number == other.number
        assert (await stage.ask(f"www.{HOST}", GERMANY)).number != named.number


@on_loop
async def test_an_answer_under_way_when_the_measure_starts_is_not_stored(tmp_path):
    """The question is asked again when the body is there: the client may be covered by now."""
    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def slow(request):
        response = web.StreamResponse(headers={"Cache-Control": "public, max-age=60"})
        await response.prepare(request)
        await response.write(b"first half, ")
        arrived.set()
        await go_on.wait()
        await response.write(b"second half")
        return response

    site = web.Application()
    site.router.add_get("/", slow)
    async with staged(tmp_path, site, at=BEGINS - 1, measures=UNCACHED) as stage:
        asking = asyncio.create_task(stage.ask(HOST, FRANCE))
        await arrived.wait()
        stop_at(stage.clock, BEGINS)
        go_on.set()
        assert (await asking).body == b"first half, second half"
        assert len(stage.edge.cache) == 0


@on_loop
async def test_a_covered_request_is_refused_with_the_notice(tmp_path):
    """Measure proxy, terminate: 451 for every method, naming the operator, never stored; HEAD has no body."""
    async with staged(tmp_path) as stage:
        got = {method: await stage.ask(HOST, FRANCE, method=method) for method in ("GET", "POST", "HEAD", "OPTIONS")}
        outside = await stage.ask(HOST, GERMANY)
    assert {answer.status for answer in got.values()} == {451}
    assert got["GET"].headers["Link"] == f'<{OPERATOR}>; rel="blocked-by"'
    assert got["GET"].headers["Cache-Control"] == "no-store"
    assert got["HEAD"].body == b""
    assert b"SECP" in got["GET"].body
    assert outside.status == 200


@on_loop
async def test_close_closes_without_an_answer(tmp_path):
    """Measure proxy, close: not one octet comes back."""
    async with staged(tmp_path, measures=CLOSED) as stage:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(stage.url.rpartition(":")[2]))
        writer.write(f"GET / HTTP/1.1\r\nHost: {HOST}\r\nX-Forwarded-For: {FRANCE}\r\n\r\n".encode())
        try:
            got = await asyncio.wait_for(reader.read(), 5)
        except ConnectionError:  # a reset ends it as well
            got = b""
        writer.close()
        assert got == b""
        assert (await stage.ask(HOST, GERMANY)).status == 200


@on_loop
async def test_an_edited_file_takes_effect_without_a_restart(tmp_path):
    """A name added to the file is refused, a name taken out is served, while the edge runs."""
    async with staged(tmp_path, names="[one.example, two.example, three.example, four.example]") as stage:
        assert (await stage.ask("five.example", FRANCE)).status == 200
        edited = order_text(names="[one.example, two.example, three.example, five.example]")
        (stage.orders / "order.yaml").write_text(edited, encoding="utf-8")

        async def refused():
            return (await stage.ask("five.example", FRANCE)).status == 451

        assert await eventually(refused)
        assert (await stage.ask("four.example", FRANCE)).status == 200
        assert (await stage.ask("one.example", FRANCE)).status == 451


@pytest.mark.parametrize(("client", "fate"), [(FRANCE, "cut"), (GERMANY, "goes on")])
@on_loop
async def test_a_running_download_ends_when_the_order_starts(tmp_path, client, fate):
    """For covered clients only."""
    async with (
        staged(tmp_path, at=BEGINS - 1) as stage,
        stage.session.get(f"{stage.url}/stream", headers={"Host": HOST, "X-Forwarded-For": client}) as response,
    ):
        assert await response.content.readline() == b"line 1\n"
        stop_at(stage.clock, BEGINS)
        got = "goes on"
        try:
            async with asyncio.timeout(1.5):
                while await response.content.readline():
                    pass
                got = "cut"
        except TimeoutError:
            pass
        except aiohttp.ClientError:
            got = "cut"
    assert got == fate


@pytest.mark.parametrize(("client", "fate"), [(FRANCE, "cut"), (GERMANY, "goes on")])
@on_loop
async def test_an_open_websocket_ends_when_the_order_starts(tmp_path, client, fate):
    """It echoes through the edge until then; for clients outside, and after that, too."""
    async with staged(tmp_path, at=BEGINS - 1) as stage:
        asked = {"Host": HOST, "X-Forwarded-For": client}
        async with stage.session.ws_connect(f"{stage.url}/socket", headers=asked, protocols=["chat"]) as socket:
            await socket.send_str("hello")
            assert (await socket.receive(timeout=5)).data == "hello"
            stop_at(stage.clock, BEGINS)
            try:
                message = await socket.receive(timeout=1.5)
                got = (
                    "cut" if message.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR) else message.type.name
                )
            except TimeoutError:
                await socket.send_bytes(b"still")
                got = "goes on" if (await socket.receive(timeout=5)).data == b"still" else "silent"
    assert got == fate


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("GET / HTTP/1.1\r\nHost: motogpstream.me\r\n", 451),
        ("GET http://motogpstream.me/ HTTP/1.1\r\nHost: other.example\r\n", 451),
        ("GET http://other.example/ HTTP/1.1\r\nHost: motogpstream.me\r\n", 200),
        ("GET / HTTP/1.1\r\nHost: WWW.MotoGPstream.me.:8080\r\n", 451),
        ("GET / HTTP/1.1\r\nHost: other.example\r\nHost: motogpstream.me\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: other example\r\n", 400),
        ("GET / HTTP/1.1\r\nHost:\r\n", 400),
        ("GET / HTTP/1.1\r\n", 400),
        ("CONNECT motogpstream.me:443 HTTP/1.1\r\nHost: other.example\r\n", 451),
        ("CONNECT other.example:443 HTTP/1.1\r\nHost: other.example\r\n", 405),
        ("GET /socket HTTP/1.1\r\nHost: motogpstream.me\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n", 451),
    ],
)
@on_loop
async def test_the_host_that_is_asked_for_decides(tmp_path, head, status):
    """RFC 9112 §3.2: the absolute form over Host, exactly one Host, and a good one."""
    async with staged(tmp_path) as stage:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(stage.url.rpartition(":")[2]))
        writer.write(f"{head}X-Forwarded-For: {FRANCE}\r\n\r\n".encode())
        line = await asyncio.wait_for(reader.readline(), 5)
        writer.close()
    assert int(line.split()[1]) == status


def _site_with(**headers: str) -> web.Application:
    count = iter(range(1, 1000))

    async def page(_request):
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(text=f"{next(count)}", headers=sent)

    site = web.Application()
    site.router.add_route("*", "/", page)
    return site


@pytest.mark.parametrize(
    ("headers", "states"),
    [
        ({"Cache_Control": "max-age=60"}, ["MISS", "HIT"]),
        ({"Cache_Control": "max-age=0, s-maxage=60"}, ["MISS", "HIT"]),
        ({"CDN_Cache_Control": "max-age=60", "Cache_Control": "no-store"}, ["MISS", "HIT"]),
        ({"CDN_Cache_Control": "no-store", "Cache_Control": "max-age=60"}, ["MISS", "MISS"]),
        ({"Cache_Control": "max-age=60, private"}, ["MISS", "MISS"]),
        ({"Cache_Control": 'max-age=60, no-cache="x"'}, ["MISS", "MISS"]),
        ({"Cache_Control": "max-age=60", "Set_Cookie": "a=b"}, ["MISS", "MISS"]),
        ({"Cache_Control": "max-age=60", "Vary": "Accept-Language"}, ["MISS", "MISS"]),
        ({"Cache_Control": "max-age=60", "Age": "60"}, ["MISS", "MISS"]),
        ({"Expires": "Thu, 01 Jan 2099 00:00:00 GMT"}, ["MISS", "MISS"]),
        ({}, ["MISS", "MISS"]),
    ],
)
@on_loop
async def test_what_may_not_be_stored_is_not(tmp_path, headers, states):
    """RFC 9111 §3 and RFC 9213 §2.2, on the careful side."""
    async with staged(tmp_path, _site_with(**headers)) as stage:
        assert [(await stage.ask("other.example", FRANCE)).state for _ in states] == states


@pytest.mark.parametrize(
    ("method", "headers", "state"),
    [
        ("GET", {}, "HIT"),
        ("HEAD", {}, "HIT"),
        ("POST", {}, "MISS"),
        ("GET", {"Authorization": "Basic YTpi"}, "MISS"),
        ("GET", {"Cache_Control": "no-cache"}, "MISS"),
        ("GET", {"Range": "bytes=0-0"}, "MISS"),
    ],
)
@on_loop
async def test_which_requests_a_stored_answer_serves(tmp_path, method, headers, state):
    """RFC 9111 §4."""
    async with staged(tmp_path) as stage:
        await stage.ask("other.example", GERMANY)
        answer = await stage.ask("other.example", FRANCE, method=method, **headers)
    assert answer.state == state
    assert answer.status == 200


@on_loop
async def test_an_origin_that_does_not_answer_is_a_502(tmp_path):
    """And a 502 is not stored; a body cut short does not look whole."""

    async def breaks_off(request):
        response = web.StreamResponse(headers={"Content-Length": "1000", "Cache-Control": "max-age=60"})
        await response.prepare(request)
        await response.write(b"only this")
        request.transport.abort()
        return response

    async def hangs_up(request):
        request.transport.abort()

    site = web.Application()
    site.router.add_get("/", breaks_off)
    site.router.add_get("/nothing", hangs_up)
    async with staged(tmp_path, site) as stage:
        assert (await stage.ask("other.example", FRANCE, "/nothing")).status == 502
        with pytest.raises((aiohttp.ClientError, ConnectionError)):
            await stage.ask("other.example", FRANCE)
        assert len(stage.edge.cache) == 0


@on_loop
async def test_headers_between_neighbours_stay_there(tmp_path):
    """RFC 9110 §7.6.1; the host and the body go through unchanged."""
    seen = {}

    async def page(request):
        seen.update(host=request.host, headers=dict(request.headers), body=await request.read())
        return web.Response(text="ok", headers={"Connection": "X-Hop", "X-Hop": "1", "X-End": "2"})

    site = web.Application()
    site.router.add_post("/{path:.*}", page)
    async with staged(tmp_path, site) as stage:
        asked = {"Host": "other.example:81", "Connection": "keep-alive, X-Secret", "X-Secret": "1", "X-Kept": "2"}
        async with stage.session.post(f"{stage.url}/a%2Fb?q=%20", headers=asked, data=b"x" * 300_000) as response:
            assert response.status == 200
            assert "X-Hop" not in response.headers
            assert response.headers["X-End"] == "2"
    assert seen["host"] == "other.example:81"
    assert seen["body"] == b"x" * 300_000
    assert seen["headers"]["X-Kept"] == "2"
    assert seen["headers"]["Via"] == "1.1 cdnblock-edge"
    assert "X-Secret" not in seen["headers"]
