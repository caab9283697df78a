"""A copy of an engine's configuration that leads to the new files, whichever way the original leads to ours."""

from __future__ import annotations

import pytest

from cdnblock.engines._engine import RefusedError
from cdnblock.engines._shadow import shadow
from cdnblock.engines.bind import BIND
from cdnblock.engines.caddy import Caddy
from cdnblock.engines.nginx import Nginx
from cdnblock.engines.unbound import Unbound
from cdnblock.engines.varnish import Varnish


@pytest.fixture
def folder(tmp_path):
    for name in ("etc/sites", "etc/live", "trial", "into"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "etc" / "mime.types").write_text("types")
    return tmp_path


def read(folder, main, include):
    copy = shadow(folder / "etc" / "main", folder / "into", live=[folder / "etc/live"], trial=folder / "trial", include=include)  # fmt: skip
    return copy.read_text()


@pytest.mark.parametrize(
    ("engine", "statement", "expected"),
    [
        (Nginx, "include {etc}/live/a.conf;", "include {trial}/a.conf;"),
        (Nginx, "include live/a.conf;", "include {trial}/a.conf;"),
        (Nginx, 'map $host $x { hostnames; include "live/a.conf"; }', 'map $host $x { hostnames; include "{trial}/a.conf"; }'),
        (Nginx, "include live/*.conf;", "include {trial}/*.conf;"),
        (Nginx, "include {etc}/live-other/a.conf; # {etc}/live", "include {etc}/live-other/a.conf; # {trial}"),
        (Nginx, "include mime.types; root {etc}/live;", "include mime.types; root {trial};"),
        (BIND, 'include "{etc}/live/a.conf";', 'include "{trial}/a.conf";'),
        (Varnish, 'include "{etc}/live/a.vcl";', 'include "{trial}/a.vcl";'),
        (Unbound, '  include: "{etc}/live/a.conf"', '  include: "{trial}/a.conf"'),
        (Unbound, "include-toplevel: {etc}/live/a.conf", "include-toplevel: {trial}/a.conf"),
        (Caddy, "import {etc}/live/a.caddy", "import {trial}/a.caddy"),
        (Caddy, "import live/a.caddy\nimport site", "import {trial}/a.caddy\nimport site"),
    ],
)  # fmt: skip
def test_a_statement_that_leads_to_our_folder_leads_to_the_new_files(engine, statement, expected, folder):
    """By whole path, by relative path, by pattern; what only looks like it stays."""

    def filled(text):
        return text.replace("{etc}", str(folder / "etc")).replace("{trial}", str(folder / "trial"))

    (folder / "etc" / "main").write_text(filled(statement))
    assert read(folder, "main", engine.include) == filled(expected)


def test_files_between_are_copied_where_they_lead_there(folder):
    """Those that do not are read where they are, and what is relative to the main file is found beside its copy."""
    etc = folder / "etc"
    (etc / "main").write_text("include sites/*.conf;")
    (etc / "sites" / "ours.conf").write_text(f"server {{ include {etc}/live/a.conf; }}")
    (etc / "sites" / "theirs.conf").write_text("server { include mime.types; }")
    text = read(folder, "main", Nginx.include)
    ours, theirs = [line.removeprefix("include ").removesuffix(";") for line in text.splitlines()]
    assert (folder / ours).read_text() == f"server {{ include {folder}/trial/a.conf; }}"
    assert theirs == str(etc / "sites" / "theirs.conf")
    assert (folder / "into" / "mime.types").read_text() == "types"


def test_a_configuration_that_leads_nowhere_is_no_test(folder):
    """The checker would accept whatever is in the new files."""
    (folder / "etc" / "main").write_text("include mime.types;")
    with pytest.raises(RefusedError, match="leads nowhere to"):
        read(folder, "main", Nginx.include)


def test_circles_come_to_an_end(folder):
    """A file that includes itself is the checker's to complain about."""
    (folder / "etc" / "main").write_text(f"include main; include {folder}/etc/live/a.conf;")
    assert f"include {folder}/trial/a.conf;" in read(folder, "main", Nginx.include)


def test_new_files_that_nobody_here_can_see_are_said(folder):
    """Where the engine sees our folder elsewhere, in a container, its checker is the operator's to name."""
    (folder / "etc" / "main").write_text(f"include {folder}/etc/live/a.conf;")
    (folder / "trial").rmdir()
    with pytest.raises(RefusedError, match="--engine check=COMMAND"):
        read(folder, "main", Nginx.include)
