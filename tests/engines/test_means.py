"""What the operator says of an engine: wrong in any way, it is told before anything runs, by the name of the option."""

from __future__ import annotations

import pytest

from cdnblock.engines import ENGINES, load
from cdnblock.engines._engine import Change
from cdnblock.errors import ConfigError


@pytest.mark.parametrize("name", ["check", "reload", "control"])
@pytest.mark.parametrize("target", ["bind", "unbound"])
def test_an_open_quote_is_told_with_its_option(target, name, tmp_path):
    """No traceback, and not only when the command is due."""
    with pytest.raises(ConfigError, match=rf"--engine {name}=sh -c 'true: no command, No closing quotation"):
        load(target).means(tmp_path, [(name, "sh -c 'true")])


@pytest.mark.parametrize("target", ENGINES)
def test_each_command_of_an_engine_is_read_as_one(target, tmp_path):
    """Those that check and reload are commands wherever there are such settings."""
    for name in {"check", "reload"} & load(target).settings.keys():
        with pytest.raises(ConfigError, match=f"--engine {name}="):
            load(target).means(tmp_path, [(name, '"')])


def test_words_of_a_command_are_those_of_a_shell(tmp_path):
    """A place is filled in as one word, whatever is in it."""
    means = load("nginx").means(tmp_path, [("check", "sh -c 'a b' {trial}")])
    assert means.command("check", trial="/x y") == ["sh", "-c", "a b", "/x y"]


@pytest.mark.parametrize(
    ("how", "is_news"),
    [({}, False), ({"whole": True}, True), ({"forced": True}, True), ({"after": {"a": b"y"}}, True)],
    ids=["the same", "nobody knows what it goes by", "a gentler means did not help", "another text"],
)
def test_what_an_engine_has_to_be_told(how, is_news, tmp_path):
    """It is asked for nothing where the files say what they said."""
    assert Change(**{"folder": tmp_path, "before": {"a": b"x"}, "after": {"a": b"x"}} | how).is_news is is_news
