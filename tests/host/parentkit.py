"""The parent of tests/props/parent.c: told what to do, asked what came of it, and whom it owes a wait."""

from __future__ import annotations

import contextlib
from pathlib import Path

from kit import child, stat_of, until

from pidwarden.kernel import evidence, patience
from pidwarden.model.key import TICK_NS, ProcessKey
from pidwarden.model.task import Syscall

READ = patience.Reader(5.0)


def key_of(pid):
    return ProcessKey(pid, stat_of(pid).start_ticks * TICK_NS)


def children(pid):
    """The zombies of a process."""
    pids = "".join(Path(f"/proc/{pid}/task/{t}/children").read_text() for t in evidence.threads(pid))
    stats = [s for pid in pids.split() if (s := stat_of(int(pid))) and s.state == "Z"]
    return sorted(ProcessKey(s.pid, s.start_ticks * TICK_NS) for s in stats)


class Parent:
    """The prop."""

    def __init__(self, running):
        self.running = running
        self.pid = running.said()[0]
        self.key = key_of(self.pid)

    def tell(self, word):
        self.running.process.stdin.write(word + "\n")
        self.running.process.stdin.flush()

    def ask(self, word):
        self.tell(word)
        return self.running.said()

    def begin(self, word, *calls, zombies=3):
        """Makes zombies, then does this, until it sleeps in one of these calls."""
        assert self.ask(f"make {zombies}") == (zombies, 0)
        self.tell(word)
        if calls:
            until(lambda: self.call() and self.call().number in calls, f"{word} to begin")

    def call(self):
        found = evidence.syscall(evidence.path(self.pid), READ)
        return found if isinstance(found, Syscall) else None

    def zombies(self):
        return children(self.pid)

    def state(self):
        """What of it a tracer might have spoilt."""
        status = evidence.status(evidence.path(self.pid))
        return status.tracer, status.blocked, status.ignored, status.caught, status.pending, status.shared_pending

    def is_stopped(self):
        return stat_of(self.pid).state == "T"


@contextlib.contextmanager
def a_parent(*arguments, **options):
    with child("parent", *arguments, **options) as running:
        yield Parent(running)
