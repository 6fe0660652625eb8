"""What happens on a machine, done to the simulator and written down beside it by the rules of the design.

The rules are stated here once more and more simply than in bpf/: with objects that point at each other, nothing that is
counted twice, and no thought of cost. Every choice is a number, taken modulo what there is to choose from, so a list of
numbers is a run and a shorter list is a shorter run. `log` tells it in words.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from simulator import KTHREAD, SIBLING, SILENT, THREAD, Simulator

from pidwarden.kernel import abi
from pidwarden.model.key import ProcessKey
from pidwarden.model.record import ProcFlag

if TYPE_CHECKING:
    from collections.abc import Sequence

MS = 1_000_000
BRANCH_AGE = 1000 * MS
JOB_GAP = 100 * MS
INHERITED = ProcFlag.SHELL | ProcFlag.PROTECTED
PLAIN, SHELL, SPAWNER, SACRED = 1, 2, 3, 4  # inodes of programs
PROGRAMS = {PLAIN: 0, SHELL: ProcFlag.SHELL, SPAWNER: ProcFlag.SPAWNER, SACRED: ProcFlag.PROTECTED}
ENTERED, STOPPED = 1, 2


@dataclass(eq=False)
class Group:
    """A family, or a branch of `family`. Its id is learnt from the first record that shows it."""

    founder: Process
    family: Group | None = None
    id: int = 0


@dataclass(eq=False)
class Task:
    address: int
    pid: int
    process: Process
    comm: bytes
    state: str = "alive"  # zombie, dead (reaped), freed
    doing: int = 0
    call: str = ""  # by which it is in a fork
    missed: bool = False  # freed, and nobody was told
    known: bool = True  # not reaped before the kernel side came


@dataclass(eq=False)
class Process:
    key: ProcessKey
    creator: Process | None
    parent: Task | None  # real_parent
    flags: int
    comm: bytes
    uid: int = 0  # as credentials say
    noted_uid: int = 0  # as they said when the kernel side last looked
    tasks: list[Task] = field(default_factory=list)
    leader: Task | None = None
    family: Group | None = None
    branch: Group | None = None
    generation: int = 0
    forks: int = 0
    execs: int = 0
    program: int = 0
    exit_ns: int = 0
    exit_code: int = 0
    job: tuple[int, Group | None] = (0, None)
    leads_terminal: bool = False
    guessed: bool = False
    end_unseen: bool = False  # it had ended before the kernel side came
    subreaper: bool = False

    @property
    def living(self) -> list[Task]:
        return [task for task in self.tasks if task.state == "alive"]

    @property
    def slots(self) -> int:
        return sum(task.state in ("alive", "zombie") for task in self.tasks)

    def is_in(self, group: Group) -> bool:
        return group in (self.family, self.branch)

    def ancestors(self) -> list[Process]:
        """Itself, its creator, its creator's creator …"""
        found = [self]
        while found[-1].creator:
            found.append(found[-1].creator)
        return found


