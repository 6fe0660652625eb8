"""Shells that a test types to, in pens in which nothing can be forked any more."""

from __future__ import annotations

import os
import select
import subprocess

import pytest
from guardkit import start
from kit import until

SHELLS = {"bash": ["bash", "--norc"], "dash": ["dash"], "ash": ["busybox", "ash"]}


class Typed:
    """A shell in the pen that is typed to."""

    def __init__(self, command, made):
        self.process = start(
            command, made.enter, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self.said = ""
        self.type("echo here", "here")

    def type(self, text, last):
        """Types it and waits until the shell has said `last`; what it said."""
        os.write(self.process.stdin.fileno(), text.encode() + b"\n")
        before = len(self.said)
        until(lambda: self._hear() or last in self.said[before:], f"{last!r} in {self.said!r}", 60)
        return self.said[before:]

    def end(self):
        """Waits for its end; the pen has killed it."""
        self.process.communicate()

    def _hear(self):
        while select.select([self.process.stdout], [], [], 0.02)[0]:
            data = os.read(self.process.stdout.fileno(), 65536)
            if not data:
                pytest.fail(f"the shell ended: {self.said}")
            self.said += data.decode(errors="replace")
