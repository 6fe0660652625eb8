"""What was changed, step by step, as it is kept on disk until it is undone. Pure: to and from plain values.

A record is entered before anything is done: whoever finds it knows what a change that was cut short may have done.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, NamedTuple

FORMAT = 1


class Kind(StrEnum):
    """What holds the value of a step."""

    KERNEL = "kernel"  # a file of the kernel's: its value is gone with the next boot
    RLIMIT = "rlimit"  # a limit of one process
    CONFIG = "config"  # a file on disk: its whole text, or None where there is no file


class Target(NamedTuple):
    """What a step changes. ``path`` is a file's; ``which``, ``pid`` and ``start_ticks`` are a process's limit."""

    kind: Kind
    path: str = ""
    which: str = ""
    pid: int = 0
    start_ticks: int = 0

    @property
    def name(self) -> str:
        """What a person knows it by."""
        return self.path if self.kind is not Kind.RLIMIT else f"{self.which}:{self.pid}"


class Step(NamedTuple):
    """One place and its values before and after; None: no file. ``made`` are folders that were made for it."""

    target: Target
    old: str | None
    new: str | None
    undone: bool = False
    made: tuple[str, ...] = ()
    mode: int = 0o644  # of the file on disk that was there before


class Entry(NamedTuple):
    """One change that was asked for, of the limit ``name``. ``when`` is in seconds of the epoch.

    ``namespaces`` are those it holds for, by kind. ``done``: all steps were; otherwise it was cut short.
    """

    number: int
    when: int
    boot: str
    name: str
    command: str
    steps: tuple[Step, ...]
    namespaces: tuple[tuple[str, str], ...] = ()
    done: bool = False

    @property
    def undone(self) -> bool:
        """Whether nothing of it is left to undo."""
        return all(step.undone for step in self.steps)

    def with_step(self, at: int, step: Step) -> Entry:
        """The same with another step in this place."""
        return self._replace(steps=(*self.steps[:at], step, *self.steps[at + 1 :]))


def to_json(entries: list[Entry]) -> dict[str, Any]:
    """As it is written."""
    changes = []
    for entry in entries:
        steps = [{**step._asdict(), "target": step.target._asdict(), "made": list(step.made)} for step in entry.steps]
        changes.append({**entry._asdict(), "steps": steps, "namespaces": dict(entry.namespaces)})
    return {"format": FORMAT, "changes": changes}


def from_json(data: Any) -> list[Entry]:
    """What was written.

    Raises:
        ValueError: it was not written by us, or by a newer version.
    """
    try:
        if data["format"] != FORMAT:
            msg = f"it has format {data['format']!r} and this version knows {FORMAT}"
            raise ValueError(msg)
        return [_entry(change) for change in data["changes"]]
    except (KeyError, TypeError, AttributeError, IndexError) as why:
        msg = "it lacks what belongs there"
        raise ValueError(msg) from why


def _entry(data: Any) -> Entry:
    steps = tuple(_step(step) for step in data["steps"])
    if not steps:
        msg = f"change {data['number']!r} has no steps"
        raise ValueError(msg)
    namespaces = tuple((str(k), str(v)) for k, v in data["namespaces"].items())
    number, when, done = int(data["number"]), int(data["when"]), bool(data["done"])
    return Entry(number, when, str(data["boot"]), str(data["name"]), str(data["command"]), steps, namespaces, done)


def _step(data: Any) -> Step:
    t = data["target"]
    target = Target(Kind(t["kind"]), str(t["path"]), str(t["which"]), int(t["pid"]), int(t["start_ticks"]))
    old, new = (None if data[k] is None else str(data[k]) for k in ("old", "new"))
    if target.kind is not Kind.CONFIG and (old is None or new is None):
        msg = f"a step on {target.name} has no value"
        raise ValueError(msg)
    return Step(target, old, new, bool(data["undone"]), tuple(map(str, data["made"])), int(data["mode"]))
