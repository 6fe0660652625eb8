"""The console of `exec pidwarden rescue`: in a full pen, on a terminal and on a pipe, without one process started."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import pty
import re
import resource
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from cli_kit import DROP, NOBODY, nobodys_environment, nobodys_python
from guardkit import members, pen, start
from kit import prop, stat_of, until
from test_rescue_auto import NEIGHBOUR, RESCUE, alive, full_pen

import pidwarden

pytestmark = pytest.mark.root

PACKAGE = str(Path(pidwarden.__file__).parents[1])
COMMAND = f"{sys.executable} -m pidwarden rescue"
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _FILTER = 38, 22, 2
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_KILL_PROCESS, _ALLOW = 0x80000000, 0x7FFF0000
_FORKS = {"x86_64": (56, 57, 58, 435), "aarch64": (220, 435)}[os.uname().machine]  # clone, fork, vfork, clone3


def refuse_to_fork():
    """From here on whoever forks or makes a thread is killed by the kernel (seccomp(2))."""
    code = [(_LOAD, 0, 0, 0)]
    for number in _FORKS:
        code += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _KILL_PROCESS)]
    code.append((_RETURN, 0, 0, _ALLOW))
    filled = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *one) for one in code))
    program = struct.pack("HxxxxxxP", len(code), ctypes.addressof(filled))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    assert libc.prctl(_PR_SET_SECCOMP, _FILTER, program, 0, 0) == 0


def typed(lines, *, before=None, env=None, command=RESCUE):
    """The console on a pipe: exit code, what it said."""
    process = start(
        [*command, "--no-shell"],
        before or (lambda: None),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        **({} if env is None else {"env": env}),
    )
    out, _err = process.communicate("\n".join([*lines, ""]).encode(), timeout=60)
    return process.returncode, out.decode(errors="replace")


class Terminal:
    """An interactive bash on a terminal of its own, inside a pen."""

    def __init__(self, made):
        self.master, slave = pty.openpty()

        def enter():
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            made.enter()

        environment = {**os.environ, "PS1": "shell> ", "TERM": "xterm", "SHELL": "/bin/dash"}
        command = ["bash", "--norc", "--noprofile", "-i"]
        self.process = start(command, enter, stdin=slave, stdout=slave, stderr=slave, env=environment)
        os.close(slave)
        self.said = ""
        self._at = 0
        self.wait("shell> ")

    def wait(self, text, seconds=60):
        """Until it has said this since the last wait; what it said up to there."""

        def heard():
            while select.select([self.master], [], [], 0.02)[0]:
                try:
                    self.said += os.read(self.master, 65536).decode(errors="replace")
                except OSError:
                    break
            return self.said.find(text, self._at) >= 0

        until(heard, f"{text!r} in {self.said[self._at :]!r}", seconds)
        begin, self._at = self._at, self.said.index(text, self._at) + len(text)
        return self.said[begin : self._at]

    def type(self, line, until_said="rescue> "):
        """Types a line and waits."""
        os.write(self.master, line.encode() + b"\r")
        return self.wait(until_said)

    def close(self):
        os.close(self.master)
        self.process.wait()


@contextlib.contextmanager
def terminal(*argv, cap=300):
    """A shell on a terminal in a pen, and a bomb beside it that has filled the pen."""
    with pen(cap) as made, contextlib.ExitStack() as stack:
        screen = Terminal(made)
        stack.callback(screen.close)
        beside = [start(command, made.enter) for command in (["sleep", "1000"], NEIGHBOUR)]
        root = start(argv, made.enter, stderr=subprocess.DEVNULL)
        for one in (*beside, root):
            stack.callback(one.wait)
        stack.callback(made.kill)
        until(lambda: made.current() >= cap, "the pen to be full", 60)
        yield made, screen, beside
        for one in beside:
            assert stat_of(one.pid).state == "S", "a neighbour is hurt"


def test_from_a_shell_by_exec_and_back():
    with terminal(prop("bomb"), "tight") as (made, screen, beside):
        shell = screen.process.pid
        said = screen.type(f"exec {COMMAND} --config /nonexistent")
        assert "slots are in use" in said
        assert stat_of(shell).comm == b"python"
        assert "a bomb" in screen.type("who")
        assert "freeze" in screen.type("help")
        assert "they stand still" in screen.type("freeze 1")
        assert "are stopped" in screen.type("frozen")
        assert "nobody of it lives" in screen.type("kill")
        keep = {shell, *(one.pid for one in beside)}
        living = {pid for pid in members(made) if (s := stat_of(pid)) and s.state not in "ZX"}
        assert living <= keep
        screen.type("quit", "shell> ")
        assert stat_of(shell).comm == b"dash"
        assert os.getpriority(os.PRIO_PROCESS, shell) == os.getpriority(os.PRIO_PROCESS, 0)
        until(lambda: made.current() < 10, "the zombies to be reaped")
        assert "again" in screen.type("/bin/echo ag''ain", "again\r\n")


def test_ctrl_c_and_nonsense_come_back_to_the_prompt():
    with terminal(prop("bomb"), "setsid") as (_made, screen, _beside):
        screen.type(f"exec {COMMAND}")
        for line in ("\x03", "\x1a", "'", "nonsense", "freeze", "kill pid:x", "freeze 99", "tree pid:1"):
            screen.type(line)
        assert "a bomb" in screen.type("who")


def test_a_shell_comes_back_from_a_wrong_word_and_from_auto():
    with terminal(prop("bomb"), "setsid") as (made, screen, beside):
        assert "ended with 2" in screen.type(f"exec {COMMAND} --auot", "shell> ")
        screen.type(f"exec {COMMAND} --auto", "type yes: ")
        assert "nothing was done" in screen.type("no", "shell> ")
        screen.type(f"exec {COMMAND} --auto", "type yes: ")
        assert "Nobody of it lives" in screen.type("yes", "shell> ")
        keep = {screen.process.pid, *(one.pid for one in beside)}
        assert not [pid for pid in members(made) if pid not in keep and stat_of(pid).state not in "ZX"]


@pytest.mark.parametrize("shape", ["tight", "setsid", "parent", "threads"])
def test_no_fork_no_thread_no_import(shape):
    """The kernel kills whoever forks; a console that did would be gone."""
    with full_pen([prop("bomb"), shape]) as (made, beside):

        def before():
            made.enter()
            refuse_to_fork()

        lines = [
            "who",
            "ps",
            "tree",
            "zombies",
            "spared",
            "limits",
            "why",
            "log",
            "freeze --dry-run 1",
            "freeze 1",
            "frozen",
            "thaw",
            "kill 1",
            "help",
            "undo",
        ]
        code, out = typed(lines, before=before)
        assert code == 0, out
        assert "nobody of it lives" in out
        assert "this went wrong" not in out
        assert not alive(made, beside)


def test_strace_sees_no_process_and_no_module(tmp_path):
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    trace = tmp_path / "trace"
    with full_pen([prop("bomb"), "tight"]) as (made, beside):
        lines = ["who", "ps", "tree", "zombies", "limits", "why", "log", "hold 1", "freeze 1", "kill 1", "sh"]
        enter = "; ".join(f"echo $$ >{path}" for path in made.entrances)
        script = ["sh", "-c", f"{enter}; exec {' '.join(RESCUE)}"]
        done = subprocess.run(
            ["strace", "-f", "-o", str(trace), "-e", "trace=process,openat,write", *script],
            input="\n".join([*lines, ""]).encode(),
            stdout=subprocess.PIPE,
            env={**os.environ, "SHELL": "/bin/true"},
            timeout=120,
            check=True,
        )
        out = done.stdout
        assert "nobody of it lives" in out.decode()
        assert not alive(made, beside)
    text = trace.read_text(errors="replace")
    at = text.index('"rescue> "')
    assert not re.findall(r"^\d+ +(clone|clone3|fork|vfork)\(.*", text, re.MULTILINE)
    assert len(re.findall(r"^\d+ +execve\(", text[at:], re.MULTILINE)) == 1  # the shell, at the very end
    assert not re.findall(r'openat\([^"]*"[^"]*\.(?:pyc?|cpython[^"]*\.so)"', text[at:])


# -- where little is left ----------------------------------------------------------------------------------------------


def test_without_environment_terminal_and_descriptors():
    def before():
        resource.setrlimit(resource.RLIMIT_NOFILE, (12, 12))

    code, out = typed(["who", "ps", "why", "nothing", "freeze"], before=before, env={"PYTHONPATH": PACKAGE})
    assert code == 0, out
    assert "this went wrong" not in out
    assert "slots are in use" in out


def test_little_memory():
    def before():
        resource.setrlimit(resource.RLIMIT_AS, (150 << 20, 150 << 20))

    code, out = typed(["who", "ps --all", "tree --all", "why"], before=before)
    assert code == 0, out
    assert "slots are in use" in out


def test_not_root():
    with pen(100) as made:
        mine = start(["sleep", "1000"], lambda: (made.enter(), os.setuid(NOBODY)))
        other = start(["sleep", "1000"], made.enter)
        try:
            code, out = typed(
                [f"kill pid:{other.pid}", f"freeze pid:{mine.pid}", "thaw", f"kill pid:{mine.pid}"],
                env=nobodys_environment(),
                command=[*DROP, nobodys_python(), "-m", "pidwarden", "rescue"],
            )
            assert code == 0, out
            assert "you are not root" in out
            assert "exec sudo -i" in out
            assert other.poll() is None
            assert mine.wait(10) == -signal.SIGKILL
        finally:
            made.kill()
            other.wait()
            mine.wait()


def test_hidepid():
    """Where /proc hides others, an ordinary user sees his own, and is told so."""
    libc = ctypes.CDLL(None, use_errno=True)

    def before():
        assert libc.unshare(0x00020000) == 0  # CLONE_NEWNS
        assert libc.mount(b"none", b"/", None, 0x4000 | 0x40000, None) == 0  # MS_REC | MS_PRIVATE
        assert libc.mount(b"proc", b"/proc", b"proc", 0, b"hidepid=2") == 0

    command = [*DROP, nobodys_python(), "-m", "pidwarden", "rescue"]
    code, out = typed(["who", "ps", "why", "spared"], before=before, env=nobodys_environment(), command=command)
    assert code == 0, out
    assert "this went wrong" not in out


def test_a_bug_inside_returns_to_the_prompt():
    code = (
        "import sys; from pidwarden.rescue.console import Console, Command\n"
        "def bad(words): raise RuntimeError('broken')\n"
        "def deep(words): deep(words)\n"
        "said = []\n"
        "c = Console({'bad': Command('bad', '', bad), 'deep': Command('deep', '', deep)}, print, lambda t: [])\n"
        "c.run(); print('left in order')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=b"bad\ndeep\nbad\n", capture_output=True, check=True, timeout=30
    )
    assert done.stderr.count(b"this went wrong") == 3
    assert b"left in order" in done.stdout
