"""mitmproxy as a host: its HTTP (1.1, 2, 3), WebSocket, CONNECT, TCP and DNS flows, decided one by one.

Start it with `cdnblock mitmproxy`, which puts the addon first and sets the options that it needs:

    cdnblock mitmproxy --orders orders/ --mode reverse:http://127.0.0.1:8000@8080 --mode reverse:dns://9.9.9.9@5353

In a master of your own it belongs right behind TermLog, before everything that may answer or rewrite:

    master.addons.chain.insert(1, master.addons.register(CdnBlock()))
"""

from __future__ import annotations

import functools
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from typing import Final, TypeVar

from mitmproxy import connection, ctx, dns, exceptions, flow, http, tcp, udp
from mitmproxy.addonmanager import Loader
from mitmproxy.net.dns import response_codes
from mitmproxy.net.http.status_codes import SWITCHING

from cdnblock.adapters import _mitmproxy_connections as connections
from cdnblock.adapters import _mitmproxy_requests as requests
from cdnblock.adapters._dns_front.peers import read_address
from cdnblock.adapters._mitmproxy_connections import Register, Running
from cdnblock.adapters._mitmproxy_options import (
    OPTIONS,
    Settings,
    options_error,
    read_settings,
    refuse_unsafe,
    trail_settings,
    unknown_options,
)
from cdnblock.adapters._mitmproxy_requests import Notices
from cdnblock.enforcer import Enforcer
from cdnblock.errors import CdnblockError
from cdnblock.geo.client_address import TrustedProxies
from cdnblock.matching.decision import Decision
from cdnblock.matching.ruleset import RuleSet
from cdnblock.measures import cache_disable, dns_refusal, proxy_termination
from cdnblock.metrics import Collector, serve_metrics
from cdnblock.noting import Acted, Notes, meant
from cdnblock.orders.model import Measure
from cdnblock.sources.staging_clock import StagingClock

_CLIENTS: Final = 65_536  # addresses of peers that are kept
_COMPLAIN_EVERY: Final = 60.0  # seconds between two log records about failing decisions: each costs 0.2 ms
_LARGEST_MESSAGE: Final = 65_535  # octets, over TCP (RFC 1035 §4.2.2)
_SILENT: Final = "cdnblock_silent"

_LOG: Final = logging.getLogger(__name__)

_Flow = TypeVar("_Flow", bound=flow.Flow)


def _fails_closed(hook: Callable[[CdnBlock, _Flow], None]) -> Callable[[CdnBlock, _Flow], None]:
    """Catch what a hook raises: mitmproxy would log it and let the flow go on as if nothing were covered."""

    @functools.wraps(hook)
    def guarded(self: CdnBlock, of: _Flow) -> None:
        try:
            hook(self, of)
        except Exception as error:  # noqa: BLE001 (whatever it is, it must not let the flow through)
            self.fail(of, error)

    return guarded


