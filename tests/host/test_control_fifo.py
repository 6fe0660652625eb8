"""The guard's files, by the built-ins of a shell that can fork nothing: families held, frozen, killed, let go."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time

import pytest
from cli_kit import guard as limited
from cli_kit import sleeper
from guardkit import IN_GUEST, GuardProcess, bomb, c_bomb, detach, guard, leftovers, members, pen, start, tree
from kit import child, stat_of, until
from shellkit import SHELLS, Typed

from pidwarden.guard.control import ask

pytestmark = [pytest.mark.root, pytest.mark.bpf]

PATIENT = os.path.join(os.path.dirname(__file__), "patient.toml")
HOLD = ("--mode", "hold", "--config", PATIENT)
RUN_DIR = f"/run/pidwarden-test-{os.getpid()}"


class Hand(Typed):
    """A shell alone in a pen for one: it has its built-ins, and no fork of it succeeds."""

    def __init__(self, command, made, run_dir=RUN_DIR):
        self.run_dir, self._marks = run_dir, 0
        super().__init__(command, made)

    def does(self, text):
        """Types it; what the shell says until it is done."""
        self._marks += 1
        mark = f"done-{self._marks}\n"
        return self.type(f"{text}; echo {mark}", mark).removesuffix(mark)

    def reads(self, name):
        """The lines of a file of the guard's."""
        said = self.does(f'while read -r l; do echo "$l"; done <{self.run_dir}/{name}')
        return said.splitlines()

    def orders(self, command):
        """Writes a command and waits for its answer: what that says behind the command."""
        before = self._last()
        self.does(f"echo '{command}' >{self.run_dir}/control")
        return self.answered(command, before)

    def answered(self, command, after=0):
        """The answer to a command."""
        pattern = re.compile(rf"(\d+) \S+ {re.escape(command)}: (.*)")

        def look():
            found = [m for line in self.reads("answer") if (m := pattern.fullmatch(line)) and int(m[1]) > after]
            return found[-1][2] if found else ""

        return until(look, f"an answer to {command!r}")

    def _last(self):
        return max((int(m[1]) for line in self.reads("answer") if (m := re.match(r"(\d+) \d", line))), default=0)


@contextlib.contextmanager
def hand(command=("bash", "--norc"), run_dir=RUN_DIR):
    """Such a shell; it has forked nothing, and lives in the end."""
    with pen(1) as made:
        typed = Hand(list(command), made, run_dir)
        try:
            assert made.current() == 1
            yield typed
            assert typed.does("echo alive") == "alive\n"
            assert made.peak() == 1
            assert not re.search("fork: |annot fork|can't fork|not found|No such|denied", typed.said)
        finally:
            made.kill()
            typed.end()


@pytest.fixture(params=SHELLS)
def shell(request):
    command = SHELLS[request.param]
    if not shutil.which(command[0]):
        pytest.skip(f"{command[0]} is not installed")
    return command


@contextlib.contextmanager
def spinning():
    """A process that uses the processor and does nothing else, a family of its own."""
    with pen(10) as made:
        process = start(["dash", "-c", "while :; do :; done"], made.enter)
        try:
            until(lambda: state(process.pid) == "R", "it to run")
            yield process
        finally:
            made.kill()
            process.wait()


def state(pid):
    found = stat_of(pid)
    return found.state if found else ""


def control(run_dir=RUN_DIR):
    return f"{run_dir}/control"


def lines_to_type(lines):
    """What the status says is to be typed for what waits, by its first words."""
    found = (re.fullmatch(r"to (kill it|let it go): +(echo .*)", line.strip()) for line in lines)
    return {m[1]: m[2] for m in found if m}


# -- by a shell that can start nothing ---------------------------------------------------------------------------------


def test_a_bomb_is_seen_and_killed(shell):
    with guard(*HOLD) as running, hand(shell) as typed, pen() as made, bomb(made, *c_bomb("tight")) as root:
        number = running.wait("waiting")["family"]
        lines = typed.reads("status")
        assert f"pid {running.process.pid}, mode hold" in lines[0]
        assert any(re.match(rf"family {number} of bomb .*: waiting, \d+ slots, verdict bomb", line) for line in lines)
        what = lines_to_type(lines)
        assert what["kill it"] == f"echo 'kill {number}' >{control()}"
        typed.does(what["kill it"])
        assert re.fullmatch(
            rf"done: killed \d+ processes of family {number}, 0 survivors", typed.answered(f"kill {number}")
        )
        assert running.events("killed")[0]["survivors"] == 0
        assert root.wait() == -signal.SIGKILL
        assert not members(made)
        until(lambda: "nothing is held" in typed.reads("status"), "the status to say so")
        assert any(f"family {number} of bomb: bomb" in line and "killed" in line for line in typed.reads("status"))


