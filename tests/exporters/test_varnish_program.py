"""The C that Varnish is given, apart from Varnish and under the sanitizers of its compiler, beside the library."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdnblock.exporters import Options, export, load
from cdnblock.exporters._planner import make_plan, notice_told
from cdnblock.exporters.varnish import EXPORTER, TABLE, in_table
from cdnblock.geo.client_address import TrustedProxies
from cdnblock.geo.interval_table import Interval, Origin, build_table
from cdnblock.matching.names import canonical
from cdnblock.matching.ruleset import compile_orders
from cdnblock.measures.notice.negotiation import choose_language, choose_type
from cdnblock.measures.notice.wording import WORDINGS
from cdnblock.measures.proxy_termination import FORMS, MEANT_BY
from cdnblock.orders.model import Territory, UnknownLocation

sys.path.insert(0, str(Path(__file__).parent.parent / "matching"))
sys.path.insert(0, str(Path(__file__).parent))
from test_plan import an_order
from test_properties import INSTANTS, folders, hosts

PROGRAM = Path(__file__).parent.parent.parent / "cdnblock" / "exporters" / "_varnish"
PARTS = ("table.c", "networks.c", "reading.c", "hosts.c", "clients.c", "wishes.c", "notices.c")
AT = datetime(2025, 5, 1, 12, tzinfo=UTC)
TRUSTED = ("10.0.0.0/8", "127.0.0.1", "2001:db8:1::/48", "::1")
GEO = build_table(
    Origin(source="test", built=date(2026, 1, 1)),
    [
        (4, Interval(0xCB007100, 0xCB007200, "FR")),
        (4, Interval(0xC0000200, 0xC0000280, "RE")),
        (4, Interval(0xC6336400, 0xC6336500, "DE")),
        (6, Interval(0x20010DB8000F0000, 0x20010DB800100000, "FR")),
    ],
)
MAIN = """
int
main(int argc, char **argv)
{
	static char line[70000];
	const char *wrong = cb_load(argv[argc - 1]);

	if (wrong != NULL) {
		puts(wrong);
		return (1);
	}
	while (fgets(line, sizeof line, stdin) != NULL) {
		char *rest = line, *what, *one, *two, buffer[CB_LONGEST_HOST + 3], *host = buffer + 1, *text;
		unsigned char address[16];
		line[strcspn(line, "\\n")] = 0;
		what = strsep(&rest, "\\t");
		one = strsep(&rest, "\\t");
		two = rest;
		if (*what == 'H') {
			int length = cb_host(one, host);
			const char *group = length > 0 ? cb_group(host, (size_t)length) : NULL;
			printf("%d %s\\n", length, group ? group : "-");
		} else if (*what == 'C') {
			puts(!cb_address(one, address) ? "?" : *two && !cb_forwarded(two, address) ? cb_unknown : cb_place(address));
		} else if (*what == 'L') {
			char chosen[16];
			cb_language(two, one, chosen, sizeof chosen);
			puts(chosen);
		} else if (*what == 'T') {
			char chosen[64] = "";
			cb_type(one, chosen, sizeof chosen);
			puts(chosen);
		} else {
			text = cb_filled(two, one);
			for (one = text; *one; one++)
				printf("%02x", (unsigned char)*one);
			putchar('\\n');
			free(text);
		}
		fflush(stdout);
	}
	cb_forget();
	return (0);
}
"""

pytestmark = pytest.mark.skipif(
    shutil.which("gcc") is None, reason="gcc is not installed (apt-get install gcc libc6-dev)"
)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("program")
    source = folder / "program.c"
    source.write_text("\n".join((PROGRAM / part).read_text() for part in PARTS) + MAIN)
    command = [
        "gcc", "-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined",
        "-fno-sanitize-recover=all", "-o", str(folder / "program"), str(source),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "program"


def table_for(rules, at=AT):
    options = Options(folder="/etc/cdnblock", operator_url="https://edge.example/blocked", trusted_proxies=TRUSTED)
    return next(file.text for file in export(EXPORTER, rules, GEO, at, options).files if file.name == TABLE)


class Asking:
    """The program with a table, asked line by line."""

    def __init__(self, program, folder, text):
        self.table = folder / "a.table"
        self.table.write_bytes(text.encode())
        self.process = subprocess.Popen(
            [str(program), str(self.table)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def __call__(self, *words):
        self.process.stdin.write("\t".join(words).encode("utf-8", "surrogateescape") + b"\n")
        self.process.stdin.flush()
        told = self.process.stdout.readline()
        assert told.endswith(b"\n"), self.process.stderr.read().decode()
        return told[:-1].decode()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        said = self.process.stderr.read()
        assert self.process.wait(20) == 0, said.decode()
        self.process.stdout.close()
        self.process.stderr.close()


@settings(max_examples=30, deadline=None)
@given(data=st.data(), folder=folders())
def test_a_host_has_the_group_that_the_plan_tells(data, folder, built, tmp_path_factory):
    """For any orders and host, in any case, with a port and a final dot."""
    rules, at = compile_orders(folder), data.draw(INSTANTS)
    exporter = load("varnish")
    plan = make_plan(rules, at, {pair: pair[1] for pair in exporter.carries}, notice_told)
    with Asking(built, tmp_path_factory.mktemp("table"), table_for(rules, at)) as ask:
        for _ in range(12):
            host = data.draw(st.one_of(hosts(), st.sampled_from([*plan.suffixes, *plan.exact, "a.example"])))
            spelled = data.draw(st.sampled_from([host, host.upper(), f"{host}.", f"{host}:8080", f"www.{host}:"]))
            name = canonical(spelled.partition(":")[0])
            if re.fullmatch(r"[A-Za-z0-9._:-]+", spelled) and name is not None:
                group = plan.group_of(name)
                assert ask("H", spelled) == f"{len(name)} {group.id if group else '-'}"


ODD = st.text(st.sampled_from("aZ09.-_:[]%/ \\@=!#\x01é,;|"), max_size=300)


@pytest.fixture(scope="module")
def ask(built, tmp_path_factory):
    names = [f"{'x.' * depth}a{depth}.example" for depth in range(60)]
    france = Territory(countries=frozenset({"FR", "RE"}))
    rules = compile_orders([an_order("one", *names, territory=france, unknown_location=UnknownLocation.ENFORCE)])
    with Asking(built, tmp_path_factory.mktemp("asked"), table_for(rules)) as asking:
        yield asking


@settings(max_examples=400, deadline=None)
@given(field=ODD)
def test_what_is_no_host_is_none(ask, field):
    """Whatever the field holds: a host in the letters of RFC 9110, a literal address, or nothing; the program lives."""
    told = int(ask("H", field).split()[0])
    plain = re.fullmatch(r"((?:[0-9A-Za-z_-]+\.)*[0-9A-Za-z_-]+)\.?(:[0-9]*)?|(\[[0-9A-Fa-f:.]+\])(:[0-9]*)?", field)
    named = plain is not None and (plain[3] is not None or len(plain[1]) <= 253)
    if named and len(field.partition(":")[0]) <= 254:
        assert told == (0 if plain[3] else len(plain[1]))
    elif not named:
        assert told == -1


ADDRESSES = st.one_of(
    st.ip_addresses().map(str),
    st.sampled_from(
        [
            "203.0.113.7",
            "192.0.2.9",
            "198.51.100.7",
            "10.1.2.3",
            "127.0.0.1",
            "::1",
            "2001:db8:f::7",
            "2001:DB8:F:0:0:0:0:7",
            "2001:db8:1::9",
            "::ffff:203.0.113.7",
            "::ffff:10.0.0.1",
            "2002:cb00:7107::1",
            "64:ff9b::cb00:7107",
            "2001:0:1:2:3:4:34ff:8ef8",
            "fe80::1%eth0",
            "100.64.0.7",
            "0.0.0.0",
            "255.255.255.255",
            "::",
        ]
    ),
)
NODES = st.one_of(
    ADDRESSES,
    ADDRESSES.map(lambda text: f"[{text}]:443" if ":" in text else f"{text}:51234"),
    st.sampled_from(
        [
            "unknown",
            "_hidden",
            "198.051.100.007",
            "198.51.100",
            "3325256711",
            "999.1.1.1",
            "1.2.3.4:",
            "1.2.3.4:123456",
            "1.2.3.4:_x",
            "[1.2.3.4]",
            "[::1",
            "::1]",
            "[::1]:",
            "[::1]x",
            "1:2",
            "::1%",
            "1.2.3.4%eth0",
            "%",
        ]
    ),
    st.text(st.sampled_from("0123456789abcdef.:[]% _"), max_size=60),
)


@settings(max_examples=400, deadline=None)
@given(peer=ADDRESSES, nodes=st.lists(NODES, max_size=6), blanks=st.sampled_from([",", ", ", " ,\t"]))
def test_a_client_is_who_the_library_says(ask, peer, nodes, blanks):
    """For any peer and any X-Forwarded-For; Varnish has added the peer to it by then."""
    peer = peer.partition("%")[0]
    field = blanks.join([*nodes, peer])
    client = TrustedProxies(TRUSTED).client_address(peer, [("X-Forwarded-For", field)])
    country = None if client is None else GEO.locate(client)
    expected = "unknown" if country is None else country if country in ("FR", "RE") else "other"
    assert ask("C", peer, field) == expected


WISHES = st.lists(
    st.tuples(
        st.sampled_from(
            ["fr", "en", "fr-CA", "EN-gb", "de", "*", "text/html", "text/*", "*/*", "application/json", "application/problem+json", "image/png", "application/xhtml+xml", "TEXT/plain", "", "a b"]
        ),
        st.sampled_from(["", ";q=1", ";q=0", ";q=0.5", ";Q=0.25", ";q=0.", ";q=1.000", ";q=1.5", ";q=0.1234", ";q", "; q = 0.7 ", ";level=1;q=0.3", ";q=", ";q=.5", ";;q=0.9"]),
    ),
    max_size=70,
).map(lambda items: ",".join(name + weight for name, weight in items))  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(field=WISHES, own=st.sampled_from(["fr", "en"]))
def test_language_and_type_are_the_librarys(ask, field, own):
    """For any Accept-Language and Accept, with weights that are none, and more than anybody reads."""
    assert ask("L", own, field) == choose_language(field, WORDINGS, own)
    assert ask("T", field) == choose_type(field, tuple(FORMS), MEANT_BY)


@settings(max_examples=200, deadline=None)
@given(
    text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=80),
    depth=st.integers(1, 130),
)
def test_a_text_comes_out_as_it_went_in(ask, text, depth):
    """Whatever an order says, with the host's last labels in it."""
    filled = bytes.fromhex(ask("N", "www.a.example", f"{in_table(text)}|{depth}|{in_table(text)}")).decode()
    assert filled == text + ".".join(["www", "a", "example"][-depth:]) + text


