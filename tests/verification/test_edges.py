"""Edges that do as decided, and edges that do not: each breakage is found, and nothing else is."""

from __future__ import annotations

import dataclasses

import broken_edges as edges
import broken_sites as sites
import pytest
from broken_edges import running
from broken_http2 import speaking_http2
from broken_sites import own_site
from conftest import edge_at, edge_of, origin_of, shown, verified

from cdnblock.verification.expecting import Promises
from cdnblock.verification.probes import Kind, Way
from cdnblock.verification.telling import undecided


def test_a_sound_edge_is_as_decided(stage):
    """No difference on the sandbox's edge, for names of each kind; every kind of name was asked for."""
    with running(edges.Sound, stage) as host:
        report = verified(edge_of(host), stage)
    assert shown(report) == set()
    assert report.gone is None
    assert {kind for kind, number in report.names.items() if number} == set(Kind) - {Kind.STRANGER}
    assert report.covered > 60
    assert report.placed > 50
    assert report.misplaced == 0


BROKEN = [
    # how it is broken: one difference that has to be found (name, client, form, what came)
    (edges.Undecided, "cdn.refused.example", "france", "as it is", "200"),
    (edges.EverybodyIsFrench, "cdn.refused.example", "germany", "as it is", "451"),
    (edges.OverseasIsFrench, "cdn.refused.example", "reunion", "as it is", "451"),
    (edges.UnknownIsAbroad, "unknown.example", "nowhere", "as it is", "200"),
    (edges.UnknownIsFrench, "cdn.refused.example", "nowhere", "as it is", "451"),
    (edges.NoSubdomains, "a.b.c.republic.example", "reunion", "as it is", "200"),
    (edges.AlwaysSubdomains, "www.alone.example", "france", "as it is", "451"),
    (sites.Parents, "refused.example", "france", "as it is", "451"),
    (edges.CaseSensitive, "cdn.refused.example", "france", "in capitals", "200"),
    (edges.DotSensitive, "cdn.refused.example", "france", "with a dot at its end", "200"),
    (edges.PortSensitive, "cdn.refused.example", "france", "with a port", "200"),
    (edges.HostDecides, "cdn.refused.example", "france", "in absolute form, Host another", "200"),
    (edges.Early, "lifted.example", "france", "as it is", "451"),
    (edges.Late, "held.example", "france", "as it is", "200"),
    (sites.Forbids, "cdn.refused.example", "france", "as it is", "403"),
    (sites.ExplainsPolitely, "cdn.refused.example", "france", "as it is", "200"),
    (edges.Anonymous, "cdn.refused.example", "france", "as it is", "451 that does not say who blocks (Link, RFC 7725 §4)"),
    (
        edges.Storable, "cdn.refused.example", "france", "as it is",
        "451 that may be stored: cache-control: max-age=60, cdn-cache-control: no-store",
    ),
    (edges.NeverCloses, "closed.example", "france", "as it is", "451"),
    (sites.KeepsRefusals, "cdn.refused.example", "germany", "as it is", "451"),
    (sites.KeepsPages, "cdn.refused.example", "france", "as it is", "200"),
    (
        edges.CdnForgotten, "slow.example", "france", "as it is",
        "200, which may be stored: cache-control: public, max-age=3600, cdn-cache-control: none",
    ),
    (sites.Undecidable, "cdnblock-neighbour.example", "germany", "as it is", "503 of a server that could not decide"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "name", "client", "form", "came"), BROKEN, ids=[row[0].__name__ for row in BROKEN])
def test_each_breakage_is_found(stage, kind, name, client, form, came):
    """Whatever somebody's edge gets wrong shows, at the name, client and form where it does."""
    with running(kind, stage) as host:
        report = verified(edge_of(host), stage, about=name)
    found = shown(report)
    assert (name, client, "http/1.1", form, came) in found, found


def test_what_a_look_alike_gets(stage):
    """An edge that compares ends of texts is found by names that only look like listed ones."""

    class Suffix(edges.Sound):
        def _asked(self, authority, client, exchange):
            return ("cdn.refused.example" if authority.endswith("refused.example") else authority), client

    with running(Suffix, stage) as host:
        names = {name for name, *_ in shown(verified(edge_of(host), stage, about="cdn.refused.example"))}
    assert {"mycdn.refused.example", "x-cdn.refused.example", "dn.refused.example"} <= names


