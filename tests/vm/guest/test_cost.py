"""What a guard costs where its gate is a hook in the kernel: figures only; an emulated processor proves no time."""

from __future__ import annotations

import statistics
import subprocess

import pytest
from guardkit import guard
from kit import prop

LOADS = {"fork": 400, "thread": 800, "getppid": 200_000}
ROUNDS = 9


def measure(load):
    done = subprocess.run([prop("forkloop"), str(LOADS[load]), load], check=True, capture_output=True, text=True)
    return float(done.stdout)


@pytest.mark.parametrize("load", LOADS)
def test_what_a_guard_costs(load, record_property):
    ratios = []
    before = measure(load)
    for _ in range(ROUNDS):
        with guard() as running:
            gate = running.wait("ready")["capabilities"]["hold"]
            between = measure(load)
        after = measure(load)
        ratios.append(2 * between / (before + after))
        before = after
    record_property("gate", gate)
    record_property(f"{load}, with a guard to without", f"{statistics.median(ratios):.3f}")
    assert gate
