"""Seeded random requests: what nobody thought of. Judged by the sandbox's second reading, never by a decision of ours."""

from __future__ import annotations

import random
import re
import string
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cdnblock.sandbox import naive_reading
from cdnblock.testing.judging import OK, UNAVAILABLE
from cdnblock.testing.places import PLACES
from cdnblock.testing.play import ask_site
from cdnblock.testing.scenarios import Need, Protocol
from cdnblock.testing.site import MARK, TRACE
from cdnblock.testing.stage import Host, Stage
from cdnblock.testing.wire import Answer, HangError, Http1, Request
from cdnblock.testing.wire2 import Http2

SEED: Final = 20_250_328
ORDERS: Final = "random-*.yaml"
_SHOWN: Final = 20  # complaints
_CLIENTS: Final = 4
_METHODS: Final = ("GET",) * 8 + ("HEAD", "POST", "POST", "PUT", "DELETE", "OPTIONS", "PATCH")
_INNOCENT: Final = ("other.example", "random-other.example", "example.org", "203.0.113.9", "random.example")
_FIELDS: Final = (
    ("Accept", ("*/*", "text/html", "application/json;q=0.5, text/*", ";;;", "text/plain; q=nonsense")),
    ("Accept-Language", ("fr", "en", "de, *;q=0.1", "fr-FR;q=0.7,en;q=0.9", "--", "i" * 300)),
    ("Cookie", ("a=b", "a=b; c=d", "=;=;=")),
    ("X-Forwarded-Host", ("random-france.example", "other.example")),
    ("X-Forwarded-Proto", ("https",)),
    ("Forwarded", ("for=203.0.113.7", 'for="[2001:db8:f::7]"', "garbage")),
    ("X-Real-IP", ("203.0.113.7", "198.51.100.7")),
    ("Referer", ("http://random-france.example/",)),
    ("If-None-Match", ('"x"',)),
    ("Range", ("bytes=0-0", "bytes=9-")),
    ("Cache-Control", ("no-cache", "max-age=0")),
    ("X-" + "Long" * 20, ("x" * 2000,)),
)
_PORT: Final = re.compile(r"\[?([0-9A-Fa-f.:]+?)\]?:4711")
_UNREADABLE: Final = ("unknown", "garbage", "_hidden", "999.1.1.1", "198.051.100.007", "[", "203.0.113.7.", "é")


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """One random request. `name` is its host as an order would write it, None for what is no host name at all."""

    trace: str
    request: Request
    name: str | None
    country: str | None
    wanted: Mapping[str, str]  # measures, by the second reading

    @property
    def ends_connection(self) -> bool:
        """Tell whether the answer to it may be the end of the connection."""
        return self.name is None or self.wanted.get("proxy") == "close"


