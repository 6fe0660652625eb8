"""How a family is to be frozen: which cgroups hold nobody else, who has to be moved, who gets SIGSTOP. Changes nothing.

The result is a plan that can be shown before anything is done. The order of preference: a cgroup that has nobody else
in it, v2 before v1, as nothing has to be moved; then, where it is allowed, a quarantine, a new cgroup below the one
that the family shares; then SIGSTOP.
"""

from __future__ import annotations

import os
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from pidwarden.kernel import cgroup, freezer
from pidwarden.kernel.procfs import PROC
from pidwarden.model.container import containers
from pidwarden.model.text import escape

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pidwarden.model.key import ProcessKey

QUARANTINE = "pidwarden-quarantine-"
_OURS = ("pidwarden-pen-", QUARANTINE)
_DELEGATED = ("trusted.delegate", "user.delegate")  # what systemd marks a delegated cgroup with (systemd.exec(5))


class How(StrEnum):
    """What stops a process."""

    V2 = "cgroup v2"
    V1 = "cgroup v1"
    QUARANTINE = "quarantine"
    QUARANTINE_V1 = "quarantine v1"
    SIGNAL = "signal"


class Step(NamedTuple):
    """One cgroup that is frozen, or those who get a signal. ``directory``: whose freezer; empty for signals."""

    how: How
    directory: str
    members: tuple[ProcessKey, ...]

    @property
    def parent(self) -> str:
        """Where the members of a quarantine come from, and go back to."""
        return os.path.dirname(self.directory)

    @property
    def moves(self) -> bool:
        """Whether members are moved."""
        return self.how in (How.QUARANTINE, How.QUARANTINE_V1)

    @property
    def text(self) -> str:
        """What is done, and what takes it back."""
        count, where = f"{len(self.members)} processes", escape(os.fsencode(self.directory))
        if self.how is How.SIGNAL:
            return f"SIGSTOP to {count}, again while they are continued; back: SIGCONT"
        if self.moves:
            up = escape(os.fsencode(self.parent))
            return f"make {where}, freeze it, move {count} into it; back: move them to {up}, remove it"
        return f"freeze {where} ({count}); back: thaw it"


class Plan(NamedTuple):
    """Steps in order, and why a better way was not open."""

    steps: tuple[Step, ...]
    reasons: tuple[str, ...] = ()
    strangers: frozenset[int] = frozenset()  # who kept a cgroup from being the family's own

    def lines(self) -> list[str]:
        """For a rehearsal."""
        return [step.text for step in self.steps] + [f"({reason})" for reason in self.reasons]


class Ways(NamedTuple):
    """What may be used: freezers of cgroups, moving into a quarantine, and what that is called."""

    cgroups: bool = True
    quarantine: bool = False
    name: str = QUARANTINE


class _Planner:
    def __init__(self, everybody: Mapping[int, ProcessKey], ways: Ways, found: cgroup.Mounts, proc: str) -> None:
        self.everybody, self._ways, self._found, self._proc = everybody, ways, found, proc
        self.reasons: list[str] = []
        self.strangers: set[int] = set()

    def own(self, how: How, left: set[int], *, frozen: bool = False) -> Iterator[Step]:
        """A step for each cgroup whose processes, those below included, all belong; takes them out of `left`.

        `frozen`: also one that is frozen already.
        """
        hierarchy = cgroup.V2 if how is How.V2 else freezer.CONTROLLER
        todo, steps = set(left), []
        while todo:
            pid = min(todo)
            directory = cgroup.directory_of(pid, hierarchy, self._found, self._proc)
            here = cgroup.processes(directory) if directory else None
            if directory is None or here is None or pid not in here:
                todo.discard(pid)
                continue
            below = cgroup.processes_below(directory)
            if why := self._not_own(directory, below, frozen=frozen):
                self.reasons.append(f"{escape(os.fsencode(directory))}: {why}")
                todo -= here
                continue
            assert below is not None
            steps.append((directory, below))
            todo -= below
            left -= below
        for directory, below in steps:
            if not any(directory.startswith(other + "/") for other, _ in steps):
                yield Step(how, directory, tuple(self.everybody[p] for p in sorted(below)))

    def _not_own(self, directory: str, below: set[int] | None, *, frozen: bool) -> str:
        if cgroup.is_root(directory, self._found) or not freezer.exists(directory):
            return "has no freezer of its own"
        if below is None:
            return "who is in it cannot be told"
        if strangers := below - self.everybody.keys():
            self.strangers |= strangers
            return f"{len(strangers)} others are in it"
        return "somebody else has frozen it" if not frozen and freezer.is_asked(directory) else ""

    def quarantine(self, how: How, left: set[int]) -> Iterator[Step]:
        """A step for each cgroup whose members may be moved into a new one below it; takes them out of `left`."""
        hierarchy = cgroup.V2 if how is How.QUARANTINE else freezer.CONTROLLER
        for directory, pids in self._by_directory(hierarchy, left).items():
            if why := why_no_quarantine(directory, self._found):
                self.reasons.append(f"no quarantine below {escape(os.fsencode(directory))}: {why}")
                continue
            left -= pids
            keys = tuple(self.everybody[p] for p in sorted(pids))
            yield Step(how, f"{directory.rstrip('/')}/{self._ways.name}", keys)

    def _by_directory(self, hierarchy: str, left: set[int]) -> dict[str, set[int]]:
        found: dict[str, set[int]] = {}
        todo = set(left)
        while todo:
            pid = min(todo)
            directory = cgroup.directory_of(pid, hierarchy, self._found, self._proc)
            here = (cgroup.processes(directory) if directory else None) or set()
            if directory and pid in here:
                found.setdefault(directory, set()).update(here & left)
            todo -= here | {pid}
        return found