class World:
    """Tasks 1 (init) and 2 (the father of kernel threads) are there; nothing is attached before :meth:`attach`."""

    def __init__(self, *, seed: int = 1, sizes: dict[str, int] | None = None, **config: int) -> None:
        self.sim = Simulator(seed=seed, sizes=sizes, **{"branch_age_ns": BRANCH_AGE, "job_gap_ns": JOB_GAP, **config})
        for inode, flags in PROGRAMS.items():
            self.sim.executable(inode, flags)
        self.log: list[str] = []
        self.processes: list[Process] = []
        self.tasks: list[Task] = []  # all that are not freed
        self.attached = False
        self.missed = 0
        self.init = self._born(None, self.sim.fork(self.sim.init, 1, SILENT), 1, None, ProcFlag.SPAWNER)
        kthreadd = self.sim.fork(self.sim.init, 2, SILENT | KTHREAD)
        self.kthreadd = self._born(None, kthreadd, 2, None, ProcFlag.KTHREAD)

    # -- what there is to choose from ------------------------------------------------------------------------------

    def living(self) -> list[Task]:
        """Tasks that can do something."""
        return [t for t in self.tasks if t.state == "alive" and not t.doing and not t.process.flags & ProcFlag.KTHREAD]

    def mortal(self) -> list[Task]:
        return [t for t in self.tasks if t.state == "alive" and t.process not in (self.init, self.kthreadd)]

    def zombies(self) -> list[Process]:
        return [p for p in self.processes if p.leader and p.leader.state == "zombie" and not p.living]

    def dead(self) -> list[Task]:
        return [t for t in self.tasks if t.state == "dead"]

    def free_pid(self) -> int:
        used = {t.pid for t in self.tasks if t.state in ("alive", "zombie")}
        return next(pid for pid in range(3, 1 << 20) if pid not in used)

    def say(self, text: str) -> None:
        self.log.append(f"{len(self.log)}: {text}")

    # -- birth -----------------------------------------------------------------------------------------------------

    def attach(self) -> int:
        """Hooks on, then the walk over all that are there; how many it found."""
        self.attached = True
        for task in self.dead():
            task.known = False
        order = [p for p in self.processes if p.slots]
        for process in order:
            parent = process.parent.process if process.parent else None
            process.creator, process.guessed = parent if parent in order else None, True
            process.end_unseen = not process.living
            process.execs = process.forks = 0
            process.noted_uid, process.flags = process.uid, process.flags | PROGRAMS.get(process.program, 0)
            process.comm = process.leader.comm if process.leader else b""
        for process in order:
            self._join(process)
            if process.creator:
                process.creator.forks += 1
        self.say(f"attach; {len(order)} processes are there")
        return self.sim.seed(self.init.tasks[0].address)

    def _born(self, creator: Process | None, address: int, pid: int, parent: Task | None, flags: int) -> Process:
        key = ProcessKey(pid, self.sim.now)
        comm = creator.living[0].comm if creator and creator.living else b""
        process = Process(key, creator, parent, flags, comm)
        if creator:
            process.uid = process.noted_uid = creator.uid
            process.program = creator.program
        process.leader = Task(address, pid, process, comm)
        process.tasks.append(process.leader)
        self.tasks.append(process.leader)
        self.processes.append(process)
        return process

    def _join(self, process: Process) -> None:
        """The design's words: family, branch, generation."""
        if process.flags & ProcFlag.KTHREAD:
            return
        creator, now = process.creator, process.key.start_ns
        own_job = creator is not None and bool(creator.flags & ProcFlag.SHELL) and creator.leads_terminal
        if creator and creator.family and not own_job and not creator.flags & ProcFlag.SPAWNER:
            process.family = creator.family
            if now - creator.key.start_ns < BRANCH_AGE:
                process.branch, process.generation = creator.branch, creator.generation + 1
        elif own_job and creator and creator.job[1] and now - creator.job[0] < JOB_GAP and self.exists(creator.job[1]):
            process.family = creator.job[1]
        process.family = process.family or Group(process)
        process.branch = process.branch or Group(process, process.family)
        if own_job and creator:
            creator.job = (now, process.family)

    def exists(self, group: Group) -> bool:
        return any(p.slots and p.is_in(group) for p in self.processes)

    def tick(self, ns: int = 1) -> None:
        self.sim.now += ns

    def fork(self, task: Task, *, sibling: bool = False) -> Process:
        self.tick()
        creator, pid = task.process, self.free_pid()
        how = (SIBLING * sibling) | (0 if self.attached else SILENT)
        address = self.sim.fork(task.address, pid, how)
        self._noticed(address)
        parent = (creator.parent or task) if sibling else task
        child = self._born(creator, address, pid, parent, creator.flags & INHERITED)
        assert child.leader
        child.leader.comm = child.comm = task.comm
        creator.forks += 1
        creator.noted_uid = creator.uid
        if self.attached:
            self._join(child)
        self.say(f"{creator.key} forks {child.key}")
        return child

    def thread(self, task: Task) -> Task:
        self.tick()
        pid = self.free_pid()
        address = self.sim.fork(task.address, pid, THREAD | (0 if self.attached else SILENT))
        self._noticed(address)
        new = Task(address, pid, task.process, task.comm)
        task.process.tasks.append(new)
        self.tasks.append(new)
        self.say(f"{task.process.key} makes thread {pid}")
        return new

    def kernel_thread(self) -> Process:
        self.tick()
        pid, father = self.free_pid(), self.kthreadd.tasks[0]
        address = self.sim.fork(father.address, pid, KTHREAD | (0 if self.attached else SILENT))
        self._noticed(address)
        self.kthreadd.forks += 1
        process = self._born(self.kthreadd, address, pid, father, ProcFlag.KTHREAD)
        self.say(f"kernel thread {process.key}")
        return process

    def _noticed(self, address: int) -> None:
        """Memory is used again whose release nobody told us about."""
        for process in self.processes:
            for task in process.tasks:
                if task.missed and task.address == address and self.attached:
                    task.missed = False
                    self.missed += 1

    # -- life ------------------------------------------------------------------------------------------------------

    def exec(self, task: Task, program: int, comm: bytes, *, delay: bool = True) -> None:
        self.tick()
        process, old = task.process, task.process.leader
        assert old
        for other in process.living:
            if other is not task:
                self.exit_task(other, 0, delay=delay)
        self.say(f"{process.key} executes {comm!r} (program {program}) in task {task.pid}")
        self.sim.exec(task.address, comm, program, process.uid, silent=not self.attached)
        if task is not old:
            task.pid, old.pid, process.leader = old.pid, task.pid, task
            old.state = "dead"
            if not delay:
                self.free(old)
        helper = bool(process.flags & ProcFlag.KTHREAD)  # a program that the kernel starts
        process.flags &= ~ProcFlag.KTHREAD
        if helper and self.attached:
            creator, process.creator = process.creator, None
            self._join(process)
            process.creator = creator
        process.flags &= ~(ProcFlag.SHELL | ProcFlag.PROTECTED)
        if not process.flags & ProcFlag.SCOPE and process is not self.init:
            process.flags &= ~ProcFlag.SPAWNER
        process.flags |= PROGRAMS[program]
        process.program, process.comm, task.comm = program, comm[:15], comm[:15]
        process.execs += 1
        process.noted_uid = process.uid

    def exit_task(self, task: Task, code: int, *, delay: bool = True) -> None:
        """One task ends; its children get another parent; a thread is released at once, a leader waits."""
        process = task.process
        last = len(process.living) == 1
        self.say(f"{process.key}: task {task.pid} exits {code}{', the last' * last}")
        self.sim.exit(task.address, code, group_dead=last, silent=not self.attached)
        task.state, task.doing = "zombie", 0
        if last:
            process.exit_ns, process.exit_code = self.sim.now, code
        heir = self._heir(process)
        for child in self.processes:
            if child.parent is task and child.slots:
                child.parent = heir
                for one in child.tasks:
                    if one.state in ("alive", "zombie"):
                        self.sim.reparent(one.address, heir.address)
        if task is not process.leader:
            self._reap(task, delay=delay)

    def _heir(self, process: Process) -> Task:
        while not process.living or process.flags & ProcFlag.KTHREAD:
            above = process.parent.process if process.parent else self.init
            while above is not self.init and not (above.subreaper and above.living):
                above = above.parent.process if above.parent else self.init
            process = above
        return process.living[0]

    def exit_group(self, process: Process, code: int, *, delay: bool = True) -> None:
        self.tick()
        leader = process.leader
        for task in sorted(process.living, key=lambda t: t is leader):
            self.exit_task(task, code, delay=delay)

    def reap(self, process: Process, *, delay: bool = True) -> None:
        """wait(2) by the parent, whoever that is now."""
        self.tick()
        assert process.leader
        self._reap(process.leader, delay=delay)

    def _reap(self, task: Task, *, delay: bool) -> None:
        self.say(f"{task.process.key}: task {task.pid} is reaped")
        self.sim.reap(task.address)
        task.state = "dead"
        if not delay:
            self.free(task)

    def free(self, task: Task, *, missed: bool = False) -> None:
        self.say(f"{task.process.key}: task {task.pid} is freed{', unseen' * missed}")
        self.sim.free(task.address, silent=missed or not self.attached)
        task.state, task.missed = "freed", missed and task.known and self.attached
        self.tasks.remove(task)

    def setuid(self, process: Process, uid: int) -> None:
        self.say(f"{process.key} becomes uid {uid}")
        process.uid = uid
        for task in process.tasks:
            if task.state in ("alive", "zombie"):  # a zombie leader too: it speaks for its process
                self.sim.setuid(task.address, uid)

    def rename(self, task: Task, comm: bytes) -> None:
        self.say(f"task {task.pid} of {task.process.key} calls itself {comm!r}")
        task.comm = comm[:15]
        self.sim.rename(task.address, comm)

    def terminal(self, process: Process, *, on: bool) -> None:
        self.say(f"{process.key} {'leads a terminal' if on else 'has no terminal'}")
        process.leads_terminal = on
        self.sim.session(process.living[0].address, leader=on, tty=on)