def test_what_waits_is_released(shell):
    with guard("--mode", "hold", "--hold-at", "30") as running, hand(shell) as typed, tree() as odd:
        number = running.wait("waiting")["family"]
        typed.does(lines_to_type(typed.reads("status"))["let it go"])
        assert typed.answered(f"release {number}").startswith(f"done: released family {number}; ")
        assert odd.said() == (odd.pid, 62)


def test_a_family_is_held_frozen_thawed_and_killed(shell):
    with guard(*HOLD) as running, hand(shell) as typed, spinning() as victim, spinning() as beside:
        said = typed.orders(f"hold pid:{victim.pid}")
        number = running.wait("waiting")["family"]
        assert said.startswith(f"done: family {number} of dash ({victim.pid}) (held: ")
        until(lambda: state(victim.pid) == "T", "it to be frozen")
        assert "frozen by signal" in typed.orders(f"hold {number}")
        typed.orders(f"thaw {number}")
        until(lambda: state(victim.pid) == "R", "it to go on")
        assert any(f"family {number} of dash" in line and "waiting" in line for line in typed.reads("status"))
        assert "is not frozen, only held" in typed.orders(f"thaw pid:{victim.pid}")
        assert "frozen by signal" in typed.orders(f"freeze pid:{victim.pid}")
        until(lambda: state(victim.pid) == "T", "it to be frozen again")
        assert typed.orders(f"kill pid:{victim.pid}") == f"done: killed 1 processes of family {number}, 0 survivors"
        assert victim.wait() == -signal.SIGKILL
        assert state(beside.pid) == "R"


def test_held_and_thawed_its_forks_wait_until_it_is_released():
    with guard(*HOLD) as running, hand() as typed, child("odd", "held-fork", group=True) as odd:
        pid, _ = odd.said()
        assert "frozen by signal" in typed.orders(f"freeze pid:{pid}")
        until(lambda: state(pid) == "T", "it to be frozen")
        typed.orders(f"thaw pid:{pid}")
        until(lambda: state(pid) == "S", "it to wait for a line")
        odd.tell()
        until(lambda: state(pid) == "T", "its fork to wait")
        number = running.events("waiting")[0]["family"]
        assert typed.orders(f"release {number}").startswith("done: released")
        error, _ms = odd.said()
        assert error == 0


def test_freeze_freezes_although_the_configuration_says_never(tmp_path):
    config = tmp_path / "pidwarden.toml"
    config.write_text("freeze = 'never'\n")
    with guard("--mode", "hold", "--config", str(config)), hand() as typed, spinning() as victim:
        assert "not frozen" in typed.orders(f"hold pid:{victim.pid}")
        assert state(victim.pid) == "R"
        assert "frozen by signal" in typed.orders(f"freeze pid:{victim.pid}")
        until(lambda: state(victim.pid) == "T", "it to be frozen")
        assert typed.orders(f"release pid:{victim.pid}").startswith("done: released")
        until(lambda: state(victim.pid) == "R", "it to go on")


# -- who is spared, and what is refused --------------------------------------------------------------------------------


def test_nothing_is_killed_that_is_not_held_and_the_answer_says_what_to_type():
    with guard(*HOLD), hand() as typed, spinning() as victim:
        said = typed.orders(f"kill pid:{victim.pid}")
        number = re.match(r"not done: family (\d+) is not held", said)[1]
        assert f"echo 'hold {number}' >{control()}" in said
        assert state(victim.pid) == "R"
        assert typed.orders(f"release {number}").startswith("not done: ")
        assert typed.orders("kill 987654").startswith("not done: family 987654 is not held")
        assert typed.orders(f"hold {number}").startswith("done: ")
        assert typed.orders(f"kill {number}").startswith("done: killed 1 ")