@pytest.mark.parametrize(
    ("spoiled", "complaint"),
    [
        (lambda text: text[: len(text) // 2], "it is cut short"),
        (lambda text: text[: text.rindex(":end")], "it is cut short"),
        (lambda text: text.replace("a.example ", "a.example\0", 1), "it holds a NUL"),
        (lambda text: text.replace("@", "@x", 1), "a line without a network"),
        (lambda text: re.sub(r"/\d+ FR", "/129 FR", text, count=1), "a line without a network"),
        (lambda text: re.sub(r"\n!\S+ ", "\n!10.0.0.0 ", text, count=1), "a line without a network"),
        (lambda text: text.replace("\n=", "\n", 1).replace("\na1.x", "\n", 1) + "more\n", "a line without a key or a value"),
        (lambda text: re.sub(r"\n[a-z][^\n]*", "", text, count=1), "not as many lines as it says"),
        (lambda _: "", "it is cut short"),
    ],
    ids=["half", "no end", "nul", "network", "bits", "no bits", "no value", "fewer", "empty"],
)  # fmt: skip
def test_a_table_that_is_wrong_is_told(spoiled, complaint, built, tmp_path):
    """Nothing of it is used, and nothing of it stays in memory."""
    text = table_for(compile_orders([an_order("one", "a.example", "b.example")]))
    assert spoiled(text) != text
    (tmp_path / "a.table").write_bytes(spoiled(text).encode())
    done = subprocess.run(
        [str(built), str(tmp_path / "a.table")], capture_output=True, text=True, timeout=20, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, f"{complaint}\n", "")
