"""What the guard looks after besides runaways, if told to: zombies, orphans, D state, room, tables. See the guide.

A look goes over all processes in slices, and between two of them the guard does what it is there for. All of this is
imported at the start, and only if a rule is on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pidwarden.guard.rules.orphans import Orphans
from pidwarden.guard.rules.room import Room
from pidwarden.guard.rules.stuck import Stuck
from pidwarden.guard.rules.surroundings import SECOND, Surroundings
from pidwarden.guard.rules.survey import Records, walk
from pidwarden.guard.rules.tables import Tables
from pidwarden.guard.rules.zombies import Zombies
from pidwarden.kernel import limits
from pidwarden.kernel.clock import boot_ns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pidwarden.guard.report import Reporter
    from pidwarden.guard.respond import Responder
    from pidwarden.guard.rules.episodes import Episodes
    from pidwarden.guard.scope import Scope
    from pidwarden.settings import Settings
    from pidwarden.watch.base import Source

_SLICE_NS = 2_000_000  # of work, then the guard looks whether there is anything else to do …
_PAUSE_NS = 10_000_000  # … and leaves the processor to others: a look takes a sixth of one at the most
_SHARE = 9  # pauses are so much longer than looks, however many tasks there are: a tenth of a processor at the most
_ORPHANS_EVERY = 3  # looks: they need a copy of the whole history, and have time
_SHOWN = 5  # findings of a rule, in the status


class Rules:
    """Looks every so often; :meth:`tick` is called whenever the guard has nothing else to do."""

    def __init__(self, source: Source, responder: Responder, scope: Scope, report: Reporter) -> None:
        around = Surroundings(source, responder, scope)
        self._responder, self._report = responder, report
        self._records = Records(source)
        self._zombies, self._stuck = Zombies(around, report), Stuck(around, report)
        self._orphans, self._room = Orphans(around, report), Room(report)
        self._tables = Tables(report)
        self._look: Iterator[None] | None = None
        self._next_ns = self._began_ns = boot_ns()
        self._busy_ns = self._slices = self._tasks = self._looks = 0
        self._reserved = limits.never_used()
        self._last: dict[str, Any] = {}
        self._troubled = ""

    @property
    def _settings(self) -> Settings:
        return self._responder.settings

    def next_ns(self) -> int | None:
        """When :meth:`tick` is due; None: all rules are off."""
        if not self._settings.rules.on and self._look is None:
            return None
        return min(self._next_ns, self._zombies.next_ns or self._next_ns)

    def tick(self) -> None:
        """A slice of a look, if it is time."""
        now = boot_ns()
        self._survive(lambda: self._zombies.tick(now))
        if now < self._next_ns or (self._look is None and not self._settings.rules.on):
            return
        if self._look is None:
            self._look, self._began_ns = self._looking(now), now
            self._busy_ns = self._slices = self._tasks = 0
        done = self._survive(lambda: self._slice(now + _SLICE_NS)) is not False
        self._busy_ns += boot_ns() - now
        self._slices += 1
        if done:
            self._look = None
            self._looks += 1
            self._last = {
                "tasks": self._tasks,
                "busy_ms": round(self._busy_ns / 1e6, 1),
                "slices": self._slices,
            }
        self._next_ns = boot_ns() + _PAUSE_NS
        if done:
            rest = self._began_ns + int(self._every() * SECOND)
            self._next_ns = max(self._next_ns, rest, boot_ns() + _SHARE * self._busy_ns)

    def _survive(self, step: Callable[[], bool | None]) -> bool | None:
        """What a step says; None if it failed. A mistake in a rule is no reason for the guard to end."""
        try:
            return step()
        except Exception as why:  # noqa: BLE001
            what = (why.strerror or str(why)) if isinstance(why, OSError) else f"{type(why).__name__}: {why}"
            self._note(f"a look was given up: {what}; the rules look again in {self._every():g} s")
            return None

    def _every(self) -> float:
        return self._settings.rules.every

    def _slice(self, end_ns: int) -> bool:
        """Goes on until it is over or the time is; whether it is over."""
        assert self._look is not None
        return all(boot_ns() < end_ns for _piece in self._look)

    def _note(self, text: str) -> None:
        if text != self._troubled:
            self._troubled = text
            self._report("note", text=f"rules: {text}")

    def _looking(self, now_ns: int) -> Iterator[None]:
        rules = self._settings.rules
        if rules.headroom.mode != "off":
            self._room.look(limits.machine_limits(reserved=self._reserved), rules.headroom, now_ns)
        if rules.tables.mode != "off":
            yield from self._tables.look(self._settings.tables, now_ns, tasks_too=rules.headroom.mode == "off")
        zombies, stuck = rules.zombies.mode != "off", rules.stuck.mode != "off"
        if zombies or stuck:
            self._zombies.begin()
            self._stuck.begin()
            for task in walk("Z" * zombies + "D" * stuck, threads=stuck):
                self._tasks += 1
                if task is not None and task.stat.state == "Z":
                    self._zombies.take(task, now_ns)
                elif task is not None:
                    self._stuck.take(task, now_ns)
                yield
        if zombies:
            yield from self._zombies.end(rules.zombies, self._records, now_ns)
        if stuck:
            yield from self._stuck.end(rules.stuck, self._records, now_ns)
        if rules.orphans.mode != "off" and self._looks % _ORPHANS_EVERY == 0:
            yield from self._orphans.look(rules.orphans, self._records, now_ns)
        self._records.found = {}

    # -- what is shown ---------------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """The rules that are on, what each has found that goes on, and what the last look cost."""
        rules, episodes = self._settings.rules, self._episodes()
        return {
            "every": rules.every,
            "last_look": self._last or None,
            "on": [
                {
                    "rule": name,
                    "mode": getattr(rules, name).mode,
                    "going_on": len(episodes[name].open),
                    "unfollowed": episodes[name].unfollowed,
                    "findings": [f.text for f in list(episodes[name].open.values())[:_SHOWN]],
                }
                for name in rules.on
            ],
        }

    def _episodes(self) -> dict[str, Episodes]:
        return {
            "zombies": self._zombies.episodes,
            "orphans": self._orphans.episodes,
            "stuck": self._stuck.episodes,
            "headroom": self._room.episodes,
            "tables": self._tables.episodes,
        }

    def close(self) -> None:
        """Gives the descriptors back."""
        self._zombies.close()
