"""Country tables from files: the default one, MMDBs of every shape, and files that are none."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import textwrap
from datetime import UTC, date, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path

import maxminddb
import pytest
from mmdb_writer import MMDBWriter
from netaddr import IPSet

from cdnblock.errors import ConfigError
from cdnblock.geo.country import FRENCH_CODES
from cdnblock.geo.interval_table import pack, unpack
from cdnblock.sources.geo_tables import open_geo_table

NETWORKS = {
    "90.84.0.0/16": "FR",
    "102.35.0.0/16": "RE",
    "192.0.2.0/25": "GP",
    "192.0.2.128/32": "US",
    "203.0.113.0/24": "FR",
    "10.0.0.0/8": "US",
    "2a01:cb00::/24": "FR",
    "2001:db8:1::/48": "GP",
    "2001:db8:2::/64": "RE",
    "2002::/16": "US",
    "fd00::/8": "US",
}


def make_mmdb(path, networks, record=lambda code: {"country": {"iso_code": code}}, version=6):
    writer = MMDBWriter(ip_version=version, ipv4_compatible=version == 6, database_type="Test-Country")
    for network, code in networks.items():
        writer.insert_network(IPSet([network]), record(code))
    writer.to_db_file(str(path))
    return path


@pytest.fixture(scope="module")
def mmdb(tmp_path_factory):
    return make_mmdb(tmp_path_factory.mktemp("geo") / "test.mmdb", NETWORKS)


# --- the default table


@pytest.mark.parametrize(
    ("address", "country"),
    [
        ("90.84.144.1", "FR"),  # the client of the specification's example
        ("::ffff:90.84.144.1", "FR"),
        ("2002:5a54:9001::1", "FR"),
        ("64:ff9b::5a54:9001", "FR"),
        ("2a01:cb00::1", "FR"),
        ("102.35.0.1", "RE"),
        ("8.8.8.8", "US"),
        ("1.0.16.1", "JP"),
        ("2001:4860:4860::8888", "US"),
        ("202.0.157.1", "NC"),
        ("10.0.0.1", None),
        ("192.0.2.1", None),
        ("2001:db8::1", None),
        ("nonsense", None),
    ],
)
def test_the_default_table_knows_well_known_addresses(address, country):
    """Public resolvers, French operators at home and overseas; documentation ranges are nobody's."""
    assert open_geo_table(None).locate(address) == country


def test_the_default_table_says_what_it_is():
    """Source, date, licence, and every French code but the uninhabited one."""
    table = open_geo_table(None)
    assert table.description == "iptoasn of 2026-06-17"
    assert table.origin.built == date(2026, 6, 17)
    assert table.origin.licence == "PDDL-1.0"
    assert table.origin.version == "2.3.2026061719"
    assert (len(table.countries), table.ranges(4), table.ranges(6)) == (239, 225_110, 65_344)
    assert set(FRENCH_CODES) - set(table.countries) == {"TF"}
    assert open_geo_table(None) is table


def test_the_default_table_is_whole():
    """Its intervals follow each other over the whole space, no two neighbours alike."""
    for version, end in ((4, 1 << 32), (6, 1 << 64)):
        reached, before = 0, "nothing"
        for start, stop, country in open_geo_table(None).intervals(version):
            assert start == reached < stop
            assert country != before
            reached, before = stop, country
        assert reached == end


# --- MMDB files


def test_an_mmdb_answers_what_it_holds(mmdb):
    """By country of the client; placeless and unlisted addresses have none."""
    table = open_geo_table(mmdb)
    assert table.locate("90.84.144.1") == "FR"
    assert table.locate("::ffff:90.84.144.1") == "FR"
    assert table.locate("102.35.1.1") == "RE"
    assert table.locate("2a01:cbff::1") == "FR"
    assert table.locate("192.0.2.127") == "GP"
    assert table.locate("192.0.2.128") == "US"
    assert table.locate("192.0.2.129") is None
    assert table.locate("10.0.0.1") is None
    assert table.locate("fd00::1") is None
    assert table.locate("2002:5a54:9001::1") == "FR"
    assert table.locate("x") is None
    assert open_geo_table(str(mmdb)).locate("90.84.144.1") == "FR"


