"""The process table at one moment, read for somebody who cannot start `ps`.

Only ``stat`` and the link ``exe`` are read; the file behind the link is not looked at, it may lie on a server that does
not answer. Of who is within execve the kernel may not answer for these two (docs/adr/0027): of him ``status`` is read.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, NamedTuple

from pidwarden.kernel.clock import boot_ns
from pidwarden.kernel.procfs import PROC, owner, veiled, within_exec
from pidwarden.model.key import TICK_NS, ProcessKey
from pidwarden.model.record import ProcFlag, Record

if TYPE_CHECKING:
    from collections.abc import Container

_PF_FORKNOEXEC, _PF_KTHREAD = 0x40, 0x200000  # include/linux/sched.h; field 9 of stat (proc_pid_stat(5))
_STAT_BYTES = 1500
_DEAD = "ZX"
_CPUCLOCK_SCHED = 2  # include/linux/posix-timers_types.h: of a process, as the scheduler counts it


class _Fields(NamedTuple):
    pid: int
    start_ticks: int
    comm: bytes
    state: str
    ppid: int
    pgrp: int
    session: int
    tty: int
    tpgid: int
    flags: int
    threads: int
    uid: int  # the effective one; root's of who is not dumpable (proc(5))
    exe: str = ""  # the path of its program, empty where that may not be read
    serial: int = 0  # of one within execve, whose start does not show, instead of that: see `serial_of`


class _Key:
    """Who a process is, for good. Put together when it is first asked for: of thousands, it is again and again.

    By a serial number it stands below all times.
    """

    def __get__(self, p: _Fields, _kind: object = None) -> ProcessKey:
        key = p.__dict__["key"] = ProcessKey(p.pid, -p.serial if p.serial else p.start_ticks * TICK_NS)
        return key


class Proc(_Fields):
    """One process as ``/proc/PID/stat`` has it (proc_pid_stat(5)). ``comm`` is bytes its owner chose."""

    key = _Key()

    @property
    def ended(self) -> bool:
        """Whether it is a zombie, of which no thread runs."""
        return self.state in _DEAD and self.threads <= 1

    @property
    def kernel(self) -> bool:
        """Whether it is a thread of the kernel."""
        return bool(self.flags & _PF_KTHREAD)

    @property
    def copy(self) -> bool:
        """Whether it never called exec, so that it runs its creator's program."""
        return bool(self.flags & _PF_FORKNOEXEC)

    @property
    def record(self) -> Record:
        """The same for those who act: creator and family are not known."""
        flags = ProcFlag.GUESSED | (ProcFlag.KTHREAD if self.kernel else 0)
        return Record(
            self.key, ProcessKey(self.ppid, 0), family=0, branch=0, exec_ns=0, exit_ns=0, held_ns=0, slots=self.threads,
            live=0 if self.ended else self.threads, forks=0, execs=0, generation=0, uid=self.uid, exit_code=0,
            flags=int(flags), stops=0, comm=self.comm, ppid=self.ppid, state=self.state,
        )  # fmt: skip


def parse(pid: int, data: bytes, uid: int, exe: str = "") -> Proc:
    """One process, by its ``stat``.

    Raises:
        ValueError, IndexError: that is not whole.
    """
    end = data.rindex(b")")
    rest = data[end + 2 :].split(None, 20)
    ppid, pgrp, session, tty, tpgid, flags = map(int, rest[1:7])
    comm, state = data[data.index(b"(") + 1 : end], chr(rest[0][0])
    threads, start = max(1, int(rest[17])), int(rest[19])
    return Proc(pid, start, comm, state, ppid, pgrp, session, tty, tpgid, flags, threads, uid, exe)


def serial_of(pidfd: int) -> int:
    """The number of a process since boot that its pidfd is known by; 0 where all have the same (before Linux 6.9)."""
    number = os.fstat(pidfd).st_ino
    ours = os.pidfd_open(os.getpid())
    try:
        return number if number != os.fstat(ours).st_ino else 0
    finally:
        os.close(ours)