def note_groups(groups: Sequence[Group | None], ids: Sequence[int], known: dict[int, Group]) -> None:
    """Learns ids: a group has one, and no two groups the same."""
    for group, number in zip(groups, ids, strict=True):
        assert bool(group) == bool(number)
        if group and not group.id:
            assert number not in known, f"group {number} is two"
            known[number], group.id = group, number
        assert not group or group.id == number


def books_are_consistent(sim: Simulator) -> None:
    """What holds whatever happened, also after losses: counts are sums of what is on record."""
    tasks, procs, groups, counters = sim.tasks(), sim.procs(), sim.groups(), sim.counters()
    slots, live, reserved, outside = Counter(), Counter(), Counter(), Counter()
    for task in tasks.values():
        assert task.key in procs or task.flags & abi.TASK_RELEASED, f"a task of {task.key}, which has no record"
        slots[task.key] += not task.flags & abi.TASK_RELEASED
        outside[task.key] += bool(task.flags & abi.TASK_OUTSIDE) and not task.flags & abi.TASK_RELEASED
        live[task.key] += not task.flags & abi.TASK_EXITED
        reserved[task.reserved_branch] += 1
        reserved[task.reserved_family] += 1
    of_group, of_family, kids, outside_of = Counter(), Counter(), Counter(), Counter()
    for key, record in procs.items():
        assert (record.slots, record.live) == (slots[key], live[key]), f"slots and live of {key}"
        assert record.outside == outside[key], f"{key}: {record.outside} outside, its tasks are {outside[key]}"
        assert not record.flags & abi.PROC_GOING
        kids[record.parent] += 1
        of_family[record.family] += 1
        for group in {record.family, record.branch}:
            of_group[group] += record.slots
            outside_of[group] += record.outside
    for key, record in procs.items():
        assert record.kids == kids[key], f"{key} has {kids[key]} kids, not {record.kids}"
    for number, group in groups.items():
        name = f"{'family' if group.kind == abi.FAMILY else 'branch'} {number}"
        assert group.slots == of_group[number], f"{name}: {group.slots} slots, its records have {of_group[number]}"
        assert group.outside == outside_of[number], f"{name}: {group.outside} outside, {outside_of[number]} on record"
        assert group.inflight == reserved[number], f"{name}: {group.inflight} in flight, {reserved[number]} reserved"
        assert group.slots > 0 or group.flags & abi.GROUP_WATCHED, f"{name} is empty and still there"
        assert group.records == (of_family[number] if group.kind == abi.FAMILY else 0), f"records of {name}"
        assert group.peak >= group.slots
        assert bool(group.held_ns) == bool(group.flags & abi.GROUP_HELD)
    assert counters.holds == sum(bool(group.flags & abi.GROUP_HELD) for group in groups.values())
    assert counters.records == len(procs)
    assert counters.hidden == sum(bool(task.flags & abi.TASK_FOLDED) for task in tasks.values())
