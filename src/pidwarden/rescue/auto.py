"""`pidwarden rescue --auto`: finds who fills the table, says what it would do, does it on a word, proves the result."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from pidwarden.errors import PidwardenError
from pidwarden.kernel.rescuegate import RescueGate
from pidwarden.rescue.hunt import Frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pidwarden.rescue.desk import Desk
    from pidwarden.rescue.hunt import Hunt, Killed
    from pidwarden.rescue.suspects import Room, Suspect

_SHOWN = 10  # suspects


class Outcome(NamedTuple):
    """What became of one suspect. Times in seconds."""

    suspect: Suspect
    frozen: Frozen
    killed: Killed
    gate: str  # by which its forks were held, or why by none
    held: int  # processes that it held
    seconds: float

    @property
    def gone(self) -> bool:
        """Whether nobody of it lives."""
        return not self.killed.left


class Report(NamedTuple):
    """The whole story."""

    before: Room
    suspects: tuple[Suspect, ...]
    outcomes: tuple[Outcome, ...]
    after: Room | None

    def as_dict(self) -> dict[str, Any]:
        """For programs: stable names, seconds and counts as numbers."""
        return {
            "limit": self.before._asdict(),
            "suspects": [_suspect(number, s) for number, s in enumerate(self.suspects, 1)],
            "outcomes": [_outcome(o) for o in self.outcomes],
            "limit_after": self.after._asdict() if self.after else None,
        }


def _suspect(number: int, s: Suspect) -> dict[str, Any]:
    return {
        "suspect": number,
        "program": s.program,
        "users": s.users,
        "processes": len(s.members),
        "zombies": s.zombies,
        "slots": s.slots,
        "born_between_looks": s.born,
        "sure": s.sure,
        "reasons": list(s.reasons),
        "pids": sorted(p.pid for p in s.members)[:100],
    }


def _outcome(o: Outcome) -> dict[str, Any]:
    return {
        "program": o.suspect.program,
        "frozen": o.frozen._asdict(),
        "killed": o.killed.killed,
        "left": [p.pid for p in o.killed.left],
        "zombies": o.killed.zombies,
        "gate": o.gate,
        "held_by_gate": o.held,
        "seconds": round(o.seconds, 3),
        "gone": o.gone,
    }


# -- what a person reads -----------------------------------------------------------------------------------------------


def describe(room: Room, suspects: Sequence[Suspect]) -> list[str]:
    """The limit and the suspects, a few lines each."""
    lines = [f"{room.used:,} of {room.limit:,} slots are in use ({room.name})"]
    if not suspects:
        return [*lines, "nobody holds many of them: no suspects"]
    for number, s in enumerate(suspects[:_SHOWN], 1):
        what = "a bomb" if s.sure else "not certain"
        zombies = f", {s.zombies:,} zombies" if s.zombies else ""
        lines.append(f"{number}  {s.program}: {len(s.members):,} processes{zombies}, {_users(s)}; {what}")
        lines += [f"     {reason}" for reason in s.reasons]
    if len(suspects) > _SHOWN:
        lines.append(f"and {len(suspects) - _SHOWN} smaller ones")
    return lines


def _users(s: Suspect) -> str:
    if not s.users:
        return "no user"
    return f"user {s.users[0]}" if len(s.users) == 1 else f"{len(s.users)} users"


def plan(chosen: Sequence[Suspect], *, gate: bool) -> list[str]:
    """What is about to be done."""
    if gate:
        how = "hold the forks of {} in the kernel, if it lets us; kill them all, and look for more"
    else:
        how = "freeze {}, in passes until two in a row find nobody new; then kill what is frozen, and look for more"
    return [how.format(f"{len(s.members):,} processes of {s.program} and whoever descends from them") for s in chosen]


def ticket(report: Report, host: str, when: str) -> list[str]:
    """The story as it may be put into a ticket."""
    lines = [f"{when}, {host}: {report.before.used:,} of {report.before.limit:,} slots in use ({report.before.name})."]
    for o in report.outcomes:
        lines.append(f"Cause: {o.suspect.program}, {_users(o.suspect)}: {'; '.join(o.suspect.reasons)}.")
        how = f"{o.held:,} held in the kernel ({o.gate}), " if o.held else ""
        how += f"{o.frozen.members:,} frozen in {o.frozen.passes} passes, " if o.frozen.passes else ""
        lines.append(f"Done: {how}{o.killed.killed:,} killed, in {o.seconds:.2f} s.")
        if o.killed.left:
            pids = ", ".join(str(p.pid) for p in o.killed.left[:10])
            lines.append(f"Left: {len(o.killed.left):,} still live: {pids}.")
        elif o.killed.zombies:
            lines.append(f"Nobody of it lives; {o.killed.zombies:,} wait to be reaped by their parent or process 1.")
        else:
            lines.append("Nobody of it is left.")
    if report.after:
        lines.append(f"Now: {report.after.used:,} of {report.after.limit:,} slots in use ({report.after.name}).")
    return lines


# -- what is done ------------------------------------------------------------------------------------------------------


def rescue(desk: Desk, suspect: Suspect, say: Callable[[str], None], *, gate: bool) -> Outcome:
    """Kills one suspect: held by the gate of the kernel, or frozen in passes, without it or where the kernel has none.

    Who is held need not be frozen: killing makes room, but nobody is left who could fill it.
    """
    began = time.monotonic()
    hunt = desk.hunt(suspect, lambda n, new, living: say(f"pass {n}: {new:,} more stopped, {living:,} in all"))
    held = _Held(say)
    frozen = Frozen(0, 0, still=False, new=0)
    try:
        if gate:
            held.hold(hunt)
        if not held.count:
            frozen = hunt.freeze()
        killed = hunt.kill(held=bool(held.count))
    finally:
        held.close()
    return Outcome(suspect, frozen, killed, held.name, held.count, time.monotonic() - began)


class _Held:
    """The gate, if it was put up: what it is called, or why there is none, and how many live whom it holds."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._gate: RescueGate | None = None
        self.name, self.count = "not asked for", 0

    def hold(self, hunt: Hunt) -> None:
        """Puts the gate up, if the kernel lets us."""
        try:
            self._gate = RescueGate(len(hunt.members))
            self.name, self.count = self._gate.name, hunt.hold(self._gate, and_kill=True)
        except PidwardenError as why:
            self._say(f"the kernel does not hold them: {why}")
            self.name = f"none: {why}"
        else:
            self._say(f"{self.count:,} do not fork any more ({self.name})")

    def close(self) -> None:
        if self._gate:
            self._gate.close()


def host_name() -> str:
    """The machine's name, for the report."""
    return os.uname().nodename
