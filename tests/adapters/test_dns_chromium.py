"""A real Chromium that has no other resolver than the front, by DNS over HTTPS."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
from chromium import browser_with_doh
from free_ports import free_ports

pytest.importorskip("dns", reason="dnspython judges these answers (extra `dns`)")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

sys.path.insert(0, str(Path(__file__).parent))

import dns_peers
from dns_clients import pin
from dns_house import fetched
from dns_orders import write_order
from dns_realm import FRONT, OTHER, cannot, realm
from prometheus_page import samples, value

pytestmark = pytest.mark.skipif(bool(dns_peers.missing("unbound")), reason=dns_peers.missing("unbound"))

ALL_HERE = """\
  log-queries: yes
  local-zone: "." static
  local-data: "www.open.example. 300 A 127.0.0.1"
  local-data: "www.refused.example. 300 A 127.0.0.1"
  local-data: "www.gone.example. 300 A 127.0.0.1"
"""
NOT_FOUND = "ERR_NAME_NOT_RESOLVED"
ANOTHER_KEY = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
PATIENCE = 60  # seconds within which a page must come


class Page(BaseHTTPRequestHandler):
    """Says whose page it is."""

    def do_GET(self):
        body = f"<!doctype html><title>A page</title><h1>{self.headers['Host'].partition(':')[0]}</h1>".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture(scope="module")
def site():
    """The port of a server on loopback."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.fixture
def house(tmp_path):
    """A front before an unbound that says of every host, refused or not, that it is here."""
    orders, certificate, key = tmp_path / "orders", tmp_path / "certificate.pem", tmp_path / "key.pem"
    orders.mkdir()
    write_order(orders, "refused.example")
    write_order(orders, "gone.example", "nxdomain")
    dns_peers.write_certificate(certificate, key)
    https, metrics = free_ports(2)
    options = ["--certificate", str(certificate), "--key", str(key), "--listen-https", f"127.0.0.1:{https}"]
    with (
        dns_peers.unbound(tmp_path / "unbound", server=ALL_HERE) as upstream,
        dns_peers.front(
            tmp_path / "front", orders, [upstream.port], *options, "--metrics", f"127.0.0.1:{metrics}"
        ) as front,
    ):
        yield SimpleNamespace(
            upstream=upstream,
            doh=f"https://127.0.0.1:{https}/dns-query",
            key=pin(certificate),
            counted=lambda: samples(fetched(f"http://127.0.0.1:{metrics}/metrics")),
        )
        assert "Traceback" not in front.said, front.said


def visit(chromium, url):
    """Return the heading of a page, or why Chromium has none."""
    page = chromium.new_page()
    try:
        page.goto(url, timeout=PATIENCE * 1000)
        return page.inner_text("h1")
    except playwright.Error as error:
        return re.search(r"net::(\w+)|$", str(error))[1] or str(error)
    finally:
        page.close()


def visit_until_it_loads(chromium, url):
    """Return the same of a page that is there: on a busy machine Chromium may have given up its first question."""
    end = time.monotonic() + PATIENCE
    while (said := visit(chromium, url)).startswith("ERR_") and time.monotonic() < end:
        time.sleep(0.5)
    return said


@pytest.mark.parametrize("variables", ["", "{?dns}"], ids=["POST", "GET"])
def test_names_are_asked_by_https(tmp_path, site, house, variables):
    """A page loads; names that are refused, or do not exist by order, are not found, and nobody else is asked."""
    before = house.counted()
    with browser_with_doh(tmp_path, house.doh + variables, key=house.key) as chromium:
        assert visit_until_it_loads(chromium, f"http://www.open.example:{site}/") == "www.open.example"
        for name in ("www.refused.example", "www.gone.example"):
            assert visit(chromium, f"http://{name}:{site}/") == NOT_FOUND
    after = house.counted()

    def more(metric, **labels):
        return value(after, metric, **labels) - value(before, metric, **labels)

    assert more("cdnblock_dns_queries_total", outcome="refused") >= 2
    assert more("cdnblock_dns_https_total", event="requests") >= 4
    assert more("cdnblock_dns_https_total", event="bad_requests") == 0
    assert more("cdnblock_dns_udp_total", event="queries") == more("cdnblock_dns_tcp_total", event="queries") == 0
    assert " www.open.example. A IN" in house.upstream.said
    assert f" _{site}._https.www.open.example. HTTPS IN" in house.upstream.said  # it asks for more than addresses
    assert "refused.example." not in house.upstream.said
    assert "gone.example." not in house.upstream.said


@pytest.fixture(scope="module")
def network(tmp_path_factory, small_mmdb):
    """A network of its own, with the front on port 443 and a site on port 80."""
    if reason := cannot():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("realm")
    (folder / "site").mkdir()
    (folder / "site" / "index.html").write_text("<!doctype html><title>A page</title><h1>Here</h1>")
    with realm(folder, small_mmdb) as network, contextlib.ExitStack() as stack:
        serve = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "--directory", str(folder / "site"), "80"]
        with (folder / "site.out").open("wb") as log:
            site = stack.enter_context(subprocess.Popen(network.command(*serve), stdout=log, stderr=log))
        stack.callback(site.terminate)
        yield network


def in_network(network, folder, place="France", **settings):
    """Start a Chromium in that network, whose own resolver knows no orders and says of every page that it is here."""
    template = f"https://{FRONT[place][0]}/dns-query{{?dns}}"
    within = network.resolving_by(f"nameserver {OTHER}\n")
    settings = {"key": pin(network.folder / "certificate.pem"), "within": within} | settings
    return browser_with_doh(folder, template, **settings)


@pytest.mark.parametrize(
    ("place", "french"), [("France", NOT_FOUND), ("Germany", "Here")], ids=["in France", "in Germany"]
)
def test_the_territory(tmp_path, network, place, french):
    """An order for France is for browsers in France, by the address that they come from; nobody else is asked."""
    with in_network(network, tmp_path, place) as chromium:
        assert visit_until_it_loads(chromium, "http://page.open.example/") == "Here"
        for name in ("page.refused.example", "page.gone.example", "page.empty.example"):
            assert visit(chromium, f"http://{name}/") == NOT_FOUND
        again = visit_until_it_loads if french == "Here" else visit
        assert again(chromium, "http://page.french.example/") == french
    if french == NOT_FOUND:
        [record] = network.enforced("french")
        assert (record["host"], record["country"]) == ("page.french.example", "FR")
        assert (record["client"], record["adapter"]) == ("203.0.113.0/24", "dns_server")


def test_a_front_that_is_not_trusted(tmp_path, network):
    """With another key's certificate nothing is found."""
    with in_network(network, tmp_path, key=ANOTHER_KEY) as chromium:
        assert visit(chromium, "http://page.open.example/") == NOT_FOUND


def test_without_the_front(tmp_path, network):
    """What was not found above is there: the system's resolver says so to a Chromium that asks it."""
    with in_network(network, tmp_path, mode="off") as chromium:
        for name in ("open", "refused", "gone", "empty", "french"):
            assert visit_until_it_loads(chromium, f"http://page.{name}.example/") == "Here"
