"""Changes limits step by step, each read back, and undoes them: exactly, or not at all.

The record is on disk before the first step (:mod:`pidwarden.act.journal`): who is killed in between leaves a change
that is half done and can be undone like any other.
"""

from __future__ import annotations

import contextlib
import os
import time
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from pidwarden.act import journal, ondisk
from pidwarden.act.places import File, Foreign, Rlimit, same, set_back, word
from pidwarden.errors import NotPossible, PidwardenError
from pidwarden.kernel import procfs
from pidwarden.kernel.procfs import PROC
from pidwarden.model.undo import Entry, Kind, Step, Target

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pidwarden.act.journal import Journal
    from pidwarden.act.places import Place


def place_of(target: Target) -> Place:
    """Where a value of the kernel's is read and written.

    Raises:
        ProcessLookupError: the process is gone.
    """
    if target.kind is Kind.RLIMIT:
        return Rlimit(target.which, target.pid, target.start_ticks)
    return File(target.path)


def value_of(target: Target) -> str | None:
    """What is there now; None: no file, or what held it is gone.

    Raises:
        PidwardenError: it cannot be read.
    """
    if target.kind is Kind.CONFIG:
        return ondisk.keep(target.path).text
    try:
        return place_of(target).read()
    except (FileNotFoundError, ProcessLookupError):
        return None


# -- doing -------------------------------------------------------------------------------------------------------------


class Wanted(NamedTuple):
    """A change: of which limit, what was typed, what to do in order, and the kinds of namespaces it holds for."""

    name: str
    command: str
    steps: tuple[Step, ...]
    namespaces: tuple[str, ...] = ()


def namespace(kind: str, root: str = PROC, who: str = "self") -> str:
    """The namespace of this kind that we, or a pid, are in, as the kernel writes it; empty if it does not tell now."""
    try:
        return procfs.link(who, f"ns/{kind}", root)
    except OSError:
        return ""


def carry_out(wanted: Wanted, where: Journal, root: str = PROC) -> Entry:
    """Does the steps in order; the entry that was made.

    Each is read back. If one fails, or the kernel makes another value of it, those before are taken back.

    Raises:
        PidwardenError: nothing was changed, or all that was has been taken back; the message says if not even that.
    """
    with where.locked() as entries:
        for step in wanted.steps:
            if not _is(step.target, now := value_of(step.target), step.old):
                msg = (
                    f"tried to change {word(step.target.name)}: it holds {_words(now)} by now and not "
                    f"{_words(step.old)}; nothing was changed: type it again"
                )
                raise PidwardenError(msg)
        planned = tuple(_with_way_back(step, entries) for step in wanted.steps)
        number = max((e.number for e in entries), default=0) + 1
        held = tuple((kind, found) for kind in wanted.namespaces if (found := namespace(kind, root)))
        entry = Entry(number, int(time.time()), journal.boot_id(root), wanted.name, wanted.command, planned, held)
        where.write([*entries, entry])
        at = 0
        try:
            for at, step in enumerate(planned):  # noqa: B007  (of the one that failed)
                _do(step)
        except (OSError, PidwardenError) as why:
            raise _taken_back(planned[: at + 1], why, where, entries) from why
        entry = entry._replace(done=True)
        where.write([*entries, entry])
        return entry


def _with_way_back(step: Step, entries: Sequence[Entry]) -> Step:
    """With what has to be known of a file on disk before it is replaced.

    Folders that an earlier change made count as well: whichever is undone last removes them.
    """
    if step.target.kind is not Kind.CONFIG:
        return step
    path = step.target.path
    ours = {f for e in entries for s in e.steps if not s.undone for f in s.made if path.startswith(f"{f}/")}
    made = sorted(ours.union(ondisk.folders_missing(path)), key=len)
    return step._replace(mode=ondisk.keep(path).mode, made=tuple(made))


