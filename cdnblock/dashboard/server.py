"""The dashboard's server: GET and HEAD of a handful of pages, each made in a thread beside the event loop.

async with Dashboard(view, Door(None)).serve(Listen(host="127.0.0.1", port=9460)) as port: ...
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import logging
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Final
from urllib.parse import quote

from aiohttp import web
from markupsafe import Markup

from cdnblock.adapters import _decision_door as doors
from cdnblock.adapters._decision_listening import Callers, Listen, listening
from cdnblock.dashboard import answers
from cdnblock.dashboard.alarms import Level, alarms_of
from cdnblock.dashboard.assets import assets
from cdnblock.dashboard.door import COOKIE, SESSION_SECONDS, Door, keep_strangers_out
from cdnblock.dashboard.language import LANGUAGES, Wording
from cdnblock.dashboard.pages.order import order
from cdnblock.dashboard.pages.orders import orders
from cdnblock.dashboard.pages.overview import overview
from cdnblock.dashboard.pages.report import FORMS, report
from cdnblock.dashboard.pages.trail import decisions, trail
from cdnblock.dashboard.pages.try_it import try_it
from cdnblock.dashboard.rendering import Asked, Page, render
from cdnblock.dashboard.view import View
from cdnblock.errors import ConfigError
from cdnblock.measures.notice.negotiation import choose_language

THEMES: Final = ("auto", "light", "dark")
PAGES: Final[Mapping[str, Callable[[View, Asked], Page]]] = {
    "/": overview,
    "/orders": orders,
    "/try": try_it,
    "/decisions": decisions,
    "/trail": trail,
}
"""Path → page; beside these there are `/orders/ID`, the files that pages ask for, and the door."""

_READING: Final = frozenset({"GET", "HEAD"})
_DOOR: Final = frozenset({"/login", "/logout"})  # the only places that take a POST, and only where there is a token
_PREFERENCES: Final[Mapping[str, tuple[str, ...]]] = {"language": LANGUAGES, "theme": THEMES}
_YEAR: Final = 365 * 86_400
_THREADS: Final = 2
_MOST_CONNECTIONS: Final = 128
_SHARE: Final = 0.125  # of the files that this process may open: verdicts, orders and the trail need them, too
_ANYBODY: Final = Callers(("0.0.0.0/0", "::/0"))  # who may look is asked when there is a request
_KEPT_OPEN: Final = 75.0  # seconds without a request; an open page asks every two
_MOST_WAITING: Final = 64  # requests; beyond it whoever asks is told to come again
_MOST_UNSENT: Final = 4  # reports that somebody still takes: one of a million names is 30 MB
_SENT_WITHIN: Final = 300.0  # seconds
_WRONG_TOKEN_SECONDS: Final = 0.5
_DRAIN: Final = 2.0
_LONGEST_FORM: Final = 16 * 1024
_LOG: Final = logging.getLogger(__name__)
_UNREADABLE: Final = logging.getLogger(f"{__name__}.unreadable")
_UNREADABLE.setLevel(logging.CRITICAL)  # what is no HTTP is answered with 400, and is no news

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Dashboard:
    """The pages of one instance behind one door."""

    def __init__(self, view: View, door: Door) -> None:
        assets()  # a damaged installation is told now
        self._view = view
        self._door = door
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="cdnblock-dashboard")
        self._waiting = 0
        self._reporting = asyncio.Lock()
        self._taking: list[asyncio.Transport] = []
        self._entrance: doors.Door | None = None

    @asynccontextmanager
    async def serve(self, where: Listen) -> AsyncIterator[int]:
        """Listen, and yield the port (0 for a unix socket).

        Raises:
            ConfigError: nobody can listen there, or others could connect and there is no token.

        """
        if where.path is None:
            keep_strangers_out(where.host, self._door.token)
        runner = web.AppRunner(
            self.application(), access_log=None, logger=_UNREADABLE, shutdown_timeout=_DRAIN,
            keepalive_timeout=_KEPT_OPEN,
        )  # fmt: skip
        with listening(where) as listener:
            await runner.setup()
            accepting = asyncio.create_task(self._accept(runner, listener))
            try:
                yield 0 if where.path else listener.getsockname()[1]
            finally:
                accepting.cancel()
                with suppress(asyncio.CancelledError):
                    await accepting
                await runner.cleanup()
                self._threads.shutdown(wait=False, cancel_futures=True)

    async def _accept(self, runner: web.AppRunner, listener: socket.socket) -> None:
        """Let in so few at a time that whoever opens connections takes nothing from what is enforced."""
        server = runner.server
        assert server is not None  # noqa: S101 (it is set up)
        most = int(max(1, min(_MOST_CONNECTIONS, doors.most_files() * _SHARE)))
        self._entrance = doors.Door(
            server, _ANYBODY, {"untrusted": 0, "crowded": 0}, lambda: len(server.connections), most=most
        )
        await self._entrance.accept(listener)

    def application(self) -> web.Application:
        """Return the aiohttp application."""
        application = web.Application(middlewares=[self._guard], client_max_size=_LONGEST_FORM)
        application.router.add_get("/static/{digest}/{name}", self._asset)
        application.router.add_get("/login", self._show_login)
        application.router.add_post("/login", self._log_in)
        application.router.add_post("/logout", self._log_out)
        for path, page in PAGES.items():
            application.router.add_get(path, functools.partial(self._page, page))
        application.router.add_get("/orders/{id}", self._order)
        application.router.add_get("/orders/{id}/report.{form}", self._report)
        return application

    @web.middleware
    async def _guard(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Let in who may come in, and send nothing without the fields that all answers carry."""
        if self._entrance is not None:
            self._entrance.asked(request.protocol)
        try:
            answer = self._refusal(request) or await handler(request)
        except web.HTTPException as problem:
            answer = await self._missing(request) if problem.status == 404 else _told(problem)  # noqa: PLR2004
        except Exception:  # noqa: BLE001 (logged with its trace; whoever looks is told, and no more)
            _LOG.exception("cdnblock: the dashboard's page %r failed", request.path[:100])
            answer = answers.plain("This page could not be made; the log says why.", 500)
        return answers.secured(answer)

    def _refusal(self, request: web.Request) -> web.StreamResponse | None:
        """Return the answer to who may not ask this, None where the page is to answer."""
        if not self._door.knows(request.headers.get("Host")):
            return answers.plain("This is not the name of this dashboard (--dashboard-name adds one).", 421)
        at_door = self._door.token is not None and request.path in _DOOR
        if request.method not in _READING and not (at_door and request.method == "POST"):
            return answers.plain("Nothing can be changed here.", 405, Allow="GET, HEAD")
        if request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin") and request.method == "POST":
            return answers.plain("Another site sent you here.", 403)
        if at_door or request.path.startswith("/static/") or self._door.lets_in(request):
            return _preferred(request)
        if "part" in request.query:
            return answers.plain("Log in again.", 401)
        return web.Response(status=303, headers={"Location": "/login"})

    async def _page(self, page: Callable[[View, Asked], Page], request: web.Request) -> web.StreamResponse:
        if self._waiting >= _MOST_WAITING:
            return answers.plain("Too many ask at once; come again.", 503, **{"Retry-After": "2"})
        self._waiting += 1
        try:
            work = functools.partial(self._answer, page, self._asked(request))
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._waiting -= 1

    async def _order(self, request: web.Request) -> web.StreamResponse:
        return await self._page(functools.partial(order, order_id=request.match_info["id"]), request)

    async def _report(self, request: web.Request) -> web.StreamResponse:
        """Send a report as a file to keep: it is a page of its own, with a style of its own, and not one of ours."""
        self._taking = [taker for taker in self._taking if not taker.is_closing()]
        if self._reporting.locked() or len(self._taking) >= _MOST_UNSENT:
            return answers.plain("Another report is being made; come again.", 503, **{"Retry-After": "5"})
        order_id, form = request.match_info["id"], request.match_info["form"]
        async with self._reporting:
            try:
                text = await asyncio.to_thread(report, self._view, order_id, form)
            except ConfigError as error:
                return answers.plain(str(error), 503)
        if text is None:
            return await self._missing(request)
        answer = web.Response(text=text, content_type=FORMS[form], charset="utf-8")
        name = re.sub(r"[^A-Za-z0-9._-]", "_", order_id)
        answer.headers["Content-Disposition"] = f'attachment; filename="{name}.{form}"'
        answer.force_close()  # so that a connection is open for as long as the report is being sent
        if request.transport is not None:
            self._taking.append(request.transport)
            asyncio.get_running_loop().call_later(_SENT_WITHIN, request.transport.abort)
        return answer

    async def _missing(self, request: web.Request) -> web.StreamResponse:
        page = Page(template="missing.html", values={"what": request.path}, status=404)
        return await self._page(lambda _view, _asked: page, request)

    def _answer(self, page: Callable[[View, Asked], Page], asked: Asked) -> web.Response:
        """Make a page, or the part of it that an open one asks for again; in a thread."""
        made = page(self._view, asked)
        alarms = alarms_of(self._view, asked.now)
        pressing = [alarm for alarm in alarms if alarm.level is Level.ALARM]
        common = {"pressing_alarms": pressing, "locked": self._door.token is not None}
        live = Markup(render(made, asked, common, block="live"))  # noqa: S704 (a template of ours made it)
        seen, told = _digest(live), _digest("\n".join(map(repr, pressing)))
        now = asked.wording.instant(asked.now, seconds=True)
        common |= {"live": live, "seen": seen, "told": told, "as_of": now, "polls": asked.address(part="live")}
        if asked.query.get("part") == "live":
            if asked.query.get("seen") == seen and asked.query.get("told") == told:
                return web.Response(status=204, headers={"X-Cdnblock-Now": quote(now)})
            common |= {"announce": asked.query.get("told") != told}
            answer = answers.html(render(replace(made, template="part.html"), asked, common))
            answer.headers["X-Cdnblock-Now"] = quote(now)
            return answer
        return answers.html(render(made, asked, common), made.status)

    def _asked(self, request: web.Request) -> Asked:
        """Return what a request asks for, and how it wants to be shown it."""
        spoken = request.cookies.get("language", "")
        language = (
            spoken
            if spoken in LANGUAGES
            else choose_language(request.headers.get("Accept-Language"), LANGUAGES, LANGUAGES[0])
        )
        theme = request.cookies.get("theme", "")
        return Asked(
            path="/" + request.rel_url.raw_path.lstrip("/\\"), query=dict(request.query), wording=Wording(language),
            theme=theme if theme in THEMES else THEMES[0], now=self._view.now(), logged_in=COOKIE in request.cookies,
        )  # fmt: skip

    async def _asset(self, request: web.Request) -> web.StreamResponse:
        found = assets().get(request.match_info["name"])
        if found is None or found.path != request.path:
            return answers.plain("There is no such file.", 404)
        return answers.asset(found)

    async def _show_login(self, request: web.Request) -> web.StreamResponse:
        return self._login_page(request, wrong=False)

    async def _log_in(self, request: web.Request) -> web.StreamResponse:
        is_form = request.content_type == "application/x-www-form-urlencoded"  # nothing else is worth reading
        given = (await request.post()).get("token", "") if is_form else ""
        session = self._door.log_in(given) if isinstance(given, str) else None
        if session is None:
            await asyncio.sleep(_WRONG_TOKEN_SECONDS)
            return self._login_page(request, wrong=True)
        answer = web.Response(status=303, headers={"Location": "/"})
        answer.set_cookie(COOKIE, session, max_age=SESSION_SECONDS, httponly=True, samesite="Strict", path="/")
        return answer

    async def _log_out(self, request: web.Request) -> web.StreamResponse:
        self._door.log_out(request.cookies.get(COOKIE, ""))
        answer = web.Response(status=303, headers={"Location": "/login"})
        answer.del_cookie(COOKIE, path="/", httponly=True, samesite="Strict")
        return answer

    def _login_page(self, request: web.Request, *, wrong: bool) -> web.Response:
        page = Page(template="login.html", values={"wrong": wrong}, status=403 if wrong else 200)
        return answers.html(render(page, self._asked(request), {"locked": True}), page.status)


def _preferred(request: web.Request) -> web.StreamResponse | None:
    """Return the answer to `?language=fr` and `?theme=dark`: a cookie, and the same page again."""
    wanted = {name: request.query[name] for name in _PREFERENCES if name in request.query}
    if not wanted or request.method != "GET":
        return None
    rest = [(name, value) for name, value in request.query.items() if name not in _PREFERENCES]
    back = str(request.rel_url.with_query(rest))
    answer = web.Response(status=303, headers={"Location": "/" + back.lstrip("/\\")})  # `//host/` is another site
    for name, value in wanted.items():
        if value in _PREFERENCES[name]:
            answer.set_cookie(name, value, max_age=_YEAR, httponly=True, samesite="Strict", path="/")
    return answer


def _told(problem: web.HTTPException) -> web.Response:
    """Return what aiohttp refuses, in the form of our other answers."""
    fields = {"Allow": problem.headers["Allow"]} if "Allow" in problem.headers else {}
    return answers.plain(problem.reason, problem.status, **fields)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]
