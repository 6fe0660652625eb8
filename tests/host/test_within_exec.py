"""Beside processes that sit within execve, where the kernel does not answer for them: nobody of ours may wait there.

Whoever did would wait until they are let go. So what might is done in other processes, which a test can give up.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
from guardkit import DEADLINE, bomb, guard, members, pen, start
from kit import prop, until
from test_rescue_auto import alive, full_pen, run
from test_rescue_console import refuse_to_fork, typed
from test_stuck import stage

from pidwarden.guard.control import ask
from pidwarden.kernel import patience, procfs
from pidwarden.rescue.shelltext import Wanted, shell_text

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not os.path.exists("/dev/fuse"), reason="no /dev/fuse"),
]
READ = """
import json, sys
from pidwarden.guard.rules.survey import walk
from pidwarden.kernel import evidence, procfs
from pidwarden.model.key import ProcessKey
from pidwarden.rescue.table import Table
pid = int(sys.argv[1])
table = Table()
seen = [next((p for p in table.read() if p.pid == pid), None) for _ in range(2)]
veiled = procfs.veiled(pid)
try:
    where = evidence.wchan(f"/proc/{pid}", evidence.unless_within_exec)
except TimeoutError:
    where = "nothing is known"
print(json.dumps({
    "within": procfs.within_exec(f"/proc/{pid}"),
    "stat": procfs.stat(pid) is not None,
    "program": procfs.program(pid) is not None,
    "ended": procfs.has_ended(ProcessKey(pid, 1)),
    "parent": veiled and veiled.ppid,
    "group": veiled and veiled.pgrp,
    "in_survey": any(task and task.tgid == pid for task in walk("SD", threads=True)),
    "wchan": where if isinstance(where, str | None) else where.why,
    "same": seen[0] is not None and seen[0].key == seen[1].key,
    "known": seen[0] is not None and seen[0].key.known,
    "serial": seen[0] is not None and seen[0].serial > 0,
}))
"""


def read(pid):
    """What our readers say of a process."""
    done = subprocess.run(
        [sys.executable, "-c", READ, str(pid)], capture_output=True, text=True, timeout=30, check=True
    )
    return json.loads(done.stdout)


def has_looked(status):
    return bool(status and status["rules"]["last_look"])


def is_stuck(pid, reader):
    try:
        reader(f"/proc/{pid}/stat")
    except TimeoutError:
        return True
    return False


def test_what_is_read_of_one_that_stays_there(tmp_path):
    with stage("fuse-exec", str(tmp_path)) as (running, [(daemon, _), (victim, _)]):
        until(lambda: procfs.within_exec(f"/proc/{victim}"), "it to be within execve")
        waits = is_stuck(victim, patience.Reader())
        found = read(victim)
        assert found.pop("serial") or not waits  # a kernel that waits has pidfds with a number of their own
        assert found == {
            "within": True, "stat": False, "program": False, "ended": False, "parent": running.pid,
            "group": running.pid, "in_survey": False, "same": True, "known": False,
            "wchan": "the kernel did not answer: the task seems stuck in the midst of execve",
        }  # fmt: skip
        os.kill(daemon, signal.SIGKILL)
        until(lambda: not procfs.within_exec(f"/proc/{victim}"), "it to go on")
        found = read(victim)
        assert (found["within"], found["stat"], found["program"], found["known"]) == (False, True, True, True)
        assert (found["parent"], found["serial"], found["in_survey"]) == (None, False, True)


def test_a_guard_with_rules_a_console_and_a_shell_look_past_it(tmp_path):
    config = tmp_path / "pidwarden.toml"
    config.write_text('[rules]\nevery = 1.0\n[rules.zombies]\nmode = "dry-run"\n[rules.stuck]\nmode = "warn"\n')
    (tmp_path / "mount").mkdir()
    with stage("fuse-exec", str(tmp_path / "mount")) as (_running, [_daemon, (victim, _)]):
        until(lambda: procfs.within_exec(f"/proc/{victim}"), "it to be within execve")
        with guard("--config", str(config)) as running:
            until(lambda: has_looked(ask(running.run_dir, "status")), "a look of the rules")
            assert running.stop() == 0
        text = shell_text(Wanted("name", "nobody is called that"))
        shell = subprocess.run(["sh"], input=text, capture_output=True, text=True, timeout=30, check=True)
        assert "0 processes" in shell.stdout
        code, said = typed(["who", "why", "ps", "zombies", f"cat /proc/{victim}/stat", "quit"], before=refuse_to_fork)
        assert code == 0, said
        assert [line for line in said.splitlines() if line.split()[:1] == [str(victim)]], said
        assert "waits for its exec" in said


@pytest.mark.parametrize(
    "source",
    [pytest.param("bpf", marks=pytest.mark.bpf), pytest.param("connector", marks=pytest.mark.connector), "poll"],
)
def test_a_bomb_that_sits_there_is_killed_to_the_last(source, tmp_path):
    config = tmp_path / "pidwarden.toml"
    config.write_text("kill_timeout = 50.0\n")
    (tmp_path / "mount").mkdir()
    with guard("--config", str(config), "--source", source) as running, pen(400) as made:
        beside = start(["sleep", "1000"], made.enter)
        with bomb(made, prop("inexec"), str(tmp_path / "mount")) as root:
            until(lambda: running.events("killed"), "the bomb to be killed", DEADLINE)
            root.wait()
            until(lambda: members(made) == [beside.pid], "nobody to be left")
            assert procfs.stat(beside.pid).state == "S", "a neighbour is hurt"
            beside.kill()
            beside.wait()
        (killed,) = running.events("killed")
        assert killed["survivors"] == 0, running.events()


@pytest.mark.bpf
def test_a_rescue_from_such_a_bomb(tmp_path):
    with full_pen([prop("inexec"), str(tmp_path)]) as (made, beside):
        code, out, _err = run(made, "--auto", "--dry-run")
        assert code == 0, out
        assert "inexec" in out
        code, out = typed(["kill comm:inexec", "yes", "quit"], before=made.enter)
        assert code == 0, out
        until(lambda: not alive(made, beside), "nobody to be left")
