"""What events, or looks alone, leave in the books of processes that do not show who they are: those within execve."""

from __future__ import annotations

from collections import deque

import pytest

from pidwarden.kernel import connector, procfs
from pidwarden.kernel.clock import boot_ns
from pidwarden.kernel.config import Config
from pidwarden.kernel.connector import EXIT, FORK, UID, Event
from pidwarden.kernel.procfs import VEILED, Stat
from pidwarden.model.key import TICK_NS
from pidwarden.model.record import ProcFlag
from pidwarden.watch import connector as watching
from pidwarden.watch.poll import PollSource

PARENT, CHILD = 4000, 4001
BORN_NS = 1000 * TICK_NS


class Machine:
    """The events that wait, and what /proc says of each process; a start that is VEILED is of one within execve."""

    def __init__(self, root) -> None:
        self.events: deque[Event] = deque()
        self.stats: dict[int, Stat] = {}
        self._root = root
        self.lost = self.overruns = 0

    def is_there(self, pid: int, ppid: int, start_ticks: int) -> None:
        self.stats[pid] = Stat(pid, b"it", "D" if start_ticks == VEILED else "S", ppid, 1, 1, 0, -1, 1, start_ticks)
        (self._root / str(pid)).mkdir(exist_ok=True)

    def is_gone(self, pid: int) -> None:
        del self.stats[pid]
        (self._root / str(pid)).rmdir()

    def read(self, most: int) -> list[Event]:
        return [self.events.popleft() for _ in range(min(most, len(self.events)))]

    def stat(self, pid: int) -> Stat | None:
        found = self.stats.get(pid)
        return None if found is None or found.start_ticks == VEILED else found

    def within_exec(self, folder: str) -> bool:
        return self.veiled(int(folder.rpartition("/")[2])) is not None

    def veiled(self, pid: int) -> Stat | None:
        found = self.stats.get(pid)
        return found if found is not None and found.start_ticks == VEILED else None


@pytest.fixture
def machine(monkeypatch, tmp_path):
    made = Machine(tmp_path)
    monkeypatch.setattr(connector, "Connector", lambda _bytes: made)
    monkeypatch.setattr(procfs, "PROC", str(tmp_path))
    for name in ("stat", "veiled", "within_exec"):
        monkeypatch.setattr(procfs, name, getattr(made, name))
    monkeypatch.setattr(procfs, "exists", lambda pid: pid in made.stats)
    monkeypatch.setattr(procfs, "owner", lambda _pid: 0)
    monkeypatch.setattr(procfs, "program", lambda _pid: None)
    monkeypatch.setattr(watching, "asleep_ns", lambda: 0)
    return made


@pytest.fixture
def source(machine):
    """It knows the parent, who shows himself."""
    machine.is_there(PARENT, 1, 900)
    return begun(watching.ConnectorSource())


def begun(made):
    made.configure(Config(10**9, 10**9, 10**9, 300, 450, 10**4, autohold=True, only_scoped=False, history=True))
    made.seed()
    return made


def fork(time_ns: int = BORN_NS, parent: int = PARENT) -> Event:
    return Event(FORK, time_ns, parent, parent, CHILD, CHILD)


def ended(time_ns: int) -> Event:
    return Event(EXIT, time_ns, CHILD, CHILD, 0, 17)


def living(source, pid=CHILD):
    return [r for r in source.records() if r.key.tgid == pid and r.slots]


def test_one_within_execve_that_a_look_met_before_its_fork_was_read_stays_who_it_is(machine, source):
    """What was noted of him, that he was stopped, would go with that record: nobody would ever let him go on."""
    machine.is_there(CHILD, PARENT, VEILED)
    source.seed()
    (met,) = living(source)
    assert met.flags & ProcFlag.GUESSED
    source.mark_stopped(met.key)
    machine.events.append(fork(boot_ns() - 10**9))
    (known,) = living(source)
    assert (known.key, known.held_ns > 0, known.exit_ns) == (met.key, True, 0)
    assert [r.key for r in source.stopped()] == [met.key]
    assert source.record(met.key).alive


def test_one_that_got_the_pid_of_somebody_who_ended_is_another(machine, source):
    machine.is_there(CHILD, PARENT, VEILED)
    source.seed()
    (met,) = living(source)
    after = boot_ns()
    machine.events += [ended(after), fork(after + TICK_NS)]
    (known,) = living(source)
    assert known.key.start_ns == after + TICK_NS
    assert not source.record(met.key).alive


def test_one_whose_end_was_lost_is_not_the_next_with_its_pid(machine, source):
    machine.is_there(CHILD, PARENT, VEILED)
    source.seed()
    (met,) = living(source)
    born = boot_ns() + TICK_NS  # after the look that met the other one
    machine.events.append(fork(born))
    (known,) = living(source)
    assert known.key.start_ns == born
    assert not source.record(met.key).alive


def test_one_that_is_gone_when_its_fork_is_read_leaves_a_record_of_it(machine, source):
    machine.is_there(CHILD, PARENT, VEILED)
    source.seed()
    machine.is_gone(CHILD)
    machine.events += [fork(), ended(BORN_NS + TICK_NS)]
    source.settle()
    assert not living(source)
    assert [r.exit_ns for r in source.records() if r.key.start_ns == BORN_NS] == [BORN_NS + TICK_NS]


@pytest.mark.parametrize(
    "event", [fork(parent=3999), Event(UID, BORN_NS, CHILD, CHILD, 0, 0)], ids=["fork-by-a-stranger", "uid"]
)
def test_one_within_execve_that_only_events_speak_of_is_known_from_then_on(machine, source, event):
    machine.is_there(CHILD, PARENT, VEILED)
    machine.events.append(event)
    (known,) = living(source)
    assert known.parent.tgid == PARENT
    assert known.family == living(source, PARENT)[0].family
    machine.is_there(CHILD, PARENT, known.key.start_ticks)
    assert source.confirm(known.key)


def test_one_within_execve_counts_as_stopped_when_it_is_by_its_events(machine, source):
    """A sweep that cannot confirm it begins anew for seconds, and lets it go on each time."""
    born = boot_ns()
    machine.is_there(CHILD, PARENT, VEILED)
    machine.events.append(fork(born))
    (known,) = living(source)
    source.hold(known.family)
    assert known.key in source.loose()
    assert source.confirm(known.key)
    assert known.key not in source.loose()
    machine.is_there(CHILD, PARENT, born // TICK_NS - 1)
    (shown,) = [r for r in source.stopped() if r.key.tgid == CHILD]  # by its start, or nobody could let it go on
    assert shown.key.start_ticks == born // TICK_NS - 1


def test_one_that_took_the_pid_before_sigstop_came_is_not_confirmed(machine, source):
    born = boot_ns()
    machine.is_there(CHILD, PARENT, VEILED)
    machine.events.append(fork(born))
    (known,) = living(source)
    machine.events.append(ended(born + TICK_NS))
    source.refresh()
    assert not source.confirm(known.key)


def test_looks_leave_one_within_execve_alone_until_it_shows_itself(machine):
    machine.is_there(PARENT, 1, 900)
    source = begun(PollSource())
    machine.is_there(CHILD, PARENT, VEILED)
    source.seed()
    (known,) = living(source)
    source.hold(known.family)
    assert PARENT in {key.tgid for key in source.loose()}
    assert known.key not in source.loose()
    assert known.key not in source.fresh({known.family})
    assert not source.confirm(known.key)
    machine.is_there(CHILD, PARENT, known.key.start_ticks)
    source.seed()
    assert known.key in source.loose()
