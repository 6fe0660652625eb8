"""What is written of a call that goes on: what is known of it then, and no more."""

from __future__ import annotations

import struct

import pytest
from test_trace_decode import P, event, line, piece

from pidwarden.trace.abi import ENTER, FAULT, RETURN
from pidwarden.trace.decode import Decoder

_SECOND = struct.pack("<2q", 1, 0)
_SET = struct.pack("<Q", 0)


@pytest.fixture(scope="module")
def decoder():
    return Decoder("x86_64", {})


@pytest.mark.parametrize(
    ("name", "args", "before", "known"),
    [
        ("futex", (P, 0, 7, P, 0, 0), (), [f"{P:#x}", "FUTEX_WAIT", "7"]),  # its time is captured at the return
        ("futex", (P, 0, 7, 0, 0, 0), (), [f"{P:#x}", "FUTEX_WAIT", "7", "NULL"]),
        ("rt_sigprocmask", (2, P, 0, 8), (), ["SIG_SETMASK"]),
        ("rt_sigprocmask", (2, 0, 0, 8), (), ["SIG_SETMASK", "NULL"]),
        ("openat", (-100, P, 0), (piece(1, b"", FAULT),), ["AT_FDCWD"]),  # the page was not there yet
        ("openat", (-100, P, 0), (piece(1, b"x"),), ["AT_FDCWD", '"x"', "O_RDONLY"]),
    ],
)
def test_what_is_not_known_yet_is_left_out(decoder, name, args, before, known):
    assert decoder.arguments(event(ENTER, name, args, before), None) == known


def test_it_is_there_at_the_return(decoder):
    wait = line(decoder, "futex", (P, 0, 7, P, 0, 0), after=(piece(3, _SECOND),))
    assert wait == f"futex({P:#x}, FUTEX_WAIT, 7, {{tv_sec=1, tv_nsec=0}}) = 0"
    late = line(decoder, "openat", (-100, P, 0), 3, (piece(1, b"", FAULT),), (piece(1, b"x"),))
    assert late == 'openat(AT_FDCWD, "x", O_RDONLY) = 3'
    bad = line(decoder, "openat", (-100, P, 0), -14, (piece(1, b"", FAULT),), (piece(1, b"", FAULT),))
    assert bad == f"openat(AT_FDCWD, {P:#x}, O_RDONLY) = -1 EFAULT (Bad address)"


def test_a_bad_buffer_is_an_address(decoder):
    bad = (piece(1, b"", FAULT),)
    assert line(decoder, "write", (1, P, 9), -14, bad, bad) == f"write(1, {P:#x}, 9) = -1 EFAULT (Bad address)"
    assert line(decoder, "write", (1, P, 9), 9) == 'write(1, ""..., 9) = 9'  # it was not asked for


def test_what_cannot_fail_can_be_denied(decoder):
    assert decoder.result(event(RETURN, "getppid", ret=-13)) == " = -1 EACCES (Permission denied)"
