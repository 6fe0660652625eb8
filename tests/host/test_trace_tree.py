"""Whoever is in a tree when a trace of it begins, or is forked while it begins, or later, is traced: none is missed."""

from __future__ import annotations

import pytest
from kit import child, until
from tracekit import PATH, plan, tracer

from pidwarden.kernel import procfs
from pidwarden.trace import abi
from pidwarden.trace.enlist import Enlisting, tree

pytestmark = [pytest.mark.root, pytest.mark.bpf]


def marks(events):
    """The numbers that marked calls of these events have."""
    paths = [piece.data for e in events if e.kind in (abi.ENTER, abi.RETURN) for piece in e.pieces]
    return sorted(int(path[8:]) for path in paths if path.startswith(b"/marked/"))


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return len(file.read().split())


def test_every_member_of_a_tree_is_seen():
    with (
        child("marks", "10", "3", "1000") as root,
        tracer({"access": plan(PATH)}, ring_bytes=1 << 20) as trace,
    ):
        _zero, pid = root.said()
        members = Enlisting(trace, tree({pid: procfs.stat(pid).start_ticks}))
        members.run()
        until(lambda: children(pid) > len(members.members) + 100, "children that are forked after the trace began")
        root.process.stdin.close()
        _one, total = root.said()
        root.process.wait()
        trace.detach()
        seen = marks(trace.read())
        assert trace.tallies().lost == trace.tallies().untold == 0
    assert len(members.members) > 20  # of those there were before it
    assert total > 200 + 2 * len(members.members)
    assert seen == list(range(total))
