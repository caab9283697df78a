"""The applications that the tests run under ASGI servers: plain ASGI, Starlette and FastAPI, and what each does.

What a test wants to know of a process it reads from the file ASGI_NOTES.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from cdnblock.adapters.asgi_middleware import CdnblockMiddleware
from cdnblock.enforcer import Enforcer
from cdnblock.http_gate import HttpGate

HEADERS = {"cache-control": "max-age=600", "expires": "0", "x-kept": "yes"}


def note(text):
    """Write down what has happened."""
    with Path(os.environ["ASGI_NOTES"]).open("a", encoding="utf-8") as notes:
        notes.write(f"{text}\n")


def gate():
    """Return the gate that the environment describes."""
    enforcer = Enforcer(
        os.environ["ASGI_ORDERS"], geo=os.environ["ASGI_GEO"], trusted_proxies=["127.0.0.1/32"],
        state=os.environ.get("ASGI_STATE"),
    )  # fmt: skip
    return HttpGate(enforcer, operator_url=os.environ.get("ASGI_OPERATOR"))


async def plain(scope, receive, send):
    """Answer without any framework."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            note(message["type"])
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message.get("text") or ""})
        note(f"websocket ended with {message.get('code')}")
    else:
        await PAGES.get(scope["path"], page)(receive, send)


async def start(send, *more):
    lines = [(name.encode(), value.encode()) for name, value in (*HEADERS.items(), *more)]
    await send({"type": "http.response.start", "status": 200, "headers": lines})


async def page(receive, send):
    await start(send, ("content-length", "9"))
    await send({"type": "http.response.body", "body": b"The site."})


async def stream(receive, send):
    await start(send)
    while True:
        await send({"type": "http.response.body", "body": b"x" * 10, "more_body": True})
        await asyncio.sleep(0.01)


async def length(receive, send):
    await start(send, ("content-length", "1000000000"))
    while True:
        await send({"type": "http.response.body", "body": b"x" * 10, "more_body": True})
        await asyncio.sleep(0.01)


async def flood(receive, send):
    await start(send)
    while True:
        await send({"type": "http.response.body", "body": b"x" * 65_536, "more_body": True})
        await asyncio.sleep(0)  # or nobody else would run as long as the client reads as fast as this writes


async def listening(receive, send):
    await start(send)
    await send({"type": "http.response.body", "body": b"x", "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass
    note("told")


async def deaf(receive, send):
    await start(send)
    await send({"type": "http.response.body", "body": b"x", "more_body": True})
    await asyncio.Event().wait()


async def slow(receive, send):
    await asyncio.sleep(1)
    await page(receive, send)


async def stubborn(receive, send, cancels=10**9):
    """Stream, and take cancellations for nuisances."""
    await start(send)
    while True:
        try:
            await send({"type": "http.response.body", "body": b"x" * 10, "more_body": True})
            await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            if not cancels:
                raise
            cancels -= 1


async def reluctant(receive, send):
    await stubborn(receive, send, cancels=1)


async def large(receive, send):
    await start(send, ("content-length", "30000000"))
    await send({"type": "http.response.body", "body": b"x" * 30_000_000})


async def background(receive, send):
    """Answer, and go on with something that is nobody's answer, as Starlette's BackgroundTask does."""
    await page(receive, send)
    try:
        await asyncio.sleep(2)
        note("background ended")
    except asyncio.CancelledError:
        note("background cancelled")
        raise


async def upload(receive, send):
    octets = 0
    while True:
        message = await receive()
        octets += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    body = f"{octets}".encode()
    await start(send, ("content-length", str(len(body))))
    await send({"type": "http.response.body", "body": body})


async def passed(receive, send):
    """Tell whether these are the server's own callables."""
    own = "send_uncached" not in getattr(send, "__qualname__", "")
    body = b"own" if own else b"ours"
    await start(send, ("content-length", str(len(body))))
    await send({"type": "http.response.body", "body": body})


PAGES = {
    f"/{handler.__name__}": handler
    for handler in (stream, length, flood, listening, deaf, slow, stubborn, reluctant, large, background, upload, passed)
}  # fmt: skip


async def file(_request):
    """Send a file, as Starlette does it: by its path, where the server offers that."""
    from starlette.responses import FileResponse

    path = Path(os.environ["ASGI_NOTES"]).with_name("file")
    with path.open("ab") as opened:
        opened.truncate(30_000_000)
    return FileResponse(path)


def starlette():
    """Return the same pages in Starlette, as far as the tests want them."""
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse, StreamingResponse
    from starlette.routing import Route, WebSocketRoute

    async def answer(request):
        return PlainTextResponse("The site.", headers=HEADERS)

    async def streamed(request):
        return StreamingResponse(forever(), headers=HEADERS)

    async def with_length(request):
        return StreamingResponse(forever(), headers={**HEADERS, "content-length": "1000000000"})

    async def slowly(request):
        await asyncio.sleep(1)
        return PlainTextResponse("The site.", headers=HEADERS)

    async def echo(socket):
        await socket.accept()
        async for text in socket.iter_text():
            await socket.send_text(text)

    return Starlette(
        routes=[
            Route("/", answer), Route("/stream", streamed), Route("/length", with_length), Route("/slow", slowly),
            Route("/file", file), WebSocketRoute("/socket", echo),
        ]
    )  # fmt: skip


async def forever():
    while True:
        yield b"x" * 10
        await asyncio.sleep(0.01)


def fastapi():
    """Return the same pages in FastAPI."""
    from fastapi import FastAPI, Response
    from fastapi.responses import StreamingResponse
    from starlette.routing import Route, WebSocketRoute

    app = FastAPI()

    @app.get("/")
    async def answer():
        return Response("The site.", headers=HEADERS)

    @app.get("/stream")
    async def streamed():
        return StreamingResponse(forever(), headers=HEADERS)

    @app.get("/length")
    async def with_length():
        return StreamingResponse(forever(), headers={**HEADERS, "content-length": "1000000000"})

    @app.get("/slow")
    async def slowly():
        await asyncio.sleep(1)
        return Response("The site.", headers=HEADERS)

    async def echo(socket):
        await socket.accept()
        async for text in socket.iter_text():
            await socket.send_text(text)

    app.router.routes += [Route("/file", file), WebSocketRoute("/socket", echo)]
    return app


def inside(app):
    """Put the middleware into the framework's own list."""
    app.add_middleware(CdnblockMiddleware, gate=gate())
    return app


def site():
    """Return the contract's site behind the middleware."""
    from cdnblock.testing import REWRITES, AsgiSite

    return CdnblockMiddleware(AsgiSite(REWRITES), gate())


MAKERS = {
    "plain_app": lambda: CdnblockMiddleware(plain, gate()),
    "starlette_app": lambda: CdnblockMiddleware(starlette(), gate()),
    "starlette_inside_app": lambda: inside(starlette()),
    "fastapi_app": lambda: CdnblockMiddleware(fastapi(), gate()),
    "fastapi_inside_app": lambda: inside(fastapi()),
    "site_app": site,
}


def __getattr__(name):
    """Make an application when a server asks for it by name, once."""
    if name not in MAKERS:
        raise AttributeError(name)
    return globals().setdefault(name, MAKERS[name]())
