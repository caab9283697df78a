"""What a host counts in place, where a call would cost too much: it is what the tally would have counted."""

from __future__ import annotations

import threading

import pytest
from trails import PROXY, decision_about

from cdnblock.audit.tally import COUNT, Tally

HOST = "www.motogpstream.me"


def tallying(*, recording):
    tally = Tally()
    tally.recording = recording
    return tally, tally.series(PROXY, "answer", "http")


def count(series, decision, host=HOST):
    try:
        series.cells[id(decision), host][COUNT] += 1
    except KeyError:
        series.note(decision, host, "90.84.144.1")


@pytest.mark.parametrize("recording", [True, False])
def test_a_repeat_is_counted_in_place(recording):
    """The first goes through the tally; from the second on its cell is found, until the turn."""
    (tally, series), decision = tallying(recording=recording), decision_about()
    for number in range(1, 6):
        count(series, decision)
        assert tally.totals["http", "proxy", "answer"] == number
    assert [*series.cells] == [(id(decision), HOST)]
    tally.drain(turn=True)
    assert series.cells == {}


def test_what_is_counted_in_place_is_told():
    """With all that a hit has, and once."""
    (tally, series), decision = tallying(recording=True), decision_about()
    for _ in range(5):
        count(series, decision)
    ((order, name, _, host, *_),) = [(hit.order, hit.name, hit.notice, hit.host, hit) for hit in tally.drain()]
    assert (order, name, host) == ("motogp", "motogpstream.me", HOST)
    assert tally.drain() == []


def test_who_has_just_looked_may_still_count_when_the_turn_is_over():
    """A cell that was found before the turn is counted in after it."""
    (tally, series), decision = tallying(recording=True), decision_about()
    count(series, decision)
    count(series, decision)
    cell = series.cells[id(decision), HOST]
    assert sum(hit.times for hit in tally.drain(turn=True)) == 2
    cell[COUNT] += 1
    count(series, decision)
    assert sum(hit.times for hit in tally.drain()) == 2


def test_nothing_is_lost_between_counting_and_turning():
    """One thread counts in place, as an event loop does, while another one drains and turns."""
    (tally, series), decisions = tallying(recording=True), [decision_about() for _ in range(3)]
    told, ended = [], threading.Event()

    def drain():
        turn = False
        while not ended.is_set():
            told.extend(tally.drain(turn=turn))
            turn = not turn

    thread = threading.Thread(target=drain)
    thread.start()
    for number in range(30_000):
        count(series, decisions[number % 3])
    ended.set()
    thread.join()
    told.extend(tally.drain())
    assert sum(hit.times for hit in told) == 30_000