def _is(target: Target, one: str | None, other: str | None) -> bool:
    if target.kind is Kind.CONFIG or one is None or other is None:
        return one == other
    return same(one, other)


def _do(step: Step) -> None:
    """One step, read back.

    Raises:
        FileNotFoundError, ProcessLookupError: it is gone.
        PidwardenError: it cannot be changed, or became something else.
    """
    if step.target.kind is Kind.CONFIG:
        ondisk.restore(step.target.path, ondisk.Kept(step.new, step.mode))
        return
    assert step.new is not None
    place = place_of(step.target)
    place.write(step.new)
    now = place.read()
    if not same(now, step.new):
        msg = f"wrote {word(step.new)} to {word(place.name)}, but the kernel made {word(now)} of it"
        raise PidwardenError(msg)


def _taken_back(begun: Sequence[Step], why: Exception, where: Journal, entries: list[Entry]) -> PidwardenError:
    """Takes the steps back, the last first; the error to be raised. What stays changed stays in the record."""
    left = []
    for step in reversed(begun):
        try:
            if not _is(step.target, value_of(step.target), step.old):
                _put(step, force=True)
        except (OSError, PidwardenError) as again:
            left.append(f"{word(step.target.name)} ({again})")
    kind = type(why) if isinstance(why, PidwardenError) else PidwardenError
    if left:
        return kind(f"{why}; and could not take back {', '.join(left)}: `pidwarden undo` tries it again")
    where.write(entries)
    return kind(f"{why}; all is as it was before")


# -- undoing -----------------------------------------------------------------------------------------------------------


class State(StrEnum):
    """How a step stands to what is there now."""

    OURS = "ours"  # what we left there
    BEFORE = "before"  # what was there before us: nothing to do
    GONE = "gone"  # the process, the cgroup, the namespace or the boot that it was of is gone
    FOREIGN = "foreign"  # somebody else has changed it since
    UNDONE = "undone"


class Found(NamedTuple):
    """A step of an entry, how it stands, and what is there."""

    step: Step
    state: State
    now: str | None


def look(entry: Entry, root: str = PROC) -> list[Found]:
    """How each step stands, in the order in which they are undone.

    Raises:
        PidwardenError: something cannot be read.
    """
    same_boot = entry.boot == journal.boot_id(root)
    alive = not same_boot or all(_lives(kind, name, root) for kind, name in entry.namespaces)
    return [_look(step, same_boot=same_boot, alive=alive) for step in reversed(entry.steps)]


