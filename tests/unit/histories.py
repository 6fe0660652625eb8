"""Histories without a kernel: fork, exec, exit and release as bpf/track.h would record them, and what bombs do of them.

A :class:`History` keeps the kernel side's rules: families and branches are inherited at fork, a child of a process that
lived for a second founds a branch, and the record of a dead process stays as long as somebody descends from it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pidwarden.judge.case import Case
from pidwarden.model.key import NOBODY, ProcessKey
from pidwarden.model.record import GroupKind, ProcFlag, Record, Rule

if TYPE_CHECKING:
    from collections.abc import Callable

MS = 1_000_000
SECOND = 1000 * MS
BOOTED = 5000 * SECOND  # what a history calls now, at first
FAMILY = 7
LIMIT = 300


@dataclass
class Process:
    """One process, alive or dead."""

    key: ProcessKey
    parent: ProcessKey = NOBODY
    branch: int = 0
    generation: int = 0
    comm: bytes = b"sh"
    exe: tuple[int, int] = (1, 1)
    slots: int = 1
    live: int = 1
    forks: int = 0
    execs: int = 0
    exec_ns: int = 0
    exit_ns: int = 0
    held_ns: int = 0
    flags: int = 0
    stops: int = 0
    stopped_ns: int = 0
    lost_ns: int = 0
    children: list[ProcessKey] = field(default_factory=list)


class History:
    """One family. Every method that takes no time says when: ``now`` moves only by :meth:`wait`."""

    def __init__(self, seed: int = 1) -> None:
        self.now = BOOTED
        self.random = random.Random(seed)
        self.all: dict[ProcessKey, Process] = {}
        self._branches = FAMILY
        self._pid = 1000

    def wait(self, ns: int) -> None:
        self.now += ns

    # -- what the kernel does --------------------------------------------------------------------------------------

    def found(self, comm: bytes = b"sh", *, execs: int = 1, age: int = 0, flags: int = 0) -> ProcessKey:
        """A process whose creator is in another family."""
        return self._born(Process(self._key(age), comm=comm, exe=_exe(comm), execs=execs, flags=flags), NOBODY)

    def fork(self, parent: ProcessKey, age: int = 0) -> ProcessKey:
        creator = self.all[parent]
        child = Process(self._key(age), parent, comm=creator.comm, exe=creator.exe)
        child.lost_ns = creator.lost_ns + creator.stopped_ns
        if child.key.start_ns - parent.start_ns - creator.stopped_ns < SECOND:
            child.branch, child.generation = creator.branch, creator.generation + 1
        creator.forks += 1
        creator.children.append(child.key)
        return self._born(child, parent)

    def exec(self, key: ProcessKey, comm: bytes, at: int | None = None) -> ProcessKey:
        found = self.all[key]
        found.execs, found.comm, found.exe = found.execs + 1, comm, _exe(comm)
        found.exec_ns = self.now if at is None else at
        return key

    def run(self, parent: ProcessKey, comm: bytes, age: int = 0) -> ProcessKey:
        """Fork and exec, `age` ns ago."""
        key = self.fork(parent, age)
        return self.exec(key, comm, key.start_ns + 1)

    def exit(self, key: ProcessKey, *, reaped: bool = False) -> None:
        found = self.all[key]
        found.live, found.exit_ns, found.slots = 0, self.now, 0 if reaped else 1

    def threads(self, key: ProcessKey, more: int) -> None:
        self.all[key].slots += more
        self.all[key].live += more

    def stop(self, keys: list[ProcessKey]) -> None:
        """They tried to fork and met the gate, which holds them."""
        for key in keys:
            self.all[key].stops += 1
            self.all[key].held_ns = self.now

    def hold(self, ns: int) -> None:
        """All that live try to fork and are held for so long."""
        for process in self.all.values():
            if process.live:
                process.stops += 1
                process.stopped_ns += ns
        self.wait(ns)

    def _key(self, age: int) -> ProcessKey:
        self._pid += 1
        self.now += 1  # no two processes are born in the same nanosecond
        return ProcessKey(self._pid, self.now - age)

    def _born(self, process: Process, _parent: ProcessKey) -> ProcessKey:
        if not process.branch:
            self._branches += 1
            process.branch = self._branches
        self.all[process.key] = process
        return process.key

    # -- what one can ask ------------------------------------------------------------------------------------------

    def slots(self) -> int:
        return sum(p.slots for p in self.all.values())

    def below(self, root: ProcessKey) -> set[ProcessKey]:
        """`root` and all that descend from it."""
        found, todo = set(), [root]
        while todo:
            key = todo.pop()
            found.add(key)
            todo += self.all[key].children
        return found

    def holding(self, root: ProcessKey) -> set[ProcessKey]:
        """Those of :meth:`below` that hold a slot."""
        return {k for k in self.below(root) if self.all[k].slots}

    def records(self) -> tuple[Record, ...]:
        """As the map would hold them, in no order."""
        kept: set[ProcessKey] = set()
        for process in self.all.values():
            key = process.key if process.slots else NOBODY
            while key in self.all and key not in kept:
                kept.add(key)
                key = self.all[key].parent
        found = [self._record(self.all[key]) for key in kept]
        self.random.shuffle(found)
        return tuple(found)

    def _record(self, p: Process) -> Record:
        return record(
            p.key, p.parent, branch=p.branch, exec_ns=p.exec_ns, exit_ns=p.exit_ns, held_ns=p.held_ns,
            slots=p.slots, live=p.live, forks=p.forks, execs=p.execs, generation=p.generation, flags=p.flags,
            stops=p.stops, comm=p.comm, exe=p.exe, stopped_ns=p.stopped_ns, lost_ns=p.lost_ns,
        )  # fmt: skip

    def case(self, *, branch_of: ProcessKey | None = None, rule: Rule | None = None, strikes: int = 0) -> Case:
        """A family alarm, or that of the branch of one process, at this moment."""
        if branch_of is None:
            group, kind, rule = FAMILY, GroupKind.FAMILY, rule or Rule.FAMILY_SLOTS
        else:
            group, kind, rule = self.all[branch_of].branch, GroupKind.BRANCH, rule or Rule.BRANCH_SLOTS
        return Case(self.records(), group, kind, rule, self.now + MS, strikes)


def _exe(comm: bytes) -> tuple[int, int]:
    return 1, 10 + sum(comm)


def record(key: ProcessKey, parent: ProcessKey = NOBODY, **changes: object) -> Record:
    """A record with everything at rest but what is given."""
    blank = Record(
        key, parent, family=FAMILY, branch=FAMILY + 1, exec_ns=0, exit_ns=0, held_ns=0, slots=1, live=1,
        forks=0, execs=0, generation=0, uid=0, exit_code=0, flags=0, stops=0, comm=b"sh",
    )  # fmt: skip
    return blank._replace(**changes)  # type: ignore[arg-type]


def guess(history: History) -> None:
    """The guard starts now: whoever is there is known only by what /proc would tell."""
    for process in history.all.values():
        process.flags |= ProcFlag.GUESSED
        process.execs = process.exec_ns = process.forks = process.generation = 0


# -- bombs: each takes the process that goes off and fills the family with `slots` more --------------------------------


def tight(h: History, root: ProcessKey, slots: int = LIMIT) -> None:
    """``for (;;) fork();``, whoever happens to run forks next: a scheduler that lets new tasks run at once."""
    members = [root]
    for _ in range(slots):
        h.wait(40_000)
        members.append(h.fork(h.random.choice(members)))


def queued(h: History, root: ProcessKey, slots: int = LIMIT) -> None:
    """The same where new tasks wait their turn: each forks twenty in its slice, and the hold stops the rest."""
    members = [root]
    turn = 0
    while len(members) <= slots:
        for _ in range(20):
            h.wait(40_000)
            members.append(h.fork(members[turn]))
        turn += 1
    h.stop(members[turn:])


def setsid(h: History, root: ProcessKey, slots: int = LIMIT) -> None:
    """Each child leads a session, and its parent is gone: nobody but the history knows that they belong together."""
    members = [root]
    for _ in range(slots):
        h.wait(60_000)
        parent = h.random.choice(members)
        members.append(h.fork(parent))
        if h.random.random() < 0.2 and len(members) > 2:
            members.remove(parent)
            h.exit(parent, reaped=True)
    while h.slots() < slots:
        h.wait(60_000)
        members.append(h.fork(h.random.choice(members)))


def renaming(h: History, root: ProcessKey, slots: int = LIMIT) -> None:
    """Each child takes a name and a user of its own: prctl and setuid, no exec."""
    tight(h, root, slots)
    for number, key in enumerate(sorted(h.below(root))):
        h.all[key].comm = b"kworker/%d" % number


def shell(h: History, root: ProcessKey, slots: int = LIMIT) -> None:
    """``b() { b | b & }; b``: a subshell starts two copies and waits, each of them starts a subshell and ends."""
    whole, halves = [root], list[ProcessKey]()
    started = h.slots()
    while h.slots() < started + slots:
        h.wait(300_000)
        pick = h.random.randrange(len(whole) + len(halves))
        if pick < len(whole):
            key = whole.pop(pick)
            halves += [h.fork(key), h.fork(key)]
            continue
        key = halves.pop(pick - len(whole))
        whole.append(h.fork(key))
        h.exit(key, reaped=True)
        above = h.all[key].parent
        if above != root and len(h.all[above].children) == 2 and not any(h.all[c].live for c in h.all[above].children):
            h.exit(above, reaped=True)


def chain(h: History, root: ProcessKey, slots: int = 150) -> None:
    """Fork and exit, always moving; the last few are zombies that init has not come round to."""
    last = root
    past = [root]
    for _ in range(slots):
        h.wait(MS)
        past.append(h.fork(last))
        h.exit(last)
        last = past[-1]
        if len(past) > 10:
            h.exit(past.pop(0), reaped=True)


def zombies(h: History, root: ProcessKey, slots: int = LIMIT) -> None:
    """Children that end at once and are never reaped."""
    for _ in range(slots):
        h.wait(50_000)
        h.exit(h.fork(root))


def threads(h: History, root: ProcessKey, slots: int = LIMIT) -> None:
    """Thread after thread in one process."""
    h.wait(20 * MS)
    h.threads(root, slots)


BOMBS: dict[str, Callable[..., None]] = {
    b.__name__: b for b in (tight, queued, setsid, renaming, shell, chain, zombies, threads)
}


# -- how a bomb comes to be: each gives the process that goes off; whatever else is there is innocent ------------------


def by_exec(h: History) -> ProcessKey:
    """A command typed at a prompt."""
    return h.found(b"bomb")


def by_script(h: History) -> ProcessKey:
    """A young script runs it as a program."""
    script = h.found(b"job.sh")
    h.wait(5 * MS)
    return h.run(script, b"bomb")


def by_script_of_same_name(h: History) -> ProcessKey:
    """The same, and both are the same interpreter."""
    script = h.found(b"bash")
    h.wait(5 * MS)
    return h.run(script, b"bash")


def by_fork(h: History) -> ProcessKey:
    """A plain fork of a program that lived for a little more than a second."""
    parent = h.found(b"python3", age=1200 * MS)
    return h.fork(parent)


def by_fork_and_exec(h: History) -> ProcessKey:
    return h.run(h.found(b"python3", age=1200 * MS), b"bomb")


def _script_with_bystanders(h: History) -> ProcessKey:
    script = h.found(b"job.sh")
    for _ in range(3):
        h.wait(2 * MS)
        h.run(script, b"sleep")
    loop = h.fork(script)  # while :; do /bin/true; done &
    for _ in range(5):
        h.wait(MS)
        h.exit(h.run(loop, b"true"), reaped=True)
    h.wait(2 * MS)
    return script


def beside_bystanders(h: History) -> ProcessKey:
    """A young script has other children at work and runs the bomb as a program."""
    return h.run(_script_with_bystanders(h), b"bomb")


def as_subshell_beside_bystanders(h: History) -> ProcessKey:
    """… or is the bomb in a subshell: a plain copy of the script."""
    return h.fork(_script_with_bystanders(h))


def below_server(h: History) -> ProcessKey:
    """A request makes a worker of an old server go off; there are as many workers as there will be members."""
    server = h.found(b"server", age=3600 * SECOND)
    for number in range(LIMIT):
        h.fork(server, age=(10 + 10 * number) * SECOND)
    return h.fork(server)


def below_session(h: History) -> ProcessKey:
    """A session an hour old, with an editor, a build's daemon of many threads, and a script that runs the bomb."""
    session = h.found(b"bash", age=3600 * SECOND)
    h.run(session, b"vim", age=1000 * SECOND)
    h.threads(h.run(session, b"java", age=500 * SECOND), 2 * LIMIT)
    script = h.run(session, b"job.sh")
    h.wait(MS)
    return h.run(script, b"bomb")


STARTS: dict[str, Callable[[History], ProcessKey]] = {
    s.__name__: s
    for s in (
        by_exec, by_script, by_script_of_same_name, by_fork, by_fork_and_exec, beside_bystanders,
        as_subshell_beside_bystanders, below_server, below_session,
    )
}  # fmt: skip
