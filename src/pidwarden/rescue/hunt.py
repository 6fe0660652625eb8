"""Freezing and killing processes that are not known beforehand: pass upon pass, until nobody new comes to light.

Freezing comes first, because each one that is killed makes room for another. A signal goes through a pidfd whose
process was looked at after it was opened. Process groups are signalled as a whole where nobody else lives in them: that
is atomic against fork.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import time
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from pidwarden.act.cover import exact
from pidwarden.kernel import cgroup, freezer, procfs
from pidwarden.rescue.table import serial_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pidwarden.kernel.rescuegate import RescueGate
    from pidwarden.model.key import ProcessKey
    from pidwarden.rescue.sparing import Sparing
    from pidwarden.rescue.table import Proc, Table

_QUIET = 2  # passes in a row that find nobody new
_PATIENCE = 5.0  # seconds: who never stands still is killed while he moves
_ROUNDS = 20  # of holding who was born meanwhile; more only if something is wrong
_GROUP = 8  # members of a process group that make it worth a signal of its own
_YIELD = 0.002  # seconds
_SAMPLE = 100  # of those who are to die: only when they are dead is it worth to look at everybody …
_ROUND = 1.0  # … or after so many seconds
_DESCRIPTORS_LEFT = 256  # that are not for pidfds
_DYING = 10.0  # seconds until all that were killed must be gone
_STOPPED = "Tt"


class Frozen(NamedTuple):
    """How a freeze ended."""

    members: int  # that stand still
    passes: int
    still: bool  # two passes in a row found nothing
    new: int  # of the members: nobody knew of them before


class Killed(NamedTuple):
    """How a kill ended."""

    killed: int
    left: tuple[Proc, ...]  # still alive
    zombies: int  # ended, and not reaped yet


class Hunt:
    """Certain processes, and whoever descends from them.

    `kin` is asked of a process and its parent whether it belongs though it is no member's child; `on_pass` hears the
    number of a pass, how many ran at it whom no pass had met before, and how many live.
    """

    def __init__(
        self,
        table: Table,
        members: Iterable[Proc],
        sparing: Sparing,
        kin: Callable[[Proc, Proc | None], bool] | None = None,
        on_pass: Callable[[int, int, int], None] | None = None,
    ) -> None:
        self._table, self._sparing, self._kin = table, sparing, kin
        self._protection = sparing.protection
        self.members: dict[ProcessKey, Proc] = {p.key: p for p in members}
        self._on_pass = on_pass
        self.frozen: dict[ProcessKey, None] = {}  # whom we stopped: who was stopped before is not ours to continue
        self.denied: set[ProcessKey] = set()  # whom we have no right to signal
        self.zombies = 0
        self._dying: dict[int, Proc] = {}  # by pid, those whom SIGKILL was sent through a pidfd that is kept
        self._taken: dict[ProcessKey, int] = {}  # pidfds that were opened since the last look
        self._most_pidfds = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _DESCRIPTORS_LEFT
        self._pidfds: dict[ProcessKey, int] = {}  # those whose process was looked at after that
        self._everybody: list[Proc] = []  # at the last look
        self.living: list[Proc] = []  # at the last look

    # -- who -------------------------------------------------------------------------------------------------------

    def look(self) -> list[Proc]:
        """Those who live now; whoever descends from them has become a member."""
        everybody = self._everybody = self._read()
        spared = self._sparing.why(everybody)
        living: list[Proc] = []
        pids: dict[int, Proc] = {}
        all_of_them = {p.pid: p for p in everybody}
        rest: list[Proc] = []
        ended: list[Proc] = []
        for p in everybody:
            if p.ended:
                ended.append(p)
            elif p.key in spared or p.kernel:
                self.members.pop(p.key, None)
            elif p.key in self.denied:
                pass
            elif p.key in self.members:
                living.append(p)
                pids[p.pid] = p
            else:
                rest.append(p)
        self.zombies = sum(p.key in self.members or p.ppid in pids for p in ended)
        self.living = living
        rest.sort(key=lambda p: (p.start_ticks, p.pid))
        found = -1
        while found and rest:  # pids and ticks are no order: somebody may come before his parent
            born = [p for p in rest if p.ppid in pids or (self._kin and self._kin(p, all_of_them.get(p.ppid)))]
            found = len(born)
            if found:
                for p in born:
                    self.members[p.key] = pids[p.pid] = p
                living += born
                new = {p.key for p in born}
                rest = [p for p in rest if p.key not in new]
        self._keep(living)
        return living

    def _read(self) -> list[Proc]:
        """Everybody. Of those who were killed through a pidfd that is kept, it alone tells whether they have ended."""
        if not self._dying:
            return self._table.read()
        dying = _Dying({p.pid: self._pidfds[p.key] for p in self._dying.values()})
        everybody = self._table.read(dying)
        ended = dying.ended()
        for pid in dying.there:
            p = self._dying[pid]
            everybody.append(p._replace(state="Z", threads=1) if pid in ended else p)
        return everybody

    # -- pidfds ----------------------------------------------------------------------------------------------------

    def _take(self, keys: Iterable[ProcessKey]) -> None:
        """Opens them before a look: who is there at the look, and was before, is who they mean. Undo: `_let_go`."""
        for key in islice(keys, self._room()):
            try:
                self._taken[key] = os.pidfd_open(key.tgid)
            except ProcessLookupError:
                continue
            except OSError:  # no descriptor left, or no memory: one by one, then
                break

    def _room(self) -> int:
        """How many more pidfds may be kept."""
        return max(0, self._most_pidfds - len(self._pidfds))

    def _keep(self, living: Iterable[Proc]) -> None:
        for p in living if self._taken else ():
            if (fd := self._taken.pop(p.key, None)) is not None:
                self._pidfds[p.key] = fd
        for fd in self._taken.values():
            os.close(fd)
        self._taken.clear()

    def _let_go(self) -> None:
        for fd in (*self._taken.values(), *self._pidfds.values()):
            os.close(fd)
        self._taken.clear()
        self._pidfds.clear()
        self._dying.clear()

    # -- hold ------------------------------------------------------------------------------------------------------

    def hold(self, gate: RescueGate, *, and_kill: bool = False) -> int:
        """Puts them on the list of the gate, then who was born meanwhile, until a look finds nobody new; how many live.

        To kill them next, their pidfds are opened before the look: then it tells as well whom each of these means.

        Raises:
            PidwardenError: the list is full.
        """
        held: set[ProcessKey] = set()
        new = set(self.members)
        for _ in range(_ROUNDS):
            gate.hold([key for key in new if key.known])  # who is within execve forks when it is out of there
            held |= new
            if and_kill:
                self._take(new)
            new = {p.key for p in self.look()} - held
            if not new:
                break
        return len(self.living)

    # -- freeze ----------------------------------------------------------------------------------------------------

    def freeze(self) -> Frozen:
        """Stops them, in passes, until two in a row find nobody who is new or runs. Undo: :meth:`thaw`.

        Who is within execve and has the signal takes it before it does anything of its own.
        """
        until = time.monotonic() + _PATIENCE
        passes = quiet = 0
        first = len(self.members)
        living: list[Proc] = []
        while quiet < _QUIET and time.monotonic() < until:
            known = len(self.members)
            living = self.look()
            passes += 1
            awake = [p for p in living if p.state not in _STOPPED and not (p.serial and p.key in self.frozen)]
            fresh = [p for p in awake if p.key not in self.frozen]
            if passes == 1:
                self._stop_groups(living)
            for p in awake:
                if self.signal(p, signal.SIGSTOP):
                    self.frozen[p.key] = None
            quiet = 0 if awake or len(self.members) > known else quiet + 1
            if self._on_pass:
                self._on_pass(passes, len(fresh), len(living))
            if awake and not fresh:
                time.sleep(_YIELD)  # they have the signal already, but did not get a processor to stop on
        return Frozen(len(living), passes, quiet >= _QUIET, max(0, len(self.members) - first))

    def _stop_groups(self, living: list[Proc]) -> None:
        """SIGSTOP to whole process groups in which nobody else lives. Who came in meanwhile goes on at once."""
        sizes = Counter(p.pgrp for p in living)
        large = {group for group, size in sizes.items() if size >= _GROUP and group > 1}
        if not large:
            return
        everybody = self._everybody
        spared = self._sparing.why(everybody)
        groups = large - {p.pgrp for p in everybody if p.key not in self.members or p.key in spared}
        asleep = {p.key for p in everybody if p.state in _STOPPED}
        for group in groups:
            with contextlib.suppress(OSError):
                os.killpg(group, signal.SIGSTOP)
        for p in self._table.read() if groups else ():
            if p.pgrp not in groups:
                continue
            if p.key in self.members or p.ppid in {m.pid for m in living}:
                self.frozen.setdefault(p.key)
            elif p.key not in asleep:
                self.signal(p, signal.SIGCONT)

    def signal(self, p: Proc, number: int) -> bool:
        """Signals just this process, unless the settings protect it now. False: it is gone, protected, or not ours."""
        if self._protection.by_cgroup and self._protection.why(p.record):
            return False
        try:
            if (fd := self._pidfds.get(p.key)) is not None:
                signal.pidfd_send_signal(fd, number)
                return True
            return self._through_pidfd(p, number)
        except ProcessLookupError:
            return False
        except PermissionError:
            self.denied.add(p.key)
            return False

    def _through_pidfd(self, p: Proc, number: int) -> bool:
        try:
            fd = os.pidfd_open(p.pid)
        except ProcessLookupError:
            raise
        except OSError:  # no descriptor left: by number, then, right after the check
            if p.serial or procfs.stat_of(p.key) is None:
                return False
            os.kill(p.pid, number)
            return True
        try:
            if (serial_of(fd) != p.serial) if p.serial else procfs.stat_of(p.key) is None:
                return False
            signal.pidfd_send_signal(fd, number)
            if number == signal.SIGKILL and self._room():  # to wait on
                self._pidfds[p.key], fd = fd, -1
        finally:
            if fd >= 0:
                os.close(fd)
        return True

    def thaw(self) -> int:
        """SIGCONT to those that were running when they were frozen; how many."""
        found = [self.members[key] for key in self.frozen if key in self.members]
        self.frozen.clear()
        return sum(self.signal(p, signal.SIGCONT) for p in found)

    # -- kill ------------------------------------------------------------------------------------------------------

    def kill(self, *, held: bool = False) -> Killed:
        """SIGKILLs them all, and whoever comes to light, until nobody is left or there is no more patience.

        The first are those of the last look, which has to be of this moment: a freeze or a hold ends with one. With the
        forks of all of them `held`, one look that finds nobody is enough.
        """
        try:
            return self._kill(held=held)
        finally:
            self._let_go()

    def _kill(self, *, held: bool) -> Killed:
        until = time.monotonic() + _DYING
        killed: set[ProcessKey] = set()
        left = self.living
        whole = set() if held else self._kill_cgroups(left)  # who is held needs nothing that is atomic against fork
        quiet = 0
        while True:
            new = [p for p in left if p.key not in killed and self.signal(p, signal.SIGKILL)]
            killed.update(p.key for p in new)
            self._dying.update({p.pid: p for p in new if p.key in self._pidfds})
            quiet = 0 if left else quiet + 1
            if quiet >= (1 if held else _QUIET) or time.monotonic() >= until:
                break
            if left:
                self._wait_for([p for p in left if p.key in killed or p.key in whole])
            left = self.look()
        for key in (killed | whole) - {p.key for p in left}:
            self.frozen.pop(key, None)
        return Killed(len(killed | whole), tuple(left), self.zombies)

    def _kill_cgroups(self, members: Iterable[Proc]) -> set[ProcessKey]:
        """SIGKILL by cgroup, atomic against fork, where v2 cgroups hold just these; who was in them."""
        living = {p.pid: p.key for p in members}
        directories = exact(living, cgroup.mounts()) if living and not self.denied else []
        if self._protection.by_cgroup:
            return set()  # a look at each one comes before each signal
        inside = [pid for d in directories if freezer.kill(d) for pid in cgroup.processes_below(d) or ()]
        return {living[pid] for pid in inside if pid in living}

    def _wait_for(self, dying: list[Proc]) -> None:
        """Until they are dead, which takes until they get a processor, but not for long."""
        until = time.monotonic() + _ROUND
        others = [p for p in dying if p.key not in self._pidfds]
        for p in dying:
            if (fd := self._pidfds.get(p.key)) is not None and (left := until - time.monotonic()) > 0:
                ended = select.poll()
                ended.register(fd, select.POLLIN)  # pidfd_open(2): readable when all its threads have ended
                ended.poll(1000 * left)
        some = others[:: len(others) // _SAMPLE + 1]
        while some and time.monotonic() < until:
            time.sleep(_YIELD)
            some = [p for p in some if not procfs.has_ended(p.key)]


class _Dying:
    """Pids of which a pidfd tells all that is to be known; for `Table.read`, which need not read these."""

    def __init__(self, pidfds: dict[int, int]) -> None:
        self._pidfds = pidfds
        self.there: list[int] = []  # those that still hold their pid, alive or as zombies

    def __contains__(self, pid: object) -> bool:
        """Asked after /proc was listed: if the process holds the pid now, it did then, and is the one in the list."""
        fd = self._pidfds.get(pid)  # type: ignore[call-overload]
        if fd is None:
            return False
        try:
            signal.pidfd_send_signal(fd, 0)
        except ProcessLookupError:
            return False  # reaped: the pid in the list may be somebody else's
        except PermissionError:
            pass
        self.there.append(pid)  # type: ignore[arg-type]
        return True

    def ended(self) -> set[int]:
        """Those of whom no thread lives (pidfd_open(2), poll)."""
        look = select.poll()
        pids = {self._pidfds[pid]: pid for pid in self.there}
        for fd in pids:
            look.register(fd, select.POLLIN)
        return {pids[fd] for fd, _event in look.poll(0)}
