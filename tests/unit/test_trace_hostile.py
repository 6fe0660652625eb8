"""Whatever a program puts into its memory and its registers, a line stays a line and nothing is raised."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pidwarden.trace.abi import CONTROL, CUT, ENTER, EXIT, FAULT, IOV, NAME, RETURN, SIGNAL
from pidwarden.trace.capture import every
from pidwarden.trace.decode import Decoder
from pidwarden.trace.event import Event, Piece
from pidwarden.trace.numbers import CALLS
from pidwarden.trace.shapes import CALLS as SHAPES
from pidwarden.trace.signature import Signature

_NATIVE = CALLS["x86_64"][0]
_KINDS = ("int", "unsigned long", "const char *", "size_t", "umode_t", "pid_t", "struct stat *", "unsigned int")
_SIGNATURES = {
    name: Signature(name, tuple((_KINDS[(n + i) % len(_KINDS)], f"x{i}") for i in range(6)))
    for n, name in enumerate(_NATIVE.values())
}
_DECODERS = [Decoder(machine, _SIGNATURES) for machine in ("x86_64", "aarch64", "unheard-of")]

words = st.one_of(
    st.integers(0, 64), st.integers(0, (1 << 64) - 1), st.sampled_from([1 << 32, (1 << 64) - 1, 0xFFFFFF9C])
)
pieces = st.builds(
    Piece,
    st.integers(0, 5),
    st.sampled_from([0, 0, 0, CUT, FAULT]),
    st.sampled_from([0, 0, 1, 2, 33, NAME, CONTROL, IOV]),
    st.binary(max_size=200),
)
events = st.builds(
    Event,
    ns=st.integers(0, 1 << 63),
    enter_ns=st.integers(0, 1 << 63),
    tid=st.integers(1, 1 << 22),
    tgid=st.integers(1, 1 << 22),
    kind=st.sampled_from([ENTER, RETURN, SIGNAL, EXIT]),
    nr=st.one_of(st.integers(0, 470), st.integers(0, 4095)),
    flags=st.integers(0, 15),
    lost=st.integers(0, 9),
    last=st.integers(0, 1),
    ret=st.one_of(st.integers(-530, 70), st.integers(-(1 << 63), (1 << 63) - 1)),
    args=st.tuples(*[words] * 6),
    pieces=st.lists(pieces, max_size=6).map(tuple),
)


def harmless(text):
    assert isinstance(text, str)
    assert text.isprintable(), text
    assert text.isascii(), text


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(_DECODERS), events, st.lists(pieces, max_size=4))
def test_nothing_raises_and_nothing_breaks_a_line(decoder, event, before):
    enter = event._replace(kind=ENTER, pieces=tuple(before))
    harmless(decoder.name(event.nr))
    for pair in ((enter, event), (None, event), (enter, None)):
        for text in decoder.arguments(*pair):
            harmless(text)
        json.dumps(decoder.values(*pair)).encode()
    harmless(decoder.result(event))
    harmless(decoder.signal(event))
    harmless(decoder.ending(event))


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_every_decoded_call_bears_anything(name):
    numbers = [number for number, found in _NATIVE.items() if found == name]
    for data in (b"", b"\xff" * 400, b"\n\x1b[31m) = 0\r\0" * 40):
        for value in (1, 0x5401, (1 << 64) - 1):
            for ret in (0, 1, -516):
                spread = tuple(Piece(arg, 0, part, data) for arg in range(6) for part in (0, 1, NAME, CONTROL, IOV))
                event = Event(1, 1, 1, 1, RETURN, numbers[0], 0, 0, 0, ret, (value,) * 6, spread)
                for text in _DECODERS[0].arguments(event._replace(kind=ENTER), event):
                    harmless(text)
                harmless(_DECODERS[0].result(event))


def test_every_plan_fits_its_struct():
    for machine in ("x86_64", "aarch64", "riscv64"):
        plans = every(machine, _SIGNATURES, data=True, string=100_000)
        assert len({len(plan.pack()) for plan in plans.values()}) == 1
        assert all(plan.traced and plan.counted for plan in plans.values())
        assert set(range(1024)) <= plans.keys()
