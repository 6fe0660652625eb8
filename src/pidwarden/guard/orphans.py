"""Everybody who lost its parent, judged: the table, the guard's history if there is one, and what the machine tells."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pidwarden.diagnose.orphans import How, Lost, Orphan, by_history, by_shape, judge
from pidwarden.kernel import namespaces, orphans, procfs

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pidwarden.kernel.evidence import Read
    from pidwarden.kernel.logind import Logind
    from pidwarden.model.key import ProcessKey
    from pidwarden.model.orphan import Login, Task, Traces
    from pidwarden.model.record import Record

_MANAGERS = ("/lib/systemd/systemd", "/usr/lib/systemd/systemd")


class Search:
    """One look at the table. `records` is the guard's history, empty without one; kernel threads do not matter."""

    def __init__(
        self, everybody: Iterable[Task], records: Sequence[Record], logind: Logind, ask: Read, root: str = procfs.PROC
    ) -> None:
        self.everybody = [t for t in everybody if not t.kernel]
        self.table = {t.pid: t for t in self.everybody if not t.ended}
        self._records = {r.key: r for r in records}
        self._present = {(r.key.tgid, r.key.start_ticks): r for r in records if r.slots > 0}
        self._logind, self._ask, self._root = logind, ask, root
        self._reapers: dict[int, bool] = {}
        self._lost: dict[int, Lost] | None = None
        self._sessions: dict[int, int | None] = {}
        self._open: dict[int, int] = {}  # login session: somebody who is in it, 0 for nobody

    def record(self, task: Task) -> Record | None:
        """What the guard has of a process."""
        return self._present.get((task.pid, task.start_ticks))

    def lost(self) -> dict[int, Lost]:
        """Everybody who lost its parent, by pid."""
        if self._lost is None:
            found = ((pid, self.loss(task)) for pid, task in self.table.items() if pid != 1)
            self._lost = {pid: loss for pid, loss in found if loss}
        return self._lost

    def loss(self, task: Task) -> Lost | None:
        """How one lost its parent; None if it has it still, as far as can be told."""
        if record := self.record(task):
            decided, found = by_history(record, self._records, self._lives)
            if decided:
                return found
        return by_shape(task, self.table, reaper=self._reaps(task.ppid))

    def look(self, task: Task) -> Orphan | None:
        """One of :meth:`lost`, judged; None if it is gone, or turns out to be where it belongs."""
        lost = self.lost()[task.pid]
        traces = orphans.traces(task.pid, self._logind, self._ask, self._root)
        if procfs.stat_of(task.key, self._root) is None or _at_home(task, lost, traces):
            return None
        if traces.login:
            traces = traces._replace(login=self._session(traces.login, task))
        return judge(task, lost, traces, self.table)

    def _lives(self, key: ProcessKey) -> bool:
        found = self.table.get(key.tgid)
        return found is not None and found.start_ticks == key.start_ticks

    def _reaps(self, pid: int) -> bool:
        """Whether one adopts others: pid 1, the first process of a namespace, a user's systemd."""
        if pid not in self._reapers:
            task = self.table.get(pid)
            manager = task is not None and task.ppid == 1 and task.session == pid and task.exe in _MANAGERS
            inner = namespaces.inner_pids(pid, self._root)
            self._reapers[pid] = pid == 1 or manager or (len(inner) > 1 and inner[-1] == 1)
        return self._reapers[pid]

    def _session(self, login: Login, task: Task) -> Login:
        """With what the living say: a session is open while somebody is in it who is no orphan, nor of one.

        Files of a login manager that does not run (any more) say nothing, and there may be none.
        """
        number = self._number(task.pid)
        if number is None or login.name != str(number) or login.open:
            return login
        if number not in self._open:
            told = login.open is not None
            found = (t.pid for t in self.table.values() if self._is_in(t, number, told=told))
            self._open[number] = next(found, 0)
        if inside := self._open[number]:
            return login._replace(open=True, told=f"pid {inside} is in it")
        return login._replace(open=False, told="nobody is in it but orphans and what descends from them")

    def _number(self, pid: int) -> int | None:
        """The login session of a process."""
        if pid not in self._sessions:
            self._sessions[pid] = orphans.audit_session(pid, self._root)
        return self._sessions[pid]

    def _is_in(self, task: Task, number: int, *, told: bool) -> bool:
        """Whether a process is in a login session, and no orphan's.

        A login(1) that pid 1 started looks like an orphan. Unless a login manager has `told` that the session is over,
        who is only guessed to be one keeps it open.
        """
        at: Task | None = task
        while at is not None and self._number(at.pid) == number:
            lost = self.lost().get(at.pid)
            if lost and (told or lost.how is not How.GUESSED or at.session != at.pid):
                return False
            at = self.table.get(at.ppid)
        return at is not task


def _at_home(task: Task, lost: Lost, traces: Traces) -> bool:
    """Whether what looks like an orphan was made by its parent: a service by systemd, a session's first process."""
    if lost.how is not How.GUESSED:
        return False
    if traces.login and traces.login.leader == task.pid:
        return True
    return task.session == task.pid and traces.unit is not None and traces.unit.active is True
