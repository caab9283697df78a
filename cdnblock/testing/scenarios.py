"""Scenarios as files: orders, what clients ask, and what must come over the wire. Read strictly: a typo is an error."""

from __future__ import annotations

import dataclasses
import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import Any, Final, TypeVar

import yaml

from cdnblock.errors import ConfigError
from cdnblock.testing.places import PLACES
from cdnblock.testing.wire import Request

_Kind = TypeVar("_Kind", bound=StrEnum)


class Need(StrEnum):
    """What a host may be unable to do. It says so in `AdapterContract.cannot`, with the reason that the skip shows."""

    HTTP2 = "http2"  # HTTP/2 over TLS
    ABSOLUTE_FORM = "absolute-form"  # take `GET http://host/` as a request for that host
    HTTP10 = "http-1.0"  # answer HTTP/1.0
    CONNECT = "connect"  # see CONNECT before it is refused by itself
    WEBSOCKET = "websocket"
    WEBSOCKET_NOTICE = "websocket-notice"  # refuse a WebSocket with a body
    STREAM_CLOSE = "stream-close"  # end one stream of an HTTP/2 connection and keep the others
    CONTINUE = "100-continue"  # answer `Expect: 100-continue`
    CLOSE = "close"  # measure proxy, variant close: end a connection without an answer
    CDN = "cdn"  # measure cdn: change the headers of responses that pass
    CACHE = "cache"  # a cache of its own, which asks us before each lookup
    NOTICE = "notice"  # a 451 in the client's language and type
    LIVE = "live"  # take orders that change while it runs
    CUT = "cut"  # end what runs when an order takes effect
    FORWARDED = "forwarded"  # RFC 7239
    REWRITE = "rewrite"  # rewrite the host of a request inside itself
    TRAILERS = "trailers"  # pass a body that fields follow
    UPLOAD = "upload"  # pass on a body of two megabytes
    NODE_PORT = "node-port"  # read ports beside addresses in X-Forwarded-For
    SURROGATE = "surrogate"  # pass on Surrogate-Control to who has not asked for it
    PADDED_HOST = "padded-host"  # take the white space around a Host for what it is, nothing
    TWO_HOSTS = "two-hosts"  # refuse a request with two Hosts, and not only go by one of them


class Protocol(StrEnum):
    """How the clients of a scenario speak."""

    HTTP1 = "http/1.1"
    HTTP2 = "h2"


class Outcome(StrEnum):
    """What becomes of a request."""

    REFUSED = "refused"  # 451 as RFC 7725 and measure `proxy` have it; the site never hears of it
    CLOSED = "closed"  # not an octet, and the connection (HTTP/2: the stream) ends; the site never hears of it
    BAD = "bad"  # 400 (or the end of the connection); the site never hears of it
    UNSERVED = "unserved"  # 4xx, 501 or an end, by us or by the host's server itself; the site never hears of it
    SERVED = "served"  # by the site, whole
    HARMLESS = "harmless"  # served or not, but the site is never asked for what `never_as` names
    UPGRADED = "upgraded"  # 101, and the echo answers