class RandomRequests:
    """Asks a host thousands of things."""

    def __init__(self, stage: Stage, host: Host, cannot: Mapping[Need, str]) -> None:
        self._host, self._cannot = host, cannot
        self._papers = [paper for path in stage.orders.glob(ORDERS) for paper in naive_reading.read(path)]
        self._names = [(item.name, item.subdomains) for paper in self._papers for item in naive_reading.listed(paper)]

    def run(self, protocol: Protocol, count: int, *, at_once: int, seed: int = SEED) -> list[str]:
        """Ask `count` times, `at_once` on one connection; return the first complaints, each with its request."""
        prefix = f"random-{protocol.value[:1]}-"
        drawn = [*self.draw(random.Random(seed), count, prefix, protocol)]  # noqa: S311 (to be repeated, not guessed)
        wrong: list[str] = []
        try:
            for item, answer in self._all_answers([*_batches(drawn, at_once)], protocol):
                wrong += [_shown(item, complaint, seed) for complaint in self._judge(item, answer)]
                if len(wrong) > _SHOWN:
                    return wrong
        except (AssertionError, OSError) as error:
            return [*wrong, f"seed {seed}: {type(error).__name__}: {error}"]
        return wrong or self._judge_site(drawn, {*ask_site(self._host, "traces", prefix)}, seed)

    def draw(self, dice: random.Random, count: int, prefix: str, protocol: Protocol) -> Iterator[Drawn]:
        """Yield random requests, always the same for the same dice."""
        at = datetime.now(UTC)
        for number in range(count):
            name = self._name(dice) if dice.random() > 0.03 else None  # noqa: PLR2004
            country, lines = _client(dice)
            if Need.NODE_PORT in self._cannot:
                lines = [_PORT.sub(r"\1", line) for line in lines]
            method = dice.choice(_METHODS)
            fields = [(field, dice.choice(values)) for field, values in dice.sample(_FIELDS, dice.randint(0, 4))]
            fields += [("X-Forwarded-For", line) for line in lines] + [(TRACE, f"{prefix}{number}")]
            yield Drawn(
                trace=f"{prefix}{number}",
                request=Request(
                    method=method,
                    target=_path(dice),
                    hosts=(_garbage(dice) if name is None else _spelled(dice, name, protocol),),
                    headers=tuple(fields),
                    body=dice.randbytes(dice.choice((1, 10, 2000))) if method in ("POST", "PUT", "PATCH") else b"",
                ),
                name=name,
                country=country,
                wanted={} if name is None else naive_reading.measures(self._papers, name, country, at),
            )

    def _name(self, dice: random.Random) -> str:
        if dice.random() < 0.2:  # noqa: PLR2004
            return dice.choice(_INNOCENT)
        name, _ = dice.choice(self._names)
        label = "".join(dice.choices(string.ascii_lowercase + string.digits, k=dice.randint(1, 12)))
        match dice.randint(0, 9):
            case 0 | 1 | 2:
                return f"{label}.{name}"
            case 3:
                return f"free.{name}"
            case 4:
                return f"{label}{name}" if name.isascii() else f"{label}.{name}"
            case 5:
                return f"{name}.{label}.example"
            case 6:
                return name.partition(".")[2] if name.count(".") > 1 else name
            case _:
                return name

    def _all_answers(self, batches: Sequence[Sequence[Drawn]], protocol: Protocol) -> Iterator[tuple[Drawn, Answer]]:
        """Ask from several clients at once, so that requests of different sides stand beside each other."""
        with ThreadPoolExecutor(_CLIENTS) as clients:
            asking = [clients.submit(lambda batch: [*self._answers(batch, protocol)], batch) for batch in batches]
            try:
                for answers in asking:
                    yield from answers.result()
            finally:
                clients.shutdown(cancel_futures=True)

    def _answers(self, batch: Sequence[Drawn], protocol: Protocol) -> Iterator[tuple[Drawn, Answer]]:
        """Ask; what a connection that was announced to end has left open is asked again on another one."""
        left = [*batch]
        while left:
            requests = [item.request for item in left]
            with self._connect(protocol) as connection:
                answers = connection.ask_all(requests)
            yield from zip(left, answers, strict=False)
            if not answers or "close" not in ",".join(answers[-1].of("connection")).lower():
                yield from ((item, Answer()) for item in left[len(answers) :])
                return
            left = left[len(answers) :]

    def _connect(self, protocol: Protocol) -> Http1 | Http2:
        if protocol is Protocol.HTTP1:
            return Http1(self._host.address)
        if self._host.tls is None:
            raise HangError("the host has no TLS, and has not said that it cannot")
        return Http2(self._host.tls, sni="contract.example")

    def _judge(self, item: Drawn, answer: Answer) -> Iterator[str]:
        if answer.status >= 500:  # noqa: PLR2004 (RFC 9110 §15.6)
            yield f"the host failed: {answer.status} {answer.body[:200]!r}"
        elif item.name is None:
            return
        elif item.wanted.get("proxy") == "close":
            if answer.status and (Need.CLOSE not in self._cannot or answer.status == OK):
                yield f"not closed: {answer.status}"
        elif "proxy" in item.wanted:
            if answer.status != UNAVAILABLE or answer.of(MARK[0]):
                yield f"not refused: {answer.status}"
        elif answer.status != OK or answer.of(MARK[0]) != [MARK[1]] or not answer.whole:
            yield f"not served: {answer.status} {answer.reason} {answer.body[:100]!r}"
        elif Need.CDN not in self._cannot and (answer.of("cdn-cache-control") == ["no-store"]) != (
            "cdn" in item.wanted
        ):
            yield f"CDN-Cache-Control {answer.of('cdn-cache-control')}"

    def _judge_site(self, drawn: Sequence[Drawn], traces: set[str], seed: int) -> list[str]:
        named = [item for item in drawn if item.name is not None]
        heard = [item for item in named if "proxy" in item.wanted and item.trace in traces]
        unheard = [item for item in named if "proxy" not in item.wanted and item.trace not in traces]
        wrong = [_shown(item, "the site heard of it", seed) for item in heard]
        return (wrong + [_shown(item, "the site never heard of it", seed) for item in unheard])[:_SHOWN]


