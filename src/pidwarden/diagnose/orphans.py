"""Who lost the parent that made it, and whether it was meant to: facts in, verdict and reasons out.

The decision table is in ``docs/orphans.md``. Each sign speaks for a daemon or for something that leaked, with a weight
from 1 to 3; the heavier side decides, one that weighs 1 decides nothing.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from pidwarden.model.moment import ending, span
from pidwarden.model.record import ProcFlag
from pidwarden.model.text import escape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pidwarden.model.key import ProcessKey
    from pidwarden.model.orphan import Task, Traces, Unit
    from pidwarden.model.record import Record

AT_ONCE_NS = 1_000_000_000  # a parent that daemonises takes milliseconds; a loaded machine may make them a second
_SURE = 2  # the least weight that decides
_SIGNAL = 0x7F


class Verdict(StrEnum):
    """What is thought of one that lost its parent."""

    LEAKED = "leaked"
    UNSURE = "unsure"
    INTENDED = "intended"


class How(StrEnum):
    """How it is known that the parent is gone."""

    HISTORY = "history"  # the guard saw it
    SESSION = "session"  # it is in one that its parent never was in: clone(2) with CLONE_PARENT apart, it was adopted
    GUESSED = "guessed"


class Lost(NamedTuple):
    """The loss of a parent. What is not known of it is None."""

    how: How
    words: str
    parent: ProcessKey | None = None
    comm: bytes = b""
    exit_ns: int | None = None  # when it died, since boot
    exit_code: int | None = None  # as wait(2) gives it
    after_ns: int | None = None  # how long after it had made this one
    same_program: bool = False  # whether it was of the same program: a copy that was made to be left

    @property
    def killed(self) -> bool:
        """Whether a signal ended it."""
        return bool(self.exit_code is not None and self.exit_code & _SIGNAL)

    @property
    def by_design(self) -> bool:
        """Whether it did what a program does that makes itself a daemon: fork, and leave at once."""
        return self.same_program and self.exit_code == 0 and self.after_ns is not None and self.after_ns <= AT_ONCE_NS


class Sign(NamedTuple):
    """One thing that speaks for a daemon or for a leak. ``name`` is stable, ``words`` are for people."""

    side: Verdict
    weight: int
    name: str
    words: str


class Orphan(NamedTuple):
    """One that lost its parent, with all that was found."""

    task: Task
    lost: Lost
    traces: Traces
    signs: tuple[Sign, ...]
    verdict: Verdict
    unknown: tuple[str, ...]


# -- who lost its parent -----------------------------------------------------------------------------------------------


def who(task: Task) -> str:
    """``comm (pid)``."""
    return f"{escape(task.comm) or '?'} ({task.pid})"


def by_history(
    record: Record, records: Mapping[ProcessKey, Record], lives: Callable[[ProcessKey], bool]
) -> tuple[bool, Lost | None]:
    """What the guard's history says: whether that decides, and the loss if there is one.

    `lives` tells of a key without a record whether such a process is there.
    """
    if not record.parent.tgid:
        return False, None
    creator = records.get(record.parent)
    if record.skipped:  # only the dead are left out of a chain
        return True, Lost(How.HISTORY, "its parent is dead, too long for the history to say more")
    if not (creator.alive if creator else lives(record.parent)):
        return True, _death(record, creator)
    guessed = bool(record.flags & ProcFlag.GUESSED)  # its parent when the guard came: it may have adopted
    return not guessed, None


def _death(record: Record, creator: Record | None) -> Lost:
    """The loss of a creator, as far as it has a record."""
    guess = "the parent that it had when the guard started, " if record.flags & ProcFlag.GUESSED else ""
    if creator is None:
        words = f"its parent, {guess}pid {record.parent.tgid}, is dead, and no more is known of it"
        return Lost(How.HISTORY, words, record.parent)
    words = f"its parent, {guess}{escape(creator.comm) or '?'} ({creator.key.tgid}), is dead"
    if not creator.exit_ns:
        return Lost(How.HISTORY, f"{words}; its end was not seen", creator.key, creator.comm)
    after = creator.exit_ns - record.key.start_ns
    words += f": {ending(creator.exit_code)}, {span(after)} after it had made this one"
    same = creator.exe != (0, 0) and creator.exe == record.exe and not guess
    return Lost(How.HISTORY, words, creator.key, creator.comm, creator.exit_ns, creator.exit_code, after, same)


def by_shape(task: Task, table: Mapping[int, Task], *, reaper: bool) -> Lost | None:
    """The same without a history: what its session and its group say of its present parent.

    `reaper`: whether that one adopts others: pid 1, the first process of a pid namespace, a user's manager. Other
    subreapers (prctl(2), PR_SET_CHILD_SUBREAPER) cannot be seen in /proc, but what they adopt can.
    """
    parent = table.get(task.ppid)
    if parent is None:
        return None
    adopts = f"its parent now is {who(parent)}, who adopts others"
    if task.session == task.pid:  # it began its own session, which says nothing of where it is from
        return Lost(How.GUESSED, adopts) if reaper else None
    if task.session not in (0, parent.session):
        return _strange(task, parent, table, reaper=reaper)
    if reaper and task.pgrp != task.pid and task.pgrp not in table:
        return Lost(How.GUESSED, f"{adopts}, and its process group lost its leader")
    return None


def _strange(task: Task, parent: Task, table: Mapping[int, Task], *, reaper: bool) -> Lost | None:
    """Of one in a session that it did not begin and its parent is not in."""
    leader = table.get(task.session)
    led = f"led by {who(leader)}" if leader else "whose leader is gone"
    words = f"it is in session {task.session}, {led}, and its parent now, {who(parent)}, is not"
    if parent.session != parent.pid:  # who does not lead his session never left the one he was made in: setsid(2)
        return Lost(How.SESSION, words)
    return Lost(How.GUESSED, words) if reaper or leader is None else None


# -- what speaks for a daemon, what for a leak -------------------------------------------------------------------------


def detached(task: Task, table: Mapping[int, Task]) -> bool:
    """Whether it left the session it was made in: it leads one, or its leader was the middle of a double fork."""
    return task.session == task.pid or (task.session == task.pgrp and task.session not in table)


def signs(task: Task, lost: Lost, traces: Traces, table: Mapping[int, Task]) -> tuple[Sign, ...]:
    """All signs, the heaviest first."""
    found = [*_daemon(task, lost, traces, table), *_leak(task, lost, traces, table)]
    return tuple(sorted(found, key=lambda s: -s.weight))


def verdict(found: Iterable[Sign]) -> Verdict:
    """The heavier side, by its heaviest sign; a tie, or nothing that weighs enough, is no verdict."""
    leak = daemon = 0
    for sign in found:
        if sign.side is Verdict.LEAKED:
            leak = max(leak, sign.weight)
        else:
            daemon = max(daemon, sign.weight)
    if max(leak, daemon) < _SURE or leak == daemon:
        return Verdict.UNSURE
    return Verdict.LEAKED if leak > daemon else Verdict.INTENDED


def _for(weight: int, name: str, words: str) -> Sign:
    return Sign(Verdict.INTENDED, weight, name, words)


def _against(weight: int, name: str, words: str) -> Sign:
    return Sign(Verdict.LEAKED, weight, name, words)


def _daemon(task: Task, lost: Lost, traces: Traces, table: Mapping[int, Task]) -> Iterable[Sign]:
    own = detached(task, table)
    if traces.inner_init:
        yield _for(3, "container-init", "it is the first of a pid namespace: who started that left on purpose")
    if traces.unit:
        yield from _in_unit(traces.unit, own=own)
    if traces.lingers:
        yield _for(3, "linger", f"the processes of user {traces.manager} are to stay without a login (linger)")
    elif traces.user_open:
        yield _for(2, "user-here", f"user {traces.manager}, whose manager has it, is logged in")
    if traces.hup_ignored:
        yield _for(3, "nohup", "it ignores SIGHUP, as nohup(1) makes it: it was to stay")
    if own and not task.tty:
        yield from _away(lost, traces)
    if traces.login_uid is None and not traces.container:
        yield _for(1, "no-login", "nobody logged in above it (loginuid)")


def _in_unit(unit: Unit, *, own: bool) -> Iterable[Sign]:
    """Of one in a service's cgroup; `own`: in a session of its own, so not what a job of the service left over."""
    if unit.active:
        whose = "systemd" if unit.user is None else "its user's manager"
        yield _for(3 if own else 2, "unit", f"it belongs to {_name(unit.name)}, which {whose} has active")
    elif unit.active is None:
        yield _for(1, "unit-name", f"it is in the cgroup of {_name(unit.name)}")


