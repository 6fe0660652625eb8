"""Gates: the places where a held family's forks are stopped. They are interchangeable; the first that works is used.

A gate stops tasks in the kernel, by itself, whenever the kernel side says that their family is held. What it promises
and what it does not see is part of it, for `ready`, `pidwarden doctor` and the guarantees.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pidwarden.errors import NotPossible, PidwardenError
from pidwarden.kernel import perf, tracefs

if TYPE_CHECKING:
    from pidwarden.kernel.bpf import Programs


class Gate(Protocol):
    """One way to stop a held family before it forks."""

    name: str  # as in the events' capabilities
    hole: str  # what it does not see, in words

    def attach(self, programs: Programs) -> None:
        """Puts the gate up; from here on holds are in force.

        Raises:
            PidwardenError: this kernel cannot.
        """

    def tighten(self, programs: Programs, *, on: bool) -> None:
        """While something is held: closes what it does not see, at a cost to everybody that is only paid then."""


class SyscallEntry:
    """Tracepoints on the entry of fork, vfork, clone and clone3; works without LSM and tracing program types."""

    name = "stop at system call entry"
    hole = "32-bit entry (int 0x80) is counted but not stopped until the first alarm; while anything is held it is"
    _CALLS = ("fork", "vfork", "clone", "clone3")

    def attach(self, programs: Programs) -> None:
        """See :class:`Gate`."""
        found = 0
        with tracefs.root() as fd:
            for call in self._CALLS:
                event = tracefs.event_id(fd, "syscalls", f"sys_enter_{call}")
                if event is not None:  # not every architecture has all four
                    programs.attach_perf(f"gate_{call}", perf.open_tracepoint(event))
                    found += 1
        if not found:
            msg = "this kernel has no system call tracepoints (CONFIG_FTRACE_SYSCALLS): no family can be held"
            raise NotPossible(msg)

    def tighten(self, programs: Programs, *, on: bool) -> None:
        """See :class:`Gate`."""
        programs.watch_every_call(on=on)


GATES: tuple[Gate, ...] = (SyscallEntry(),)


def put_up(programs: Programs) -> Gate:
    """Attaches the best gate there is.

    Raises:
        NotPossible: none works here; each one's reason.
    """
    reasons = []
    for gate in GATES:
        try:
            gate.attach(programs)
        except PidwardenError as why:
            reasons.append(f"{gate.name}: {why}")
        else:
            return gate
    raise NotPossible("; ".join(reasons))
