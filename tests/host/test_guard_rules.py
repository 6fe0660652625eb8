"""The rules of a guard on this machine: zombies, orphans, D state and room, told once; and what is done about them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys

import pytest
from guardkit import guard
from kit import child, stat_of, until

from pidwarden.diagnose.cause import Cause
from pidwarden.drill import lessons
from pidwarden.guard.control import ask
from pidwarden.guard.rules import parents
from pidwarden.model.text import escape

pytestmark = [pytest.mark.root, pytest.mark.bpf]

_MAKE = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
import lessons
lessons.LESSONS[sys.argv[2]](int(sys.argv[3]), lambda *found: print(json.dumps(found), flush=True))
"""
HOSTILE = b") Z 1 (\n\x1b[2J\xff"
# One with such a name that makes more zombies for each line it reads.
_GROW = f"""
import os, sys
open("/proc/self/comm", "wb", 0).write({HOSTILE})
for line in sys.stdin:
    for _ in range(int(line)):
        os.fork() or os._exit(0)
    print([os.getpid(), 0], flush=True)
"""
# In D state until somebody opens the FIFO: posix_spawn(3) waits, by vfork(2), for the child's exec.
_STUCK = """
import os, sys
print("[%d, 0]" % os.getpid(), flush=True)
os.posix_spawn("/bin/true", ["true"], {}, file_actions=[(os.POSIX_SPAWN_OPEN, 0, sys.argv[1], os.O_RDONLY, 0)])
sys.stdin.read()
"""

# As many descriptors as it is told, of 64.
_OPEN = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
print("[%d, 0]" % os.getpid(), flush=True)
for line in sys.stdin:
    os.closerange(3, 64)
    for _ in range(int(line) - 3):
        os.open("/dev/null", os.O_RDONLY)
    print("[%d, 0]" % os.getpid(), flush=True)
"""


class Made:
    """A child that owes something; ended with all of its process group."""

    def __init__(self, code, *arguments, python=sys.executable, **options):
        self.process = subprocess.Popen(
            [python, "-I", "-S", "-c", code, *map(str, arguments)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, process_group=0, **options,
        )  # fmt: skip
        self.pid, self.others = self.process.pid, []

    def said(self):
        return json.loads(self.process.stdout.readline())

    def tell(self, text):
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    @property
    def state(self):
        return stat_of(self.pid).state

    def end(self):
        for pgrp in (self.pid, *self.others):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pgrp, signal.SIGKILL)
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


@contextlib.contextmanager
def made(code, *arguments, **options):
    child = Made(code, *arguments, **options)
    try:
        yield child
    finally:
        child.end()


@contextlib.contextmanager
def lesson(name, count=12, **options):
    with made(_MAKE, os.path.dirname(lessons.__file__), name, count, **options) as child:
        child.about, child.count = child.said()
        if child.about != child.pid:
            child.others.append(os.getpgid(child.about))
        yield child


def zombies_of(pid):
    stats = [stat_of(int(name)) for name in os.listdir("/proc") if name.isdecimal()]
    return sum(s is not None and s.ppid == pid and s.state == "Z" for s in stats)


def config(path, zombies='mode = "dry-run"', *, first="", more=""):
    path.write_text(f"{first}\n[rules]\nevery = 0.2\n[rules.zombies]\ncount = 10\n{zombies}\n{more}")
    return str(path)


def again(running, path, up_to, first=""):
    """Has it read its configuration again, which now lets it act as far as that."""
    config(path, f'mode = "act"\nup_to = "{up_to}"', first=first)
    running.process.send_signal(signal.SIGHUP)


def wait(running, rule, what=None, pid=None, event="finding"):
    """The first such event."""

    def look():
        assert running.process.poll() is None, running.stderr()
        for e in running.events(event):
            who = e.get("parent") or e.get("task") or e.get("oldest") or {}
            if e["rule"] == rule and what in (None, e.get("what")) and pid in (None, who.get("pid")):
                return e
        return None

    # Who else is busy on this machine makes a look take long.
    return until(look, f"{event} {rule} {what} of {pid}; see the guard's output", 60)


def of(running, pid, event="finding"):
    return [e for e in running.events(event) if e.get("parent", {}).get("pid") == pid]


@pytest.fixture(scope="module")
def watching(tmp_path_factory):
    """A guard with all rules on that does nothing about anything."""
    folder = tmp_path_factory.mktemp("rules")
    more = """
