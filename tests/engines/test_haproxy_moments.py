"""Every moment of a change: after each command that HAProxy gets, each host and client fares as before or as after."""

from __future__ import annotations

import random
import socketserver
import threading
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from ipaddress import ip_network

import pytest

from cdnblock import exporters
from cdnblock.engines._engine import Change, Means
from cdnblock.engines._haproxy_maps import added, changed, read_map, removed
from cdnblock.engines.haproxy import _MAPS, ACTIONS, ENGINE, GATES, HOSTS, TERRITORY
from cdnblock.sources.geo_tables import open_geo_table
from cdnblock.sources.order_folder import load_orders
from cdnblock.testing.places import PLACES, country_table
from cdnblock.testing.stage import put_orders

AT = datetime(2025, 6, 1, tzinfo=UTC)
LABELS = "ab"
TERRITORIES = [["FR"], ["RE"], ["FR", "RE"], ["GP"], "world"]


class Api(socketserver.ThreadingUnixStreamServer):
    """A runtime API that knows what our engine says to HAProxy's, and calls `seen` after each change of a map."""

    daemon_threads = True

    def __init__(self, path, maps, seen):
        super().__init__(str(path), Command)
        self.maps, self.seen, self.prepared = maps, seen, {}


class Command(socketserver.StreamRequestHandler):
    """One command on one connection, as without `prompt`."""

    def handle(self):
        line = self.rfile.readline().decode().rstrip("\n")
        lines = [*iter(lambda: self.rfile.readline().decode().rstrip("\n"), "")] if line.endswith("<<") else []
        self.wfile.write(self.answer(*line.removesuffix("<<").split(), lines=lines).encode())

    def answer(self, verb, _map, *words, lines):
        version = words[0] if words[0].startswith("@") else None
        path, *rest = words[1:] if version else words
        name = path.rpartition("/")[2]
        table = self.server.maps[name]
        if verb == "prepare":
            self.server.prepared[name] = {}
            return "New version created: 1\n"
        if verb == "add":
            entries = dict(line.split(" ", 1) for line in lines)
            for key, value in entries.items():  # one by one, as other threads of HAProxy see it
                if version:
                    self.server.prepared[name][key] = value
                else:
                    assert key not in table, f"{key} twice in {name}"
                    table[key] = value
                    self.server.seen()
            return "\n"
        if verb == "commit":
            self.server.maps[name] = self.server.prepared.pop(name)
        elif verb == "set":
            assert rest[0] in table
            table[rest[0]] = rest[1]
        else:
            del table[rest[0]]
        self.server.seen()
        return "\n"


@contextmanager
def api(path, maps, seen):
    """Serve a runtime API until the end of the block."""
    with Api(path, maps, seen) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


def refused(maps, host, client):
    """Tell whether HAProxy with these maps refuses a host, in the order in which the exported rules ask."""
    hosts = maps[HOSTS]
    labels = host.split(".")
    top = ".".join(labels[-2:])
    if f"{top}/" not in maps[GATES] or top not in hosts:
        return False
    if hosts[top] == "free" and ".".join(labels[-3:]) not in hosts:
        return False
    group = met(hosts, host)
    place = next((maps[TERRITORY][cidr] for cidr in around(client) if cidr in maps[TERRITORY]), "other")
    return f"{place}:{group}" in maps[ACTIONS]


@cache
def around(client):
    """Return the networks that an address is in, the smallest first."""
    return [str(ip_network(f"{client}/{length}", strict=False)) for length in range(32, 7, -1)]


def met(table, host):
    """Return what a host has in a map: by its own name, else by its longest one."""
    labels = host.split(".")
    keys = (f"={host}", *(".".join(labels[start:]) for start in range(len(labels))))
    return next((table[key] for key in keys if key in table), None)


def exported(folder, orders):
    """Return the maps' files for these orders."""
    folder.mkdir()
    put_orders(folder, orders)
    table = folder.parent / "places.mmdb"
    table.write_bytes(country_table())
    options = exporters.Options(folder="/maps", operator_url="https://edge.example/blocked")
    done = exporters.export(exporters.load("haproxy"), load_orders(folder), open_geo_table(table), AT, options)
    return {file.name: file.octets for file in done.files if file.name in _MAPS}


