"""A guard that is lost: killed, stopped or stuck. What it held neither grows on nor sleeps for ever."""

from __future__ import annotations

import contextlib
import os
import random
import select
import signal
import subprocess
import time
from pathlib import Path

import pytest
from guardkit import (
    GuardProcess,
    bomb,
    c_bomb,
    detach,
    guard,
    leftovers,
    members,
    pen,
    start,
    stopped_in,
    stopped_in_group,
    tree,
)
from kit import child, until

from pidwarden.guard.control import ask
from pidwarden.kernel.bpf import wakes_others

pytestmark = [pytest.mark.root, pytest.mark.bpf]


@pytest.fixture
def lease(tmp_path):
    """Arguments of a guard that counts as lost after so many seconds; more lines of its configuration may be given."""

    def arguments(*lines, seconds=2.0):
        config = tmp_path / "pidwarden.toml"
        config.write_text("\n".join([f"lost_after = {seconds}", *lines]))
        return ["--config", str(config)]

    return arguments


@contextlib.contextmanager
def doomed(*arguments):
    """A guard that the test will kill, and that leaves nothing behind all the same."""
    running = GuardProcess(*arguments)
    try:
        running.wait("ready")
        yield running
    finally:
        running.close()
        detach(running.run_dir)
        assert leftovers(running.run_dir) == []


HOLD = 'on_bomb = "hold"\non_burst = "hold"'  # whatever it is, it waits for a person


def lose(running):
    running.process.kill()
    running.process.wait()


def test_an_innocent_goes_on_when_the_guard_that_held_it_is_lost(lease):
    with doomed("--hold-at", "40", *lease(HOLD)) as running, tree() as odd:
        running.wait("waiting")
        lose(running)
        assert odd.said() == (odd.pid, 62)  # held at 40, let go with room for 80, while nobody runs who could be asked


@contextlib.contextmanager
def busy():
    """A program on each processor that does nothing but run."""
    spin = [subprocess.Popen(["/bin/sh", "-c", "while :; do :; done"]) for _ in range(os.cpu_count())]
    try:
        yield
    finally:
        for each in spin:
            each.kill()
            each.wait()


