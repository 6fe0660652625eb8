"""A thread of somebody else, borrowed for a few system calls, and given back as it was.

While it is borrowed it holds off all signals, so that none is lost: they wait. A call in which it was asleep goes on
(:meth:`pidwarden.kernel.registers.Machine.going_on`). Its stack and its floating point registers are not touched.

Many calls are made by a small program in memory that the thread maps for it and unmaps again. Where it may not run
code of its own making, each call is made by itself, through an instruction that it has. Should this process be killed
while the program runs, the program gives the registers back by itself.
"""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import signal
import struct
import time
from typing import TYPE_CHECKING, Self

from pidwarden.kernel import evidence, ptrace
from pidwarden.kernel.procfs import PROC
from pidwarden.kernel.registers import AREA, HEAD, IMAGE, MACHINES, MOST, PIDS, Machine
from pidwarden.model.task import Syscall

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

STOP_SECONDS = 0.5  # for it to stop: an interruptible thread takes microseconds, one that computes a tick
_CALL_SECONDS = 2.0  # for a call that does not wait for anything
_BACK_SECONDS = 60.0  # to give it back: it is frozen in the midst if that takes long
_NAP = 0.0002
_READ_WRITE, _READ_EXEC, _PRIVATE_ANONYMOUS = 3, 5, 0x22  # PROT_* and MAP_*, mmap(2)
_WNOHANG_WALL = 0x40000001
_AT_SYSINFO_EHDR = 33  # where the vdso lies, getauxval(3)
_VDSO_BYTES = 0x4000
_FOREIGN = (b"\xcd\x80", b"\x0f\x34")  # int 0x80, sysenter
_ERRORS = 4096  # the kernel's last error number, and one


class RefusedError(Exception):
    """The thread cannot be borrowed; nothing of it was changed. The text says why."""


class LostError(Exception):
    """The thread ended, or its process became another program, while it was borrowed."""


def machine() -> Machine | None:
    """The registers of this processor; None of one that is not known here."""
    return MACHINES.get(platform.machine())


def _rest() -> None:
    """Nothing is done meanwhile."""


