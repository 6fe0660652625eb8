"""What a processor calls its registers, how it calls the kernel, and how a call that was cut short goes on; pure.

``NT_PRSTATUS`` is read as words of 64 bits (ptrace(2), ``struct user_regs_struct``, ``struct user_pt_regs``). What the
kernel does with a call that was interrupted is in arch/x86/kernel/signal.c and arch/arm64/kernel/signal.c.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pidwarden.model.task import Syscall

WORD = 1 << 64
EINTR = 4
ERESTARTSYS, ERESTARTNOINTR, ERESTARTNOHAND, ERESTART_RESTARTBLOCK = 512, 513, 514, 516  # include/linux/errno.h
_CUT_SHORT = (ERESTARTSYS, ERESTARTNOINTR, ERESTARTNOHAND)
_FUTEX_COMMAND, _TIMER_ABSTIME = 0x7F, 1
_NOWHERE = WORD - 1  # in no system call

# What answers EINTR, though no handler ran, when a thread is stopped for a moment (signal(7)). It has done nothing by
# then, so that it can be called again; those that may have (connect, close, write) are not here.
_AGAIN = frozenset(
    ("read", "readv", "recvfrom", "recvmsg", "recvmmsg", "accept", "accept4", "epoll_wait", "epoll_pwait",
     "epoll_pwait2", "rt_sigtimedwait", "semop", "semtimedop", "msgrcv", "io_getevents", "io_pgetevents",
     "io_uring_enter")
)  # fmt: skip

# Where things lie in the memory that a borrowed thread is lent, in bytes. The program comes first; the head begins with
# what it sets when it is done. Whole pages, of whatever size a page is.
HEAD, PIDS, IMAGE, AREA = 0x10000, 0x10040, 0x18000, 0x20000
MOST = (IMAGE - 0x4000 - PIDS) // 4  # pids that it has room for; a handler may need the rest as a stack
_PATIENCE = 5  # seconds for which the program waits for its tracer before it goes back by itself


class Machine(NamedTuple):
    """A processor's names for things."""

    name: str
    words: tuple[str, ...]  # of NT_PRSTATUS, in order
    number: str  # which call
    result: str
    args: tuple[str, ...]
    pc: str
    stack: str
    enter: bytes  # the instruction that calls the kernel
    calls: Mapping[str, int]
    loop: bytes  # tests/props/reap_*.s
    loop_words: tuple[str, str, str]  # what it begins with: its head, the first pid, how many
    image: tuple[str, ...]  # in which order it takes the registers back

    def unpack(self, data: bytes) -> list[int] | None:
        """The registers; None of a thread of another ABI, of 32 bits."""
        return list(struct.unpack(f"={len(self.words)}Q", data)) if len(data) == 8 * len(self.words) else None

    def pack(self, words: Sequence[int]) -> bytes:
        """The reverse of :meth:`unpack`."""
        return struct.pack(f"={len(self.words)}Q", *words)

    def get(self, words: Sequence[int], name: str) -> int:
        """One of them."""
        return words[self.words.index(name)]

    def put(self, words: Sequence[int], **values: int) -> list[int]:
        """A copy with some of them changed; outside of any call, so that nothing is called again."""
        changed = list(words)
        if "orig_rax" in self.words:
            values = {"orig_rax": _NOWHERE} | values
        for name, value in values.items():
            changed[self.words.index(name)] = value % WORD
        return changed

    def calling(self, words: Sequence[int], at: int, call: str, *args: int) -> list[int]:
        """Registers with which the next instruction, at `at`, calls the kernel."""
        values = dict(zip(self.args, args, strict=False))
        return self.put(words, **values, **{self.number: self.calls[call], self.pc: at})

    def looping(self, words: Sequence[int], area: int, count: int) -> list[int]:
        """Registers with which the program in an area begins."""
        values = (area + HEAD, area + PIDS, count)
        return self.put(words, **dict(zip(self.loop_words, values, strict=True)), **{self.pc: area})

    def answer(self, words: Sequence[int]) -> int:
        """What a call returned; an error is negative."""
        value = self.get(words, self.result)
        return value - WORD if value >= WORD // 2 else value

    def called_from(self, words: Sequence[int], before: Syscall | None) -> int | None:
        """Where the instruction lies by which a thread that was stopped is in the kernel; None: it is in no call."""
        pc = self.get(words, self.pc)
        if "orig_rax" in self.words:
            return pc - len(self.enter) if self.get(words, "orig_rax") < WORD // 2 else None
        if before is not None and before.number >= 0 and pc in (before.pc, before.pc - len(self.enter)):
            return before.pc - len(self.enter)
        return None

    def going_on(self, words: Sequence[int], before: Syscall | None) -> list[int]:
        """Registers to give back, so that a call which the stop has cut short goes on as if it had not been.

        `before` is what ``/proc/PID/syscall`` said of it; x86-64 does without.
        """
        if "orig_rax" in self.words:
            number = self.get(words, "orig_rax")
            if self.answer(words) == -EINTR and self._name(number) in _AGAIN:
                return self.put(words, orig_rax=number, **{self.result: -ERESTARTNOHAND})
            return list(words)
        if before is None or before.number < 0:
            return list(words)
        # arm64 has gone back to the instruction already; of a call that has to be resumed it does not know any more.
        pc, start = self.get(words, self.pc), before.pc - len(self.enter)
        if pc == start and self._is_resumed(before):
            return self.put(words, **{self.number: self.calls["restart_syscall"]})
        if pc == before.pc and self.answer(words) == -EINTR and self._name(before.number) in _AGAIN:
            return self.put(words, **{self.pc: start, self.result: before.args[0]})
        return list(words)

    def _is_resumed(self, call: Syscall) -> bool:
        """Whether the kernel keeps the rest of it, as the time that is left (restart_syscall(2))."""
        name = self._name(call.number)
        if name == "futex":
            return call.args[1] & _FUTEX_COMMAND == 0 and call.args[3] != 0
        return name == "nanosleep" or (name == "clock_nanosleep" and not call.args[1] & _TIMER_ABSTIME)

    def _name(self, number: int) -> str:
        return next((name for name, n in self.calls.items() if n == number), "")

    def head(self, words: Sequence[int], mask: int) -> tuple[bytes, bytes]:
        """What lies at HEAD and at IMAGE: how the program gives the registers back when its tracer is gone."""
        values = dict(zip(self.words, words, strict=True))
        if "orig_rax" in values and values["orig_rax"] < WORD // 2:
            cut = -self.answer(words)
            if cut in _CUT_SHORT or cut == ERESTART_RESTARTBLOCK:
                resumed = cut == ERESTART_RESTARTBLOCK
                values["rax"] = self.calls["restart_syscall"] if resumed else values["orig_rax"]
                values["rip"] -= len(self.enter)
        head = struct.pack("=QqqQQQ", 0, _PATIENCE, 0, mask, values[self.stack], values[self.pc])
        return head, struct.pack(f"={len(self.image)}Q", *(values[name] for name in self.image))