def test_an_innocent_goes_on_when_the_guard_is_lost_and_its_waker_with_it(lease):
    """By the kernel alone, from Linux 6.13 on: wherever its timer interrupts somebody's program."""
    if not wakes_others():
        pytest.skip("BPF programs of this kernel cannot signal others")
    with doomed("--hold-at", "40", *lease(HOLD)) as running, busy(), tree() as odd:
        running.wait("waiting")
        pid = running.process.pid
        (waker,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        os.kill(int(waker), signal.SIGKILL)
        lose(running)
        assert odd.said() == (odd.pid, 62)


def test_an_innocent_goes_on_when_the_guard_that_held_it_is_stuck(lease):
    with doomed("--hold-at", "40", *lease(HOLD)) as running, tree() as odd:
        running.wait("waiting")
        os.kill(running.process.pid, signal.SIGSTOP)
        assert odd.said() == (odd.pid, 62)


def test_a_bomb_is_held_again_and_again_without_a_guard(lease):
    """Set off when nobody is left to judge it, it doubles once a lease instead of once a millisecond."""
    with doomed("--hold-at", "50", *lease()) as running, pen(900) as made:
        lose(running)
        with bomb(made, *c_bomb("tight")):
            until(lambda: stopped_in(made), "its first members to be stopped")
            assert made.peak() <= 50
            until(lambda: len(members(made)) > 55, "it to be let go with more room")
            until(lambda: stopped_in(made) == len(members(made)), "it to be held again")
            assert made.peak() <= 2 * 2 * 50
            with guard("--hold-at", "50", run_dir=running.run_dir) as successor:
                assert successor.wait("killed")["survivors"] == 0
                until(lambda: not members(made), "the pen to be empty")


@contextlib.contextmanager
def loop_beside(made, *bomb):
    """A shell with a loop of small programs, old enough for the bomb that it starts when told to be another branch."""
    script = f"while :; do /bin/true; echo; sleep 0.02; done & read go; {' '.join(bomb)}"
    shell = start(["/bin/sh", "-c", script], made.enter, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        for _ in range(20):
            assert shell.stdout.readline()
        yield shell
    finally:
        made.kill()
        shell.communicate()


def test_whoever_shares_a_family_with_a_bomb_goes_on_while_nobody_judges_it(lease):
    """With its larger room the bomb would fill the family's as well; held is the bomb, by itself."""
    config = lease("branch_age = 0.2")
    with doomed("--hold-at", "50", *config) as running, pen(900) as made, loop_beside(made, *c_bomb("tight")) as shell:
        lose(running)
        os.write(shell.stdin.fileno(), b"go\n")
        until(lambda: stopped_in(made) > 60, "it to have been let go, and to be held again")
        for _ in range(5):
            assert select.select([shell.stdout], [], [], 0.5)[0], "the loop stands still"
            os.read(shell.stdout.fileno(), 4096)


def is_let_alone():
    """Whether 60 threads come to be, which is more than a guard of these tests lets pass."""
    with child("odd", "threads", "60") as free:
        return bool(select.select([free.process.stdout], [], [], 1)[0])


def test_keep_holds_on_without_a_guard_and_in_time_holds_nobody_else(lease):
    with doomed("--hold-at", "40", *lease(HOLD, 'lost_then = "keep"')) as running, tree() as held:
        running.wait("waiting")
        lose(running)
        assert not is_let_alone()
        until(is_let_alone, "nobody else to be held")
        assert stopped_in_group(held.pid)
        detach(running.run_dir)
        assert held.said() == (held.pid, 62)


def test_a_successor_comes_in_time_and_nothing_lapses(lease):
    arguments = ["--hold-at", "40", *lease(HOLD, seconds=8)]
    with doomed(*arguments) as running, tree() as odd:
        running.wait("waiting")
        lose(running)
        with guard(*arguments, run_dir=running.run_dir) as successor:
            successor.wait("waiting")
            time.sleep(9)  # not a wait for a state: longer than the lease that was not renewed
            assert stopped_in_group(odd.pid)
            assert successor.stop() == 0
        assert odd.said() == (odd.pid, 62)


def test_replace_takes_over_from_a_guard_that_runs():
    with guard("--mode", "hold") as running, pen() as made, bomb(made, *c_bomb("tight")):
        running.wait("waiting")
        with guard("--mode", "hold", "--replace", run_dir=running.run_dir) as successor:
            assert running.process.wait(20) == 0
            successor.wait("waiting")
            assert stopped_in(made) == len(members(made))
            assert ask(running.run_dir, "status")["pid"] == successor.process.pid
            assert successor.stop() == 0
        assert leftovers(running.run_dir) == []


def test_replace_where_nobody_runs_just_starts():
    with guard("--replace") as running:
        assert running.stop() == 0


def test_stopped_in_order_it_leaves_what_it_holds_if_it_is_told_so(lease):
    arguments = ["--mode", "hold", *lease('at_stop = "leave"', seconds=60)]
    with pen() as made, doomed(*arguments) as running, bomb(made, *c_bomb("tight")):
        running.wait("waiting")
        assert running.stop() == 0
        assert stopped_in(made) == len(members(made)) > 200
        with guard(run_dir=running.run_dir) as successor:
            assert successor.wait("killed")["survivors"] == 0


def make_foreign(run_dir):
    """The pins of a killed guard, from now on those of a version that does not agree with this one."""
    pins = f"/sys/fs/bpf/{os.path.basename(run_dir)}"
    (name,) = os.listdir(pins)
    os.rename(f"{pins}/{name}", f"{pins}/0123456789abcdef")


def test_an_upgrade_that_changes_the_kernel_side_keeps_a_bomb_held_and_ends_it(lease):
    with doomed("--mode", "hold", *lease(seconds=60)) as running, pen() as made, bomb(made, *c_bomb("tight")):
        running.wait("waiting")
        lose(running)
        make_foreign(running.run_dir)
        count = len(members(made))
        with guard(run_dir=running.run_dir) as successor:
            killed = successor.wait("killed")
            assert (killed["survivors"], killed["killed"]) == (0, count)
            assert any("another version" in note["text"] for note in successor.events("note"))
        assert made.peak() <= 600


def test_an_upgrade_that_changes_the_kernel_side_keeps_what_a_person_is_to_decide(lease):
    arguments = ["--hold-at", "40", *lease(HOLD, seconds=60)]
    with doomed(*arguments) as running, tree() as odd:
        running.wait("waiting")
        lose(running)
        make_foreign(running.run_dir)
        with guard("--hold-at", "40", run_dir=running.run_dir) as successor:
            waiting = successor.wait("waiting")
            assert stopped_in_group(odd.pid)
            until(lambda: ask(running.run_dir, "release", str(waiting["family"])), "the guard to listen")
            assert odd.said() == (odd.pid, 62)


def test_detach_continues_whom_another_version_had_stopped(lease):
    with doomed("--mode", "hold", "--hold-at", "30", *lease(seconds=60)) as running, tree() as odd:
        running.wait("waiting")
        lose(running)
        make_foreign(running.run_dir)
        assert "processes continued" in detach(running.run_dir)
        assert odd.said() == (odd.pid, 62)
        assert leftovers(running.run_dir) == []


_CRASH = """
import os, sys
from pidwarden.cli.main import main
from pidwarden.guard.respond import Responder
def tick(self):
    if self.incidents:
        raise RuntimeError("a mistake in the guard")
Responder.tick = tick
sys.exit(main(sys.argv[1:]))
"""


def test_a_mistake_in_the_guard_lets_nobody_go():
    running = GuardProcess(program=["-c", _CRASH])
    try:
        running.wait("ready")
        with pen() as made, bomb(made, *c_bomb("tight")):
            assert running.process.wait(20) != 0
            assert "a mistake in the guard" in running.stderr()
            until(lambda: stopped_in(made) == len(members(made)), "everybody to stand still")
            with guard(run_dir=running.run_dir) as successor:
                assert successor.wait("killed")["survivors"] == 0
    finally:
        running.close()
        detach(running.run_dir)


_HALF = """
import os, signal, sys
from pidwarden.cli.main import main
from pidwarden.guard.respond import Responder
def gather(self, incident, guilty):
    for record in guilty[::2]:
        self.source.move(record.key, incident.guilty_family)
    os.kill(os.getpid(), signal.SIGKILL)
Responder._gather = gather
sys.exit(main(sys.argv[1:]))
"""


def test_a_successor_ends_a_bomb_that_was_half_split_off():
    """Half of its members are moved to the guilty family, among them the creators of the others."""
    running = GuardProcess(program=["-c", _HALF])
    try:
        running.wait("ready")
        with pen() as made, bomb(made, *c_bomb("tight")):
            assert running.process.wait(20) == -signal.SIGKILL
            with guard(run_dir=running.run_dir) as successor:
                assert successor.wait("killed")["survivors"] == 0
                until(lambda: not members(made), "the bomb to be dead")
                assert not successor.events("waiting")
    finally:
        running.close()
        detach(running.run_dir)


def test_what_waits_for_a_person_is_not_killed_by_a_successor(lease):
    """The judge was not sure of it, so the guard held it; that must outlive the guard."""
    with doomed("--hold-at", "40", *lease(HOLD)) as running, tree() as odd:
        running.wait("waiting")
        lose(running)
        with guard("--hold-at", "40", run_dir=running.run_dir) as successor:
            told = until(lambda: successor.events("waiting") or successor.events("killed"), "what becomes of it")[0]
            doubted = running.events("verdict")[-1]["verdict"] != "bomb"
            assert told["event"] == ("waiting" if doubted else "killed")
            if doubted:
                until(lambda: ask(running.run_dir, "release", str(told["family"])), "the guard to listen")
                assert odd.said() == (odd.pid, 62)


@pytest.mark.parametrize("seed", range(8))
def test_killed_at_a_random_moment_while_a_bomb_explodes(seed):
    """Nothing grows afterwards, and who comes after it ends it. ``bench/lost.py`` does it 200 times."""
    with pen(900) as made, doomed() as running, bomb(made, *c_bomb("tight")):
        time.sleep(random.Random(seed).uniform(0, 0.15))  # not a wait for a state: the moment is what varies
        lose(running)
        with guard(run_dir=running.run_dir):
            until(lambda: not members(made), "the bomb to be dead")
        assert made.peak() <= 600
