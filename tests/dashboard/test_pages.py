"""What pages show and cost: cut into pages, made beside everything else, told again only when something has changed."""

from __future__ import annotations

import gc
import re
import socket
import threading
import time
import weakref
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from order_texts import order_text
from running_dashboards import FRANCE, ask, enforce, running, written

from cdnblock.dashboard import server, view
from cdnblock.dashboard.trail_view import TrailView


def test_orders_are_cut_into_pages_sorted_and_filtered(tmp_path, small_mmdb):
    """Fifty to a page, whatever there are; the query string says which, and nonsense in it is the first page."""
    folder = tmp_path / "orders"
    folder.mkdir()
    for number in range(120):
        (folder / f"o{number:03}.yaml").write_text(order_text(id=f"o{number:03}", names=f"[n{number}.example]"))
    with running(folder, small_mmdb) as found:

        def shown(query):
            return re.findall(r'id="row-(o\d+)"', ask(found, f"/orders?{query}")[2])

        assert shown("") == [f"o{number:03}" for number in range(50)]
        assert shown("page=3") == [f"o{number:03}" for number in range(100, 120)]
        assert shown("page=99") == shown("page=3")
        assert shown("sort=-id")[:2] == ["o119", "o118"]
        assert shown("q=o01&sort=id") == [f"o{number:03}" for number in range(10, 20)]
        assert shown("state=ended") == []
        assert len(shown("country=fr&measure=dns&state=in_force")) == 50
        assert shown("country=de") == []
        for nonsense in ("page=0", "page=-1", "page=%D9%A1", "page=1e9", "sort=%00", "state=%3Cb%3E", "page=9" * 400):
            assert len(shown(nonsense)) in (20, 50)


def test_a_million_names_are_cut_into_pages(tmp_path, small_mmdb):
    """Of a long list a page shows a hundred, with the line of each in the names file."""
    folder = tmp_path / "orders"
    folder.mkdir()
    (folder / "names.txt").write_text("".join(f"n{number}.example\n" for number in range(30_000)))
    text = order_text(id="long").replace("names: [motogpstream.me]", "names_file: names.txt")
    (folder / "long.yaml").write_text(text)
    with running(folder, small_mmdb) as found:
        _, _, page = ask(found, "/orders/long?names=300")
        assert "n29999.example" in page
        assert "names.txt</bdi>:30000" in page
        assert "n29899.example" not in page
        assert len(page) < 100_000


def test_heavy_work_holds_up_nobody(tmp_path, small_mmdb):
    """While a page is being made, here by a country table that does not answer, others are served."""

    class Slow:
        description = "a table that takes its time"

        def __init__(self):
            self.asked, self.go_on = threading.Event(), threading.Event()

        def locate(self, address):
            self.asked.set()
            self.go_on.wait(20)
            return "FR"

    table = Slow()
    with running(written(tmp_path / "orders"), small_mmdb, geo=table) as found:
        slow = threading.Thread(target=ask, args=(found, f"/try?host=motogpstream.me&client={FRANCE}"))
        slow.start()
        assert table.asked.wait(10)
        try:
            assert ask(found, "/orders")[0] == 200
            assert ask(found, "/nowhere", "POST")[0] == 405
        finally:
            table.go_on.set()
            slow.join(10)


def test_a_report_is_a_file_to_keep(dashboard):
    """What `cdnblock report` writes, in three forms, never shown as a page of ours."""
    for form, words in (("html", "<!doctype html>"), ("md", "# "), ("json", '"order"')):
        status, fields, text = ask(dashboard, f"/orders/motogp/report.{form}")
        assert status == 200
        assert fields["Content-Disposition"] == f'attachment; filename="motogp.{form}"'
        assert words in text
    assert ask(dashboard, "/orders/nobody/report.json")[0] == 404
    assert ask(dashboard, "/orders/motogp/report.exe")[0] == 404