def test_who_is_spared_is_neither_held_nor_killed():
    with guard(*HOLD) as running, hand() as typed:
        why = {
            1: "pid 1",
            2: "kernel thread",
            running.process.pid: "the guard or its ancestor",
            os.getpid(): "the guard or its ancestor",
        }
        for pid, reason in why.items():
            for verb in ("hold", "freeze", "kill"):
                said = typed.orders(f"{verb} pid:{pid}")
                assert re.fullmatch(rf"not done: process {pid} .* is spared: {reason}", said)
        families = {f["founder"]["pid"]: f["family"] for f in ask(RUN_DIR, "status")["families"]}
        if 1 in families:
            assert "pid 1" in typed.orders(f"hold {families[1]}")
        assert not running.events("held")


def test_a_member_that_is_protected_goes_on_while_the_others_are_held_and_killed(tmp_path):
    config = tmp_path / "pidwarden.toml"
    config.write_text("protect_users = ['nobody']\n")
    script = "setpriv --reuid=65534 --clear-groups sleep 1000 & while :; do :; done"
    with guard("--mode", "hold", "--config", str(config)), hand() as typed, pen(10) as made:
        parent = start(["dash", "-c", script], made.enter)
        try:
            [other] = until(lambda: [p for p in members(made) if os.stat(f"/proc/{p}").st_uid == 65534], "its child")
            assert "1 spared" in typed.orders(f"hold pid:{parent.pid}")
            until(lambda: state(parent.pid) == "T", "it to be frozen")
            assert "is spared: user 65534 is protected" in typed.orders(f"kill pid:{other}")
            assert typed.orders(f"kill pid:{parent.pid}").startswith("done: killed 1 processes")
            assert parent.wait() == -signal.SIGKILL
            assert state(other) == "S"
        finally:
            made.kill()
            parent.wait()


def test_who_is_out_of_scope_is_left_alone():
    """Here the guard's scope is a process that has no children, and the test founds no family in it."""
    with sleeper() as only, pen(10) as made:
        start(["setsid", "-f", "dash", "-c", "while :; do :; done"], made.enter).wait()  # nobody's child, soon
        [victim] = until(lambda: [p for p in members(made) if stat_of(p).ppid != os.getpid()], "it to run")
        with limited(RUN_DIR, "--mode", "hold", only=only), hand() as typed:
            assert "not in scope: this guard is limited by --only" in typed.orders(f"hold pid:{victim}")
            family = r"family \d+ is not to be held: .* is in it, which is spared: the guard or its ancestor"
            assert re.search(family, typed.orders(f"hold pid:{typed.process.pid}"))
        assert state(victim) == "R"


def test_an_observing_guard_holds_nobody():
    with guard("--mode", "observe"), hand() as typed, spinning() as victim:
        assert "only observes" in typed.orders(f"hold pid:{victim.pid}")
        assert state(victim.pid) == "R"


def test_the_socket_does_the_same():
    with guard(*HOLD) as running, spinning() as victim:
        done = ask(running.run_dir, "hold", f"pid:{victim.pid}")["done"]
        until(lambda: state(victim.pid) == "T", "it to be frozen")
        number = ask(running.run_dir, "status")["incidents"][0]["family"]
        assert f"echo 'kill {number}' >{control()}" in done
        ask(running.run_dir, "kill", str(number))
        assert victim.wait() == -signal.SIGKILL
        past = until(lambda: ask(running.run_dir, "status")["past"], "its end")
        assert (past[0]["ordered"], past[0]["killed"]) == (True, 1)


# -- bytes of any kind -------------------------------------------------------------------------------------------------


def test_half_a_line_waits_for_its_end_and_a_silent_writer_for_nobody():
    with guard(*HOLD), hand() as typed, open(control(), "wb", buffering=0) as silent:
        assert typed.orders("status") == "done: written"
        typed.does(f"printf 'sta' >{control()}")
        silent.write(b"tus\n")
        until(lambda: typed.answered("status", 1), "the answer to both halves")
        assert len(typed.reads("answer")) == 3


