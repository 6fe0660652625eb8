"""Selectors: what is one and what is refused."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pidwarden.errors import UsageError
from pidwarden.model.selector import ASKABLE, PID_MAX, Selector, SelectorKind, parse_selector


@pytest.mark.parametrize(
    "text",
    [
        "pid:1",
        f"pid:{PID_MAX}",
        "user:alice",
        "user:1000",
        "user:a:b",
        "cgroup:/",
        "cgroup:/user.slice/a b",
        "container:0a1b",
        "container:web.1",
    ],
)
def test_selectors_come_back_as_they_were_typed(text):
    selector = parse_selector(text)
    assert str(selector) == text
    assert selector.kind == SelectorKind(text.split(":", 1)[0])


@pytest.mark.parametrize(
    "text",
    [
        "", ":", "pid", "pid:", "pid:0", "pid:-1", "pid:+1", "pid:1.0", "pid: 1", "pid:1 ", "pid:0x1", "pid:abc",
        "pid:\u0661", "pid:\u00b2", f"pid:{PID_MAX + 1}", "pid:" + "9" * 30, "PID:1", "user:", "user:a\0b", "group:a",
        "cgroup:", "cgroup:user.slice", "cgroup:/a\0", "cgroup:/..", "cgroup:/a/../../b", "1", "\n", "nspid:1",
    ],
)  # fmt: skip
def test_what_is_no_selector_is_refused_with_what_to_type(text):
    with pytest.raises(UsageError, match=r"type pid:N|starts with a slash"):
        parse_selector(text)


@pytest.mark.parametrize("text", ["family:1", f"family:{2**64 - 1}"])
def test_a_family_can_be_asked_for_but_no_guard_be_limited_to_it(text):
    assert parse_selector(text, ASKABLE) == Selector(SelectorKind.FAMILY, text[7:])
    with pytest.raises(UsageError, match="type pid:N, user:NAME, cgroup:PATH or container:ID"):
        parse_selector(text)


@pytest.mark.parametrize(
    "text", ["family:", "family:0", "family:x", "family:-1", "family:" + "9" * 5000, "family:\u0661"]
)
def test_what_is_no_family_is_refused(text):
    with pytest.raises(UsageError):
        parse_selector(text, ASKABLE)


@given(st.text(max_size=20))
def test_anything_is_a_selector_or_a_usage_error(text):
    with contextlib.suppress(UsageError):
        assert isinstance(parse_selector(text), Selector)


@given(st.text(max_size=20))
def test_what_is_refused_is_shown_harmless(text):
    with pytest.raises(UsageError) as why:
        parse_selector("\n" + text)
    assert str(why.value).isprintable()


def test_more_digits_than_python_converts_are_refused_too():
    with pytest.raises(UsageError):
        parse_selector("pid:" + "9" * 5000)


@pytest.mark.parametrize("text", ["nspid:1", "nspid:7@4026531836", f"nspid:{PID_MAX}@{2**32 - 1}"])
def test_a_pid_inside_a_namespace_can_be_asked_for(text):
    assert str(parse_selector(text, ASKABLE)) == text


@pytest.mark.parametrize(
    "text",
    ["nspid:", "nspid:0", "nspid:x", "nspid:1@", "nspid:1@x", "nspid:@1", f"nspid:1@{2**32}", "container:",
     "container:/a", "container:a b", "container:-a", "container:" + "a" * 200, "container:\u0661"],
)  # fmt: skip
def test_what_names_nothing_inside_is_refused_with_what_to_type(text):
    with pytest.raises(UsageError, match=r"type nspid:N|ps -o container|type pid:N"):
        parse_selector(text, ASKABLE)
