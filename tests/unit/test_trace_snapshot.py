"""What is said of who sits in no call of a program."""

from __future__ import annotations

from pidwarden.cli import trace_snapshot
from pidwarden.kernel import evidence
from pidwarden.model.task import Syscall


def test_a_thread_of_the_kernel_reads_nothing(monkeypatch):
    monkeypatch.setattr(evidence, "read", lambda _path: b"kthreadd\n")
    monkeypatch.setattr(evidence, "wchan", lambda _folder: "kthreadd")
    monkeypatch.setattr(evidence, "syscall", lambda _folder: Syscall(0, (0,) * 6, 0, 0))  # "0 0x0 0x0 …"
    sights, _silent = trace_snapshot.look({2: 2}, None)
    assert trace_snapshot.lines(sights, 0) == ["2 kthreadd is a thread of the kernel [kthreadd]"]
