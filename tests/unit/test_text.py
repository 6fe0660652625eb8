"""Names as their owners chose them, made harmless."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pidwarden.model.text import escape, milliseconds


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"bash", "bash"),
        (b"", ""),
        (b"two words", "two words"),
        (b") R 1 (", ") R 1 ("),
        (b"a\nb", r"a\nb"),
        (b"a\rb\tc", r"a\rb\tc"),
        (b"\x1b[2J\x1b]0;x\x07", r"\x1b[2J\x1b]0;x\x07"),
        (b"\x9b31m", r"\x9b31m"),
        (b"\xc2\x9b31m", r"\x9b31m"),
        (b"\xff\xfe", r"\xff\xfe"),
        (b"caf\xc3", r"caf\xc3"),
        ("café".encode(), "café"),
        ("a\u202egnp.exe".encode(), r"a\u202egnp.exe"),
        ("\u2066x\u2069\u200f".encode(), r"\u2066x\u2069\u200f"),
        ("\u2028\u200b".encode(), r"\u2028\u200b"),
        (b"\x00\x7f", r"\x00\x7f"),
    ],
)
def test_escape(name, shown):
    assert escape(name) == shown


@given(st.binary(max_size=64))
def test_escaped_is_printable_and_one_line(name):
    shown = escape(name)
    assert shown.isprintable()
    assert len(shown.splitlines()) <= 1
    shown.encode()  # no lone surrogates


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=16))
def test_an_ordinary_name_is_shown_as_it_is(name):
    assert escape(name.encode()) == name


@pytest.mark.parametrize(("ns", "ms"), [(0, 0.0), (49_999, 0.0), (1_250_000, 1.2), (1_000_000_000, 1000.0)])
def test_milliseconds(ns, ms):
    assert milliseconds(ns) == ms