[rules.orphans]
mode = "warn"
count = 3
age = 0
[rules.stuck]
mode = "warn"
age = 1
[rules.headroom]
mode = "warn"
free = 0.999
[rules.tables]
mode = "warn"
"""
    path = config(folder / "c.toml", 'mode = "dry-run"\nup_to = "sigkill"', more=more)
    with guard("--config", path, run_dir=f"/run/pidwarden-rules-{os.getpid()}") as running:
        yield running


def test_zombies_are_told_once_doubled_and_over_and_not_touched(watching):
    with made(_GROW) as parent:
        parent.tell("12")
        parent.said()
        began = wait(watching, "zombies", "begins", parent.pid)
        assert (began["count"], began["cause"]) == (12, "blocked")  # it reads a pipe
        assert began["names"] == {escape(HOSTILE): 12}
        assert began["text"].startswith(f"{escape(HOSTILE)} ({parent.pid}) owes 12 zombies")
        assert began["text"].isprintable()
        assert began["oldest_exact"]
        assert 0 < began["oldest_s"] < 20
        assert f"`pidwarden zombies pid:{parent.pid}`" in began["text"]
        would = wait(watching, "zombies", pid=parent.pid, event="remedy")
        assert (would["dry_run"], would["done"], would["steps"]) == (True, False, ["sigterm", "sigkill"])
        assert would["before"] == {"zombies": 12, "state": "S"}
        shown = ask(watching.run_dir, "status")["rules"]
        assert {r["rule"]: r["mode"] for r in shown["on"]} == {
            "zombies": "dry-run", "orphans": "warn", "stuck": "warn", "headroom": "warn", "tables": "warn",
        }  # fmt: skip
        assert any(began["text"].split(" owes ")[0] in text for r in shown["on"] for text in r["findings"])
        parent.tell("13")
        parent.said()
        assert wait(watching, "zombies", "doubled", parent.pid)["count"] == 25
        assert (parent.state, zombies_of(parent.pid)) == ("S", 25)
    wait(watching, "zombies", "over", parent.pid)
    assert [e["what"] for e in of(watching, parent.pid)] == ["begins", "doubled", "over"]
    assert len(of(watching, parent.pid, "remedy")) == 1


def test_who_is_stopped_stays_so_in_a_dry_run(watching):
    with lesson("stopped-parent") as parent:
        assert wait(watching, "zombies", "begins", parent.pid)["cause"] == "parent-stopped"
        would = wait(watching, "zombies", pid=parent.pid, event="remedy")
        assert (would["dry_run"], would["steps"][0]) == (True, "sigcont")
        assert (parent.state, zombies_of(parent.pid)) == ("T", 12)


def test_a_family_of_orphans_is_told(watching):
    with lesson("orphan") as job:
        found = wait(watching, "orphans", "begins")
        assert found["count"] == 3
        assert found["oldest"]["pid"] == job.about
        assert found["creator"]["pid"] == job.others[0]
    assert wait(watching, "orphans", "over")["family"] == found["family"]


def test_who_is_stuck_is_told_with_the_function_it_sleeps_in(watching, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with made(_STUCK, fifo) as stuck:
        stuck.said()
        found = wait(watching, "stuck", "begins", stuck.pid)
        assert found["task"]["tid"] == stuck.pid
        assert found["seconds"] >= 1
        assert found["wchan"]
        os.close(os.open(fifo, os.O_WRONLY))
        assert wait(watching, "stuck", "over", stuck.pid)["wchan"] == found["wchan"]


def test_what_is_left_of_the_table_is_told_once(watching):
    found = wait(watching, "headroom", "begins")
    assert found["below_share"]
    assert found["limit"]["free"] > 0
    told = [e["what"] for e in watching.events("finding") if e["rule"] == "headroom"]
    assert told.count("begins") == 1  # others on this machine may use up half of what is free, which is told


def test_a_table_is_told_of_before_it_is_full(watching):
    """A process with 64 descriptors at most."""
    with made(_OPEN) as child:
        child.said()
        child.tell("50")
        child.said()

        def of(what):
            events = [e for e in watching.events("finding") if e["rule"] == "tables" and e["what"] == what]
            return [e for e in events if (e["of"] or "").startswith(f"pid {child.pid} (")]

        [began] = until(lambda: of("begins"), "the warning", 60)
        assert (began["table"], began["limit"], began["state"], began["used"]) == ("process-files", 64, "near", 50)
        assert began["text"].startswith(f"open files of a process: pid {child.pid} (")
        assert f"`sudo pidwarden limits set nofile:{child.pid} 128`" in began["text"]
        child.tell("10")
        child.said()
        until(lambda: of("over"), "its end", 60)
        assert len(of("begins")) == 1


def test_a_namespace_that_dies_is_told_from_one_that_is_only_traced():
    with child("zombie", "dying", group=True) as keeper:
        init, member = keeper.said()
        found = parents.why(init, [(member, stat_of(member).start_ticks)], None)
        assert (found.cause, found.sure) == (Cause.NAMESPACE_DYING, True)


def test_what_is_allowed_is_done_step_by_step_and_no_further(tmp_path):
    path = tmp_path / "c.toml"
    config(path, 'mode = "act"\nup_to = "sigkill"', first='mode = "observe"')
    with guard("--config", str(path)) as running:
        with lesson("stopped-parent") as parent:
            would = wait(running, "zombies", pid=parent.pid, event="remedy")
            assert (would["dry_run"], would["done"], would["steps"][0]) == (True, False, "sigcont")
            again(running, path, "sigchld")  # and the guard does not only observe any more
            refused = until(lambda: of(running, parent.pid, "remedy")[1:], "what is done now")[0]
            assert (refused["dry_run"], refused["steps"], refused["done"]) == (False, [], False)
            assert (parent.state, zombies_of(parent.pid)) == ("T", 12)
            again(running, path, "sigcont")
            assert wait(running, "zombies", "over", parent.pid)["count"] == 0
            *_, done = of(running, parent.pid, "remedy")
            assert (done["steps"], done["done"]) == (["sigcont"], True)
            assert done["before"] == {"zombies": 12, "state": "T"}
            assert parent.state == "S"
        again(running, path, "sigkill", first='protect_users = ["root"]')
        with lesson("one-per-signal") as parent:
            spared = wait(running, "zombies", pid=parent.pid, event="remedy")
            assert (spared["steps"], spared["done"]) == ([], False)
            assert "user 0 is protected" in spared["text"]
            assert (parent.state, zombies_of(parent.pid)) == ("S", 12)
            again(running, path, "sigcont")
            assert wait(running, "zombies", "over", parent.pid)["count"] == 0
            *_, done = of(running, parent.pid, "remedy")
            assert (done["steps"], done["done"], done["dry_run"]) == (["sigchld"], True, False)
            assert parent.state == "S"
        with lesson("zombie-maker") as parent:
            assert wait(running, "zombies", "begins", parent.pid)["cause"] == "never-waits"
            assert wait(running, "zombies", pid=parent.pid, event="remedy")["steps"] == []
            again(running, path, "sigterm")
            assert wait(running, "zombies", "over", parent.pid)["count"] == 0
            assert parent.process.wait(20) == -signal.SIGTERM


def test_rules_that_are_off_are_silent_and_are_not_turned_on_later(tmp_path):
    path = tmp_path / "c.toml"
    config(path, 'mode = "off"')
    with guard("--config", str(path)) as running, lesson("zombie-maker") as parent:
        assert ask(running.run_dir, "status")["rules"] is None
        config(path, 'mode = "act"\nup_to = "sigkill"')
        before = len(running.events("note"))
        running.process.send_signal(signal.SIGHUP)
        note = running.wait("note", before + 1)["text"]
        assert "no rule was on when the guard started" in note
        assert "restart it" in note
        assert ask(running.run_dir, "status")["rules"] is None
        assert running.events("finding") == running.events("remedy") == []
        assert zombies_of(parent.pid) == 12
