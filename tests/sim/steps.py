"""Steps that a random history is made of: a word and two numbers, which choose who does it and how.

A step that nobody can take does nothing, so every list of steps is a history.
"""

from __future__ import annotations

from signal import SIGSTOP
from typing import TYPE_CHECKING, Any

from simulator import HOOKS
from world import BRANCH_AGE, ENTERED, JOB_GAP, MS, PLAIN, STOPPED, Process, Task, World

from pidwarden.kernel import abi
from pidwarden.model.record import ProcFlag

if TYPE_CHECKING:
    from collections.abc import Sequence

LIFE = ["fork", "fork", "fork", "thread", "exec", "exit", "kill", "reap", "free", "wait"]
RARE = ["setuid", "rename", "terminal", "subreaper", "kthread"]
CALM = ["exec", "exit", "kill", "reap", "free", "wait", "split", "release", "harvest"]
GATES = [*["enter", "leave", "storm", "calm"] * 3, *CALM]
CROWD = [*["burst"] * 6, "drain", "reseed", *LIFE]
CALLS = ["fork", "vfork", "clone", "clone3", "every", "x32", *HOOKS]
COMMS = [b"sh", b"a) R 1 (", b"\xff\n\x1b[2J", b"fifteen-bytes-x", b"more than fifteen bytes"]
ERESTARTNOINTR = 513
TIMES = [1, MS, JOB_GAP - 1, JOB_GAP, BRANCH_AGE - 1, BRANCH_AGE, 60 * BRANCH_AGE]


def pick(choices: Sequence[Any], number: int) -> Any:
    return choices[number % len(choices)] if choices else None


def step(world: World, op: str, a: int, b: int) -> None:
    """One step of anybody's life."""
    if op in _OF_A_TASK:
        if task := pick(world.living(), a):
            _OF_A_TASK[op](world, task, b)
    elif op in _OF_A_VICTIM:
        if victim := pick(world.mortal(), a):
            _OF_A_VICTIM[op](world, victim, b)
    elif op == "reap":
        if zombie := pick(world.zombies(), a):
            world.reap(zombie, delay=b % 2 != 0)
    elif op == "free":
        if dead := pick(world.dead(), a):
            world.free(dead, missed=b % 5 == 4)
    else:
        _OF_NOBODY[op](world, a, b)


def _fork(world: World, task: Task, b: int) -> None:
    world.fork(task, sibling=b % 8 == 7 and task.process is not world.init)


def _thread(world: World, task: Task, _b: int) -> None:
    if task.process is not world.init:
        world.thread(task)


def _exec(world: World, task: Task, b: int) -> None:
    if task.process is not world.init:
        world.exec(task, 1 + b % 4, COMMS[b % 5], delay=b % 3 != 0)


def _setuid(world: World, task: Task, b: int) -> None:
    world.setuid(task.process, b)


def _rename(world: World, task: Task, b: int) -> None:
    world.rename(task, COMMS[b % 5])


def _terminal(world: World, task: Task, b: int) -> None:
    world.terminal(task.process, on=b % 3 != 0)


def _subreaper(world: World, task: Task, _b: int) -> None:
    task.process.subreaper = True
    world.say(f"{task.process.key} is a subreaper")


def _exit(world: World, task: Task, b: int) -> None:
    """Of one thread: with a code of its own only if it is the last, or wait(2) would tell of another."""
    if not task.process.flags & ProcFlag.KTHREAD:
        last = len(task.process.living) == 1
        world.exit_task(task, b % 3 << 8 if last else 0, delay=b % 2 != 0)


def _kill(world: World, task: Task, b: int) -> None:
    world.exit_group(task.process, b % 16, delay=b % 2 != 0)


def _wait(world: World, a: int, _b: int) -> None:
    world.tick(pick(TIMES, a))
    world.say(f"now is {world.sim.now}")


