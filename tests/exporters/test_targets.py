"""Each target's text: the same orders, the same bytes; what it cannot say is an error that names order and reason."""

from __future__ import annotations

import importlib
import os
import string
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from order_texts import order_text

from cdnblock.cli.export import put
from cdnblock.errors import ConfigError, UnsupportedError
from cdnblock.exporters import EXPORTERS, Options, export, load, table
from cdnblock.geo.interval_table import Interval, Origin, build_table
from cdnblock.orders.model import VARIANTS
from cdnblock.sources.order_folder import load_orders

GOLDENS = Path(__file__).parent.parent / "goldens"
README = Path(__file__).parent.parent.parent / "README.md"
AT = datetime(2025, 5, 1, 12, tzinfo=UTC)
ORDERS = {
    "one": {
        "names": "[a.example, {name: alone.example, subdomains: false}, www.b.example]",
        "measures": "{dns: nxdomain, cdn: disable, proxy: terminate}",
        "territory": "france-2024-10-10",
    },
    "two": {"names": "[b.example]", "measures": "{dns: nxdomain, proxy: close}", "territory": "[FR, RE]"},
    "three": {"names": "[c.example]", "measures": "{dns: nxdomain, cdn: disable}", "territory": "world"},
}
LIFTED = "lifted: [{names: [free.a.example], at: 2025-04-20}]\n"
TABLE = build_table(
    Origin(source="test table", built=date(2026, 1, 1)),
    [
        (4, Interval(0xCB007100, 0xCB007200, "FR")),
        (4, Interval(0xC0000200, 0xC0000280, "RE")),
        (4, Interval(0xC6336400, 0xC6336500, "DE")),
        (6, Interval(0x20010DB800000000, 0x20010DB800010000, "FR")),
    ],
)
OF_LISTS = {"clients_in": "FR"}
TARGETS = [
    ("haproxy", {"settings": {"defaults": "base", "sni": ":443 tls"}, "trusted_proxies": ("10.0.0.0/8",)}),
    ("nginx", {"settings": {"headers-more": "no", "sni": "127.0.0.1:8443"}, "trusted_proxies": ("10.0.0.0/8",)}),
    ("varnish", {"trusted_proxies": ("10.0.0.0/8", "2001:db8::7")}),
    ("squid", {"trusted_proxies": ("10.0.0.0/8", "2001:db8::7")}),
    ("envoy", {"trusted_proxies": ("10.0.0.0/8", "2001:db8::7")}),
    ("caddy", {"trusted_proxies": ("10.0.0.0/8",)}),
    ("traefik", {"trusted_proxies": ("10.0.0.0/8", "2001:db8::7")}),
    ("bind", {"settings": {"view": "/etc/bind/every-view.conf", "ede": "yes"}}),
    ("knot-resolver", {"contact": "legal@edge.example"}),
    ("powerdns", {"trusted_proxies": ("10.0.0.0/8",)}),
    ("dnsdist", {"trusted_proxies": ("10.0.0.0/8",)}),
    ("unbound", {"settings": {"clients": "203.0.113.0/25 198.51.100.0/24,2001:db8::/32", "ede": "yes"}}),
    ("domains", OF_LISTS),
    ("hosts", OF_LISTS),
    ("dnsmasq", OF_LISTS),
    ("adblock", OF_LISTS),
]


@pytest.fixture
def orders(tmp_path):
    for order_id, changes in ORDERS.items():
        text = order_text(id=order_id, until="2035-12-31", **changes)
        (tmp_path / f"{order_id}.yaml").write_text(text + (LIFTED if order_id == "one" else ""))
    return tmp_path


@pytest.fixture
def exported(orders):
    def done(target, *, partial=True, at=AT, served=None, **options):
        options = Options(**{"folder": "/etc/cdnblock", "operator_url": "https://edge.example/blocked"} | options)
        return export(load(target), load_orders(orders), TABLE, at, options, served=served, partial=partial)

    return done


