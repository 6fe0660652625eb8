"""Listening to several processes and to signals."""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest

from pidwarden.drill.lines import Ear, Interrupted, Speaker
from pidwarden.errors import PidwardenError


def speaker(code, name="child"):
    return Speaker(name, [sys.executable, "-I", "-S", "-u", "-c", code])


def listen_until(ear, done, seconds=20):
    heard, end = [], time.monotonic() + seconds
    while not done(heard):
        assert time.monotonic() < end, heard
        heard += ear.listen(0.5)
    return heard


def test_lines_arrive_whole_and_the_end_is_said():
    child = speaker(
        "import sys\n"
        'sys.stdout.write(\'{"a": 1}\\nno json\\n[1]\\n{"b":\'); sys.stdout.flush()\n'
        "sys.stdin.readline()\n"
        "print(' 2}')"
    )
    with Ear() as ear:
        ear.add(child)
        listen_until(ear, lambda heard: heard == [(child, {"a": 1})])
        child.order("go on")
        assert listen_until(ear, lambda heard: (child, {"ended": True}) in heard) == [
            (child, {"b": 2}),
            (child, {"ended": True}),
        ]
        assert ear.listen(0.05) == []  # not said for ever
    assert child.end(10) == 0
    child.close()


def test_listen_returns_when_nobody_says_anything():
    with Ear() as ear:
        before = time.monotonic()
        assert ear.listen(0.1) == []
        assert 0.09 <= time.monotonic() - before < 5


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_is_heeded_at_the_next_listen_and_nowhere_else(number, code):
    before = signal.getsignal(number)
    with Ear() as ear:
        os.kill(os.getpid(), number)  # no exception here
        with pytest.raises(Interrupted, match=signal.Signals(number).name) as ended:
            ear.listen(10)
        assert isinstance(ended.value, PidwardenError)
        assert ended.value.exit_code == code
    assert signal.getsignal(number) is before


def test_a_drowning_standard_error_blocks_nobody_and_its_end_is_kept():
    child = speaker("import sys\nsys.stderr.write('x' * 300000 + 'the end')")
    assert child.end(20) == 0
    assert child.errors().endswith("xthe end")
    assert len(child.errors()) <= 4000
    child.close()


def test_a_child_that_does_not_end_is_killed():
    child = speaker("import signal, sys\nprint('{}')\nsignal.pause()")
    assert child.out.read(1) == b"{"
    assert child.end(0.2) == -signal.SIGKILL
    child.close()


def test_an_order_to_the_dead_is_no_error():
    child = speaker("pass")
    child.process.wait(20)
    child.order("go")
    assert child.end(1) == 0
    child.close()
