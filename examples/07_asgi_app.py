"""An ASGI application behind the middleware. Any will do: Starlette, FastAPI, Litestar, Django, or none as here.

Run it: cd examples && uvicorn --port 8080 --no-proxy-headers 07_asgi_app:app
    or: cd examples && granian --interface asgi --port 8080 07_asgi_app:app
Ask it: curl -i -H 'Host: www.motogpstream.me' -H 'X-Forwarded-For: 90.84.144.1' http://127.0.0.1:8080/

Without `--no-proxy-headers` uvicorn reads X-Forwarded-For by rules of its own (FORWARDED_ALLOW_IPS) before the
enforcer does by its.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cdnblock import Enforcer
from cdnblock.adapters.asgi_middleware import CdnblockMiddleware
from cdnblock.http_gate import HttpGate

Message = MutableMapping[str, Any]

ORDERS = Path(__file__).parent / "orders"
THEN = datetime(2025, 5, 1, 12, tzinfo=UTC)  # the orders have ended since, so this example stays in their season


async def site(
    scope: Message, _receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    """Show the same page everywhere."""
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])  # what servers expect of applications without lifespan
    headers = [(b"cache-control", b"max-age=600"), (b"content-length", b"10")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"The site.\n"})


enforcer = Enforcer(ORDERS, trusted_proxies=["127.0.0.1"], clock=THEN.timestamp)
app = CdnblockMiddleware(site, HttpGate(enforcer, operator_url="https://edge.example/blocked"))