@pytest.mark.parametrize(("target", "options"), TARGETS, ids=[target for target, _ in TARGETS])
def test_the_text_is_the_golden_one(target, options, exported):
    """Byte for byte; where a change is meant, run this once with UPDATE_GOLDENS=1 and look at the difference."""
    files = exported(target, **options).files
    folder = GOLDENS / target
    if os.environ.get("UPDATE_GOLDENS"):
        put(folder, files)
    assert {file.name: file.octets for file in files} == {
        str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def test_every_target_has_its_goldens():
    """A new target is in the list above."""
    assert [target for target, _ in TARGETS] == [*EXPORTERS]


@pytest.mark.parametrize("target", EXPORTERS)
def test_the_same_orders_are_the_same_bytes(target, exported):
    """At any instant at which the same holds, and in whatever order files are read."""
    options = dict(TARGETS).get(target, {})
    again = exported(target, at=datetime(2025, 5, 3, 1, 2, 3, tzinfo=UTC), **options)
    assert again == exported(target, **options)


@pytest.mark.parametrize("target", EXPORTERS)
def test_each_measure_is_carried_elsewhere_or_told_about(target):
    """A target says of each variant what becomes of it; a module says which target it is."""
    exporter = load(target)
    pairs = {(measure, variant) for measure, variants in VARIANTS.items() for variant in variants}
    assert {*exporter.carries} == {pair for pair in pairs if pair[0] not in exporter.elsewhere}
    assert exporter is importlib.import_module(f"cdnblock.exporters.{EXPORTERS[target]}").EXPORTER
    assert exporter.name == target


def test_the_header_says_what_for_and_until_when(exported):
    """Revision, the instant at which it is no longer right, each order with its end, and whose duty the rest is."""
    text = next(file.text for file in exported("haproxy").files if file.name == "cdnblock-hosts.map")
    header = [line for line in text.splitlines() if line.startswith("#")]
    assert header[1].startswith("# revision sha256:")
    assert header[2:] == [
        "# holds until 2035-12-31T23:00:00+00:00: export again then",
        "# countries by test table of 2026-01-01",
        "# order one: dns nxdomain, cdn disable, proxy terminate; in FR GF GP MQ NC RE TF WF YT; until 2035-12-31T23:00:00+00:00",
        "# order three: dns nxdomain, cdn disable; in world; until 2035-12-31T23:00:00+00:00",
        "# order two: dns nxdomain, proxy close; in FR RE; until 2035-12-31T23:00:00+00:00",
        "# not here: dns is a name server's: a proxy answers no DNS queries",
    ]


def test_the_instant_of_rendering_is_told_when_asked(exported):
    """Only then: otherwise the same orders are the same bytes."""
    files = exported("domains", rendered=AT, **OF_LISTS).files
    assert "# rendered 2025-05-01T12:00:00+00:00\n" in files[0].text


def test_a_list_is_in_no_way_everybodys(exported):
    """An order with a territory is an error, and with --partial it is left out: nobody outside is blocked."""
    with pytest.raises(UnsupportedError) as refused:
        exported("domains", partial=False)
    assert str(refused.value).splitlines() == [
        "domains cannot carry out what was ordered (--partial writes the rest):",
        *(
            f"order {order}: holds in {territory}, and this asks no client where he is; left out."
            " Where all clients of the server are in one country, say so: --clients-in CODE"
            for order, territory in (("one", "FR GF GP MQ NC RE TF WF YT"), ("two", "FR RE"))
        ),
    ]
    done = exported("domains")
    assert names_in(done.files[0]) == ["c.example"]
    assert [item.order for item in done.missing] == ["one", "two"]


def test_a_list_for_clients_of_one_country_is_exact_for_them(exported):
    """What does not hold there is not in it, and is not missing either."""
    done = exported("adblock", clients_in="MQ")
    assert names_in(done.files[0]) == ["||a.example^", "||c.example^", "@@||free.a.example^", "||www.b.example^"]
    assert [str(item) for item in done.missing] == [
        "order one: alone.example is meant without its sub-domains, which this cannot say: left out"
    ]


def test_what_a_list_cannot_say_is_left_out_and_told(exported):
    """Exceptions and names without their sub-domains, so that no list blocks what no order does."""
    done = exported("domains", **OF_LISTS)
    assert names_in(done.files[0]) == ["b.example", "c.example", "www.b.example"]
    assert [str(item) for item in done.missing] == [
        "order one: alone.example is meant without its sub-domains, which this cannot say: left out",
        "order one: a.example has names below it that are let go, which this cannot say: left out",
    ]
    assert "# MISSING: order one: a.example has names below it" in done.files[0].text


def test_another_variant_is_written_only_when_agreed_to(orders, exported):
    """dnsmasq knows no REFUSED: an error, and with --partial NXDOMAIN."""
    (orders / "refused.yaml").write_text(order_text(id="refused", names="[d.example]", measures="{dns: refuse}"))
    with pytest.raises(
        UnsupportedError, match="order refused: dns refuse: dnsmasq answers a listed name with NXDOMAIN"
    ):
        exported("dnsmasq", partial=False, **OF_LISTS)
    assert "address=/d.example/" in names_in(exported("dnsmasq", **OF_LISTS).files[0])


def test_served_hosts_are_written_by_their_own_names(exported):
    """What is below a listed name, too; what is not served is not there."""
    files = exported("haproxy", served=["x.a.example", "free.a.example", "other.example", "*.b.example"]).files
    hosts = next(file for file in files if file.name == "cdnblock-hosts.map")
    names = [line.split()[0] for line in names_in(hosts)]
    assert names == ["=x.a.example", "b.example", "www.b.example", "a.example", "x.a.example"]


def test_a_second_gate_stands_where_the_first_is_free(orders, exported):
    """What has more labels than it, and is not below a name that covers all: that one would be let go."""
    deep = (
        "[w.x.y.platform.example, {name: one.platform.example, subdomains: false}, two.platform.example, p.q.b.example]"
    )
    (orders / "deep.yaml").write_text(order_text(id="deep", until="2035-12-31", names=deep, territory="world"))
    hosts = next(file for file in exported("haproxy").files if file.name == "cdnblock-hosts.map")
    free = [line.split()[0] for line in names_in(hosts) if line.endswith(" free")]
    assert free == ["free.a.example", "alone.example", "platform.example", "one.platform.example", "y.platform.example"]


def test_every_name_has_its_gate_and_nothing_else_has_one(orders, exported):
    """The last two labels of each name, or all it has; and what any other host begins with, so that each is found."""
    (orders / "short.yaml").write_text(
        order_text(
            id="short", until="2035-12-31", names="[{name: one.flat.example, subdomains: false}]", territory="world"
        )
    )
    files = {file.name: file for file in exported("haproxy").files}
    hosts = {line.split()[0].removeprefix("=") for line in names_in(files["cdnblock-hosts.map"])}
    gates = dict(line.split() for line in names_in(files["cdnblock-gates.map"]))
    assert "flat.example" in hosts
    assert {name for name, kind in gates.items() if kind == "gate"} == {
        f"{'.'.join(host.split('.')[-2:])}/" for host in hosts
    }
    assert {name for name, kind in gates.items() if kind == "-"} == {*string.ascii_lowercase, *string.digits, *"-_"}


@pytest.mark.parametrize(
    ("target", "options", "complaint"),
    [
        ("haproxy", {"settings": {"nonsense": "1"}}, "haproxy has no setting 'nonsense'; there is defaults, sni"),
        ("nginx", {"settings": {"hash": "maybe"}}, "nginx: hash cannot be 'maybe'; right would be yes or no"),
        ("nginx", {"settings": {"country": "g}"}}, r"nginx: country cannot be 'g}'; right would be `\$geoip2_country`"),
        ("nginx", {"settings": {"country": "$a; b"}}, "nginx: country cannot be"),
        ("nginx", {"settings": {"sni": "10.0.0.1:443; x"}}, "nginx: sni cannot be .* right would be `127.0.0.1:8443`"),
        ("haproxy", {"settings": {"defaults": "base\n  mode tcp"}}, "haproxy: defaults cannot be .* would be `base`"),
        ("haproxy", {"settings": {"sni": ":443"}}, "haproxy: sni cannot be ':443'; right would be `:443 tls`"),
        ("bind", {"settings": {"view": '/etc/a"; }'}}, "bind: view cannot be .* right would be `/etc/bind/view.conf`"),
        ("caddy", {"settings": {"name": "a) {"}}, "caddy: name cannot be"),
        ("envoy", {"settings": {"filter": ""}}, "envoy: filter cannot be ''; right would be `cdnblock`"),
        (
            "unbound",
            {"settings": {"clients": "everybody"}},
            "unbound: clients cannot be 'everybody'; right would be `10",
        ),
        ("nginx", {"trusted_proxies": ("unix",)}, "trusted proxy `unix`: servers know their peers by address"),
        ("haproxy", {"folder": "/etc/a b"}, "folder '/etc/a b': servers' languages want a path of letters"),
        ("nginx", {"clients_in": "FR"}, "nginx asks each client's address where he is; --clients-in is for lists"),
    ],
)
def test_wrong_settings_are_told(target, options, complaint, exported):
    """With what would be right."""
    with pytest.raises(ConfigError, match=complaint):
        exported(target, **options)


def test_an_unknown_target_is_told():
    """With those that there are."""
    with pytest.raises(ConfigError, match="there is no target 'iis'; there are haproxy, nginx, "):
        load("iis")


def test_the_readme_has_the_table():
    """What `cdnblock export --list` prints is what the README shows."""
    assert table() + "\n" in README.read_text(encoding="utf-8")


def names_in(file):
    return [line for line in file.text.splitlines() if line and line[0] not in "#!"]
