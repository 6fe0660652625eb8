"""Whoever is in a tree when a trace of it begins, or is forked while it begins, or later, is traced: none is missed."""

from __future__ import annotations

import re

import pytest
from kit import child, until
from tracekit import command

pytestmark = [pytest.mark.root, pytest.mark.bpf]


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return len(file.read().split())


def test_every_member_of_a_tree_is_seen(tmp_path):
    out = tmp_path / "out"
    with child("marks", "10", "3", "1000") as root:
        _zero, pid = root.said()
        with command("-e", "access", "-o", out, f"tree:{pid}"):
            there = children(pid)
            until(lambda: children(pid) > there + 50, "children that are forked after the trace began")
            root.process.stdin.close()
            _one, total = root.said()
            root.process.wait()
    marks = re.findall(r'"/marked/(\d+)"', out.read_text())
    assert there > 10  # it forked while the trace began
    assert total > 2 * (10 + 10 + 50) + 10 * 3
    assert sorted(map(int, marks)) == list(range(total))