_X86_64 = Machine(
    "x86_64",
    ("r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi", "orig_rax",
     "rip", "cs", "eflags", "rsp", "ss", "fs_base", "gs_base", "ds", "es", "fs", "gs"),
    "rax", "rax", ("rdi", "rsi", "rdx", "r10", "r8", "r9"), "rip", "rsp", b"\x0f\x05",
    {"wait4": 61, "mmap": 9, "mprotect": 10, "munmap": 11, "restart_syscall": 219,
     "read": 0, "readv": 19, "recvfrom": 45, "recvmsg": 47, "recvmmsg": 299, "accept": 43, "accept4": 288,
     "epoll_wait": 232, "epoll_pwait": 281, "epoll_pwait2": 441, "rt_sigtimedwait": 128, "semop": 65, "semtimedop": 220,
     "msgrcv": 70, "io_getevents": 208, "io_pgetevents": 333, "io_uring_enter": 426},
    bytes.fromhex(
        "85ed7421418b3c2431f6ba010000404531d2b83d0000000f05418904244983c404ffcdebdbc7030100000031ff31f6488d53084531d24531"
        "c0b80f0100000f05bf02000000488d731831d241ba08000000b80e0000000f05488da300800000415f415e415d415c5d5b415b415a415941"
        "5858595a5e5f9d488b25a2ff0000ff25a4ff0000"
    ),
    ("rbx", "r12", "rbp"),
    ("r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi", "eflags"),
)  # fmt: skip

_X = tuple(f"x{n}" for n in range(31))
_AARCH64 = Machine(
    "aarch64",
    (*_X, "sp", "pc", "pstate"),
    "x8", "x0", _X[:6], "pc", "sp", b"\x01\x00\x00\xd4",
    {"wait4": 260, "mmap": 222, "mprotect": 226, "munmap": 215, "restart_syscall": 128,
     "read": 63, "readv": 65, "recvfrom": 207, "recvmsg": 212, "recvmmsg": 243, "accept": 202, "accept4": 242,
     "epoll_pwait": 22, "epoll_pwait2": 441, "rt_sigtimedwait": 137, "semop": 193, "semtimedop": 192, "msgrcv": 188,
     "io_getevents": 4, "io_pgetevents": 292, "io_uring_enter": 426,
     "futex": 98, "nanosleep": 101, "clock_nanosleep": 115},
    bytes.fromhex(
        "75010034800240b9e1031faa220080520200a872e3031faa882080d2010000d4804600b8b5060051f6ffff1720008052600200b9e0031faa"
        "e1031faa62220091e3031faae4031faa280980d2010000d4400080d261620091e2031faa030180d2e81080d2010000d4701240f91f020091"
        "f10313aa100090d23002108b007e40f900421bd5000640a9020e41a9041642a9061e43a9082644a90a2e45a90c3646a90e3e47a9124e49a9"
        "14564aa9165e4ba918664ca91a6e4da91c764ea91e7a40f9311640f9104240f920021fd6"
    ),
    ("x19", "x20", "x21"),
    (*_X, "pstate"),
)  # fmt: skip

MACHINES = {m.name: m for m in (_X86_64, _AARCH64)}