def test_an_mmdb_says_what_it_is(mmdb):
    """Its own type and build date."""
    table = open_geo_table(mmdb)
    built = datetime.fromtimestamp(maxminddb.open_database(mmdb).metadata().build_epoch, UTC).date()
    assert table.description == f"Test-Country of {built.isoformat()}"
    assert datetime.now(UTC).date() - built <= timedelta(days=1)


@pytest.mark.parametrize(
    ("record", "country"),
    [
        ({"country": {"iso_code": "FR", "names": {"en": "France"}}, "registered_country": {"iso_code": "US"}}, "FR"),
        ({"country_code": "FR"}, "FR"),
        ({"country": "FR"}, "FR"),
        ({"country": "France", "country_code": "FR"}, "FR"),
        ({"registered_country": {"iso_code": "FR"}}, "FR"),
        ({"represented_country": {"iso_code": "FR"}}, "FR"),
        ({"represented_country": {"iso_code": "US"}, "registered_country": {"iso_code": "FR"}}, "FR"),
        ({"country": {"iso_code": "EU"}, "registered_country": {"iso_code": "FR"}}, "FR"),
        ({"country": {"iso_code": "EU"}}, None),
        ({"country": {"iso_code": 33}}, None),
        ({"country": {"names": {"en": "France"}}}, None),
        ({"country": ["FR"]}, None),
        ({"autonomous_system_number": "3215"}, None),
        ("FR", None),
    ],
)
def test_records_of_every_known_shape_are_read(tmp_path, record, country):
    """The client's own country first, the registration last; what is no country is none."""
    records = {"192.0.2.0/24": record, "198.51.100.0/24": {"country": "US"}}
    table = open_geo_table(make_mmdb(tmp_path / "t.mmdb", records, record=lambda content: content))
    assert table.locate("192.0.2.1") == country
    assert table.locate("198.51.100.1") == "US"


def test_an_ipv4_table_knows_no_ipv6(tmp_path):
    """It is not asked, and does not raise; an IPv4 address inside IPv6 it does know."""
    table = open_geo_table(make_mmdb(tmp_path / "t.mmdb", {"90.84.0.0/16": "FR"}, version=4))
    assert table.locate("90.84.144.1") == "FR"
    assert table.locate("2a01:cb00::1") is None
    assert table.locate("::ffff:90.84.144.1") == "FR"
    assert table.broken_lookups == 0


def test_a_table_as_intervals_is_the_same_table(mmdb):
    """The edges of every network, their neighbours and thousands of random addresses, packed, read back, compared."""
    table = open_geo_table(mmdb)
    intervals = unpack(pack(table.as_intervals()), "packed")
    chance = random.Random(2025)
    probes = [IPv4Address(chance.getrandbits(32)) for _ in range(3000)]
    probes += [IPv6Address(1 << 125 | chance.getrandbits(125)) for _ in range(3000)]
    for network in map(ip_network, NETWORKS):
        kind = type(network.network_address)
        for edge in (int(network.network_address), int(network.broadcast_address)):
            probes += [kind(edge + step) for step in (-1, 0, 1)]
        probes += [network[chance.randrange(network.num_addresses)] for _ in range(100)]
    for probe in probes:
        assert intervals.locate(str(probe)) == table.locate(str(probe)), probe
    assert intervals.countries == ("FR", "GP", "RE", "US")
    assert (intervals.ranges(4), intervals.ranges(6)) == (5, 3)


def test_networks_narrower_than_a_64_count_for_the_whole_of_it(tmp_path):
    """The first one of each /64; a table in intervals knows nothing narrower."""
    networks = {"2001:db8::1/128": "FR", "2001:db8::2/128": "RE", "2001:db8:0:1::/65": "RE", "2001:db8:0:2::/64": "GP"}
    intervals = open_geo_table(make_mmdb(tmp_path / "t.mmdb", networks)).as_intervals()
    assert [item for item in intervals.intervals(6) if item.country] == [
        (0x20010DB8_00000000, 0x20010DB8_00000001, "FR"),
        (0x20010DB8_00000001, 0x20010DB8_00000002, "RE"),
        (0x20010DB8_00000002, 0x20010DB8_00000003, "GP"),
    ]