def test_a_cache_shows_when_clients_take_turns(stage):
    """What a client inside put into the cache is given to one outside, and the reverse: found as `again`."""
    with running(sites.KeepsPages, stage) as host:
        report = verified(edge_of(host), stage, about="slow.example")
    again = {found.probe.name for found in report.findings if found.probe.again}
    assert "slow.example" in again, [str(found) for found in report.findings]


def test_http2_is_asked_of_its_own(stage):
    """An edge that is sound over HTTP/1.1 and decides nothing over HTTP/2."""
    with sites.speaking_both(sites.NotOverHttp2, stage) as host:
        report = verified(edge_of(host, tls=True), stage, sample=1)
    found = shown(report)
    assert report.ways == (Way.HTTP1, Way.HTTP2)
    assert ("cdn.refused.example", "france", "http/2", "as it is", "200") in found
    assert ("closed.example", "france", "http/2", "as it is", "200") in found
    assert {way for _, _, way, _, _ in found} == {"http/2"}, found


def test_a_connection_for_another_name_is_asked_for_this_one(stage):
    """An edge that decides by the name of the TLS handshake."""
    with sites.speaking_both(sites.Coalesces, stage) as host:
        found = shown(
            verified(edge_of(host, tls=True), stage, ways=[Way.HTTP2], sample=1, promises=Promises(caching=False))
        )
    assert ("cdn.refused.example", "france", "http/2", "on a connection for another name", "200") in found
    assert {form for _, _, _, form, _ in found} == {"on a connection for another name"}, found


def test_a_sound_http2_host_is_as_decided_but_for_its_caching(stage):
    """Over HTTP/2 nothing is found on a host that is sound there; what it does not carry may be left out."""
    with speaking_http2(sites.Versed, stage) as host:
        report = verified(edge_of(host, tls=True), stage, ways=[Way.HTTP2], promises=Promises(caching=False), sample=1)
    assert shown(report) == set()
    assert report.covered > 50


OVERBLOCKING = [
    # how it is broken; for which name and client; what came; whether the answer itself is alarming
    (edges.CdnForAll, "slow.example", "germany", "200, with its caching switched off (Cache-Control and CDN-Cache-Control: no-store)", True),
    (sites.Drops, "cdnblock-neighbour.example", "france", "closed without an answer", True),
    (sites.ForbidsAbroad, "cdn.refused.example", "germany", "403", True),
    (sites.SendsAway, "cdn.refused.example", "germany", "302 to https://elsewhere.example/blocked", True),
    (sites.HidesAbroad, "cdn.refused.example", "germany", "404", False),
    (sites.OtherwiseUnavailable, "cdn.refused.example", "germany", "451", True),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "name", "client", "came", "is_alarming"), OVERBLOCKING, ids=[row[0].__name__ for row in OVERBLOCKING])  # fmt: skip
def test_what_a_site_may_do_itself_is_compared_with_its_origin(stage, kind, name, client, came, is_alarming):
    """An edge that refuses where nothing is due: with the origin to compare it is a difference, without it an alarm."""
    with running(kind, stage) as host:
        alone = verified(edge_of(host), stage, about=name)
        compared = verified(edge_of(host), stage, about=name, origin=origin_of(stage))
    assert (name, client, "http/1.1", "as it is", came) not in shown(alone)
    assert (alone.alarming > 0, undecided(alone) is not None) == (is_alarming, is_alarming)
    assert (name, client, "http/1.1", "as it is", came) in shown(compared), sorted(shown(compared))


SITES = ["refusing", "forbidding", "redirecting", "unstored", "copying"]


@pytest.mark.parametrize("manner", SITES)
def test_what_a_site_really_does_itself_is_no_difference(stage, manner):
    """A sound edge before a site that refuses by itself: its origin says the same, so it is as decided."""
    with own_site(manner) as origin:
        site = dataclasses.replace(stage, origin=origin)
        with running(edges.Sound, site) as host:
            alone = verified(edge_of(host), stage, about="cdn.refused.example")
            compared = verified(edge_of(host), stage, about="cdn.refused.example", origin=edge_at(origin))
    assert (shown(compared), compared.alarming, undecided(compared)) == (set(), 0, None)
    if manner != "copying":  # which to the letter is what only an edge should say
        assert shown(alone) == set()


def test_who_fares_worse_than_another_with_the_same_question_is_found(stage):
    """Without any origin: an uncovered name that clients inside do not get, and others do."""
    with running(sites.ForbidsFrance, stage) as host:
        report = verified(edge_of(host), stage, about="cdn.refused.example")
    assert ("cdnblock-neighbour.refused.example", "france", "http/1.1", "as it is", "403, where reunion got 200") in shown(report)  # fmt: skip
