"""Settings: documented, sampled, checked; an error names its line."""

from __future__ import annotations

import contextlib
import re
import tomllib
from typing import get_args, get_type_hints

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pidwarden.cli.config import sample
from pidwarden.errors import ConfigError, UsageError
from pidwarden.settings import Settings, load, parse, replace

NAMES = [f.name for f in msgspec.structs.fields(Settings)]
RULES = ["zombies", "orphans", "stuck", "headroom", "tables"]


def tables(kind, name=""):
    """Every table of settings, and its name in a file."""
    yield name, kind
    for field in msgspec.structs.fields(kind):
        if isinstance(field.default, msgspec.Struct):
            yield from tables(type(field.default), f"{name}.{field.name}".lstrip("."))


EVERY = [(table, kind, f.name) for table, kind in tables(Settings) for f in msgspec.structs.fields(kind)]


def uncommented() -> str:
    """The sample as somebody would use it: every setting's line, lists to their end, without the hash."""
    lines, inside, names = [], False, {name for _table, _kind, name in EVERY}
    for line in sample().splitlines():
        setting = re.match(r"# ([a-z_]+) = (.*)", line)
        if inside or (setting and setting[1] in names) or re.fullmatch(r"# \[[a-z.]+\]", line):
            lines.append(line.removeprefix("# "))
            inside = (inside and line != "# ]") or bool(setting and setting[2] == "[")
    return "\n".join(lines)


@pytest.mark.parametrize(("table", "kind", "name"), EVERY)
def test_every_setting_is_documented_and_in_the_sample(table, kind, name):
    hint = get_type_hints(kind, include_extras=True)[name]
    [description] = [m.description for m in get_args(hint)[1:] if isinstance(m, msgspec.Meta) and m.description]
    text = " ".join(line.removeprefix("#").strip() for line in sample().splitlines())
    assert description in text
    path = f"{table}.{name}".lstrip(".")
    assert f"# {name} = " in sample() or f"# [{path}]" in sample()


def test_what_the_guard_looks_after_is_off_as_shipped():
    assert Settings().rules.on == ()
    text = "".join(f'[rules.{n}]\nmode = "{"dry-run" if n == "zombies" else "warn"}"\n' for n in RULES)
    assert parse(text, "x").rules.on == tuple(RULES)


def test_the_sample_as_it_is_changes_nothing():
    assert tomllib.loads(sample()) == {}
    assert parse(sample(), "sample") == Settings()


def test_the_sample_uncommented_is_the_defaults():
    data = tomllib.loads(uncommented())
    assert list(data) == NAMES
    assert parse(uncommented(), "sample") == Settings()


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("hold_att = 3", 1, "hold_att"),
        ("# hold_at\n\nhold_at = 'x'", 3, "hold_at"),
        ("grace = 1\nhold_at = 1.5", 2, "hold_at"),
        ("\n\nhold_at = 3", 3, ">= 4"),
        ("hold_at = 1000001", 1, "<= 1000000"),
        ("hold_at = true", 1, "bool"),
        ("grace = -0.1", 1, ">= 0"),
        ("grace = nan", 1, "grace"),
        ("branch_age = inf", 1, "<= 3600"),
        ("burst_growth = 1", 1, "> 1"),
        ('mode = "destroy"', 1, "destroy"),
        ('on_unsure = ""', 1, "on_unsure"),
        ('shells = "/bin/sh"', 1, "array"),
        ('spawners = [\n  "/sbin/init",\n  3,\n]', 1, r"spawners[1]"),
        ('run_dir = "relative"', 1, "run_dir"),
        ('run_dir = "/a b"', 1, "run_dir"),
        ("[guard]\nhold_at = 300", 1, "guard"),
        ("[[hold_at]]\nx = 1", 1, "hold_at"),
        ("grace = 1\nhold_at 300\n", 2, "not valid TOML"),
        ('[rules]\nevery = 0\n[rules.zombies]\nmode = "act"', 2, ">= 0.1"),
        ('grace = 1\n[rules.zombies]\n\nmode = "kill"', 4, "rules.zombies.mode"),
        ('[rules.stuck]\nmode = "warn"\n[rules.zombies]\nmode = "on"', 4, "'on'"),
        ('[rules.stuck]\nmode = "act"', 2, "'act'"),
        ('[rules.zombies]\nup_to = "inject"', 2, "'inject'"),
        ("[rules.zombies]\ncount = 0", 2, ">= 1"),
        ("[rules.headroom]\nfree = 1", 2, "< 1.0"),
        ("rules.orphans.cuont = 3", 1, "cuont"),
        ("[rules.orphans]\nage = 1\ncuont = 3", 3, "cuont"),
        ("[rules.reboot]\nmode = 'act'", 1, "reboot"),
        ("grace = 1\nrules = 3", 2, "rules"),
        ("grace = 1\nrules = {stuck = {mode = 'x'}}", 2, "rules.stuck.mode"),
        ("grace = 1\ngrace = 2\nmode = 'kill'", 2, "not valid TOML"),
        ("\x1b[2J", 1, "not valid TOML"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(text, line, what):
    with pytest.raises(ConfigError) as why:
        parse(text, "/etc/x.toml")
    message = str(why.value)
    assert message.startswith("/etc/x.toml")
    assert f"line {line}" in message
    assert what in message
    assert "nothing was changed" in message


def test_a_key_in_single_quotes_has_a_line_too():
    with pytest.raises(ConfigError, match="line 2"):
        parse("grace = 1\n'hold_at' = 1", "x")


@pytest.mark.parametrize(
    "text",
    [
        'mode = "\\u001b[2J"',
        "x = '\x1b[2J'",
        '"\\u001b[2J" = 1',
        '"a\\nb" = 1',
    ],
)
def test_nothing_in_the_file_reaches_the_terminal_raw(text):
    with pytest.raises(ConfigError) as why:
        parse(text, "x")
    assert str(why.value).isprintable()


@given(st.text(max_size=200))
def test_any_text_is_settings_or_a_config_error(text):
    with contextlib.suppress(ConfigError):
        assert isinstance(parse(text, "x"), Settings)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"hold_at = \x00", b"grace = 1\xc3"])
def test_a_file_that_is_no_text_is_a_config_error(tmp_path, content):
    path = tmp_path / "x.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=re.escape(str(path))):
        load(str(path))


def test_a_file_is_read(tmp_path):
    path = tmp_path / "x.toml"
    path.write_text('mode = "hold"\nprotect_users = ["root", "ünïcode"]\n')
    assert load(str(path)) == Settings(mode="hold", protect_users=("root", "ünïcode"))


@pytest.mark.parametrize("name", ["missing.toml", "."])
def test_a_file_that_cannot_be_read_names_the_sample(tmp_path, name):
    with pytest.raises(ConfigError, match="pidwarden config"):
        load(str(tmp_path / name))


def test_replace_checks_as_a_file_would():
    assert replace(Settings(), hold_at=20, mode="observe") == Settings(hold_at=20, mode="observe")
    with pytest.raises(UsageError, match="hold_at"):
        replace(Settings(), hold_at=3)
    with pytest.raises(UsageError, match="unknown"):
        replace(Settings(), unknown=3)


def test_the_family_limit_follows_the_branch_limit_unless_set():
    assert Settings(hold_at=100).family_limit == 150
    assert Settings(hold_at=100, family_hold_at=110).family_limit == 110