def _used_ns(pid: int) -> int:
    """How long it has been on processors, with all its threads (clock_getcpuclockid(3)); -1 if that is not told.

    It takes a microsecond, an eighth of what it takes to open a file of /proc.
    """
    try:
        return time.clock_gettime_ns(~pid << 3 | _CPUCLOCK_SCHED)
    except OSError:
        return -1


class Table:
    """Reads the table again and again; who is known already is not asked for his program another time.

    Where a line of ``stat`` is the same as at the look before, as most are beside thousands who want a processor, it is
    not taken apart again: that takes as long as to read it.
    """

    def __init__(self, root: str = PROC) -> None:
        self._directory = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._root = root
        self._before: dict[str, tuple[bytes, Proc]] = {}  # by the name in /proc
        self._ran: dict[str, int] = {}  # ns on processors of who was answered for, before that

    def close(self) -> None:
        """Lets go of /proc."""
        os.close(self._directory)

    def read(self, without: Container[int] = ()) -> list[Proc]:
        """Everybody who is there and may be seen, but those `without`, in no order.

        Raises:
            OSError: /proc cannot be listed.
        """
        directory, before = self._directory, self._before
        opened, read, fstat, close, flags = os.open, os.read, os.fstat, os.close, os.O_RDONLY | os.O_CLOEXEC
        found: dict[str, tuple[bytes, Proc]] = {}
        veiled_now: list[Proc] = []
        ran: dict[str, int] = {}
        for name in os.listdir(directory):
            if not name.isdecimal() or (without and int(name) in without):
                continue
            try:
                used = _used_ns(int(name))
                # Who has not run since he was answered for has not entered execve since.
                if (used < 0 or used != self._ran.get(name, -1)) and within_exec(name, directory):
                    veiled_now += self._veiled(int(name))
                    continue
                fd = opened(name + "/stat", flags, dir_fd=directory)
                try:
                    data = read(fd, _STAT_BYTES)
                    uid = fstat(fd).st_uid
                finally:
                    close(fd)
                ran[name] = used
                known = before.get(name)
                if known and known[0] == data and known[1].uid == uid:
                    found[name] = known
                else:
                    found[name] = data, self._parsed(name, data, uid, known[1] if known else None)
            except (OSError, ValueError, IndexError):  # gone meanwhile
                continue
        self._before, self._ran = found, ran
        return [proc for _data, proc in found.values()] + veiled_now

    def _parsed(self, name: str, data: bytes, uid: int, known: Proc | None) -> Proc:
        one = parse(int(name), data, uid)
        if known and (known.start_ticks, known.comm, known.copy) == (one.start_ticks, one.comm, one.copy):
            exe = known.exe
        else:
            exe = self._program(one)
        return one._replace(exe=exe) if exe else one

    def _veiled(self, pid: int) -> list[Proc]:
        """One within execve, as if it were born now; it is known by its serial number, or must not be acted on."""
        stat = veiled(pid, self._root)
        if stat is None:
            return []
        serial, uid = 0, owner(pid, self._root)
        with contextlib.suppress(OSError):
            fd = os.pidfd_open(pid)
            try:
                serial = serial_of(fd)
            finally:
                os.close(fd)
        start = boot_ns() // TICK_NS if serial else 0
        return [
            Proc(
                pid, start, stat.comm, stat.state, stat.ppid, stat.pgrp, stat.session, 0, -1, 0, stat.threads, uid,
                serial=serial,
            )
        ]  # fmt: skip

    def _program(self, one: Proc) -> str:
        if one.kernel:
            return ""
        try:
            return os.readlink(f"{one.pid}/exe", dir_fd=self._directory)
        except OSError:
            return ""


class First:
    """The first of two looks, and when it began: for a program that is not read in yet."""

    def __init__(self, table: Table | None = None) -> None:
        self.table, self.began = table or Table(), time.monotonic()
        self.everybody = self.table.read()