def _sweep(world: World, a: int, _b: int) -> None:
    cutoff = world.sim.now - pick(TIMES, a)
    world.say(f"sweep: who exited before {cutoff}")
    world.sim.sweep(cutoff)


def _kthread(world: World, _a: int, b: int) -> None:
    helper = world.kernel_thread()
    if b % 2:
        world.exec(helper.tasks[0], 1 + b % 4, b"modprobe")


_OF_A_TASK = {
    "fork": _fork,
    "thread": _thread,
    "exec": _exec,
    "setuid": _setuid,
    "rename": _rename,
    "terminal": _terminal,
    "subreaper": _subreaper,
}
_OF_A_VICTIM = {"exit": _exit, "kill": _kill}
_OF_NOBODY = {"wait": _wait, "sweep": _sweep, "kthread": _kthread}


# -- maps that are full ------------------------------------------------------------------------------------------------


def crowd_step(world: World, op: str, a: int, b: int) -> None:
    """As above, or many at once."""
    if op == "burst":
        task = pick(world.living(), a)
        for _ in range(b % 12):
            world.fork(task)
    elif op == "reseed":
        world.say("seed")
        world.sim.seed(world.init.tasks[0].address)
    elif op == "drain":
        for process in [p for p in world.processes if p.living and p not in (world.init, world.kthreadd)][: a % 20]:
            world.exit_group(process, 0, delay=b % 2 != 0)
        for process in world.zombies():
            world.reap(process, delay=b % 2 != 0)
        for task in world.dead():
            world.free(task)
    else:
        step(world, op, a, b)


# -- gates -------------------------------------------------------------------------------------------------------------


class Gated(World):
    """Forks go through the gate; a task that is in a fork, or stopped, does nothing else."""

    def __init__(self, *, autohold: bool = True, **config: int) -> None:
        super().__init__(flags=abi.CONFIG_AUTOHOLD * autohold, **config)
        self.attach()
        self.sim.control(abi.OP_FLAG, abi.PROC_EXEMPT, self.init.key.tgid, self.init.key.start_ns)
        self.alarms: dict[int, int] = {}  # since the last answer
        self.watched: dict[int, bool] = {}  # families that were split off: whether anybody is in them

    def enter(self, task: Task, call: str) -> None:
        self.say(f"task {task.pid} of {task.process.key} enters {call}")
        self.sim.compat(task.address, on=call == "every")
        signal = self.sim.gate(task.address, call)
        if call in HOOKS:
            assert self.sim.answer() == (-ERESTARTNOINTR if signal else 0)
        task.call = call
        record, groups = self.sim.procs()[task.process.key], self.sim.groups()
        held = any(groups[g].flags & abi.GROUP_HELD for g in {record.family, record.branch} & groups.keys())
        exempt = task.process is self.init
        assert signal == (SIGSTOP if held and not exempt else 0)
        task.doing = STOPPED if signal else ENTERED
        entry = self.sim.tasks()[task.address]
        reserved = (entry.reserved_branch, entry.reserved_family)
        assert reserved == ((0, 0) if signal or exempt else (record.branch, record.family))

    def leave(self, task: Task, how: str) -> None:
        """Out of the fork: a process, a thread, or an error."""
        task.doing = 0
        if how == "error":
            self.say(f"the fork of task {task.pid} fails")
            if task.call in HOOKS:
                self.sim.fail(task.address, task.call)
        elif how == "thread" and task.process is not self.init:
            self.thread(task)
        else:
            self.fork(task)
        if how != "error" or task.call in HOOKS:
            entry = self.sim.tasks()[task.address]
            assert (entry.reserved_branch, entry.reserved_family) == (0, 0)

    def release(self, number: int, limit: int, depth: int) -> None:
        self.say(f"group {number} is released, with limit {limit}")
        assert self.sim.control(abi.OP_RELEASE, number, limit, depth)
        self.alarms[number] = 0
        for task in self.tasks:
            if task.doing == STOPPED:
                task.doing = 0  # SIGCONT; it enters the same call again

    def split(self, guilty: Process) -> None:
        """A family of its own for a process and its living descendants; then it is forgotten again, to be let go."""
        key = guilty.key
        number = self.sim.control(abi.OP_NEW_FAMILY, self.sim.procs()[key].family, key.tgid, key.start_ns)
        moved = [p for p in self.processes if p.slots and guilty in p.ancestors()]
        self.say(f"{', '.join(str(p.key) for p in moved)} move into family {number}")
        for process in moved:
            assert self.sim.control(abi.OP_MOVE, number, process.key.tgid, process.key.start_ns)
        self.alarms[number] = 1
        self.watched[number] = True

    def one_alarm(self) -> None:
        for event in self.sim.events():
            if event.kind == abi.EVENT_ALARM:
                self.alarms[event.group] = self.alarms.get(event.group, 0) + 1
                assert self.alarms[event.group] == 1, f"a second alarm of group {event.group}"
            elif event.kind == abi.EVENT_EMPTY:
                assert self.watched[event.group]
                assert not self.true_slots().get(event.group), f"group {event.group} is not empty"
                self.watched[event.group] = False
        for number, group in self.sim.groups().items():
            assert bool(group.flags & abi.GROUP_ALARMED) == bool(self.alarms.get(number)), f"alarm of {number}"

    def true_slots(self) -> dict[int, int]:
        found: dict[int, int] = {}
        records = self.sim.procs()
        for process in self.processes:
            record = records.get(process.key)
            for number in {record.family, record.branch} - {0} if record else ():
                found[number] = found.get(number, 0) + process.slots
        return found