def _batches(drawn: Sequence[Drawn], size: int) -> Iterator[list[Drawn]]:
    """Yield what goes on one connection: what may end it has one of its own."""
    calm: list[Drawn] = []
    for item in drawn:
        if item.ends_connection:
            yield [item]
            continue
        calm.append(item)
        if len(calm) == size:
            yield calm
            calm = []
    if calm:
        yield calm


def _spelled(dice: random.Random, name: str, protocol: Protocol) -> str:
    """Return a name in one of the ways in which it may come."""
    text = name if name.isascii() else name.encode("idna").decode()
    match dice.randint(0, 5):
        case 0:
            text = text.upper()
        case 1:
            text = "".join(dice.choice((letter.upper(), letter)) for letter in text)
    return text + dice.choice(("", "", "", ":80", ":8443" if protocol is Protocol.HTTP1 else ":443"))


def _garbage(dice: random.Random) -> str:
    alphabet = string.punctuation.replace(",", "") + string.ascii_letters + " éß。．\u200b\ud800"
    return "".join(dice.choices(alphabet.replace("\ud800", "\udcff"), k=dice.randint(1, 60)))


def _client(dice: random.Random) -> tuple[str | None, list[str]]:
    """Return the country of a client and the X-Forwarded-For lines that it comes with."""
    address = dice.choice([*PLACES.values()])
    country = _COUNTRY_OF[address]
    if dice.random() < 0.1:  # noqa: PLR2004
        return None, [f"{address}, {dice.choice(_UNREADABLE)}"]
    if ":" not in address and dice.random() < 0.1:  # noqa: PLR2004
        address = f"::ffff:{address}"
    if dice.random() < 0.1:  # noqa: PLR2004
        address = f"[{address}]:4711" if ":" in address else f"{address}:4711"
    forged = dice.choices([*PLACES.values(), *_UNREADABLE], k=dice.choice((0, 0, 1, 2)))
    trusted = ["127.0.0.1"] * dice.choice((0, 0, 0, 1))
    chain = [*forged, address, *trusted]
    if dice.random() < 0.2:  # noqa: PLR2004
        return country, chain
    return country, [", ".join(chain)]


def _path(dice: random.Random) -> str:
    letters = string.ascii_letters + string.digits + "-._~!$&'()*+;=:@"
    path = "/p" + "".join(dice.choices(letters, k=dice.randint(0, 40)))
    return path + dice.choice(("", "?q=1", "?http://random-france.example/", "?a=%20&b"))


def _shown(item: Drawn, complaint: str, seed: int) -> str:
    head = item.request.octets().partition(b"\r\n\r\n")[0]
    return f"seed {seed}, {item.trace}: {complaint}; wanted {dict(item.wanted)} for {item.name} from {item.country}: {head!r}"


_COUNTRY_OF: Final[Mapping[str, str | None]] = {
    # By hand, as everything here that judges.
    PLACES["france"]: "FR",
    PLACES["france-6"]: "FR",
    PLACES["reunion"]: "RE",
    PLACES["guadeloupe"]: "GP",
    PLACES["germany"]: "DE",
    PLACES["germany-6"]: "DE",
    PLACES["nowhere"]: None,
}
