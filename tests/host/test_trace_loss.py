"""What does not fit into a trace's rings is counted: by call, by thread, and where it happened."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pytest
from tracekit import numbers, plan, tracer

from pidwarden.trace import abi

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


def test_events_and_losses_are_all_calls():
    events, counted, tallies = traced(4096)
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