class Borrowed:
    """A context in which a thread stands still and is ours. ``__enter__`` raises :class:`RefusedError`.

    `seconds` is how long it may take to stop. :meth:`wait_for` raises :class:`LostError`.
    """

    def __init__(self, pid: int, tid: int, read: evidence.Read, seconds: float = STOP_SECONDS) -> None:
        found = machine()
        if found is None:
            msg = f"this is not known how to do on {platform.machine()}"
            raise RefusedError(msg)
        self._machine, self._pid, self._tid, self._read, self._seconds = found, pid, tid, read, seconds
        self._memory = -1
        self._words: list[int] = []  # as they are to be given back
        self._mask = 0
        self._mask_is_ours = False
        self._instruction = 0  # the address of one that calls the kernel
        self._dead = False
        self._stands = False  # it is in a stop that we know of …
        self._trapped = False  # … in which the kernel takes up a call that was cut short
        self._stopping = False  # its process is being stopped …
        self._owed = False  # … by a SIGSTOP that we have taken: it gets it back
        self.singly = ""  # why calls are made one by one, if they are
        self._finds_back = False  # it runs the program, which gives the registers back by itself
        self.kept = False  # it hangs in the kernel, and was left to find back by itself

    # -- take and give back ----------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        found = evidence.syscall(evidence.path(self._pid, self._tid), self._read)
        before = found if isinstance(found, Syscall) else None
        try:
            ptrace.seize(self._tid)
        except OSError as why:
            raise RefusedError(_why_not_seized(why)) from why
        try:
            ptrace.interrupt(self._tid)
            self._stop(time.monotonic() + self._seconds)
            self._save(before)
            self._mask_is_ours = True
            ptrace.set_mask(self._tid, ptrace.ALL_SIGNALS)
        except BaseException as why:
            self._let_go()
            if isinstance(why, ptrace.NoStopError):
                msg = f"it did not stop within {self._seconds:g} s: it is frozen, or stuck in the kernel"
                raise RefusedError(msg) from why
            if isinstance(why, OSError):
                raise RefusedError(why.strerror or str(why)) from why
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        try:
            self._come_back()
            if not self._dead:
                ptrace.set_registers(self._tid, self._machine.pack(self._words))
                ptrace.set_mask(self._tid, self._mask)
        except ptrace.NoStopError:
            self.kept = True
        except (OSError, LostError):  # it ended, or is another program by now
            pass
        finally:
            self._let_go()

    def _come_back(self) -> None:
        """Waits until it can be given back: without an end where it would not find back by itself.

        Raises:
            NoStopError: it does not stop, but will find back.
        """
        while not self._dead and not self._trapped:
            try:
                self._to_trap(time.monotonic() + _BACK_SECONDS)
            except ptrace.NoStopError:
                if self._finds_back:
                    raise

    def _stop(self, end: float) -> None:
        """Waits for the stop that was asked for. A signal that it was about to take is passed on."""
        while True:
            stop = self._next(end)
            if stop.kind == "end":
                msg = "it ended at that moment"
                raise RefusedError(msg)
            if stop.kind == "group":
                msg = "it is stopped, by job control"
                raise RefusedError(msg)
            if self._trapped:
                return
            self._run(stop.signal)

    def _save(self, before: Syscall | None) -> None:
        """Learns all that has to be given back; changes nothing."""
        words = self._machine.unpack(ptrace.registers(self._tid))
        if words is None:
            msg = "it runs a program of 32 bits"
            raise RefusedError(msg)
        if ptrace.has_own_dispatch(self._tid):
            msg = "it has its system calls checked for where they come from, as wine does"
            raise RefusedError(msg)
        self._memory = os.open(f"{PROC}/{self._tid}/mem", os.O_RDWR | os.O_CLOEXEC)
        at = self._machine.called_from(words, before)
        if at is not None and (code := self._peek(at, len(self._machine.enter))) != self._machine.enter:
            if code in _FOREIGN:
                msg = "it is in a system call of 32 bits"
                raise RefusedError(msg)
            at = None  # a handler is about to begin
        self._instruction = self._in_vdso() if at is None else at
        self._words = self._machine.going_on(words, before)
        if at is None:
            self._leave_sequence()
        self._mask = ptrace.mask(self._tid)

    def _in_vdso(self) -> int:
        """The address of an instruction that calls the kernel, of a thread that computes."""
        auxiliary = self._read(f"{PROC}/{self._tid}/auxv")
        pairs = dict(struct.iter_unpack("=QQ", auxiliary[: len(auxiliary) // 16 * 16]))
        base = pairs.get(_AT_SYSINFO_EHDR, 0)
        code = self._peek(base, _VDSO_BYTES) if base else b""
        step = 1 if len(self._machine.enter) == 2 else 4  # noqa: PLR2004  (arm64's are aligned)
        at = next((n for n in range(0, len(code), step) if code.startswith(self._machine.enter, n)), -1)
        if at < 0:
            msg = "it computes, and has no vdso to call the kernel from; try again when it waits for something"
            raise RefusedError(msg)
        return int(base + at)

    def _leave_sequence(self) -> None:
        """Out of a restartable sequence, as the kernel does when it takes the processor away (rseq(2))."""
        state = ptrace.rseq(self._tid)
        if not state:
            return
        with contextlib.suppress(OSError, struct.error):
            (sequence,) = struct.unpack("=Q", self._peek(state + 8, 8))
            if not sequence:
                return
            start, length, abort = struct.unpack_from("=QQQ", self._peek(sequence, 32), 8)
            if 0 <= self._machine.get(self._words, self._machine.pc) - start < length:
                self._words = self._machine.put(self._words, **{self._machine.pc: abort})

    def _let_go(self) -> None:
        if self._memory >= 0:
            os.close(self._memory)
            self._memory = -1
        if self._dead:
            return
        with contextlib.suppress(OSError, ptrace.NoStopError):
            if not self._stands:
                self._next(time.monotonic() + self._seconds)
            if self._owed and not self._dead:
                os.kill(self._pid, signal.SIGSTOP)
            ptrace.detach(self._tid)
            return
        with contextlib.suppress(ptrace.NoStopError):  # it is being killed: who traces it has to see it dead
            ptrace.wait(self._tid, time.monotonic() + self._seconds)

    # -- stops -----------------------------------------------------------------------------------------------------

    def _note(self, stop: ptrace.Stop) -> ptrace.Stop:
        """Keeps in mind what a stop means."""
        self._dead = stop.kind == "end"
        self._stands = not self._dead
        self._trapped = stop.kind in ("trap", "group")
        if self._mask_is_ours and stop.signal == signal.SIGSTOP:  # no other comes through, but a fault of our making
            self._stopping = True
            self._owed |= stop.kind == "signal"
        self._stopping |= stop.kind == "group"
        return stop

    def _next(self, end: float) -> ptrace.Stop:
        return self._note(ptrace.wait(self._tid, end))

    def _run(self, number: int = 0) -> None:
        ptrace.go_on(self._tid, number)
        self._stands = self._trapped = False

    def _heed(self, stop: ptrace.Stop) -> None:
        """Takes notice of a stop that was not waited for, and lets it go on if it is none to give back in."""
        if stop.kind == "end":
            raise LostError
        if not self._trapped:
            self._run()

    def _to_trap(self, end: float) -> None:
        """To where the kernel takes up calls that were cut short: nowhere else they are."""
        if self._trapped:
            return
        ptrace.interrupt(self._tid)
        if self._stands:
            self._run()
        while not self._trapped:
            self._heed(self._next(end))

    # -- use -------------------------------------------------------------------------------------------------------

    def wait_for(self, pids: Sequence[int], end: float, meanwhile: Callable[[], None] = _rest) -> list[int]:
        """Has it wait for these children, each by its number, without blocking; those that it got.

        `meanwhile` is called when it has begun, to do something of less than a second. Ends early at `end`, of the
        monotonic clock, and when its process is being stopped.

        Raises:
            LostError: the thread is gone, or hangs.
        """
        try:
            area = 0 if self.singly else self._map()
            if not area:
                return self._singly(pids, end)
            got: list[int] = []
            try:
                for at in range(0, len(pids), MOST):
                    got += self._loop(area, pids[at : at + MOST], end, meanwhile)
            finally:
                if self._stands:
                    self._call("munmap", area, AREA)
        except OSError as why:
            raise LostError from why
        return got

    def _singly(self, pids: Sequence[int], end: float) -> list[int]:
        got = []
        for pid in pids:
            if self._stopping or time.monotonic() > end:
                break
            if self._call("wait4", pid, 0, _WNOHANG_WALL, 0) == pid:
                got.append(pid)
        return got

    def _map(self) -> int:
        """Memory for the program; 0 if there is none, or code in it would not be run."""
        area = self._call("mmap", 0, AREA, _READ_WRITE, _PRIVATE_ANONYMOUS, -1, 0)
        if -_ERRORS < area < 0:
            self.singly = f"no memory for it: {os.strerror(-area)}"
            return 0
        head, image = self._machine.head(self._words, self._mask)
        for at, data in ((0, self._machine.loop), (HEAD, head), (IMAGE, image)):
            os.pwrite(self._memory, data, area + at)
        if refused := self._call("mprotect", area, HEAD, _READ_EXEC):
            self.singly = f"it may not run new code: {os.strerror(-refused)}"
            self._call("munmap", area, AREA)
            return 0
        return area

    def _loop(self, area: int, pids: Sequence[int], end: float, meanwhile: Callable[[], None]) -> list[int]:
        """One run of the program."""
        if self._stopping or time.monotonic() > end:
            return []
        os.pwrite(self._memory, bytes(4), area + HEAD)
        os.pwrite(self._memory, struct.pack(f"={len(pids)}i", *pids), area + PIDS)
        ptrace.set_registers(self._tid, self._machine.pack(self._machine.looping(self._words, area, len(pids))))
        self._finds_back = True
        self._run()
        meanwhile()
        while self._peek(area + HEAD, 1) == b"\0" and time.monotonic() < end:  # it is empty once its memory is gone
            if stop := ptrace.look(self._tid):
                self._heed(self._note(stop))
            if self._trapped or self._stopping:
                break
            time.sleep(_NAP)
        self._to_trap(time.monotonic() + _BACK_SECONDS)
        self._finds_back = False
        words = self._machine.unpack(ptrace.registers(self._tid)) or []
        noted = self._peek(area + PIDS, 4 * len(pids))
        if len(noted) < 4 * len(pids):
            raise LostError
        answers = struct.unpack(f"={len(pids)}i", noted)
        if area <= self._machine.get(words, self._machine.pc) < area + AREA:
            done = (self._machine.get(words, self._machine.loop_words[1]) - area - PIDS) // 4
            if done < len(pids) and self._machine.answer(words) == pids[done]:
                done += 1  # it was stopped between the answer and the note of it
        else:  # we were away for so long that it went back by itself: it is given back as it is now
            done, self._words, self._mask = len(pids), self._machine.going_on(words, None), ptrace.mask(self._tid)
            ptrace.set_mask(self._tid, ptrace.ALL_SIGNALS)
        return [pid for pid, answer in zip(pids[:done], answers, strict=False) if pid == answer]

    def _call(self, name: str, *args: int) -> int:
        """One system call that does not wait; its answer."""
        ptrace.set_registers(
            self._tid, self._machine.pack(self._machine.calling(self._words, self._instruction, name, *args))
        )
        for _edge in ("enter", "leave"):
            while True:
                ptrace.to_call(self._tid)
                self._stands = self._trapped = False
                stop = self._next(time.monotonic() + _CALL_SECONDS)
                if stop.kind == "call":
                    break
                if stop.kind == "end":
                    raise LostError
        return self._machine.answer(self._machine.unpack(ptrace.registers(self._tid)) or [])

    def _peek(self, address: int, size: int) -> bytes:
        return os.pread(self._memory, size, address)


def _why_not_seized(why: OSError) -> str:
    if why.errno == errno.EPERM:
        return "the kernel does not allow to trace it: it is traced already, or it takes root (ptrace(2))"
    return "it is gone" if why.errno == errno.ESRCH else (why.strerror or str(why))
