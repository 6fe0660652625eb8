"""Freeze and thaw: a family's tasks themselves stop. Each do has its undo beside it and is recorded before."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING, NamedTuple

from pidwarden.act import wayback
from pidwarden.act.cover import QUARANTINE, How, Plan, Step, Ways, plan
from pidwarden.act.spare import UNPROTECTED, Protection, take, why_spared
from pidwarden.kernel import cgroup, freezer, procfs

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from pidwarden.act.wayback import WayBack
    from pidwarden.model.key import ProcessKey
    from pidwarden.model.record import Record

_WAIT_SECONDS = 0.25  # for all to stand still; who is in D state then is waited for in the next pass
_PASSES = 4  # over who comes to light while others are being stopped
_LOOKS = 10  # for a moment when nobody is being born
_EMPTY_PASSES = 50  # of moving out of a quarantine; more only if somebody keeps moving others in
_EMPTY_SECONDS = 0.01
_ENDING_SECONDS = 0.005
_STOPPED = "Tt"


class Done(NamedTuple):
    """What a pass has done."""

    stopped: int = 0  # processes that were not stopped before
    again: int = 0  # those that somebody had continued
    running: int = 0  # of cgroups that are not wholly frozen yet
    let_go: tuple[str, ...] = ()  # cgroups that others have come into, thawed again


class Frozen:
    """What is frozen of one family, at first what `back` says: :meth:`hold_still` while it lasts, then :meth:`undo`."""

    def __init__(
        self,
        back: WayBack,
        run_dir: str,
        ways: Ways,
        protection: Protection = UNPROTECTED,
        on_stop: Callable[[ProcessKey], None] | None = None,
    ) -> None:
        self.family, self._run_dir, self._ways, self._protection = back.family, run_dir, ways, protection
        self._mounts = cgroup.mounts()
        self._on_stop = on_stop
        self.lives: Callable[[ProcessKey], bool] | None = None  # see spare.take
        self.steps: list[Step] = [s for s in back.steps if s.how is not How.SIGNAL]
        self._stopped: dict[ProcessKey, None] = {k: None for s in back.steps if s.how is How.SIGNAL for k in s.members}
        self._signalled: set[int] = set()  # who is in no cgroup that is frozen; stopped by us, or by a gate before
        self.reasons: tuple[str, ...] = ()

    @property
    def frozen_by(self) -> str:
        """The ways in use, for status and events; empty if nothing is frozen."""
        ways = {s.how for s in self.steps}
        if self._signalled:
            ways.add(How.SIGNAL)
        return " + ".join(how for how in How if how in ways)

    @property
    def directories(self) -> list[str]:
        """The cgroups that are frozen."""
        return [s.directory for s in self.steps]

    def lines(self) -> list[str]:
        """What was done and what takes it back, for people; and why not otherwise."""
        steps = [*self.steps, *([Step(How.SIGNAL, "", tuple(self._stopped))] if self._stopped else [])]
        return Plan(tuple(steps), self.reasons).lines()

    @property
    def stopped(self) -> tuple[ProcessKey, ...]:
        """Who was stopped by a signal of ours, in no cgroup that is frozen."""
        return tuple(self._stopped)

    @property
    def count(self) -> int:
        """How many processes are in the frozen cgroups, or were stopped by a signal."""
        return len(self._inside() | self._signalled)

    def rehearse(self, members: Iterable[Record]) -> Plan:
        """What would be done with those of `members` that are not frozen yet."""
        everybody = {r.key.tgid: r.key for r in members if r.alive and r.key.known}
        inside = self._inside()
        return plan({p: k for p, k in everybody.items() if p not in inside}, self._ways, self._mounts, within=everybody)

    # -- do --------------------------------------------------------------------------------------------------------

    def hold_still(self, look: Callable[[], Iterable[Record]]) -> Done:
        """Freezes whoever is not frozen yet of those that `look` finds, until a look finds nobody new.

        Whose cgroup has been entered by others is thawed there and stopped in another way.
        """
        let_go: list[str] = []
        stopped = again = 0
        for _ in range(_PASSES):
            records, found, gone = self._settled(look)
            let_go += gone
            self.reasons = found.reasons or self.reasons
            new, woken = self._carry_out(found, records)
            stopped, again = stopped + new, again + woken
            if not new:
                break
        late = freezer.wait(self.directories, _WAIT_SECONDS) if stopped else []
        return Done(stopped, again, len(late), tuple(let_go))

    def _settled(self, look: Callable[[], Iterable[Record]]) -> tuple[dict[int, Record], Plan, list[str]]:
        """The living, how to stop them, and what was let go of, once nobody is being born.

        One that is on its way into the world when the family is held is in its cgroup before it is in the history.
        """
        let_go: list[str] = []
        for left in reversed(range(_LOOKS)):
            records = {r.key.tgid: r for r in look() if r.alive and r.key.known}
            gone, settled = self._let_go_of_strangers(set(records), patient=left > 0)
            let_go += gone
            found = self.rehearse(records.values())
            if not left or (settled and not any(_passes(pid, records.keys()) for pid in found.strangers)):
                break
            time.sleep(_ENDING_SECONDS)
        return records, found, let_go

    def _inside(self) -> set[int]:
        found: set[int] = set()
        for step in self.steps:
            found |= cgroup.processes_below(step.directory) or set()
        return found

    def _carry_out(self, found: Plan, records: dict[int, Record]) -> tuple[int, int]:
        """How many were stopped that were not, and how many again."""
        count = 0
        signalled = []
        for step in found.steps:
            if step.how is How.SIGNAL:
                signalled += [records[k.tgid] for k in step.members]
                continue
            self._record(step)
            if self._enclose(step, records) if step.moves else self._freeze_own(step, records):
                self.steps.append(step)
                count += len(step.members)
            else:
                self.reasons = (*self.reasons, f"refused: {step.text}")
                _undo_cgroup(step)
                signalled += [records[k.tgid] for k in step.members]
        new, woken = self._stop(signalled)
        self._signalled = {r.key.tgid for r in signalled}
        return count + new, woken

    def _freeze_own(self, step: Step, records: dict[int, Record]) -> bool:
        """Freezes a cgroup, unless one of its members is spared at the last check."""
        for key in step.members:
            if (held := take(records[key.tgid], self.lives)) is not None:
                spared = why_spared(held, self._protection)
                held.close()
                if spared:
                    return False
        return freezer.freeze(step.directory)

    def _enclose(self, step: Step, records: dict[int, Record]) -> bool:
        """Makes a quarantine, frozen from the first, and moves members in. Whoever else got in is moved back."""
        try:
            os.mkdir(step.directory)
        except FileExistsError:
            pass  # of an earlier pass
        except OSError:
            return False
        if not freezer.freeze(step.directory):
            return False
        ours = {k.tgid for s in (*self.steps, step) if s.directory == step.directory for k in s.members}
        for key in step.members:
            held = take(records[key.tgid], self.lives)
            if held is None:
                continue
            if not why_spared(held, self._protection):
                cgroup.move(key.tgid, step.directory)
            held.close()
        inside = cgroup.processes(step.directory) or set()
        for pid in inside:
            # A pid can have been given to somebody else between the check and the move.
            record = records.get(pid)
            if pid not in ours or (record and procfs.stat_of(record.key) is None):
                cgroup.move(pid, step.parent)
        return bool(inside)

    def _stop(self, records: Iterable[Record]) -> tuple[int, int]:
        """SIGSTOP to those that are not stopped: how many for the first time, how many again."""
        waking = [r for r in records if (s := procfs.stat_of(r.key)) and s.state not in _STOPPED]
        fresh = [r.key for r in waking if r.key not in self._stopped]
        if fresh:
            self._stopped.update(dict.fromkeys(fresh))
            self._record()
        new = again = 0
        for record in waking:
            held = take(record)
            if held is None:
                continue
            if why_spared(held, self._protection):
                self._stopped.pop(record.key, None)
            else:
                # First the note, by which the kernel wakes it if this guard is lost: even between these two lines.
                if self._on_stop:
                    self._on_stop(record.key)
                if held.signal(signal.SIGSTOP):
                    new += record.key in fresh
                    again += record.key not in fresh
            held.close()
        return new, again

    def _record(self, about_to: Step | None = None) -> None:
        steps = [*self.steps, *([about_to] if about_to else [])]
        if self._stopped:
            steps.append(Step(How.SIGNAL, "", tuple(self._stopped)))
        wayback.save(self._run_dir, self.family, steps)

    def _let_go_of_strangers(self, members: Collection[int], *, patient: bool) -> tuple[list[str], bool]:
        """Thaws cgroups that somebody else has come into since: they must not stand still for this family's sake.

        Whether that is all, too: who is `patient` is to look again where there are none but those being born.
        """
        found, settled = [], True
        for step in list(self.steps):
            strangers = _strangers(step.directory, members)
            if not strangers:
                continue
            if patient and all(_passes(pid, members) for pid in strangers):
                settled = False
            elif step.moves:
                for pid in strangers:
                    cgroup.move(pid, step.parent)
            else:
                found.append(step.directory)
                freezer.thaw(step.directory)
                self.steps.remove(step)
                # Not to be tried again: whoever comes and goes there would stop and start it.
                self._ways = self._ways._replace(cgroups=False)
        return found, settled

    # -- undo ------------------------------------------------------------------------------------------------------

    def let_die(self) -> None:
        """After SIGKILL: under v1 a frozen process dies only when it is thawed."""
        for step in self.steps:
            if freezer.is_v1(step.directory):
                freezer.thaw(step.directory)

    def undo(self) -> list[str]:
        """Thaws all, moves back who was moved, continues who was stopped; what did not work, in words."""
        failed = [text for step in self.steps if (text := _undo_cgroup(step))]
        for key in self._stopped:
            _continue(key)
        self.steps.clear()
        self._stopped.clear()
        self._signalled.clear()
        wayback.forget(self._run_dir, self.family)
        return failed


def _passes(pid: int, members: Collection[int]) -> bool:
    """Whether a stranger will not be one for long: a child of a member that is just being born, or a zombie."""
    stat = procfs.stat(pid)
    return stat is None or stat.ppid in members or stat.state in "ZX"


def _strangers(directory: str, members: Collection[int]) -> set[int]:
    """Who is in a cgroup and not a member. One that is just ending is off the history before it is off its cgroup."""
    found = (cgroup.processes_below(directory) or set()) - set(members)
    if found:
        time.sleep(_ENDING_SECONDS)
        found &= cgroup.processes_below(directory) or set()
    return {pid for pid in found if (s := procfs.stat(pid)) is None or s.state not in "ZX"}


def _undo_cgroup(step: Step) -> str:
    """Takes one step back; what did not work, in words."""
    if not step.moves:
        if freezer.thaw(step.directory) or not os.path.isdir(step.directory):
            return ""
        return f"cannot thaw {step.directory}; type `echo 0 > {step.directory}/cgroup.freeze`"
    return empty_quarantine(step.directory)


def empty_quarantine(directory: str) -> str:
    """Moves everybody back into the parent, where each goes on, and removes a quarantine; what did not work, in words.

    They are moved while it is frozen: nobody in it can fork, so that one pass meets all.
    """
    parent = os.path.dirname(directory)
    for _ in range(_EMPTY_PASSES):
        inside = cgroup.processes(directory)
        if inside is None:
            return ""
        for pid in inside:
            cgroup.move(pid, parent)
        try:
            os.rmdir(directory)
        except FileNotFoundError:
            return ""
        except OSError:
            time.sleep(_EMPTY_SECONDS)  # one that died has not left yet; there is nothing to wait on in v1
        else:
            return ""
    freezer.thaw(directory)
    return f"cannot empty {directory}; it is thawed; type `cat {directory}/cgroup.procs` and `rmdir {directory}`"


def _continue(key: ProcessKey) -> None:
    """SIGCONT to just this process; also takes back a SIGSTOP that is still on its way (signal(7)).

    One within execve does not show who it is. Whoever that is, nobody has stopped him there, and SIGCONT does nothing.
    """
    try:
        fd = os.pidfd_open(key.tgid)
    except OSError:
        return
    try:
        if procfs.stat_of(key) is not None or procfs.within_exec(f"{procfs.PROC}/{key.tgid}"):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(fd, signal.SIGCONT)
    finally:
        os.close(fd)


# -- after a crash -----------------------------------------------------------------------------------------------------


def quarantine_name(instance: str, family: int) -> str:
    """What a family's quarantine is called; the instance is the last part of the guard's run directory."""
    return f"{QUARANTINE}{instance}-{family}"


def abandoned(instance: str, but: Iterable[str] = ()) -> list[str]:
    """Quarantines of an instance that nobody has a record of: their parent is the way back."""
    found = cgroup.mounts()
    known, prefix = set(but), f"{QUARANTINE}{instance}-"
    left = []
    for root in {found.v2, found.v1.get(freezer.CONTROLLER)} - {None}:
        for where, folders, _files in os.walk(str(root)):
            left += [f"{where}/{n}" for n in folders if n.startswith(prefix) and n[len(prefix) :].isdecimal()]
    return sorted(set(left) - known)
