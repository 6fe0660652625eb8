"""What this kernel says of its system calls, through a tracefs that is mounted nowhere."""

from __future__ import annotations

import platform

import pytest

from pidwarden.kernel import callformats
from pidwarden.trace.decode import signatures
from pidwarden.trace.numbers import CALLS
from pidwarden.trace.signature import EVENTS

pytestmark = pytest.mark.root


def test_calls_have_their_arguments():
    formats = callformats.read()
    if not formats:
        pytest.skip("this kernel traces no system calls")
    found = signatures(formats)
    assert found["openat"].args == (
        ("int", "dfd"), ("const char *", "filename"), ("int", "flags"), ("umode_t", "mode"),
    )  # fmt: skip
    assert found["getpid"].args == ()
    for call, event in EVENTS.items():
        assert found[call].args == found[event].args


def test_every_event_is_of_a_call_with_a_number():
    formats = callformats.read()
    if not formats or platform.machine() != "x86_64":
        pytest.skip("other events")
    names = set(CALLS["x86_64"][0].values())
    assert formats.keys() - names == set(EVENTS.values()) & formats.keys()
    assert len(names - signatures(formats).keys()) < len(names) // 4
