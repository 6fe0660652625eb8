"""Futexes (futex(2)): what a wait is for, and who may own the lock, as far as the words in memory tell. Pure.

The kernel knows the owner of a futex only where it inherits priority. All else is what the C library keeps beside it:
glibc's ``pthread_mutex_t`` is ``lock, count, owner, nusers, kind`` on 64-bit machines and ``lock, count, owner, kind,
nusers`` on 32-bit ones (sysdeps/nptl/bits/struct_mutex.h), musl's has the owner in the lock itself.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

WORDS = 8  # of 32 bits from the futex on, that are of use
_PRIVATE, _CLOCK_REALTIME = 128, 256
_WAIT, _LOCK_PI, _WAIT_BITSET, _WAIT_REQUEUE_PI, _LOCK_PI2 = 0, 6, 9, 11, 13
_NAMES = {_WAIT: "WAIT", _LOCK_PI: "LOCK_PI", _WAIT_BITSET: "WAIT_BITSET", _WAIT_REQUEUE_PI: "WAIT_REQUEUE_PI",
          _LOCK_PI2: "LOCK_PI2"}  # fmt: skip
_TID = 0x3FFFFFFF  # FUTEX_TID_MASK
_WAITERS = 0x80000000
_MOST_TID = 1 << 22  # PID_MAX_LIMIT
_CONTENDED = 2  # glibc's lock that somebody waits for
_RWLOCK = 3  # glibc's rwlock, held by a writer and waited for
_MOST_KIND = 0x1FF
_MOST_USERS = 1 << 20


class Wait(NamedTuple):
    """One call of futex(2) that waits: address, operation, and the value that it found."""

    address: int
    operation: int
    value: int

    @property
    def command(self) -> int:
        """The operation without its flags."""
        return self.operation & ~(_PRIVATE | _CLOCK_REALTIME)

    @property
    def private(self) -> bool:
        """Whether only threads of one process can use it."""
        return bool(self.operation & _PRIVATE)

    @property
    def words(self) -> str:
        """As strace(1) writes it."""
        flags = ("_PRIVATE" if self.private else "") + (
            "|FUTEX_CLOCK_REALTIME" if self.operation & _CLOCK_REALTIME else ""
        )
        return f"0x{self.address:x}, FUTEX_{_NAMES.get(self.command, str(self.command))}{flags}, {self.value}"


class Guess(NamedTuple):
    """A thread that may be waited for, as its own pid namespace numbers it.

    ``certain``: the kernel keeps to it. ``ends``: its end is waited for, not a lock.
    """

    tid: int
    what: str
    certain: bool = False
    ends: bool = False


def guesses(wait: Wait, data: bytes) -> list[Guess]:
    """Who may own it, likeliest first, by the words from the futex on; whether there is such a thread is not known."""
    words = struct.unpack(f"={len(data) // 4}I", data[: len(data) // 4 * 4])
    if not words:
        return []
    if wait.command in (_LOCK_PI, _LOCK_PI2):
        return _some(Guess(words[0] & _TID, "a lock with priority inheritance", certain=True))
    found: list[Guess] = []
    if wait.value & _WAITERS and words[0] & _WAITERS:
        found += _some(Guess(words[0] & _TID, "a robust mutex"))
    if wait.value == _CONTENDED and _is_mutex(words):
        found += _some(Guess(words[2], "a mutex"))
    if wait.value == _RWLOCK and wait.command == _WAIT_BITSET:
        for at in (4, 3):  # from __wrphase_futex or __writers_futex to __cur_writer
            found += _some(Guess(words[at] if at < len(words) else 0, "a read-write lock, held by a writer"))
    if not wait.private and wait.value == words[0] and words[0] > 1 and wait.command in (_WAIT, _WAIT_BITSET):
        found += _some(Guess(words[0], "pthread_join", ends=True))
    return found


def _some(guess: Guess) -> list[Guess]:
    return [guess] if 0 < guess.tid <= _MOST_TID else []


def _is_mutex(words: tuple[int, ...]) -> bool:
    """Whether these look like a glibc mutex that somebody holds; 64-bit or 32-bit."""
    if len(words) < 5 or words[0] not in (1, _CONTENDED):  # noqa: PLR2004
        return False
    return any(
        0 < users <= _MOST_USERS and kind <= _MOST_KIND for users, kind in ((words[3], words[4]), (words[4], words[3]))
    )


def without_owner(wait: Wait) -> str:
    """What it is most likely where nobody is named as its owner."""
    if wait.command == _WAIT_REQUEUE_PI:
        return "a condition variable, which has no owner"
    if wait.command == _WAIT_BITSET:
        return "a condition variable or a semaphore, which have no owner"
    return "a lock, a condition variable or a semaphore whose owner memory does not show"
