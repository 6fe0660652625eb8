"""The rule for the kernel's other tables: nearly full, or full soon at the rate of the last minutes, or refusing.

It reads what waits for nobody. Who has which inotify watches stands behind links that may not answer, so that is left
to `pidwarden tables`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pidwarden.diagnose.tables import Finding as Judged
from pidwarden.diagnose.tables import Trend, judge
from pidwarden.diagnose.tabletext import command
from pidwarden.guard.rules.episodes import Episodes, Finding
from pidwarden.guard.rules.surroundings import SECOND, lasting
from pidwarden.kernel.tables import (
    aio,
    cgroups,
    conntrack,
    crowd,
    files,
    keys,
    mounts,
    neighbours,
    ports,
    ptys,
    tasks,
    timewait,
)
from pidwarden.model.gauge import Table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pidwarden.guard.report import Reporter
    from pidwarden.model.gauge import Gauge, Thresholds
    from pidwarden.settings.tables import Tables as Shares

_WINDOW_NS = 300 * SECOND  # a rate is that of the last five to ten minutes
_FOLLOWED = 4000  # tables whose rate is known; more than that are processes that come and go
_WORTH = 0.25  # of its limit a process has to have open to be followed
_PEOPLE_EVERY = 3  # looks: what the kernel counts itself is read at each, everybody at every third
_OF_PEOPLE = (Table.PROCESS_FILES, Table.USER_TASKS)
_LEAST_PART = 10  # a rate is believed for so many times as long as it was seen


class _Past(NamedTuple):
    """What was seen of one table: the oldest look of the window, the one that will be it, and the last failures."""

    then_ns: int
    then: int
    next_ns: int
    next: int
    failures: int


class Rates:
    """How fast each table fills: two looks of the past for each, whatever their number. Pure."""

    def __init__(self) -> None:
        self._past: dict[tuple[str, str], _Past] = {}
        self._fresh: dict[tuple[str, str], _Past] = {}

    def note(self, gauge: Gauge, now_ns: int) -> Trend | None:
        """Takes in one table of a look; its trend, None at the first one."""
        if gauge.used is None or len(self._fresh) >= _FOLLOWED:
            return None
        past, used, failures = self._past.get(gauge.key), gauge.used, gauge.failures or 0
        if past is None:
            self._fresh[gauge.key] = _Past(now_ns, used, now_ns, used, failures)
            return None
        if now_ns - past.next_ns >= _WINDOW_NS:
            self._fresh[gauge.key] = _Past(past.next_ns, past.next, now_ns, used, failures)
        else:
            self._fresh[gauge.key] = past._replace(failures=failures)
        seconds = max(now_ns - past.then_ns, 1) / SECOND
        return Trend((used - past.then) / seconds, seconds, max(0, failures - past.failures))

    def end(self, *, people: bool = True) -> None:
        """Forgets what this look did not find, but for what it did not look at."""
        kept = {} if people else {key: past for key, past in self._past.items() if key[0] in _OF_PEOPLE}
        self._past, self._fresh = kept | self._fresh, {}


def finding(judged: Judged) -> Finding:
    """What is told of one table. Its size doubles each time that half of what was free is gone."""
    gauge = judged.gauge
    free, limit = gauge.free or 0, gauge.limit or 0
    hint = f"; type `{command(gauge)}`" if command(gauge) else ""
    text = (
        f"{judged.title}: {gauge.used} of {limit or 'no limit'} used; {'; '.join(judged.reasons)}; "
        f"`pidwarden tables {gauge.table}` says who{hint}"
    )
    size = 1000 * limit // max(1, free) if limit else 1
    return Finding(size, judged.is_told, text, judged.object())


class Tables:
    """Looks at them in pieces, then tells."""

    def __init__(self, report: Reporter) -> None:
        self._report = report
        self._rates = Rates()
        self._looks = 0
        self.episodes = Episodes()

    def look(self, shares: Shares, now_ns: int, *, tasks_too: bool) -> Iterator[None]:
        """Judges all of them. `tasks_too`: also process ids and threads, which the rule headroom looks at."""
        thresholds = shares.thresholds
        people = self._looks % _PEOPLE_EVERY == 0
        self._looks += 1
        found: dict[Any, Finding] = {}
        if not people:
            found = {who: f for who, f in self.episodes.open.items() if f.facts["table"] in _OF_PEOPLE}
        for gauge in gauges(tasks_too=tasks_too, people=people, least=shares.near):
            if gauge is not None:
                judged = _judge(gauge, thresholds, self._rates.note(gauge, now_ns))
                if judged.is_told or gauge.key in self.episodes:
                    found[gauge.key] = finding(judged)
            yield
        self._rates.end(people=people)
        for told in self.episodes.look(found, now_ns):
            text = told.finding.text
            if told.what == "over":
                text = f"over after {lasting(told.lasted_ns)}: {text}"
            self._report("finding", rule="tables", what=told.what, text=text, **told.finding.facts)
            yield


def _judge(gauge: Gauge, thresholds: Thresholds, trend: Trend | None) -> Judged:
    judged = judge(gauge, thresholds, trend)
    if trend is None or judged.full_in is None or judged.full_in <= _LEAST_PART * trend.seconds:
        return judged
    return judge(gauge, thresholds, trend._replace(per_second=0.0))  # seen for too short a time


def gauges(*, tasks_too: bool, people: bool, least: float) -> Iterator[Gauge | None]:
    """Every table that can be read without waiting for anybody, one at a time; None where nothing came of a piece.

    `people`: also what each process and each user has, which takes three files of each process.
    """
    if tasks_too:
        yield from tasks.machine(reserved=0)
    for read in (files.machine, keys.read, ptys.read, aio.read, mounts.read, timewait.read, conntrack.read):
        yield from read()
    yield from neighbours.read(who=False)
    yield from cgroups.read()
    yield from ports.steps(least=least)
    if people:
        yield from _of_people()


def _of_people() -> Iterator[Gauge | None]:
    members = []
    for member in crowd.pieces():
        if member is None or member.files <= 0 or member.nofile is None:
            yield None
        else:
            yield files.process(member) if member.files >= _WORTH * member.nofile else None
        if member is not None and (member.threads or member.nproc is not None):
            members.append(member)
    yield from tasks.users(members)
