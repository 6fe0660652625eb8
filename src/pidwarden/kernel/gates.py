"""Gates: the places where a held family's forks are stopped. They are interchangeable; the first that works is used.

A gate stops tasks in the kernel, by itself, whenever the kernel side says that their family is held. What it promises
and what it does not see is part of it, for `ready`, `pidwarden doctor` and the guarantees.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from pidwarden.errors import NotPossible, PidwardenError
from pidwarden.kernel import perf, tracefs
from pidwarden.kernel.bpf import Programs
from pidwarden.kernel.trial import FMOD_RET_PROGRAMS, LSM_LIST, LSM_PROGRAMS, Absent, Look

if TYPE_CHECKING:
    from collections.abc import Sequence


class Gate(Protocol):
    """One way to stop a held family before it forks."""

    key: str  # as in the setting `gate`
    name: str  # as in the events' capabilities
    hole: str  # what it does not see, in words; empty: nothing
    refuses: bool  # whether it can refuse a fork instead of stopping the task
    needs: tuple[Look, ...]  # what the kernel must take
    programs: frozenset[str]  # of the optional programs: those it needs
    mark: str  # a program of its own: it is up if that is attached

    def attach(self, programs: Programs) -> None:
        """Puts the gate up; from here on holds are in force.

        Raises:
            PidwardenError: this kernel cannot.
        """

    def tighten(self, programs: Programs, *, on: bool) -> None:
        """While something is held: closes what it does not see, at a cost to everybody that is only paid then."""


class Hook:
    """A program on ``security_task_alloc``, which every fork goes through, and one where the fork that failed ends."""

    hole = ""
    refuses = True

    def __init__(self, key: str, name: str, needs: tuple[Look, ...]) -> None:
        self.key, self.name, self.needs = key, name, needs
        self.mark = f"gate_{key}"
        self.programs = frozenset({self.mark, f"undo_{key}"})

    def attach(self, programs: Programs) -> None:
        """See :class:`Gate`."""
        programs.attach(f"undo_{self.key}", self.mark)

    def tighten(self, programs: Programs, *, on: bool) -> None:
        """See :class:`Gate`. There is nothing to close."""


class SyscallEntry:
    """Tracepoints on the entry of fork, vfork, clone and clone3; works without LSM and tracing program types."""

    key = "syscall"
    name = "stop at system call entry"
    hole = (
        "32-bit (int 0x80) and x32 calls are counted, and stopped once such forks have used half of a budget and the "
        "guard has answered; a SIGCONT in the microsecond between a task's stop and its fork lets that fork pass"
    )
    refuses = False
    needs: tuple[Look, ...] = ()
    programs: frozenset[str] = frozenset()
    mark = "gate_clone"
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


GATES: tuple[Gate, ...] = (
    Hook("lsm", "BPF LSM hook task_alloc", (LSM_PROGRAMS, LSM_LIST)),
    Hook("fmod_ret", "fmod_ret on security_task_alloc", (FMOD_RET_PROGRAMS,)),
    SyscallEntry(),
)


class Passed(NamedTuple):
    """A gate that is not used: why, and what would change that."""

    gate: Gate
    why: str
    change: str

    def as_dict(self) -> dict[str, str]:
        """For events and answers."""
        return {"gate": self.gate.name, "why": self.why, "change": self.change}


def missing(gate: Gate) -> Passed | None:
    """Why a gate cannot be had here, found out by trying; None if nothing speaks against it."""
    for look in gate.needs:
        try:
            look.try_it()
        except (Absent, OSError, PidwardenError) as why:
            return Passed(gate, str(why), look.remedy)
    return None


class Choice:
    """Which gates may be put up here, by what was asked for and what the kernel takes; the best first."""

    def __init__(self, wanted: str = "auto", *, refuse: bool = False) -> None:
        """Finds out.

        Raises:
            NotPossible: the one that was named is not possible here, or none can do what was asked for.
        """
        self.passed: list[Passed] = []
        self.possible: list[Gate] = []
        self._wanted = wanted
        for gate in GATES:
            lacking = missing(gate)
            if lacking is None and wanted not in ("auto", gate.key):
                lacking = Passed(gate, f"the setting gate is {wanted!r}", 'gate = "auto"')
            if lacking is None and refuse and not gate.refuses:
                lacking = Passed(gate, 'it can stop a fork but not refuse it (at_gate = "refuse")', 'at_gate = "hold"')
            if lacking is None:
                self.possible.append(gate)
            else:
                self.passed.append(lacking)
        if not self.possible:
            raise self._impossible()

    def _impossible(self) -> NotPossible:
        asked = [p for p in self.passed if self._wanted in ("auto", p.gate.key)]
        told = "; ".join(f"{p.gate.name}: {p.why}; {p.change}" for p in asked)
        otherwise = "" if self._wanted == "auto" else f'; or set gate = "auto" instead of {self._wanted!r}'
        return NotPossible(f"no gate can be put up as it was asked for: {told}{otherwise}")

    def load(self, *, max_records: int) -> Programs:
        """The kernel side, with what these gates need of it; gates whose programs the kernel refuses are passed over.

        Raises:
            PidwardenError: it refuses the rest as well.
        """
        wanted = frozenset[str]().union(*(gate.programs for gate in self.possible))
        try:
            return Programs.load(max_records=max_records, optional=wanted)
        except PidwardenError as why:
            if not wanted:
                raise
            self._drop([gate for gate in self.possible if gate.programs], f"its programs do not load: {why}")
        return Programs.load(max_records=max_records)

    def put_up(self, programs: Programs) -> Gate:
        """Attaches the best of them.

        Raises:
            NotPossible: none works here; each one's reason.
        """
        for gate in list(self.possible):
            try:
                gate.attach(programs)
            except PidwardenError as why:
                self._drop([gate], str(why))
            else:
                return gate
        raise self._impossible()

    def _drop(self, gates: Sequence[Gate], why: str) -> None:
        for gate in gates:
            self.possible.remove(gate)
            self.passed.append(Passed(gate, why, "a newer kernel"))
        if not self.possible:
            raise self._impossible()

    def better_than(self, gate: Gate) -> list[Passed]:
        """The gates that come before one that is up, and why they are not."""
        return [p for p in self.passed if GATES.index(p.gate) < GATES.index(gate)]


def in_use(programs: Programs) -> Gate | None:
    """The gate that is up, by what is attached: also one that a guard before us put up."""
    return next((gate for gate in GATES if gate.mark in programs.attached), None)