class Action(StrEnum):
    """What a step does. Those with labels are about what was opened, or begun, under these names before."""

    ASK = "ask"
    BEGIN = "begin"  # send a request, and leave its answer unread under the name `as`
    ANSWERED = "answered"  # the site's answer to what was begun comes, whole
    DENIED = "denied"  # it does not: something else comes, or the end
    OPEN = "open"  # begin what goes on for ever, and leave it running under the name `as`
    GOES_ON = "goes-on"
    ENDS = "ends"
    ORDER = "order"  # these orders take effect now
    WAIT = "wait"  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Expect:
    """What must come. `number` and `other_than` compare the site's answer number with that of named steps."""

    outcome: Outcome
    headers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # name: these lines, or all in one
    absent: tuple[str, ...] = ()
    body_has: tuple[str, ...] = ()
    body_lacks: tuple[str, ...] = ()
    body: str | None = None  # empty | large | exactly this text
    interim: tuple[int, ...] | None = None
    never_as: str | None = None
    saw: Mapping[str, Any] = field(default_factory=dict)  # what the site was told: method, body_bytes, hosts
    same_as: str | None = None
    other_than: tuple[str, ...] = ()
    length_of: str | None = None  # for HEAD: Content-Length, if any, is how long the body of that step's answer was
    keeps: bool = False  # the connection can be used again


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that happens, and what must come of it."""

    action: Action
    says: str = ""
    request: Request = field(default_factory=Request)
    forwarded_for: tuple[str, ...] = ()  # X-Forwarded-For lines
    peer: str = "127.0.0.1"
    sni: str | None = None
    connection: str | None = None  # its name, to use it again
    label: str | None = None
    labels: tuple[str, ...] = ()
    seconds: float = 0.0  # to wait; for ASK, within which it must come true
    orders: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    expect: Expect = field(default_factory=lambda: Expect(outcome=Outcome.SERVED))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Something that must hold on every host. `source` says why: a clause, or whose mistake it was."""

    file: str
    name: str
    proves: str
    source: str
    needs: tuple[Need, ...]
    protocols: tuple[Protocol, ...]
    orders: Mapping[str, Mapping[str, Any]]
    steps: tuple[Mapping[str, Any], ...]

    def play_for(self, run: str) -> tuple[Step, ...]:
        """Return the steps with `${run}` in them replaced: names of their own for each time it is played."""
        return tuple(step for raw in self.steps for step in _steps(filled(raw, run), f"{self.file}: {self.name}"))


def scenarios_folder() -> Path:
    """Return where the scenarios are: in the installed package, or in the source tree that this runs from."""
    here = Path(str(resources.files("cdnblock")))
    shipped = here / "testing" / "scenarios"
    return shipped if shipped.is_dir() else here.parent / "tests" / "scenarios"


def read_scenarios(folder: Path | None = None) -> tuple[Scenario, ...]:
    """Return every scenario of a folder (default: those of this package), in the order of files.

    Raises ConfigError for a key, word or value that there is not.
    """
    found: list[Scenario] = []
    for path in sorted((folder or scenarios_folder()).glob("*.yaml")):
        for raw in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            scenario = _scenario(path.stem, raw)
            scenario.play_for("checked")
            found.append(scenario)
    names = [scenario.name for scenario in found]
    if len(set(names)) != len(names):
        raise ConfigError(f"two scenarios of one name: {sorted(name for name in names if names.count(name) > 1)}")
    return tuple(found)


def order_file(order_id: str, keys: Mapping[str, Any], run: str = "") -> str:
    """Return the text of an order file: what the scenario says of it, and a plausible rest."""
    whole = {
        "cdnblock": 1,
        "id": order_id,
        "court": "Tribunal judiciaire de Paris",
        "decided": "2025-03-28",
        "legal_basis": "Code du sport, art. L. 333-10",
        "claimant": "A claimant",
        "from": "2025-04-03T09:00",
        "until": "2090-01-01",
        "territory": ["FR"],
        "measures": {"proxy": "terminate"},
    } | dict(filled(keys, run))
    return yaml.safe_dump({key: value for key, value in whole.items() if value is not None}, allow_unicode=True)


_SCENARIO_KEYS: Final = {"scenario", "proves", "source", "needs", "protocols", "orders", "steps"}
_REQUEST_KEYS: Final = {"host", "hosts", "method", "path", "target", "headers", "body", "version"}
_STEP_KEYS: Final = _REQUEST_KEYS | {
    "says", "from", "peer", "x-forwarded-for", "sni", "connection", "expect", "as", "within", *(action.value for action in Action)
}  # fmt: skip
_REPEATED: Final = re.compile(r"\$\{([^{}*]+)\*(\d+)\}")
_MOMENT: Final = re.compile(r"\$\{now([+-]\d+)s\}")


def _scenario(file: str, raw: Any) -> Scenario:
    _known(raw, _SCENARIO_KEYS, file)
    try:
        return Scenario(
            file=file,
            name=raw["scenario"],
            proves=raw["proves"],
            source=raw["source"],
            needs=tuple(_word(Need, text, file) for text in raw.get("needs", ())),
            protocols=tuple(_word(Protocol, text, file) for text in raw.get("protocols", tuple(Protocol))),
            orders=raw.get("orders", {}),
            steps=tuple(raw["steps"]),
        )
    except KeyError as missing:
        raise ConfigError(f"{file}: a scenario without {missing}") from missing


