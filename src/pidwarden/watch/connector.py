"""Families from the process connector: every fork, exec and exit is announced; what is lost is repaired from /proc.

What it cannot tell: who reaped whom (asked of the kernel when it matters), and who used CLONE_PARENT: there the real
parent is announced, not the creator. A child that runs another program than its parent, although no exec was announced,
gives that away; it goes to the family of the last one like it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pidwarden.kernel import connector, procfs
from pidwarden.kernel.clock import asleep_ns, boot_ns
from pidwarden.model.record import ProcFlag
from pidwarden.watch.poll import PollSource

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pidwarden.kernel.connector import Event
    from pidwarden.model.record import Signal
    from pidwarden.watch.entries import Entry

_EXEC_NS = 20_000_000  # between the moment when a process shows its new program and the announcement of its exec
_SILENCE_NS = 1_000_000_000
_NO_PROGRAM = (0, 0)
_BATCH = 128  # events read before the books are brought up to date
_MOST = 1 << 17  # events taken at a time, then others get their turn
_REPAIR_SHARE = 4  # repairs take at most this part of the time
_OFFSPRING = int(ProcFlag.SPAWNER | ProcFlag.SHELL)


class ConnectorSource(PollSource):
    """The books, kept from process events; by looks at /proc, should they fail while the guard runs.

    Raises:
        PidwardenError: there are no process events for us here.
    """

    name = "connector"
    how = "process connector (netlink), repaired from /proc"
    sees_parents = False

    def __init__(self, max_records: int = 65536, buffer_bytes: int = connector.BUFFER) -> None:
        super().__init__(max_records)
        self._connector: connector.Connector | None = connector.Connector(buffer_bytes)
        self._seen = (0, 0)  # events lost, overruns, when the books were last set right
        self._repair_ns = 0
        self._heard = 0  # events, since the last look whether there are any
        self._listen_ns = boot_ns() + _SILENCE_NS
        self._called = False  # since that look
        self._suspects: dict[int, tuple[Entry, Entry, tuple[int, int], int]] = {}
        self._siblings: dict[tuple[int, tuple[int, int]], Entry] = {}  # by parent and program: the last of its children

    def fileno(self) -> int:
        """See :class:`~pidwarden.watch.base.Source`."""
        return self._connector.fileno() if self._connector else super().fileno()

    def next_ns(self) -> int | None:
        """When a repair is due that was put off, an exec should have been announced, or silence is looked into."""
        if self._connector is None:
            return super().next_ns()
        due = [self._listen_ns]
        if self._repair_ns:
            due.append(self._repair_ns)
        if self._suspects:
            due.append(next(iter(self._suspects.values()))[3] + _EXEC_NS)
        return min(due)

    def close(self) -> None:
        """See :class:`~pidwarden.watch.base.Source`."""
        if self._connector:
            self._connector.close()

    def refresh(self, *, to_alarm: bool = False) -> None:
        """Reads the events that wait, at an alarm no further if so asked, and repairs if some were lost."""
        if self._connector is None:
            super().refresh()
            return
        try:
            self._read(self._connector, to_alarm=to_alarm)
        except OSError as why:
            self._fall_back(f"reading failed: {why.strerror}")

    def signals(self) -> Iterator[Signal]:
        """See :class:`~pidwarden.watch.base.Source`. An alarm does not wait for the rest."""
        self.refresh(to_alarm=True)
        return self._take_signals()

    def _read(self, source: connector.Connector, *, to_alarm: bool) -> None:
        offset = asleep_ns()
        taken = 0
        while taken < _MOST and (events := source.read(_BATCH)):
            taken += len(events)
            for event in events:
                self._take(event, event.time_ns + offset)
            if to_alarm and self.books.signals:
                break
        self._heard += taken
        if self._suspects:
            self._convict()
        self._repair(source)
        if boot_ns() >= self._listen_ns:
            self._listen()

    def _repair(self, source: connector.Connector) -> None:
        """After a loss: a look at everybody in /proc, which takes at most a part of the time."""
        seen, began = (source.lost, source.overruns), boot_ns()
        if seen == self._seen:
            self._repair_ns = 0
        elif began >= self._repair_ns:
            self.books.lost_events += max(1, seen[0] - self._seen[0])
            self._seen = seen
            self.seed()
            self._repair_ns = boot_ns() + _REPAIR_SHARE * (boot_ns() - began)

    def _listen(self) -> None:
        """Whether it still speaks: a change of our own name is announced, even to the same one."""
        if not self._heard and self._called:
            self._fall_back("it has gone silent")
            return
        self._called = not self._heard
        if self._called:
            procfs.name_again()
        self._listen_ns, self._heard = boot_ns() + _SILENCE_NS, 0

    def _fall_back(self, why: str) -> None:
        self.close()
        self._connector = None
        self.sees_parents = True
        self.name, self.how = PollSource.name, f"{PollSource.how}, after the process connector: {why}"
        self.notes.append(f"the process connector is given up ({why}): families are now known by {self.how}")
        self.seed()

    def _take(self, event: Event, now_ns: int) -> None:
        books = self.books
        books.now_ns = now_ns
        if event.what == connector.FORK:
            self._fork(event, now_ns)
            return
        entry = books.alive.get(event.b)
        if entry is None:
            if event.what in (connector.EXEC, connector.UID):
                self._meet(event.b)  # one that we could not see before, or whose fork was lost
            return
        if event.what == connector.EXIT:
            if event.a == event.b or entry.counted_ns < now_ns:
                books.exit(entry, event.c, leader=event.a == event.b)
        elif event.what == connector.EXEC:
            self._exec(entry)
        else:
            self._told(entry, event)

    def _told(self, entry: Entry, event: Event) -> None:
        if event.what == connector.UID:
            if event.c == os.geteuid() != 0 and entry.uid != event.c and self._program(entry.pid)[0] == _NO_PROGRAM:
                entry.flags |= int(ProcFlag.SPAWNER)  # a session begins; until it runs another program
            entry.uid = event.c
        elif event.what == connector.SID:
            entry.leads = True
        elif event.what == connector.COMM and event.a == event.b:
            entry.comm = event.comm

    def _exec(self, entry: Entry) -> None:
        exe, flags = self._program(entry.pid)
        stat = procfs.stat(entry.pid)
        comm = stat.comm if stat and self._is(entry, stat) else None
        self.books.exec(entry, flags, comm, exe)
        self._suspects.pop(entry.pid, None)
        if entry.parent and (entry.parent.flags & _OFFSPRING or not entry.generation):
            self._siblings[entry.parent.pid, exe] = entry

    def _fork(self, event: Event, now_ns: int) -> None:
        books = self.books
        if event.c != event.d:
            entry = books.alive.get(event.d)
            if entry and entry.counted_ns < now_ns:
                books.thread(entry)
            return
        creator = books.alive.get(event.b) or self._meet(event.b)
        known = books.alive.get(event.d)
        if known and known.flags & ProcFlag.GUESSED and self._is_told(known, now_ns):
            return
        if creator is None:
            self._meet(event.d)
            return
        entry = books.born(creator, event.d, now_ns, by_thread=event.a != event.b, exact=False)
        if creator.flags & _OFFSPRING or not entry.generation:
            self._suspect(entry, creator)

    @staticmethod
    def _is_told(known: Entry, born_ns: int) -> bool:
        """Whether /proc told of the announced one already: then who has the pid now is the one that is known.

        Of one within execve it does not tell who he is: but he was there after this birth, and no end was announced.
        """
        stat = procfs.stat(known.pid)
        if stat is None:
            return known.live > 0 and known.counted_ns >= born_ns and procfs.exists(known.pid)
        return stat.start_ticks == known.key.start_ticks

    def _meet(self, pid: int) -> Entry | None:
        """A process that events speak of and the books do not know."""
        read_ns, stat = boot_ns(), procfs.stat(pid) or procfs.veiled(pid)
        if stat is None or stat.state in "ZX":
            return None
        self.books.adopted += 1
        return self._adopt(stat, read_ns)

    def _suspect(self, entry: Entry, parent: Entry) -> None:
        """See the module's text. An exec shows before it is announced, so its announcement is awaited for a while."""
        exe, _flags = self._program(entry.pid)
        if exe not in (parent.exe, _NO_PROGRAM):
            self._suspects[entry.pid] = (entry, parent, exe, boot_ns())

    def _convict(self) -> None:
        """Newcomers that run another program than their parent, and no exec was announced: copies of a sibling."""
        now = boot_ns()
        for pid, (entry, parent, exe, since_ns) in list(self._suspects.items()):
            if now - since_ns < _EXEC_NS:
                return  # in order of birth: the others are younger
            del self._suspects[pid]
            sibling = self._siblings.get((parent.pid, exe))
            if entry.execs or entry.parent is not parent or sibling is None or sibling.exe != exe:
                continue
            self.books.now_ns = now
            entry.exe = exe
            self.books.rehome(entry, sibling)
            self._siblings[parent.pid, exe] = entry