def test_a_changed_trail_is_told_on_the_page(tmp_path, small_mmdb):
    """Somebody changes a line on the disk: the page says that it is not whole, and where; a missing folder says so."""
    audit = tmp_path / "audit"
    with running(written(tmp_path / "orders"), small_mmdb, audit=audit):
        pass
    segment = next(audit.glob("trail-*.jsonl"))
    segment.write_text(segment.read_text().replace('"rehearsed"', '"rehearsEd"'))
    with running(tmp_path / "orders", small_mmdb) as found:
        found._dashboard._view.trail = TrailView(audit)
        assert ask(found, "/trail?verify=1")[0] == 200
        found._dashboard._view.trail._verifying.join(10)
        text = ask(found, "/trail")[2]
        assert "Not whole: " in text
        assert segment.name in text
        found._dashboard._view.trail = TrailView(Path("/nonexistent"))
        assert "The trail cannot be read:" in ask(found, "/trail")[2]
        assert ask(found, "/")[0] == 200


def test_a_long_reload_holds_up_no_page(tmp_path, small_mmdb):
    """While the instance rereads, what it said last is shown."""
    with running(written(tmp_path / "orders"), small_mmdb) as found:
        assert ask(found)[0] == 200
        found._dashboard._view._rest_until = 0.0
        with found.enforcer._rereading:
            assert "of 25 listed" in ask(found)[2]


def test_the_trail_of_another_instance_is_shown(tmp_path, small_mmdb):
    """A dashboard that keeps no trail shows that of one that does, while that one writes."""
    orders, audit = written(tmp_path / "orders"), tmp_path / "audit"
    with running(orders, small_mmdb, audit=audit) as writer, running(orders, small_mmdb) as found:
        found._dashboard._view.trail = TrailView(audit)
        assert re.search(r"Audit trail</dt><dd><a[^>]*>that of another instance<", ask(found)[2])
        assert "www.motogpstream.me" not in ask(found, "/decisions")[2]
        enforce(writer.enforcer, "www.motogpstream.me")
        assert "www.motogpstream.me" in ask(found, "/decisions")[2]
        assert "www.motogpstream.me" in ask(found, "/decisions?order=motogp&country=fr&name=motogpstream.me")[2]
        assert "No record is like that." in ask(found, "/decisions?country=DE")[2]
        assert re.search(r'data-label="Enforced">3<', ask(found, "/orders")[2])


def test_an_open_page_is_told_only_of_changes(dashboard):
    """A live update with the digests of what is shown is 204; otherwise it is the part alone."""
    _, _, text = ask(dashboard, "/orders")
    polls = re.search(r'hx-get="([^"]+)"', text)[1].replace("&amp;", "&")
    status, fields, part = ask(dashboard, polls)
    assert (status, part) == (204, "")
    assert fields["X-Cdnblock-Now"]
    status, _, part = ask(dashboard, "/orders?part=live&seen=0&told=0")
    assert status == 200
    assert "<html" not in part
    assert 'id="live"' in part
    assert 'hx-swap-oob="innerHTML"' in part


def test_rules_that_are_gone_are_not_kept(tmp_path, small_mmdb):
    """A page was made of them; after a reload nothing of the dashboard keeps them in memory."""
    with running(written(tmp_path / "orders"), small_mmdb, follow=False) as found:
        assert ask(found, "/orders")[0] == 200
        old = weakref.ref(found.enforcer.rules)
        (tmp_path / "orders" / "new.yaml").write_text(order_text(id="new", names="[fourth.example]"))
        found.enforcer.reload()
        gc.collect()
        assert old() is None
        assert 'id="row-new"' in ask(found, "/orders")[2]


