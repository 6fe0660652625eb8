"""The rule for D state: tasks that sleep uninterruptibly and have not run since an earlier look."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pidwarden.guard.rules.episodes import Episodes, Finding
from pidwarden.guard.rules.surroundings import SECOND, described, lasting, named
from pidwarden.kernel import evidence, procfs
from pidwarden.model.text import escape

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pidwarden.guard.report import Reporter
    from pidwarden.guard.rules.episodes import Told
    from pidwarden.guard.rules.surroundings import Surroundings
    from pidwarden.guard.rules.survey import Records, Task, Who
    from pidwarden.model.record import Record
    from pidwarden.settings.rules import StuckRule

_FROZEN = ("__refrigerator",)  # the freezer of cgroup v1 shows as D: somebody froze it, nothing is stuck
_MOST = 2000  # tasks in D state that are followed; a storage that is gone may stop more


class _Seen(NamedTuple):
    since_ns: int
    runs: int  # how often it has been switched away from
    task: Task


class Stuck:
    """Takes the tasks of a look one by one, then ends the look."""

    def __init__(self, around: Surroundings, report: Reporter) -> None:
        self._around, self._report = around, report
        self._seen: dict[Who, _Seen] = {}
        self._fresh: dict[Who, _Seen] = {}
        self._records: dict[Who, Record | None] = {}  # of those that are told of: their process's
        self._outside: set[Who] = set()  # those that are not in scope
        self.episodes = Episodes()

    def begin(self) -> None:
        """Forgets what a look took that was given up."""
        self._fresh = {}

    def take(self, task: Task, now_ns: int) -> None:
        """Notes a task in D state, and since when it has not run."""
        stat = task.stat
        if len(self._fresh) >= _MOST:
            return
        who = (stat.pid, stat.start_ticks)
        runs = switches(_folder(task))
        before = self._seen.get(who)
        same = before is not None and before.runs == runs
        self._fresh[who] = _Seen(before.since_ns if before and same else now_ns, runs, task)

    def end(self, rule: StuckRule, records: Records, now_ns: int) -> Iterator[None]:
        """Judges what was taken, and tells it; in pieces."""
        self._seen, self._fresh = self._fresh, {}
        long = [(who, s) for who, s in self._seen.items() if now_ns - s.since_ns >= rule.age * SECOND]
        beyond: dict[Who, tuple[_Seen, str]] = {}
        for who, seen in long:
            wchan = evidence.wchan(_folder(seen.task), evidence.unless_within_exec)
            if wchan not in _FROZEN:
                beyond[who] = seen, wchan if isinstance(wchan, str) else ""
            yield
        self._outside &= beyond.keys()
        if beyond.keys() - self._records.keys() - self._outside:
            yield from records.load({seen.task.tgid for seen, _wchan in beyond.values()})
        found: dict[Any, Finding] = {}
        for who, (seen, wchan) in beyond.items():
            if who not in self._records and who not in self._outside:
                record = _record_of(records, seen.task)
                if self._around.covers(record):
                    self._records[who] = record
                else:
                    self._outside.add(who)
            if who in self._records:
                found[who] = self._finding(who, seen, wchan, now_ns)
            yield
        for told in self.episodes.look(found, now_ns):
            self._tell(told)
            yield
        self._records = {who: r for who, r in self._records.items() if who in self.episodes}

    def _finding(self, who: Who, seen: _Seen, wchan: str, now_ns: int) -> Finding:
        task, lasted = seen.task, now_ns - seen.since_ns
        thread = "" if task.stat.pid == task.tgid else f", a thread of {task.tgid},"
        where = f" in {escape(wchan.encode())}" if wchan else ""
        text = (
            f"{named(task.stat)}{thread} is in D state{where} and has not run for at least {lasting(lasted)}; "
            f"type `pidwarden stuck pid:{task.tgid}`"
        )
        process = described(task.stat, None) | {"pid": task.tgid, "tid": task.stat.pid}
        record = self._records[who]
        if record is not None:
            process["start_ns"] = record.key.start_ns
        facts = {"task": process, "seconds": round(lasted / SECOND, 1), "wchan": wchan or None}
        return Finding(max(1, lasted // SECOND), beyond=True, text=text, facts=facts)

    def _tell(self, told: Told) -> None:
        text = told.finding.text
        if told.what == "over":
            task = told.finding.facts["task"]
            text = f"{task['comm']} ({task['tid']}): over, after {lasting(told.lasted_ns)} of it were told"
        self._report("finding", rule="stuck", what=told.what, text=text, **told.finding.facts)


def _folder(task: Task) -> str:
    return evidence.path(task.tgid, task.stat.pid if task.stat.pid != task.tgid else 0)


def _record_of(records: Records, task: Task) -> Record | None:
    """That of its process; a thread has its own start time."""
    found = [r for (pid, _ticks), r in records.found.items() if pid == task.tgid and r.alive]
    return max(found, key=lambda r: r.key.start_ns, default=None)


def switches(folder: str) -> int:
    """How often a thread was switched away from, -1 if it is gone; as long as it sleeps it does not change."""
    data = procfs.read_bytes(f"{folder}/status") or b""
    lines = [line for line in data.split(b"\n") if line.startswith((b"voluntary_ctxt", b"nonvoluntary_ctxt"))]
    return sum(int(line.split()[1]) for line in lines) if lines else -1