def _lives(kind: str, name: str, root: str) -> bool:
    """Whether anybody is in a namespace, or a mount keeps it (namespaces(7)); true where that cannot be told."""
    if namespace(kind, root) in ("", name):
        return True
    try:
        with open(f"{root}/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            if any(line.split()[3] == name for line in file):
                return True
        pids = [who for who in os.listdir(root) if who.isdecimal()]
    except (OSError, IndexError):
        return True
    return os.geteuid() != 0 or any(namespace(kind, root, who) == name for who in pids)


def _look(step: Step, *, same_boot: bool, alive: bool) -> Found:
    if not (alive or step.undone or step.target.kind is Kind.CONFIG):
        return Found(step, State.GONE, None)
    now = value_of(step.target) if step.target.kind is not Kind.RLIMIT or same_boot else None
    if step.undone:
        return Found(step, State.UNDONE, now)
    if _is(step.target, now, step.old):
        return Found(step, State.BEFORE, now)
    if _is(step.target, now, step.new):
        return Found(step, State.OURS, now)
    if step.target.kind is not Kind.CONFIG and (now is None or not same_boot):
        return Found(step, State.GONE, now)
    return Found(step, State.FOREIGN, now)


def undo(number: int, where: Journal, *, force: bool = False, root: str = PROC) -> list[Found]:
    """Takes one change back, the last step first; what was found. `force` also what somebody else has changed since.

    Nothing is done unless all of it can be told to be ours.

    Raises:
        PidwardenError: there is no such change left to undo; somebody else has changed it since; the kernel refuses.
        NotPossible: it holds for another namespace than ours.
    """
    with where.locked() as entries:
        at = next((n for n, e in enumerate(entries) if e.number == number and not e.undone), None)
        if at is None:
            msg = f"there is no change {number} to undo; `pidwarden undo --list` shows those that there are"
            raise PidwardenError(msg)
        entry = entries[at]
        found = look(entry, root)
        if all(f.state is not State.GONE for f in found):
            _same_namespaces(entry, root)
        foreign = [f for f in found if f.state is State.FOREIGN]
        if foreign and not force:
            raise PidwardenError(_not_ours(entry, foreign[0], entries[at + 1 :]))
        for f in found:
            if f.state in (State.OURS, State.FOREIGN):
                try:
                    _put(f.step, force=force)
                except Foreign as why:
                    raise PidwardenError(_not_ours(entry, f._replace(now=why.now), [])) from why
            if f.state is not State.UNDONE:
                entry = entry.with_step(entry.steps.index(f.step), f.step._replace(undone=True))
                entries[at] = entry
                where.write(entries)
        return found


def forget(number: int, where: Journal) -> None:
    """Strikes a change from the record and leaves all as it is.

    Raises:
        PidwardenError: there is no such change.
    """
    with where.locked() as entries:
        left = [e for e in entries if e.number != number]
        if len(left) == len(entries):
            msg = f"there is no change {number}; `pidwarden undo --list` shows those that there are"
            raise PidwardenError(msg)
        where.write(left)


def _put(step: Step, *, force: bool) -> None:
    """Sets one step back.

    Raises:
        Foreign: it holds something else by now.
        PidwardenError: it cannot be changed, or became something else.
    """
    if step.target.kind is Kind.CONFIG:
        ondisk.restore(step.target.path, ondisk.Kept(step.old, step.mode), step.made)
        return
    assert step.old is not None
    assert step.new is not None
    with contextlib.suppress(ProcessLookupError):
        came = set_back(place_of(step.target), step.old, step.new, force=force)
        if came.after is not None and not same(came.after, step.old):
            msg = (
                f"wrote {word(step.old)} back to {word(step.target.name)}, but the kernel made {word(came.after)} "
                "of it; set it by hand"
            )
            raise PidwardenError(msg)


def _same_namespaces(entry: Entry, root: str) -> None:
    if entry.boot != journal.boot_id(root):
        return  # numbers of namespaces mean nothing after the next boot
    for kind, was in entry.namespaces:
        if (now := namespace(kind, root)) and now != was:
            msg = (
                f"change {entry.number} was made in the namespace {was} and this is {now}: here it would set somebody "
                f"else's value; type it there: `nsenter --{kind}=/proc/PID/ns/{kind} pidwarden undo {entry.number}`"
            )
            raise NotPossible(msg)


def _not_ours(entry: Entry, found: Found, later: Sequence[Entry]) -> str:
    """Why a change is not undone: whose value is there, and what to type."""
    step = found.step
    name = word(step.target.name)
    touched = [e.number for e in later if not e.undone and any(s.target == step.target for s in e.steps)]
    if touched:
        return (
            f"tried to undo change {entry.number}: change {touched[-1]} has changed {name} since; "
            f"undo that first: `pidwarden undo {touched[-1]}`"
        )
    if step.target.kind is Kind.CONFIG:
        what = f"somebody else has {'removed' if found.now is None else 'changed'} {name} since"
    else:
        what = f"{name} holds {_words(found.now)} and not, as we left it, {_words(step.new)}: somebody else changed it"
    return (
        f"tried to undo change {entry.number}: {what}; nothing was done: "
        f"`pidwarden undo {entry.number} --force` sets it to {_words(step.old)} all the same"
    )


def _words(value: str | None) -> str:
    if value is None:
        return "nothing (it is not there)"
    return word(value) if "\n" not in value else "what it was"
