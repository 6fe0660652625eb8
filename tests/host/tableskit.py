"""What tests of full tables share: a prop that fills one, the look at it, and what is printed typed to the letter."""

from __future__ import annotations

import contextlib
import ctypes
import io
import json
import os
import shlex
import subprocess
import sys

from cli_kit import pidwarden_cli
from kit import PROPS

from pidwarden.cli import tables_look
from pidwarden.cli.main import main

FILL = str(PROPS / "fill.py")
_KINDS = {"-n": "net", "-U": "user", "-m": "mnt"}


class Filler:
    """The prop: told how much to have, it says how much it got and which error stopped it."""

    def __init__(self, what, *arguments, prefix=()):
        argv = [*prefix, sys.executable, "-I", "-S", FILL, what, *map(str, arguments)]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = self.process.pid
        self.said()

    def said(self):
        return tuple(json.loads(self.process.stdout.readline()))

    def to(self, number):
        self.process.stdin.write(f"{number}\n")
        self.process.stdin.flush()
        return self.said()

    def end(self):
        self.process.stdin.close()
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@contextlib.contextmanager
def filler(what, *arguments, prefix=()):
    running = Filler(what, *arguments, prefix=prefix)
    try:
        yield running
    finally:
        running.end()


@contextlib.contextmanager
def network():
    """A process in a network namespace of its own, with its loopback up; what it takes to be there."""
    with filler("files", prefix=("unshare", "-n")) as keeper:
        inside = ("nsenter", "-t", str(keeper.pid), "-n")
        run(*inside, "ip", "link", "set", "lo", "up")
        yield inside


def run(*argv):
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def put(path, text, prefix=()):
    run(*prefix, "sh", "-c", f'echo "$1" > {path}', "sh", str(text))


def in_a_fork(argv, prefix):
    """The command in a fork of ours, in the namespaces that nsenter would enter, with no pause between its looks."""
    ours, theirs = os.pipe()
    if not (pid := os.fork()):
        code = 99
        try:
            for kind in [_KINDS[word] for word in prefix if word in _KINDS]:
                fd = os.open(f"/proc/{prefix[2]}/ns/{kind}", os.O_RDONLY)
                assert ctypes.CDLL(None, use_errno=True).setns(fd, 0) == 0, kind
            tables_look._BETWEEN_SECONDS = 0.0
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                code = main(argv)
            with open(theirs, "w", encoding="utf-8") as file:
                file.write(out.getvalue())
        finally:
            os._exit(code)
    os.close(theirs)
    with open(ours, encoding="utf-8") as file:
        text = file.read()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), text


def look(*arguments, of="", prefix=()):
    """The exit code, and what is said of one table: the fullest, or that whose `of` contains something."""
    argv = ("tables", "--json", "--all", "--patience", "20", *arguments)
    code, text = in_a_fork(argv, prefix)
    found = json.loads(text)
    assert code == int(found["over"] > 0)
    return next(t for t in found["tables"] if of in (t["of"] or ""))


def of_pid(pid):
    return f"pid {pid} ("


def typed(command, state, prefix=(), cli=pidwarden_cli):
    """Types what was printed, but for `sudo`, where `prefix` leads; the way back, which takes words of its own."""
    first, *words = shlex.split(command)
    assert first == "sudo"
    at = words.index("pidwarden")
    there, own = (*prefix, *words[:at]), ("--state-dir", str(state))

    def say(*arguments):
        done = cli(*arguments, *own, prefix=there)
        assert done.returncode == 0, done.stdout + done.stderr

    say(*words[at + 1 :], "--yes")
    return lambda *more: say("undo", *more)


def value(path, prefix=()):
    """What a file holds, as words, where `prefix` leads."""
    return run(*prefix, "cat", path).split()