def _away(lost: Lost, traces: Traces) -> Iterable[Sign]:
    """Of one with a session of its own and no terminal."""
    if traces.stdio is None:
        yield _for(1, "own-session", "it has a session of its own without a terminal")
    elif all(not s.terminal and (s.gone is False or not s.fd) for s in traces.stdio):
        words = "it has a session of its own without a terminal, and its input and output lead to nothing that is gone"
        if lost.by_design:
            yield _for(3, "daemonised", f"its parent left at once, as one does that makes itself a daemon; {words}")
        else:
            yield _for(2, "daemon-shape", words)


def _leak(task: Task, lost: Lost, traces: Traces, table: Mapping[int, Task]) -> Iterable[Sign]:
    unit = traces.unit
    if unit and unit.active is False:
        yield _against(
            3, "unit-inactive", f"{_name(unit.name)} is not active, and it was left in there (KillMode=process?)"
        )
    if traces.manager is not None and traces.user_open is False and not traces.lingers:
        yield _against(2, "user-gone", f"user {traces.manager}, whose manager has it, is not logged in any more")
    login = traces.login
    if login and login.open is False and traces.manager is None:
        yield _against(2, "login-closed", f"login session {_name(login.name)} is closed ({login.told})")
    yield from _ends(traces)
    if lost.killed and lost.exit_code is not None:
        yield _against(2, "parent-killed", f"its parent did not leave by itself: {ending(lost.exit_code)}")
    elif lost.exit_code:
        yield _against(1, "parent-failed", f"its parent failed: {ending(lost.exit_code)}")
    if not detached(task, table) and task.session not in table and task.session:
        yield _against(1, "never-detached", f"it is still in session {task.session}, whose leader is gone")
    if task.exe.endswith(" (deleted)") and not task.exe.startswith("/memfd:"):
        yield _against(1, "exe-deleted", "its program was deleted or replaced")
    if traces.cwd_deleted:
        yield _against(1, "cwd-deleted", "the folder it works in was deleted")