def why_no_quarantine(directory: str, found: cgroup.Mounts) -> str:
    """Why nobody may be moved into a new cgroup below this one; empty if it is safe."""
    name = os.path.basename(directory)
    if name.startswith(_OURS):
        return "it is pidwarden's own"
    if containers(directory):
        return "a container's manager would not know of it"
    if freezer.exists(directory) and freezer.is_asked(directory):
        return "somebody else has frozen it"
    above = directory
    while not cgroup.is_root(above, found) and above != "/":
        if why := _delegated(above):
            return why
        above = os.path.dirname(above)
    if found.v2 and (directory + "/").startswith(found.v2.rstrip("/") + "/"):
        return _v2_refuses(directory, found)
    together = sorted(c for c, where in found.v1.items() if where == found.v1.get(freezer.CONTROLLER))
    return "" if together == [freezer.CONTROLLER] else f"the v1 hierarchy is shared by {', '.join(together)}"


def _delegated(directory: str) -> str:
    try:
        if owner := os.stat(directory).st_uid:
            return f"it is delegated to user {owner}"
        marked = set(os.listxattr(directory)).intersection(_DELEGATED)
    except OSError:
        return "it cannot be looked at"
    return "it is delegated: somebody else manages what is below" if marked else ""


def _v2_refuses(directory: str, found: cgroup.Mounts) -> str:
    if cgroup.is_root(directory, found):
        return ""
    kind = cgroup.read(f"{directory}/cgroup.type")
    if kind != "domain":
        return f"its type is {kind or 'not known'}"
    passed_on = cgroup.read(f"{directory}/cgroup.subtree_control")
    return f"it passes controllers on ({passed_on})" if passed_on else ""


def plan(
    members: Mapping[int, ProcessKey],
    ways: Ways,
    found: cgroup.Mounts,
    *,
    within: Mapping[int, ProcessKey] | None = None,
    proc: str = PROC,
) -> Plan:
    """How `members`, by pid, are to be stopped. `within`: the whole family, if some of it is stopped already.

    `proc` and `found` may belong to another root folder.
    """
    planner = _Planner(within or members, ways, found, proc)
    left = set(members)
    steps: list[Step] = []
    if ways.cgroups:
        steps += planner.own(How.V2, left)
        steps += planner.own(How.V1, left)
    if ways.cgroups and ways.quarantine:
        steps += planner.quarantine(How.QUARANTINE, left)
        steps += planner.quarantine(How.QUARANTINE_V1, left)
    if left:
        steps.append(Step(How.SIGNAL, "", tuple(planner.everybody[p] for p in sorted(left))))
    return Plan(tuple(steps), tuple(planner.reasons), frozenset(planner.strangers))


def exact(members: Mapping[int, ProcessKey], found: cgroup.Mounts, proc: str = PROC) -> list[str]:
    """The v2 cgroups that together hold `members` and nobody else, for ``cgroup.kill``; empty: there are none such."""
    planner = _Planner(members, Ways(), found, proc)
    left = set(members)
    steps = list(planner.own(How.V2, left, frozen=True))
    return [] if left else [step.directory for step in steps]
