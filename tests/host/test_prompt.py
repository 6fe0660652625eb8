"""An interactive shell at a terminal: its jobs are held like anybody's, the shell itself never is."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal

import pytest
from guardkit import guard, members, pen
from kit import stat_of, until

from pidwarden.guard.control import ask

pytestmark = [pytest.mark.root, pytest.mark.bpf]

HOLD_AT = 40
PROMPT = b"ready> "


class Terminal:
    """A shell that leads a session with a terminal, in a pen."""

    def __init__(self, made, *argv):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            made.enter()
            os.execve(argv[0], argv, {"PS1": PROMPT.decode(), "PATH": os.environ["PATH"], "TERM": "dumb"})
        self.seen = b""

    def type(self, text):
        self.seen = b""
        os.write(self.fd, text.encode())

    def read(self):
        while select.select([self.fd], [], [], 0.01)[0]:
            try:
                self.seen += os.read(self.fd, 65536)
            except OSError:
                break
        return self.seen

    def close(self):
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.fd)


@contextlib.contextmanager
def terminal(made, *argv):
    shell = Terminal(made, *argv)
    try:
        until(lambda: PROMPT in shell.read(), "the first prompt")
        yield shell
    finally:
        shell.close()
        made.kill()


@pytest.mark.parametrize("argv", [("/bin/bash", "--norc", "-i"), ("/bin/dash", "-i")], ids=["bash", "dash"])
def test_a_loop_at_the_prompt_ends_where_its_job_is_held_and_the_shell_lives(argv):
    with (
        pen(900) as made,
        guard("--hold-at", str(HOLD_AT), "--mode", "hold") as running,
        terminal(made, *argv) as shell,
    ):
        shell.type("while :; do sleep 1000 & done\n")
        running.wait("held")
        until(lambda: shell.read().rstrip(b" ").endswith(PROMPT.rstrip()), "the prompt to come back")
        assert stat_of(shell.pid).state == "S"
        before = set(members(made))
        assert len(before) < 4 * HOLD_AT
        shell.type("echo still $((40 + 2))\n")
        until(lambda: b"still 42" in shell.read(), "the shell to answer")
        assert ask(running.run_dir, "status")["incidents"]
        # One fewer at times: the fork that SIGINT interrupted is done again, and that child ends before `sleep` runs.
        after = set(members(made))
        assert len(after) > HOLD_AT / 2
        assert after <= before, "the loop goes on"