def _ends(traces: Traces) -> Iterable[Sign]:
    """Its descriptors 0, 1 and 2 that lead nowhere any more. An input at its end is what many are given on purpose."""
    dead = [s for s in traces.stdio or () if s.gone]
    for name, weight, what, which in (
        ("pipe-alone", _SURE, "a pipe that nobody reads any more", [s.fd for s in dead if s.pipe and s.fd]),
        ("input-ended", 1, "a pipe that nobody writes to any more", [s.fd for s in dead if s.pipe and not s.fd]),
        ("terminal-gone", _SURE, "a terminal that was hung up", [s.fd for s in dead if s.terminal]),
    ):
        if which:
            names = " and ".join(("input", "output", "error output")[fd] for fd in which)
            yield _against(weight, name, f"its {names} {'lead' if len(which) > 1 else 'leads'} to {what}")


def _name(text: str) -> str:
    return escape(text.encode("utf-8", "surrogateescape"))


# -- the whole of it ---------------------------------------------------------------------------------------------------


def judge(task: Task, lost: Lost, traces: Traces, table: Mapping[int, Task]) -> Orphan:
    """One that lost its parent, judged."""
    found = signs(task, lost, traces, table)
    unknown = list(traces.unknown)
    if lost.how is not How.HISTORY:
        unknown.append("who made it, and when and how that one ended: only a guard that was running then knows")
    if traces.login and traces.login.open is None:
        unknown.append(f"whether login session {_name(traces.login.name)} is open: no login manager keeps it here")
    if traces.unit and traces.unit.active is None:
        unknown.append(f"whether {_name(traces.unit.name)} is active: type `systemctl status {task.pid}`")
    return Orphan(task, lost, traces, found, verdict(found), tuple(unknown))


def below(roots: Sequence[Task], everybody: Iterable[Task]) -> dict[int, list[Task]]:
    """Who descends from each of `roots` now, by its pid; another root and those below it belong to that one."""
    kids: dict[int, list[Task]] = {}
    for task in everybody:
        kids.setdefault(task.ppid, []).append(task)
    tops = {task.pid for task in roots}
    found: dict[int, list[Task]] = {}
    for root in roots:
        mine, seen = [root], {root.pid}
        for task in mine:  # grows as we go
            new = [kid for kid in kids.get(task.pid, ()) if kid.pid not in tops and kid.pid not in seen]
            seen.update(kid.pid for kid in new)
            mine += new
        found[root.pid] = mine[1:]
    return found
