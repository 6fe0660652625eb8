"""`pidwarden orphans --kill`: only what leaked, only after a word, each checked again, and proven gone."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys

import pytest
from cli_kit import nobody_cli, pidwarden_cli
from kit import stat_of, until
from orphankit import group, orphan, take_away, written

from pidwarden.kernel import cgroup

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("no_copy_left")]
USER = 64124  # nobody's: what these tests end is his, or is named by its pid
OTHER = f"9{os.getpid()}"
DONE = "nobody of them is left"


def runs(pid):
    found = stat_of(pid)
    return found is not None and found.state not in "ZX"


class Prompt:
    """The command on a terminal, up to its question."""

    def __init__(self, *arguments):
        self._master, slave = pty.openpty()
        argv = [sys.executable, "-m", "pidwarden", "orphans", "--kill", "--no-guard", *arguments]
        self._process = subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=slave)
        os.close(slave)
        self._text = b""
        until(lambda: self._read() and b"type yes:" in self._text, "the question", 60)

    def _read(self):
        ready, _w, _x = select.select([self._master], [], [], 1)
        try:
            self._text += os.read(self._master, 65536) if ready else b""
        except OSError:  # it hung up
            return False
        return True

    def answer(self, word):
        """What it says after that, and its exit code."""
        before = len(self._text)
        os.write(self._master, word.encode() + b"\n")
        while self._read():
            pass
        os.close(self._master)
        return self._text[before:].decode(), self._process.wait(60)


def test_a_rehearsal_ends_nobody(asked):
    with orphan("pipe", "kids=2") as (running, pid, _parent):
        take_away(running)
        below = asked.of(pid)["below"]
        text = asked.run(f"pid:{pid}", "--kill", "--dry-run")
        assert f"would end orphan ({pid}) and the 2 below it: SIGTERM, after 10 s SIGKILL" in text
        found = json.loads(asked.run(f"pid:{pid}", "--kill", "--dry-run", "--json"))
        assert (found["plan"], found["outcomes"], found["dry_run"]) == ([pid], [], True)
        assert all(map(runs, [pid, *below]))


def test_it_and_all_below_it_end_on_sigterm(asked):
    with orphan("pipe", "kids=2") as (running, pid, _parent):
        take_away(running)
        below = asked.of(pid)["below"]
        text = asked.run(f"pid:{pid}", "--kill", "--yes")
        assert "3 ended on SIGTERM: " in text
        assert text.splitlines()[-1] == DONE
        assert not any(map(runs, [pid, *below]))


def test_who_does_not_end_is_killed(asked):
    with orphan("pipe", "stubborn", "kids=1") as (running, pid, _parent):
        take_away(running)
        found = json.loads(asked.run(f"pid:{pid}", "--kill", "--yes", "--json", "--grace", "0.05"))
        assert {o["outcome"] for o in found["outcomes"]} == {"killed"}
        assert {o["pid"] for o in found["outcomes"]} == {pid, *found["orphans"][0]["below"]}
        assert not runs(pid)


def test_who_is_stopped_ends_as_well(asked):
    with orphan("pipe") as (running, pid, _parent):
        take_away(running)
        os.kill(pid, signal.SIGSTOP)
        until(lambda: stat_of(pid).state == "T", "it to stop")
        assert f"1 ended on SIGTERM: orphan ({pid})" in asked.run(f"pid:{pid}", "--kill", "--yes")


def test_who_is_not_certain_is_ended_only_if_named_and_a_daemon_never(asked):
    mine = f"user={USER}"
    with (
        orphan(mine, "pipe") as (running, leaked, _a),
        orphan(mine) as (_r, unsure, _b),
        orphan(mine, "daemon") as (_s, daemon, _c),
    ):
        take_away(running)
        text = asked.run(f"user:{USER}", "--kill", "--yes", "--all")
        assert f"leave orphan ({unsure}): that is not certain; name it with pid:{unsure}" in text
        assert f"leave orphan ({daemon}): it is meant to stay" in text
        assert list(map(runs, (leaked, unsure, daemon))) == [False, True, True]
        assert "nobody is to be ended" in asked.run(f"pid:{daemon}", "--kill", "--yes")
        assert DONE in asked.run(f"pid:{unsure}", "--kill", "--yes")
        assert list(map(runs, (unsure, daemon))) == [False, True]


def test_it_asks_and_takes_no_for_an_answer():
    with orphan("pipe") as (running, pid, _parent):
        take_away(running)
        text, code = Prompt(f"pid:{pid}").answer("no")
        assert ("nothing was done" in text, code) == (True, 1)
        assert runs(pid)
        text, code = Prompt(f"pid:{pid}").answer("yes")
        assert (DONE in text, code) == (True, 0)
        assert not runs(pid)


def test_without_a_terminal_it_does_not_go_on():
    with orphan("pipe") as (running, pid, _parent):
        take_away(running)
        done = pidwarden_cli("orphans", f"pid:{pid}", "--kill", "--no-guard", stdin=subprocess.DEVNULL)
        assert done.returncode == 2
        assert "type `--yes` to go on without" in done.stderr
        assert runs(pid)


def test_it_is_judged_again_at_the_moment_of_the_kill():
    """Its session is opened again while the question waits."""
    with (
        group(f"session-{OTHER}.scope") as folder, orphan(f"user={USER}") as (_running, pid, _parent),
        written("/run/systemd/sessions", OTHER, "STATE=closing\n") as file,
    ):  # fmt: skip
        assert cgroup.move(pid, folder)
        prompt = Prompt(f"user:{USER}")
        file.write_text("STATE=active\n")
        text, code = prompt.answer("yes")
        assert f"left orphan ({pid}): it is unsure now" in text
        assert code == 1
        assert runs(pid)
        file.write_text("STATE=closing\n")
        text, code = Prompt(f"user:{USER}").answer("yes")
        assert (DONE in text, code, runs(pid)) == (True, 0, False)


def test_one_that_ends_while_the_question_waits():
    with orphan("pipe") as (running, pid, _parent):
        take_away(running)
        prompt = Prompt(f"pid:{pid}")
        os.kill(pid, signal.SIGKILL)
        until(lambda: not runs(pid), "its end")
        text, code = prompt.answer("yes")
        assert (f"1 gone before: orphan ({pid})" in text, code) == (True, 0)


def test_who_is_protected_is_spared(asked, tmp_path):
    config = tmp_path / "spare.toml"
    config.write_text(f'protect_users = ["{USER}"]\n')
    with orphan("pipe", f"user={USER}") as (running, pid, _parent):
        take_away(running)
        assert "nobody is to be ended" in asked.run(f"user:{USER}", "--kill", "--yes", "--config", str(config))
        line = asked.refused(f"pid:{pid}", "--kill", "--yes", "--config", str(config))
        assert f"orphan ({pid}) is spared: user {USER} is protected" in line
        assert runs(pid)
        assert DONE in asked.run(f"user:{USER}", "--kill", "--yes")


def test_who_is_protected_below_one_that_leaked_is_left(asked, tmp_path):
    with group(f"pidwarden-test-{OTHER}") as folder, orphan("pipe", "kids=2") as (running, pid, _parent):
        take_away(running)
        kept, other = asked.of(pid)["below"]
        assert cgroup.move(kept, folder)
        config = tmp_path / "spare.toml"
        config.write_text(f'protect_cgroups = ["/pidwarden-test-{OTHER}"]\n')
        text = asked.run(f"pid:{pid}", "--kill", "--yes", "--config", str(config), code=1)
        assert f"left orphan ({kept}): cgroup /pidwarden-test-{OTHER} is protected" in text
        assert text.splitlines()[-1] == "1 of 3 are left"
        assert list(map(runs, (pid, other, kept))) == [False, False, True]


def test_an_ordinary_user_cannot_end_what_is_not_his():
    with orphan() as (_running, pid, _parent):
        done = nobody_cli("orphans", f"pid:{pid}", "--kill", "--yes", "--no-guard")
        assert done.returncode == 1, done.stderr
        assert f"left orphan ({pid}): it is not ours to signal; type `sudo pidwarden orphans --kill`" in done.stdout
        assert runs(pid)


@pytest.mark.parametrize(
    "arguments", [("--kill", "--watch"), ("--dry-run",), ("--yes",), ("--kill", "--json"), ("--watch", "no")]
)
def test_what_does_not_go_together_is_usage(asked, arguments):
    if arguments == ("--watch", "no"):
        with pytest.raises(SystemExit) as ended:
            asked.run(*arguments)
        assert ended.value.code == 2
    else:
        assert asked.refused(*arguments, code=2).startswith("pidwarden orphans: ")