def some_orders(dice, many):
    """Return orders whose names stand above, below and beside each other; one of them has so many more."""
    orders = {}
    for number in range(3):
        names = sorted({".".join([*dice.choices(LABELS, k=dice.randint(1, 4)), "example"]) for _ in range(4)})
        orders[f"order-{number}"] = {
            "names": [{"name": name, "subdomains": False} if dice.random() < 0.3 else name for name in names],
            "territory": dice.choice(TERRITORIES),
        } | ({"lifted": [{"names": names[:1], "at": "2025-05-01T12:00"}]} if dice.random() < 0.5 else {})
    if many:
        names = sorted({f"n{dice.randrange(2 * many)}.{dice.choice(LABELS)}.example" for _ in range(many)})
        orders["many"] = {"names": names, "territory": dice.choice(TERRITORIES)}
    return orders


@pytest.mark.parametrize(("many", "whole"), [(0, False), (0, True), (900, False)], ids=["few", "whole", "many"])
def test_no_moment_of_a_change_shows_a_host_as_neither_side_has_it(many, whole, tmp_path):
    """Whatever else changes at the same time: names, their territories, the countries that any order is about."""
    dice = random.Random(20250501)
    turns = 2 if many else 10
    sides = [exported(tmp_path / str(number), some_orders(dice, many)) for number in range(turns + 1)]
    hosts = [".".join([*dice.choices(LABELS, k=dice.randint(1, 5)), "example"]) for _ in range(12 if many else 20)]
    hosts += [f"n{dice.randrange(many)}.a.example" for _ in range(8 if many else 0)]
    asked = [(host, PLACES[place]) for host in hosts for place in ("france", "reunion", "guadeloupe", "germany")]
    wrong, moments = [], [0]
    maps = {name: read_map(text) for name, text in sides[0].items()}

    def fares(maps):
        return {question: refused(maps, *question) for question in asked}

    def seen():
        moments[0] += 1
        if many and moments[0] % 29:
            return
        now = fares(maps)
        wrong.extend((turn, question) for question in asked if now[question] not in {was[question], will_be[question]})

    configuration = tmp_path / "haproxy.cfg"
    configuration.write_text(f"stats socket {tmp_path}/api.sock\n")
    settings = {name: (setting.default,) for name, setting in ENGINE.settings.items()}
    means = Means(folder=tmp_path, settings={**settings, "config": (str(configuration),)})
    with api(tmp_path / "api.sock", maps, seen):
        for turn in range(turns):
            before, after = sides[turn : turn + 2]
            was, will_be = (fares({name: read_map(text) for name, text in side.items()}) for side in (before, after))
            ENGINE.make(means).take(Change(folder=tmp_path, before=before, after=after, whole=whole))
            assert maps == {name: read_map(text) for name, text in after.items()}
    assert moments[0] > turns
    assert wrong == []


def test_who_looks_while_names_come_and_go_finds_what_one_side_has():
    """A host's names are looked for one after the other, the deepest first, while those of one step come or go."""
    dice = random.Random(7)
    for _ in range(60):
        before, after = some_names(dice), some_names(dice)
        hosts = [".".join(dice.choices(LABELS, k=dice.randint(2, 5))) for _ in range(10)]
        steps = [*(list(some.items()) for some in added(before, after)), list(changed(before, after).items())]
        steps.append([(key, None) for key in removed(before, after)])
        now = dict(before)
        for step in steps:
            states = [dict(now)]
            for key, value in step:
                now = {name: old for name, old in now.items() if name != key} | ({} if value is None else {key: value})
                states.append(now)
            for host in hosts:
                assert found_by_turns(states, host) <= {met(before, host), met(after, host)}, (before, after, host)
        assert now == after


def found_by_turns(states, host):
    """Return all that can be found for a host by one who looks for one name in one state, for the next in that or a later one."""
    labels = host.split(".")
    keys = [f"={host}", *(".".join(labels[start:]) for start in range(len(labels)))]
    found, first = set(), 0  # the earliest state in which one may still be looking
    for key in keys:
        later = range(first, len(states))
        found |= {states[number][key] for number in later if key in states[number]}
        first = next((number for number in later if key not in states[number]), len(states))
    return found | ({None} if first < len(states) else set())


def some_names(dice):
    names = (dice.choice(["", "", "="]) + ".".join(dice.choices(LABELS, k=dice.randint(1, 4))) for _ in range(8))
    return {name: dice.choice(["free", "g1", "g2"]) for name in names}