def gated_step(world: Gated, op: str, a: int, b: int) -> None:
    """One step of a machine whose gates are up."""
    if op in _OF_THE_GATES:
        _OF_THE_GATES[op](world, a, b)
    else:
        step(world, op, a, b)


def _enter(world: Gated, a: int, b: int) -> None:
    if task := pick(world.living(), a):
        world.enter(task, pick(CALLS, b))


def _leave(world: Gated, a: int, b: int) -> None:
    if task := pick([t for t in world.tasks if t.doing == ENTERED], a):
        world.leave(task, ["fork", "fork", "thread", "error"][b % 4])


def _storm(world: Gated, _a: int, b: int) -> None:
    """As many at once as there are."""
    for task in world.living():
        world.enter(task, pick(CALLS, b))


def _calm(world: Gated, a: int, _b: int) -> None:
    for task in [t for t in world.tasks if t.doing == ENTERED]:
        world.leave(task, ["fork", "fork", "thread", "error"][(a + task.pid) % 4])


def _harvest(world: Gated, a: int, b: int) -> None:
    for process in dict.fromkeys(task.process for task in world.mortal()[: a % 9]):
        world.exit_group(process, 0, delay=b % 4 != 0)
    for process in world.zombies():
        world.reap(process, delay=b % 4 != 0)


def _split(world: Gated, a: int, _b: int) -> None:
    task = pick(world.living(), a)
    if task and task.process is not world.init:
        world.split(task.process)


def _release(world: Gated, a: int, b: int) -> None:
    groups = world.sim.groups()
    if number := pick(sorted(n for n, group in groups.items() if group.flags & abi.GROUP_HELD), a):
        world.release(number, groups[number].limit + b % 4, groups[number].depth_limit + b % 3)


def _gated_exec(world: Gated, a: int, b: int) -> None:
    task = pick(world.living(), a)
    if task and task.process is not world.init:
        world.exec(task, PLAIN, b"sh", delay=b % 2 != 0)


_OF_THE_GATES = {
    "enter": _enter,
    "leave": _leave,
    "storm": _storm,
    "calm": _calm,
    "harvest": _harvest,
    "split": _split,
    "release": _release,
    "exec": _gated_exec,
}
