"""What does not fit into a trace's rings is counted: by call, by thread, and where it happened."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter

import pytest
from tracekit import numbers, plan, tracer

from pidwarden.trace import abi
from pidwarden.trace.decode import Decoder
from pidwarden.trace.lines import Lines
from pidwarden.trace.style import Style

pytestmark = [pytest.mark.root, pytest.mark.bpf]

CALLS, THREADS = 4000, 3
# Threads that call as fast as they can, and once more when they are told.
BUSY = f"""
import os, sys, threading
calls, threads = {CALLS}, {THREADS}
everyone = threading.Barrier(threads + 1)
def work():
    for _ in range(calls):
        os.getppid()
    everyone.wait()
    everyone.wait()
    os.getppid()
sys.stdin.readline()
for _ in range(threads):
    threading.Thread(target=work).start()
everyone.wait()
print("done", flush=True)
sys.stdin.readline()
everyone.wait()
"""


def traced(ring_bytes):
    """Events, totals and tallies of that program, with so much room."""
    with (
        subprocess.Popen(
            [sys.executable, "-c", BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as busy,
        tracer({"getppid": plan()}, ring_bytes=ring_bytes) as trace,
    ):
        trace.enlist([busy.pid])
        print(file=busy.stdin, flush=True)
        assert busy.stdout.readline() == "done\n"
        events = trace.read()
        print(file=busy.stdin, flush=True)
        busy.wait()
        trace.detach()
        return events + trace.read(), trace.totals()[numbers()["getppid"]].sums, trace.tallies()


@pytest.fixture(scope="module")
def lossy():
    """What a ring of one page has room for."""
    return traced(4096)


def test_events_and_losses_are_all_calls(lossy):
    events, counted, tallies = lossy
    calls = [e for e in events if e.kind == abi.RETURN]
    assert counted.calls == THREADS * (CALLS + 1)
    assert counted.lost > 0
    assert len(calls) + counted.lost == counted.calls
    assert sum(e.lost for e in events) == tallies.lost
    told = Counter[int]()
    for e in events:
        told[e.tid] += e.lost + (e.kind == abi.RETURN)
    for tid in {e.tid for e in calls}:
        assert told[tid] == CALLS + 1  # the end of a thread is told of, and not a call


def test_lines_say_where_something_is_missing(lossy):
    events, _counted, tallies = lossy
    lines = Lines(Decoder(os.uname().machine, {}), Style(to_file=True)).feed(events)
    told, missing = Counter[int](), Counter[int]()
    for line in lines:
        tid, text = line.split(None, 1)
        if found := re.fullmatch(r"--- (\d+) records? lost ---", text):
            missing[int(tid)] += int(found[1])
        elif re.match(r"(<\.\.\. )?getppid\b.*= \d+", text):
            told[int(tid)] += 1
    assert missing.total() == tallies.lost
    assert len(told) == THREADS
    for tid, shown in told.items():
        assert shown + missing[tid] == CALLS + 1


def test_nothing_is_lost_where_there_is_room():
    events, counted, tallies = traced(4 << 20)
    assert (counted.lost, tallies.lost) == (0, 0)
    assert sum(e.kind == abi.RETURN for e in events) == counted.calls == THREADS * (CALLS + 1)