def _steps(raw: Mapping[str, Any], where: str) -> Iterator[Step]:
    _known(raw, _STEP_KEYS, where)
    actions = [action for action in Action if action in raw]
    if len(actions) != 1:
        raise ConfigError(f"{where}: a step does one thing: {', '.join(Action)}; this one: {raw}")
    (action,) = actions
    value = raw[action]
    match action:
        case Action.ASK | Action.BEGIN | Action.OPEN:
            for host in value if isinstance(value, list) else [value]:
                yield _asking(action, host, raw, where)
        case Action.ORDER:
            yield Step(action=action, says=raw.get("says", ""), orders=value)
        case Action.WAIT:
            yield Step(action=action, says=raw.get("says", ""), seconds=float(value))
        case Action.ANSWERED | Action.DENIED | Action.GOES_ON | Action.ENDS:
            yield Step(action=action, says=raw.get("says", ""), labels=tuple(value))


def _asking(action: Action, host: str | None, raw: Mapping[str, Any], where: str) -> Step:
    place = raw.get("from")
    if place is not None and place not in PLACES:
        raise ConfigError(f"{where}: no place: {place}; there are {', '.join(PLACES)}")
    lines = raw.get("x-forwarded-for", () if place is None else (PLACES[place],))
    hosts = raw.get("hosts", () if host is None else (host,))
    request = Request(
        method=raw.get("method", "GET"),
        target=raw.get("target", raw.get("path", "/")),
        hosts=tuple(str(name) for name in hosts),
        headers=tuple((name, value) for name, _, value in (line.partition(": ") for line in raw.get("headers", ()))),
        body=b"x" * raw["body"] if isinstance(raw.get("body"), int) else str(raw.get("body", "")).encode(),
        version=str(raw.get("version", "1.1")),
    )
    return Step(
        action=action,
        says=raw.get("says", ""),
        request=request,
        forwarded_for=tuple(lines),
        peer=raw.get("peer", "127.0.0.1"),
        sni=raw.get("sni"),
        connection=raw.get("connection"),
        label=raw.get("as"),
        seconds=float(raw.get("within", 0)),
        expect=_expect(raw.get("expect", Outcome.SERVED), where),
    )


def _expect(raw: Any, where: str) -> Expect:
    if isinstance(raw, str):
        return Expect(outcome=_word(Outcome, raw, where))
    keys = {key.replace("-", "_"): value for key, value in raw.items()}
    outcome = _word(Outcome, keys.pop("outcome"), where)
    _known(keys, {item.name for item in dataclasses.fields(Expect)}, where)
    headers = {name: tuple(_several(value)) for name, value in keys.pop("headers", {}).items()}
    for name in ("absent", "body_has", "body_lacks", "other_than", "interim"):
        if name in keys:
            keys[name] = tuple(_several(keys[name]))
    return Expect(outcome=outcome, headers=headers, **keys)


def _several(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else [value]


def _word(kind: type[_Kind], text: str, where: str) -> _Kind:
    try:
        return kind(text)
    except ValueError as error:
        raise ConfigError(f"{where}: {text!r} is none of {', '.join(kind)}") from error


def _known(raw: Mapping[str, Any], keys: set[str], where: str) -> None:
    unknown = set(raw) - keys
    if unknown:
        raise ConfigError(f"{where}: unknown: {', '.join(sorted(unknown))}; there are {', '.join(sorted(keys))}")


def filled(value: Any, run: str) -> Any:
    """Return a value with what stands in `${…}` replaced.

    `${run}` by the run, `${now+2s}` by the first whole second that is at least so far ahead, `${a*20}` by twenty `a`.
    """
    match value:
        case str():
            text = _REPEATED.sub(lambda found: found[1] * int(found[2]), value.replace("${run}", run))
            return _MOMENT.sub(lambda found: _moment(float(found[1])), text)
        case list():
            return [filled(item, run) for item in value]
        case dict():
            return {filled(key, run): filled(item, run) for key, item in value.items()}
        case _:
            return value


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(math.ceil(time.time() + seconds), UTC).isoformat()