class CdnBlock:
    """The addon. mitmproxy calls the public methods by their names, on its event loop."""

    name = "cdnblock"
    addons: Sequence[object] = ()  # addons that mitmproxy calls right after this one, at less cost than in its chain

    def __init__(self) -> None:
        self._settings = Settings()
        self._enforcer: Enforcer | None = None
        self._notes: Notes | None = None
        self._collector = Collector(None)
        self._closing = ExitStack()
        self._proxies = TrustedProxies(())
        self._running = Register()
        self._turn = 0  # counts the changes of what is enforced, so that an older decision is known as such
        self._notices = Notices()
        self._clients: dict[str | None, str] = {}
        self._complained = -_COMPLAIN_EVERY

    # Life cycle

    def load(self, loader: Loader) -> None:
        """Declare the options."""
        for name, kind, default, text in OPTIONS:
            loader.add_option(f"cdnblock_{name}", kind, default, text)
        connections.patient_with_udp()

    def configure(self, updated: set[str]) -> None:
        """Read the orders before any socket opens, and again when an option changes.

        Raises OptionsError when something in the options or the orders is not usable; nothing has changed then.
        """
        refuse_unsafe(ctx.options)
        if not any(name.startswith("cdnblock_") for name in updated):
            return
        settings = read_settings(ctx.options)
        if settings is None:
            return
        if settings.of_enforcer != self._settings.of_enforcer:
            self._enforce(settings)
        self._settings = settings
        self._notices.clear()
        self._clients.clear()

    def running(self) -> None:
        """End the start without orders, and with options that there are not. Until then every request was refused."""
        unknown = unknown_options(ctx.options)
        if unknown:
            known = ", ".join(f"cdnblock_{name}" for name, *_ in OPTIONS)
            _LOG.error("cdnblock: unknown option %s; there are %s", ", ".join(unknown), known)
        if self._enforcer is None:
            _LOG.error("cdnblock: no orders to enforce; name their folder with --orders or --set cdnblock_orders=")
        self._serve_metrics()
        with suppress(
            NotImplementedError, RuntimeError, ValueError
        ):  # a master of somebody's own, outside a main thread
            ctx.master.event_loop.add_signal_handler(signal.SIGHUP, self._reload)

    def done(self) -> None:
        """Stop following the orders."""
        self._closing.close()
        if self._enforcer is not None:
            self._enforcer.close()

    # HTTP

    @_fails_closed
    def requestheaders(self, of: http.HTTPFlow) -> None:
        """Decide as soon as the request has named its host, before mitmproxy looks for an origin."""
        if of.error is None:
            self._judge(of)
            requests.keep_to_http(of)

    @_fails_closed
    def http_connect(self, of: http.HTTPFlow) -> None:
        """Decide about a tunnel by its destination; what goes on inside is decided on its own."""
        self._judge(of)

    @_fails_closed
    def request(self, of: http.HTTPFlow) -> None:
        """See that the body of a request stays its body on the way to the origin."""
        requests.frame_body(of.request)

    @_fails_closed
    def responseheaders(self, of: http.HTTPFlow) -> None:
        """Keep our answers ours, switch caching off, and let endless bodies pass."""
        running = self._running.find(of)
        if running is None or of.response is None:
            return
        if running.answer is not None:
            of.response = running.answer  # whatever another addon has put in its place
            return
        if running.decided_in != self._turn:
            running.decision, running.decided_in = self._decide(running.names, running.client), self._turn
        if Measure.CDN in running.decision.measures:
            requests.rewrite_headers(of, cache_disable.response_headers)
            self._note(running.decision, running.names, running.client, Acted.UNCACHED, dry_run=False)
        if self._settings.stream and requests.wants_streaming(of.response):
            of.response.stream = True

    def response(self, of: http.HTTPFlow) -> None:
        """Forget an exchange that has ended; one that goes on as a WebSocket or as bytes still runs."""
        if of.response is None or of.response.status_code != SWITCHING:
            self._running.drop(of)

    def error(self, of: http.HTTPFlow) -> None:
        """Forget an exchange that failed; the client of one that we cut gets no error page about its origin."""
        running = self._running.drop(of)
        if running is not None and running.cut:
            of.error = flow.Error(flow.Error.KILLED_MESSAGE)

    def websocket_end(self, of: http.HTTPFlow) -> None:
        """Forget a WebSocket that has ended."""
        self._running.drop(of)

    def client_disconnected(self, client: connection.Client) -> None:
        """Forget what was left of a connection."""
        self._running.drop_client(client)

    # Bytes: TCP and UDP that is neither HTTP nor DNS, on its own or in a tunnel

    @_fails_closed
    def tcp_start(self, of: tcp.TCPFlow | udp.UDPFlow) -> None:
        """Decide by the server name of TLS or the destination: here the client can mean no other host."""
        client = self._client(of)
        names = requests.names_of_connection(of)
        decision = self._decide(names, client)
        if Measure.PROXY in decision.measures:
            connections.refuse(of)
            self._note(decision, names, client, Acted.CLOSE)
        else:
            self._running.add(Running(of, names, client, decision, self._turn))
            self._note(decision, names, client, None)

    def tcp_end(self, of: tcp.TCPFlow | udp.UDPFlow) -> None:
        """Forget a connection that has ended."""
        self._running.drop(of)

    tcp_error = udp_error = udp_end = tcp_end
    udp_start = tcp_start

    # DNS

    @_fails_closed
    def dns_request(self, of: dns.DNSFlow) -> None:
        """Decide by the name that is asked for; what asks for none or several, or is no query, is objected to.

        mitmproxy keeps one flow per query id of a client: what an earlier query left in it is not this one's answer.
        """
        of.response = of.error = None
        of.metadata.pop(_SILENT, None)
        names = [question.name for question in of.request.questions]
        ordinary = of.request.query and len(names) == 1
        said = self._live().decide_query_name(names[0], None) if ordinary else None
        if said is not None and not said.orders:
            return
        packet = of.request.packed
        if not ordinary:
            self._send(of, dns_refusal.objection(packet) or b"")
            return
        may_refuse = said is None or any(order.is_enforced for order in said.orders)
        objection = dns_refusal.objection(packet) if may_refuse else None
        if objection is not None:  # who is asking cannot be told from an option that is wrong
            self._send(of, objection)
            return
        client = self._querying_client(of, packet)
        decision = self._live().decide_query_name(names[0], client)
        refused = Measure.DNS in decision.measures
        if refused:
            size = None if of.client_conn.transport_protocol == "udp" else _LARGEST_MESSAGE
            self._send(of, dns_refusal.answer(packet, decision, contact=self._settings.contact, max_size=size) or b"")
        if (refused or decision.would) and self._notes is not None:
            self._notes.dns(decision, names[0], client, refused=refused)

    def dns_response(self, of: dns.DNSFlow) -> None:
        """Send nothing where the answer is silence. Raises AddonHalt: the other addons would look for a response."""
        if of.metadata.get(_SILENT):
            of.response = None
            raise exceptions.AddonHalt

    def fail(self, of: flow.Flow, error: Exception) -> None:
        """Refuse a flow about which no decision could be made, or let it through if the operator wants that."""
        self._complain(error)
        if self._enforcer is not None:
            self._enforcer.vitals.decision_failures += 1
        if self._settings.on_error == "open" or self._settings.report_only:
            return
        try:
            self._fail_closed(of)
        except Exception as another:  # noqa: BLE001 (the last resort has no rules in it that could fail)
            self._complain(another)
            connections.refuse(of)

    def _fail_closed(self, of: flow.Flow) -> None:
        if isinstance(of, http.HTTPFlow) and of.response is None:
            self._answer(of, requests.as_response(proxy_termination.failure(method=of.request.method), of.request))
        elif isinstance(of, dns.DNSFlow):
            of.response = of.request.fail(response_codes.SERVFAIL)
            of.response.recursion_available = True
        else:
            connections.refuse(of)

    def _live(self) -> Enforcer:
        if self._enforcer is None:
            raise RuntimeError("no orders are loaded")
        return self._enforcer

    def _judge(self, of: http.HTTPFlow) -> None:
        names = requests.names_asked_for(of)
        if names is None:
            self._answer(of, requests.as_response(proxy_termination.bad_host(method=of.request.method), of.request))
            return
        client = self._client(of, of.request.headers.fields)
        decision = self._decide(names, client)
        if proxy_termination.closes(decision):
            connections.refuse(of)
            self._note(decision, names, client, Acted.CLOSE)
        elif Measure.PROXY in decision.measures:
            self._answer(of, self._notices.response(decision, of.request, self._settings))
            self._note(decision, names, client, Acted.ANSWER)
        elif decision.malformed:
            self._answer(of, requests.as_response(proxy_termination.bad_host(method=of.request.method), of.request))
        else:
            self._running.add(Running(of, names, client, decision, self._turn))
            self._note(decision, names, client, None)

    def _note(
        self,
        decision: Decision,
        names: Sequence[str | bytes],
        client: str | None,
        acted: Acted | None,
        *,
        dry_run: bool = True,
    ) -> None:
        """Tell what was done about a flow; None is nothing, and then only a dry run is told."""
        if self._notes is not None and (acted is not None or decision.would):
            host = meant(self._live().decide, names, client, decision)
            self._notes.http(decision, host, client, acted, dry_run=dry_run)

    def _decide(self, names: Iterable[str | bytes], client: str | None) -> Decision:
        decide = self._live().decide
        return requests.strictest([decide(name, client) for name in names])

    def _answer(self, of: http.HTTPFlow, response: http.Response) -> None:
        of.response = response
        if of.request.method != "CONNECT":
            requests.never_stream(of.request)
            self._running.add(Running(of, (), None, requests.NOTHING, self._turn, answer=response))

    def _client(self, of: flow.Flow, headers: Iterable[tuple[bytes, bytes]] = ()) -> str | None:
        """Return the client's address; that of a peer who is no trusted proxy is always the same."""
        peername = of.client_conn.peername
        peer = None if peername is None else peername[0]
        known = self._clients.get(peer)
        if known is not None:
            return known
        client = self._live().client_address(peer, headers)
        if client is not None and not self._proxies.trusts(peer):
            if len(self._clients) >= _CLIENTS:
                self._clients.clear()
            self._clients[peer] = client
        return client

    def _send(self, of: dns.DNSFlow, octets: bytes) -> None:
        """Set the answer; none at all (mitmproxy has no word for that) is one that is taken away before it is sent."""
        of.metadata[_SILENT] = not octets
        of.response = type(of.request).unpack(octets) if octets else of.request.fail(response_codes.REFUSED)

    def _querying_client(self, of: dns.DNSFlow, packet: bytes) -> str | None:
        address, prefix = dns_refusal.client_subnet(packet) or (None, 0)
        return self._proxies.ecs_client(_peer(of), address, prefix)

    def _enforce(self, settings: Settings) -> None:
        """Put another enforcer in the place of the one there is, or leave all as it is and raise OptionsError."""
        if settings.orders is None:
            if self._enforcer is not None:
                raise options_error("cdnblock_orders cannot be taken away while mitmproxy runs")
            return
        if self._enforcer is not None and (settings.state is not None or settings.audit is not None):
            raise options_error("options of the enforcer cannot change while it owns a folder; restart mitmproxy")
        try:
            enforcer = Enforcer(
                settings.orders,
                geo=settings.geo,
                trusted_proxies=settings.trusted_proxies,
                client_header=settings.client_header,
                state=settings.state,
                report_only=settings.report_only,
                audit=settings.audit,
                audit_settings=trail_settings(settings),
                clock=time.time if settings.clock is None else StagingClock(settings.clock),
            )
        except CdnblockError as error:
            raise options_error(str(error)) from error
        if self._enforcer is not None:
            self._enforcer.close()
        self._enforcer = self._collector.enforcer = enforcer
        self._notes = Notes(enforcer.tally, "mitmproxy_addon")
        self._proxies = TrustedProxies(settings.trusted_proxies)
        loop = ctx.master.event_loop

        def changed(_old: RuleSet, _new: RuleSet) -> None:
            loop.call_soon_threadsafe(self._cut_what_is_covered)  # called on the follower's thread

        enforcer.subscribe(changed)
        self._cut_what_is_covered()

    def _serve_metrics(self) -> None:
        if self._settings.metrics is None:
            return
        try:
            address = read_address(self._settings.metrics, 9153)
            host, port = self._closing.enter_context(serve_metrics(address, self._collector))
            _LOG.info("cdnblock: metrics on %s port %d, /metrics", host, port)
        except CdnblockError as error:  # which ends the start
            _LOG.error("cdnblock: %s", error)

    def _reload(self) -> None:
        """Reread the orders because somebody said so (SIGHUP), beside the event loop."""
        threading.Thread(target=self._live().reload, name="cdnblock-reload", daemon=True).start()

    def _cut_what_is_covered(self) -> None:
        """End what was let through and is covered now. The rest goes on."""
        self._turn += 1
        for running in self._running:
            try:
                decision = self._decide(running.names, running.client)
                if Measure.PROXY in decision.measures and running.answer is None and not running.cut:
                    connections.cut(running)
                    self._note(decision, running.names, running.client, Acted.CUT, dry_run=False)
            except Exception as error:  # noqa: BLE001 (the others must be cut all the same)
                self._complain(error)
                connections.close_client(running.flow.client_conn, and_abort=True)

    def _complain(self, error: Exception) -> None:
        now = time.monotonic()
        if now - self._complained >= _COMPLAIN_EVERY:
            self._complained = now
            _LOG.error("cdnblock: no decision could be made (told once a minute): %s", error, exc_info=error)


def _peer(of: flow.Flow) -> str | None:
    peername = of.client_conn.peername
    return None if peername is None else peername[0]
