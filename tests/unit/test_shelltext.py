"""The text to paste: what it may not contain, and that whatever is asked for stays one word of the shell."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pidwarden.cli import rescue
from pidwarden.errors import UsageError
from pidwarden.rescue.shelltext import Wanted, quoted, shell_text


def parsed(*argv):
    parser = argparse.ArgumentParser()
    rescue.arguments(parser)
    return rescue.wanted(parser.parse_args(["--print-shell", *argv]))


@given(st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"])))
def test_whatever_is_asked_for_is_one_word(text):
    assert shlex.split(quoted(text)) == [text]


def test_the_word_is_where_it_belongs():
    lines = shell_text(Wanted("exe", "/tmp/it's")).splitlines()
    assert "pw_by=exe" in lines
    assert "pw_what='/tmp/it'\\''s'" in lines


def test_nothing_in_it_needs_a_process():
    """No pipe, no command substitution, no background, no subshell: each of them forks."""
    found = []
    for line in shell_text().splitlines():
        bare = re.sub(r"^ *#.*|^#.*|'[^']*'|\$\(\(.*?\)\)|\$\{[^}]*\}", "", line)
        bare = re.sub(r'"[^"]*"', "", bare)
        bare = re.sub(r"^pw_\w+\(\) |\b(in)? *[\w*$]+( \| \w+)*\) |&&|\|\||\*\) |;;", "", bare)
        found += [line] if re.search(r"[`|&()]", bare) else []
    assert found == []


def test_it_can_be_pasted_into_an_interactive_bash():
    text = shell_text()
    assert "\t" not in text
    assert "!" not in re.sub(r"'[^']*'", "", text)
    assert max(map(len, text.splitlines())) < 4096
    assert text.endswith("\n")


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (("--name", "bomb"), ("name", "bomb")),
        (("--name", "a-name-of-more-than-fifteen"), ("name", "a-name-of-more-")),
        (("--exe", "/usr/bin/true"), ("exe", "/usr/bin/true")),
        (("--user", "root"), ("user", "0")),
        (("--user", "4711"), ("user", "4711")),
        (("--pgrp", "12"), ("pgrp", "12")),
    ],
)
def test_who_is_meant(argv, expected):
    assert parsed(*argv) == expected


@pytest.mark.parametrize(
    "argv",
    [
        ("--name", ""),
        ("--name", "two\nlines"),
        ("--name", "\x1b[2J"),
        ("--exe", "bomb"),
        ("--user", "nobody-of-that-name"),
        ("--pgrp", "-1"),
        ("--pgrp", "1"),
        ("--pgrp", "x"),
    ],
)
def test_what_cannot_be_meant_is_refused(argv):
    with pytest.raises(UsageError):
        parsed(*argv)


def test_the_runbook_ends_with_it():
    runbook = Path(__file__).parents[2] / "docs" / "rescue.md"
    assert runbook.read_text().endswith(f"```sh\n{shell_text()}```\n")