# --- the script


def make_table(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "cdnblock.sources.make_default_table", *map(str, arguments)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_the_script_writes_the_same_table_each_time(mmdb, tmp_path):
    """Twice the same bytes, which open as a table that agrees with the MMDB."""
    for name in ("one.bin", "two.bin"):
        done = make_table(mmdb, "--source", "mine", "--version", "7", "--licence", "CC0-1.0", "--out", tmp_path / name)
        assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "one.bin").read_bytes() == (tmp_path / "two.bin").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.bin", "two.bin"]
    table = open_geo_table(tmp_path / "one.bin")
    assert table.description.startswith("mine of 20")
    assert (table.origin.version, table.origin.licence) == ("7", "CC0-1.0")
    assert table.locate("102.35.1.1") == "RE"


def test_the_script_refuses_what_is_no_table(tmp_path):
    """Exit 1 and a message, and nothing is written."""
    (tmp_path / "t.mmdb").write_bytes(b"nonsense")
    done = make_table(tmp_path / "t.mmdb", "--out", tmp_path / "out.bin")
    assert done.returncode == 1
    assert "is no MMDB file" in done.stderr
    assert not (tmp_path / "out.bin").exists()


# --- files that change, and files that are none


def in_child(code, *arguments):
    """Run code in a process of its own, which a crash or a hang cannot take this one along with."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done


def test_a_table_survives_its_file(tmp_path):
    """Truncated to nothing and overwritten with garbage: look-ups go on as before, nobody dies of SIGBUS."""
    path = make_mmdb(tmp_path / "t.mmdb", NETWORKS)
    done = in_child(
        """
        import os, sys
        from cdnblock.sources.geo_tables import open_geo_table
        path = sys.argv[1]
        table = open_geo_table(path)
        size = os.path.getsize(path)
        os.truncate(path, 0)
        print(table.locate("90.84.144.1"), table.locate("2001:db8:2::1"))
        with open(path, "r+b") as file:
            file.write(b"\\xff" * size * 2)
        print(table.locate("90.84.144.1"), table.locate("2001:db8:2::1"))
        os.unlink(path)
        print(table.locate("102.35.1.1"), table.as_intervals().locate("102.35.1.1"), table.broken_lookups)
        """,
        path,
    )
    assert done.stdout.split("\n") == ["FR RE", "FR RE", "RE RE 0", ""]


def test_no_descriptor_stays_open(mmdb):
    """The file is read, not held open: tables can be reloaded for ever."""
    before = len([*Path("/proc/self/fd").iterdir()])
    tables = [open_geo_table(mmdb) for _ in range(20)]
    assert len([*Path("/proc/self/fd").iterdir()]) == before
    assert {table.locate("90.84.144.1") for table in tables} == {"FR"}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "No such file"),
        (b"", "is empty"),
        (b"nonsense", "is no MMDB file"),
        (b"\x1f\x8b\x08" + b"x" * 1000, "is no MMDB file"),
        (b"\xab\xcd\xefMaxMind.com", "is no MMDB file"),
        (b"cdnblock geo table 1\n", "is a damaged country table"),
        (b"cdnblock geo table 1\n" + b"x" * 100, "is a damaged country table"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path, content, why):
    """ConfigError with the path, the reason, and what would be right."""
    path = tmp_path / "t.mmdb"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=why) as caught:
        open_geo_table(path)
    assert str(path) in str(caught.value)
    assert "; " in str(caught.value)


def test_a_folder_a_fifo_and_a_device_are_refused(tmp_path):
    """Each at once: nobody ever writes to that FIFO, and opening it must not wait."""
    os.mkfifo(tmp_path / "fifo")
    done = in_child(
        """
        import sys
        from cdnblock.errors import ConfigError
        from cdnblock.sources.geo_tables import open_geo_table
        for path in sys.argv[1:]:
            try:
                open_geo_table(path)
            except ConfigError as error:
                print(error)
        """,
        tmp_path / "fifo", tmp_path, "/dev/zero",
    )  # fmt: skip
    assert done.stdout.count("is not a regular file") == 3


def test_a_path_that_cannot_be_one_is_refused(tmp_path):
    """A NUL inside, a component that is a file, a loop of links."""
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").write_bytes(b"x")
    for path in ("a\0b", tmp_path / "file" / "t.mmdb", tmp_path / "loop"):
        with pytest.raises(ConfigError, match="cannot be opened"):
            open_geo_table(path)


def test_a_file_over_two_gibibytes_is_refused(tmp_path):
    """Before a byte of it is read: here it has none."""
    path = tmp_path / "t.mmdb"
    path.touch()
    os.truncate(path, 2 * 1024**3 + 1)
    with pytest.raises(ConfigError, match="larger than 2 GiB"):
        open_geo_table(path)


def test_a_table_of_something_else_is_refused(tmp_path):
    """An MMDB of autonomous systems tells no country, and says so at start instead of at every look-up."""
    path = make_mmdb(
        tmp_path / "t.mmdb", {"90.84.0.0/16": "3215"}, record=lambda number: {"autonomous_system_number": number}
    )
    with pytest.raises(ConfigError, match="tells no country"):
        open_geo_table(path)


def test_a_cut_mmdb_never_answers_wrongly(mmdb, tmp_path):
    """At every length it is refused; what a cut in front of the metadata leaves is refused too."""
    whole = mmdb.read_bytes()
    path = tmp_path / "t.mmdb"
    for length in range(1, len(whole), 97):
        path.write_bytes(whole[:length])
        with pytest.raises(ConfigError):
            open_geo_table(path)
        path.write_bytes(whole[length:])
        try:
            table = open_geo_table(path)
        except ConfigError:
            continue
        assert table.locate("90.84.144.1") in {"FR", "GP", "RE", "US", None}


def test_damage_inside_an_mmdb_never_raises(mmdb, tmp_path):
    """Random octets changed: refused at start, or a table that answers a country, or none. C readers die of some."""
    whole = mmdb.read_bytes()
    path = tmp_path / "t.mmdb"
    chance = random.Random(7)
    refused = opened = 0
    for _ in range(400):
        damaged = bytearray(whole)
        for _octet in range(chance.choice((1, 1, 5, 50))):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        path.write_bytes(damaged)
        try:
            table = open_geo_table(path)
        except ConfigError:
            refused += 1
            continue
        opened += 1
        for network in NETWORKS:
            country = table.locate(network.partition("/")[0])
            assert country is None or len(country) == 2
        with contextlib.suppress(ConfigError):
            table.as_intervals()
    assert refused > 20
    assert opened > 20


def test_damage_found_late_is_warned_of_once(mmdb, tmp_path, caplog):
    """A tree without end is met by look-ups only: no country, a count, one warning, and no client's address in it."""
    damaged = bytearray(mmdb.read_bytes())
    damaged[0:6] = bytes(6)  # both branches of the root are the root
    (tmp_path / "t.mmdb").write_bytes(damaged)
    table = open_geo_table(tmp_path / "t.mmdb")
    for _ in range(3):
        assert table.locate("90.84.144.1") is None
    assert table.broken_lookups == 3
    assert [record.getMessage() for record in caplog.records] == [
        f"country table {tmp_path / 't.mmdb'}: its tree is damaged; such clients have no country"
    ]
    with pytest.raises(ConfigError, match="is damaged"):
        table.as_intervals()


def test_every_address_may_be_asked_for(mmdb):
    """The last and first of both spaces."""
    table = open_geo_table(mmdb)
    for text in ("0.0.0.0", "255.255.255.255", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2000::"):
        assert table.locate(str(ip_address(text))) is None