def test_an_alarm_is_answered_while_garbage_comes_in():
    flood = "import os, sys\nwhile True: os.write(1, os.urandom(65536))"
    with guard("--config", PATIENT) as running, hand() as typed, open(control(), "wb", buffering=0) as out:
        writer = subprocess.Popen([sys.executable, "-c", flood], stdout=out)
        try:
            until(lambda: any("lines before it" in line for line in typed.reads("answer")), "the flood to be noticed")
            with pen() as made, bomb(made, *c_bomb("tight")) as root:
                killed = running.wait("killed")
                assert killed["survivors"] == 0
                assert killed["held_ms"] == 0
                if not IN_GUEST:  # whose times say nothing (docs/adr/0014)
                    assert killed["dead_ms"] < 5000
                assert made.peak() <= 600
                assert root.wait() == -signal.SIGKILL
            assert writer.poll() is None
        finally:
            writer.kill()
            writer.wait()
        typed.does(f"echo >{control()}")  # ends a half line of garbage
        assert typed.orders("status") == "done: written"


# -- the guard's end, and its next life --------------------------------------------------------------------------------


def test_nothing_is_left_when_the_guard_ends():
    with guard(*HOLD) as running:
        assert stat.S_ISFIFO(os.stat(control()).st_mode)
        assert {os.stat(f"{RUN_DIR}/{n}").st_mode & 0o777 for n in ("status", "control", "answer")} == {0o600}
        assert os.stat(RUN_DIR).st_mode & 0o777 == 0o700
        assert running.stop() == 0
    assert leftovers(RUN_DIR) == []


def test_the_status_is_written_anew_while_nothing_happens():
    def when():
        with open(f"{RUN_DIR}/status", encoding="ascii") as file:
            return file.read().splitlines()[1]

    with guard(*HOLD):
        first = when()
        until(lambda: when() != first, "the next writing")


def test_after_sigkill_nobody_hangs_who_opens_it_both_ways_and_the_next_guard_obeys():
    running = GuardProcess(*HOLD)
    try:
        running.wait("ready")
        with hand() as typed, hand(["dash"]) as other, pen() as made, bomb(made, *c_bomb("tight")) as root:
            running.wait("waiting")
            number = ask(running.run_dir, "status")["incidents"][0]["guilty_family"]  # by this the next one knows it
            running.process.kill()
            running.process.wait()
            typed.does(f"echo 'release {number}' 1<>{control()}")
            os.write(other.process.stdin.fileno(), f"echo 'release {number}' >{control()}\n".encode())  # it hangs
            asleep = 0
            while asleep < 20:
                asleep = asleep + 1 if state(other.process.pid) == "S" else 0
                time.sleep(0.005)
            with guard(*HOLD, run_dir=running.run_dir) as successor:
                successor.wait("waiting")
                assert other.does("echo on") == "on\n"  # it goes on, and what it wrote is not done
                assert not successor.events("released")
                assert re.fullmatch(r"done: killed \d+ .* 0 survivors", typed.orders(f"kill {number}"))
                assert root.wait() == -signal.SIGKILL
                assert successor.stop() == 0
        assert leftovers(running.run_dir) == []
    finally:
        running.close()
        detach(running.run_dir)


def test_what_is_held_by_order_waits_for_the_next_guard_too():
    running = GuardProcess()
    try:
        running.wait("ready")
        with hand() as typed, spinning() as victim:
            typed.orders(f"hold pid:{victim.pid}")
            until(lambda: state(victim.pid) == "T", "it to be frozen")
            running.process.kill()
            running.process.wait()
            with guard(run_dir=running.run_dir) as successor:  # of mode kill
                number = successor.wait("waiting")["family"]
                assert not successor.events("killed")
                assert typed.orders(f"release {number}").startswith("done: released")
                until(lambda: state(victim.pid) == "R", "it to go on")
    finally:
        running.close()
        detach(running.run_dir)


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_what_lies_in_place_of_the_control_file_is_replaced(kind, tmp_path):
    os.makedirs(RUN_DIR, mode=0o700)
    aside = tmp_path / "aside"
    aside.write_text("untouched")
    if kind == "file":
        with open(control(), "w", encoding="ascii") as file:
            file.write("kill 12\n")
    elif kind == "directory":
        os.mkdir(control())
    else:
        os.symlink(aside, control())
    with guard(*HOLD), hand() as typed:
        assert typed.orders("status") == "done: written"
        assert len(typed.reads("answer")) == 2
    assert aside.read_text() == "untouched"
    assert leftovers(RUN_DIR) == []
