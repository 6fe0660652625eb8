"""`pidwarden zombies` of parents that are held up in odd ways: who has the other end is named, and nobody in error."""

from __future__ import annotations

import contextlib
import os
import time

import pytest
from kit import child
from zombiekit import causes, findings, signals

from pidwarden.diagnose.remedies import Step
from pidwarden.kernel import socketpeer
from pidwarden.kernel.cases import look
from pidwarden.kernel.patience import Reader

pytestmark = pytest.mark.root
SECONDS = 60.0
KILL = 9
IDLE = "idles like this"
# mode: its cause, what the evidence says (OTHER: the other process, by name), what it is when that one was killed
MODES = {
    "lock-heir FILE": ("blocked", "held by holder (OTHER)", "never-waits"),
    "ofd FILE": ("blocked", "held by holder (OTHER)", "never-waits"),
    "ofd-posix FILE": ("blocked", "held by holder (OTHER)", "never-waits"),
    "lock-own FILE": ("blocked", "nobody but itself", ""),
    "connect FILE": ("blocked", "accepts none" if socketpeer.unix_diag() else "unix", ""),
    "udp": ("blocked", "connected to nobody", ""),
    "netlink": ("blocked", "netlink", ""),
    "dgram": ("blocked", "connected to nobody" if socketpeer.unix_diag() else "socket:", ""),
    "terminal": ("blocked", "/dev/pts/", ""),
    "kmsg": ("never-waits", "/dev/kmsg", ""),
    "headless": ("waits-for-another", "for its child owing (OTHER) alone", "never-waits"),
    "silent": ("waits-for-another", "sends no signal", "never-waits"),
    "mixed": ("never-waits", "1 of 4 children sent signal 23", ""),
    "polls": ("never-waits", "nothing is set for SIGCHLD", "never-waits"),
}  # fmt: skip


def settle(pids, wanted):
    """Looks until everybody is told what is wanted, or there is no more time: the last answers."""
    end = time.monotonic() + SECONDS
    while True:
        found = {mode: answer for mode, pid in pids.items() for answer in [findings([pid])[pid]]}
        if time.monotonic() > end or all(causes(found[mode]) == (wanted(mode),) for mode in pids):
            return found


@pytest.fixture(scope="module")
def props(tmp_path_factory):
    folder = tmp_path_factory.mktemp("owing")
    with contextlib.ExitStack() as stack:
        modes = {m: [w.replace("FILE", str(folder / m.split()[0])) for w in m.split()] for m in MODES}
        yield {m: stack.enter_context(child("owing", *words, group=True)).said() for m, words in modes.items()}


@pytest.fixture(scope="module")
def told(props):
    return settle({mode: pid for mode, (pid, _other) in props.items()}, lambda mode: MODES[mode][0])


@pytest.fixture(scope="module")
def told_after(props, told):
    assert told
    meant = [mode for mode in MODES if MODES[mode][2]]
    for mode in meant:
        signals(props[mode][1], KILL)
    return settle({mode: props[mode][0] for mode in meant}, lambda mode: MODES[mode][2])


@pytest.mark.parametrize("mode", MODES)
def test_the_cause_and_its_evidence(mode, props, told):
    cause, words, _after = MODES[mode]
    assert causes(told[mode]) == (cause,)
    finding = told[mode][0]
    assert words.replace("OTHER", str(props[mode][1])) in " ".join(finding.evidence)


@pytest.mark.parametrize("mode", [m for m in MODES if MODES[m][2]])
def test_without_the_cause_the_answer_is_another(mode, told_after):
    assert causes(told_after[mode]) == (MODES[mode][2],)


@pytest.mark.parametrize("mode", ["udp", "netlink", "terminal"])
def test_what_may_be_idle_is_no_certain_hold_up(mode, told):
    finding = told[mode][0]
    assert not finding.sure
    assert IDLE in " ".join(finding.unknown)


def test_nobody_is_told_to_end_the_parent_for_its_own_lock(told):
    assert Step.UNBLOCK not in {rung.step for rung in told["lock-own FILE"][0].ladder}


def test_a_parent_whose_first_thread_ended_has_its_name(props, told):
    pid = props["headless"][0]
    (case,) = look(Reader(), 0.01, lambda _table: [pid]).cases
    assert told
    assert case.comm == b"owing"
    assert os.path.exists(f"/proc/{pid}")
