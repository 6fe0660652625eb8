"""What can be typed at the console about processes: look, freeze, thaw, kill."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple

from pidwarden.errors import NotPossible, PidwardenError, UsageError
from pidwarden.kernel import cgroup, procfs
from pidwarden.kernel.clock import boot_ns
from pidwarden.kernel.rescuegate import RescueGate
from pidwarden.model.text import escape
from pidwarden.rescue import auto, choose, show

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pidwarden.rescue.desk import Desk
    from pidwarden.rescue.hunt import Hunt
    from pidwarden.rescue.table import Proc

_SCREEN = 40  # lines of a list, unless all are asked for
_NO_LOGIN = 2**32 - 1


class Act(NamedTuple):
    """Something that was done and can be taken back."""

    what: str
    undo: Callable[[], str]


class Processes:
    """The commands about processes. `family` gives the members of a family, from a guard if one runs."""

    def __init__(
        self, desk: Desk, say: Callable[[str], None], family: Callable[[int], frozenset[tuple[int, int]]]
    ) -> None:
        self._desk, self._say, self._family = desk, say, family
        self._hunts: list[Hunt] = []  # whose members are frozen
        self._gate: RescueGate | None = None
        self.acts: list[Act] = []

    # -- look ------------------------------------------------------------------------------------------------------

    def who(self, words: Sequence[str]) -> None:
        """Two looks: groups, and suspects with their reasons."""
        _none_of(words)
        before = self._desk.table.read()
        suspects = self._desk.look()
        for by in ("exe", "user", "pgrp", "session", "cgroup"):
            self._list(show.groups(self._desk.everybody, before, by, _cgroup))
        self._list(auto.describe(self._desk.room(), suspects))
        if suspects:
            self._say("`freeze 1` stops the first, `kill 1` ends it; both say before what they will do, with --dry-run")

    def ps(self, words: Sequence[str]) -> None:
        """The table, or those of it that fit."""
        words, everything = _without(words, "--all")
        procs = sorted(self._meant(words) if words else self._all(), key=lambda p: (p.start_ticks, p.pid))
        lines = show.table(procs if everything else procs[-_SCREEN:], boot_ns(), _login)
        self._list(lines)
        if len(procs) > _SCREEN and not everything:
            self._say(f"the youngest {_SCREEN} of {len(procs):,}; `ps --all` shows all")

    def tree(self, words: Sequence[str]) -> None:
        """Who is whose parent, from process 1 or from those who fit."""
        words, everything = _without(words, "--all")
        everybody = [p for p in self._desk.table.read() if not p.kernel]
        pids = {p.pid for p in everybody}
        meant = self._meant(words) if words else [p for p in everybody if p.ppid not in pids]
        among = {p.pid for p in meant}
        lines = show.tree(everybody, [p for p in meant if p.ppid not in among])
        self._list(lines if everything else lines[:_SCREEN])
        if len(lines) > _SCREEN and not everything:
            self._say(f"and {len(lines) - _SCREEN:,} lines more; `tree --all` shows all")

    def zombies(self, words: Sequence[str]) -> None:
        """Who does not reap."""
        _none_of(words)
        everybody = self._desk.table.read()
        self._list(show.zombies(everybody, self._desk.sparing.why(everybody)))

    def spared(self, words: Sequence[str]) -> None:
        """Who is never touched, and why."""
        _none_of(words)
        everybody = self._desk.table.read()
        why = self._desk.sparing.why(everybody)
        rows = [(str(p.pid), escape(p.comm), why[p.key]) for p in everybody if p.key in why]
        self._list(show.columns(rows, ("PID", "NAME", "WHY")))

    # -- do --------------------------------------------------------------------------------------------------------

    def freeze(self, words: Sequence[str]) -> None:
        """SIGSTOP in passes, until two in a row find nobody new."""
        words, dry = _without(words, "--dry-run")
        hunts = self._targets(words)
        for hunt in hunts:
            if dry:
                self._rehearse("freeze", hunt)
                continue
            self._hold(hunt)
            done = hunt.freeze()
            self._hunts.append(hunt)
            self.acts.append(Act(f"froze {done.members:,} processes", lambda h=hunt: self._thaw(h)))  # type: ignore[misc]
            self._tell_denied(hunt)
            still = "they stand still" if done.still else "some still run: they are continued again and again; `kill`"
            self._say(f"froze {done.members:,} in {done.passes} passes; {still}. `kill` ends them, `thaw` lets them go")

    def thaw(self, words: Sequence[str]) -> None:
        """Lets go of what was frozen here; with a selector, of anybody who is stopped."""
        if not words:
            count = sum(self._continue(hunt) for hunt in self._hunts)
            self._hunts.clear()
            self._say(f"continued {count:,} processes")
            return
        count = 0
        for hunt in self._targets(words):
            for p in hunt.look():
                if p.state in "Tt":
                    hunt.frozen[p.key] = None
            count += hunt.thaw()
        self._say(f"continued {count:,} processes")

    def frozen(self, words: Sequence[str]) -> None:
        """Who is stopped, by whomever."""
        _none_of(words)
        ours = {key for hunt in self._hunts for key in hunt.frozen}
        stopped = [p for p in self._all() if p.state in "Tt"]
        here = sum(p.key in ours for p in stopped)
        self._say(f"{len(stopped):,} processes are stopped, {here:,} of them from here")
        self._list(show.table(stopped[:_SCREEN], boot_ns(), _login))

    def kill(self, words: Sequence[str]) -> None:
        """Freezes, kills, proves; without a selector what is frozen from here."""
        words, dry = _without(words, "--dry-run")
        hunts = self._targets(words) if words else list(self._hunts)
        if not hunts:
            msg = "nothing is frozen from here; say whom to kill"
            raise UsageError(msg)
        if dry:
            for hunt in hunts:
                self._rehearse("kill", hunt)
            return
        for hunt in hunts:
            began = time.monotonic()
            self._hold(hunt)
            frozen = hunt.freeze()
            done = hunt.kill()
            self._hunts = [h for h in self._hunts if h is not hunt]
            self._say(f"froze {frozen.members:,}, killed {done.killed:,} in {time.monotonic() - began:.2f} s")
            self._tell_denied(hunt)
            if done.left:
                self._say(f"{len(done.left):,} still live, in a system call that cannot be interrupted, or spared:")
                self._list(show.table(done.left[:_SCREEN], boot_ns(), _login))
            else:
                self._say("nobody of it lives" + f"; {done.zombies:,} zombies wait to be reaped" * bool(done.zombies))
        self.release_gate()

    def leaving(self) -> None:
        """What somebody should know who leaves."""
        if count := sum(len(hunt.frozen) for hunt in self._hunts):
            self._say(f"{count:,} processes stay frozen: `thaw` or `kill` them here, or SIGCONT them by pid")

    def hold(self, words: Sequence[str]) -> None:
        """Loads the gate of the kernel and holds every fork of those meant."""
        hunts = self._targets(words)
        if self._gate is None:
            self._gate = RescueGate(len(self._desk.table.read()))
        for hunt in hunts:
            count = hunt.hold(self._gate)
            self._say(f"{count:,} processes do not fork any more ({self._gate.name}); `freeze` and `kill` find all now")
        self.acts.append(Act("held forks in the kernel", self.release_gate))

    def release_gate(self) -> str:
        """Takes the gate down."""
        if self._gate is None:
            return "the gate is down already"
        self._gate.close()
        self._gate = None
        return "took the gate down; who it had stopped stays so: `frozen`, `thaw SELECTOR`"

    def _hold(self, hunt: Hunt) -> None:
        if self._gate is not None:
            hunt.hold(self._gate)

    # -- whom ------------------------------------------------------------------------------------------------------

    def _all(self) -> list[Proc]:
        return [p for p in self._desk.table.read() if not p.kernel]

    def _meant(self, words: Sequence[str]) -> list[Proc]:
        chosen = choose.parse(words)
        if chosen.suspects:
            return [p for s in choose.suspects_of(chosen, self._desk.suspects) for p in s.members]
        return choose.matching(chosen, self._desk.table.read(), self._family)

    def _targets(self, words: Sequence[str]) -> list[Hunt]:
        """Those to act on, without who is spared.

        Raises:
            UsageError: the words name nobody.
            PidwardenError: nobody fits, or all who do are spared.
        """
        chosen = choose.parse(words)
        if chosen.suspects:
            return [self._desk.hunt(s, self._on_pass) for s in choose.suspects_of(chosen, self._desk.suspects)]
        everybody = self._desk.table.read()
        why = self._desk.sparing.why(everybody)
        found = [p for p in choose.matching(chosen, everybody, self._family) if not p.ended]
        meant = [p for p in found if p.key not in why]
        for p in found:
            if p.key in why:
                self._say(f"spared: {p.pid} {escape(p.comm)}: {why[p.key]}")
        if not meant:
            msg = f"nobody {'else ' if found else ''}fits {' '.join(words)!r}; `ps` and `who` show who is there"
            raise PidwardenError(msg)
        if chosen.by_process:
            return [self._desk.hunt_of(meant, None, self._on_pass)]
        family = self._family
        return [self._desk.hunt_of(meant, lambda p: bool(choose.matching(chosen, [p], family)), self._on_pass)]

    def _tell_denied(self, hunt: Hunt) -> None:
        if hunt.denied:
            self._say(f"{len(hunt.denied):,} are not yours to signal: only root may")

    def _rehearse(self, verb: str, hunt: Hunt) -> None:
        living = hunt.look()
        self._say(f"would {verb} {len(living):,} processes:")
        self._list(show.table(living[:_SCREEN], boot_ns(), _login))

    def _thaw(self, hunt: Hunt) -> str:
        self._hunts = [h for h in self._hunts if h is not hunt]
        return f"continued {self._continue(hunt):,} processes"

    @staticmethod
    def _continue(hunt: Hunt) -> int:
        return hunt.thaw()

    def _on_pass(self, number: int, new: int, living: int) -> None:
        self._say(f"pass {number}: {new:,} more stopped, {living:,} in all")

    def _list(self, lines: Sequence[str]) -> None:
        for line in lines:
            self._say(line)


def _without(words: Sequence[str], option: str) -> tuple[list[str], bool]:
    return [w for w in words if w != option], option in words


def _none_of(words: Sequence[str]) -> None:
    if words:
        msg = f"{words[0]!r} is not expected here"
        raise UsageError(msg)


def _cgroup(pid: int) -> str:
    """The path that says most: the longest, as only one hierarchy may tell services apart."""
    return max(cgroup.paths(pid), key=len, default="")


def _login(pid: int) -> str:
    """The user that logged in, who stays the same through su and sudo (proc(5), loginuid)."""
    number = procfs.read_int(f"{procfs.PROC}/{pid}/loginuid")
    return "-" if number in (None, _NO_LOGIN) else str(number)


def not_root() -> list[str]:
    """What somebody who is not root should know first; empty for root."""
    if os.geteuid() == 0:
        return []
    return [
        "you are not root: you can look at everybody, but freeze and kill only your own processes",
        "to become root, leave with `quit` and type `exec sudo -i`: it replaces the shell and needs no fork;",
        "a wrong password there ends this session, so keep another one open if you can",
    ]


def no_family(number: int) -> frozenset[tuple[int, int]]:
    """Without a guard there are no families.

    Raises:
        NotPossible: always.
    """
    msg = f"family:{number}: no guard runs here, and only a guard numbers families; `who` finds suspects"
    raise NotPossible(msg)