def test_deadlines_go_by_the_folders_own_holidays(tmp_path, small_mmdb, monkeypatch):
    """That of an order and that of a notification, with `holidays.txt` and once it is gone again."""
    monkeypatch.setattr(view, "_HOLIDAYS_SECONDS", 0.0)
    folder = tmp_path / "orders"
    folder.mkdir()
    (folder / "holidays.txt").write_text("2025-05-06\n")
    addition = "additions:\n  - {notice: N1, notified: 2025-05-05, comply_within: 1 days, names: [new.example]}\n"
    (folder / "a.yaml").write_text(order_text() + "served: 2025-05-05\ncomply_within: 1 days\n" + addition)
    with running(folder, small_mmdb, follow=False) as found:
        deadline = r"Deadline</dt><dd><time[^>]*>(.*?)</time>"
        assert re.findall(deadline, ask(found, "/orders/motogp")[2]) == ["8 May 2025, 00:00"] * 2
        (folder / "holidays.txt").unlink()
        assert re.findall(deadline, ask(found, "/orders/motogp")[2]) == ["7 May 2025, 00:00"] * 2


def test_an_order_with_many_windows_shows_the_next_ones(tmp_path, small_mmdb):
    """Of a season of a hundred evenings: those that are near, the end, and how many rows are left out."""
    folder = tmp_path / "orders"
    folder.mkdir()
    evenings = [date(2025, 5, 1) + timedelta(days=day) for day in range(100)]
    windows = "".join(f"  - {{from: {day}T20:00, until: {day}T22:00, label: 'on {day}'}}\n" for day in evenings)
    (folder / "a.yaml").write_text(order_text(until="2025-12-31") + "windows:\n" + windows)
    now = datetime(2025, 7, 30, 10, 0, tzinfo=UTC)
    with running(folder, small_mmdb, follow=False, clock=now.timestamp) as found:
        text = ask(found, "/orders/motogp")[2]
        assert "on 2025-07-30" in text[: text.index('id="says"')]
        assert "on 2025-08-08" in text[: text.index('id="says"')]
        assert "on 2025-05-02" not in text[: text.index('id="says"')]
        assert "142 more changes" in text


def test_what_is_only_reported_is_not_told_as_enforced(tmp_path, small_mmdb):
    """An order in mode report was never enforced, however often it would have been; both are counted, each as itself."""
    with running(written(tmp_path / "orders"), small_mmdb, audit=tmp_path / "audit") as found:
        enforce(found.enforcer, "third.example", "motogpstream.me")  # a record for each of three measures
        text = ask(found, "/orders")[2]
        told = dict(re.findall(r'id="row-(\w+)".*?data-label="Enforced">(.*?)</td>', text, re.DOTALL))
        assert told == {
            "many": "0", "motogp": "3", "ended": "0",
            "rehearsed": '0 <span class="soft">3 would enforce</span>',
        }  # fmt: skip
        text = ask(found, "/orders/rehearsed")[2]
        assert '<dt>Enforced</dt><dd>0 <span class="soft">3 would enforce</span></dd>' in text
        assert "0 enforcements in the last 30 days" in text


def test_reports_that_nobody_takes_are_few_and_are_let_go(tmp_path, small_mmdb, monkeypatch):
    """Whoever asks for long reports and does not read them: soon there are no more, and later those are gone."""
    folder = tmp_path / "orders"
    folder.mkdir()
    (folder / "names.txt").write_text("".join(f"n{number}.example\n" for number in range(250_000)))
    text = order_text(id="long").replace("names: [motogpstream.me]", "names_file: names.txt")
    (folder / "long.yaml").write_text(text)

    def asked(opened):
        one = opened.enter_context(socket.socket())
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.settimeout(20)
        one.connect(("127.0.0.1", found.port))
        one.sendall(b"GET /orders/long/report.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return one.recv(12)[-3:]

    def come_again():
        until = time.monotonic() + 20
        while (status := ask(found, "/orders/long/report.md")[0]) != 200 and time.monotonic() < until:
            time.sleep(0.1)
        return status

    with running(folder, small_mmdb, follow=False) as found:
        with ExitStack() as opened:
            assert [asked(opened) for _ in range(6)] == [b"200"] * 4 + [b"503"] * 2
        assert come_again() == 200  # they have gone away
        monkeypatch.setattr(server, "_SENT_WITHIN", 0.3)
        with ExitStack() as opened:
            assert {asked(opened) for _ in range(4)} <= {b"200", b"503"}
            assert come_again() == 200  # they are still there
