"""What the tests of connection tracking share: a network namespace that tracks, entries in it, the command there."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cli_kit import pidwarden_cli
from kit import prop

MESSAGES = Path(__file__).parent / "ctmessages.py"
SYSCTL = "/proc/sys/net/netfilter/nf_conntrack_"
_RULES = "add table inet t; add chain inet t c { type filter hook input priority 0; }; add rule inet t c ct state new"
_SETUP = 'ip link set lo up && nft "$1" && echo ready && exec sleep 600'


def needs(*programs):
    """Skips where one is not installed, or the kernel has no connection tracking."""
    for program in programs:
        if not shutil.which(program):
            pytest.skip(f"no {program}")
    if not Path(SYSCTL + "count").exists() and shutil.which("modprobe"):
        subprocess.run(["modprobe", "nf_conntrack"], capture_output=True, check=False)
    if not Path(SYSCTL + "count").exists():
        pytest.skip("nf_conntrack is not loaded")


class Space:
    """A network namespace of its own, for as long as a process of ours sleeps in it."""

    def __init__(self):
        argv = ["unshare", "-n", "sh", "-c", _SETUP, "sh", _RULES]
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if self.process.stdout.readline() != "ready\n":
            said = self.process.communicate()[1]
            pytest.fail(f"no namespace: {said}")

    @property
    def pid(self):
        return self.process.pid

    def run(self, *argv, **options):
        """A program inside."""
        options = {"capture_output": True, "text": True, "timeout": 120, "check": True} | options
        return subprocess.run(  # noqa: PLW1510  (as its caller says)
            ["nsenter", "-t", str(self.pid), "-n", *argv], **options
        ).stdout

    def python(self, text, **options):
        return self.run(sys.executable, "-c", text, **options)

    @contextlib.contextmanager
    def meanwhile(self, *argv, feed=""):
        """A program inside that runs until the block ends."""
        argv = ["nsenter", "-t", str(self.pid), "-n", *argv]
        running = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        try:
            running.stdin.write(feed)
            running.stdin.close()
            yield running
        finally:
            running.kill()
            running.wait()

    def fill(  # noqa: PLR0913  (as the program takes them)
        self, count, *, sources, targets, dport=80, state=3, status=14, timeout=400_000
    ):
        """Puts many entries in, quickly; how many were refused, and the last errno."""
        numbers = (count, sources, targets, dport, state, status, timeout)
        refused, code = self.run(prop("ctfill"), *map(str, numbers)).split()
        return int(refused), int(code)

    def put(self, *messages):
        """Puts entries in one by one; the errno of each."""
        lines = "".join(m.hex() + "\n" for m in messages)
        return list(map(int, self.run(sys.executable, str(MESSAGES), "1", input=lines).split()))

    def count(self):
        return int(self.run("cat", SYSCTL + "count"))

    def ask(self, *arguments, code=None):
        """The command's object for this namespace."""
        done = pidwarden_cli("conntrack", "--netns", str(self.pid), "--json", *arguments)
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode in ((0, 1) if code is None else (code,)), done.stdout + done.stderr
        found = json.loads(done.stdout)
        (namespace,) = found["namespaces"]
        return namespace | {"memory": found["memory"]}

    def end(self):
        self.process.kill()
        self.process.communicate()


@contextlib.contextmanager
def space():
    """One, gone with the test."""
    made = Space()
    try:
        yield made
    finally:
        made.end()


def kinds(found):
    return [finding["kind"] for finding in found["findings"]]
