"""Who owns the lock in memory that a thread sleeps at, as far as the kernel or the C library's words tell (futex(2)).

Only where priority is inherited does the kernel itself know. Else a word beside the futex names a thread: if that
lives, and can reach the memory, it is the owner most likely, and no more: another library may keep other things there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pidwarden.kernel.sight import DEAD, Told
from pidwarden.model import futexes
from pidwarden.model.futexes import Guess, Wait
from pidwarden.model.waiter import Edge, End, Ref

if TYPE_CHECKING:
    from pidwarden.kernel.sight import Facts, Sight

CALLS = frozenset(("futex", "futex_wait", "futex_waitv"))
_WAIT_BITSET, _PRIVATE = 9, 128
_U32 = 0xFFFFFFFF


def _wait(facts: Facts) -> tuple[Wait, bool] | None:
    """The wait, and whether it ends by itself; None of one for several futexes."""
    if facts.call is None or facts.name == "futex_waitv":
        return None
    args = facts.call.args
    if facts.name == "futex_wait":  # address, value, mask, flags, timeout, clock
        return Wait(args[0], _WAIT_BITSET | (args[3] & _PRIVATE), args[1] & _U32), bool(args[4])
    return Wait(args[0], args[1] & _U32, args[2] & _U32), bool(args[3])


def told(sight: Sight, facts: Facts) -> Told:
    """What a thread in futex(2) waits for."""
    found = _wait(facts)
    if found is None:
        return _nobody(sight, facts, "waits for one of several futexes", private=True)._replace(call="futex_waitv()")
    wait, timed = found
    call = f"{facts.name}({wait.words})"
    data = sight.memory(facts.alive, wait.address, 4 * futexes.WORDS)
    if isinstance(data, str):
        told = _nobody(sight, facts, f"waits for a lock; who owns it is not known: {data}", private=wait.private)
        return told._replace(call=call, timed=timed)
    gone: Guess | None = None
    for guess in futexes.guesses(wait, data):
        tid = sight.named(guess.tid, facts.status, sight.living(facts.pid) if wait.private or guess.ends else ())
        status = sight.status(tid) if tid else None
        if status is None or status.state in DEAD:
            gone = gone or guess
            continue
        if (ref := sight.ref(tid)) and (doubt := _doubt(sight, facts, wait, guess, ref)) is not None:
            return _owned(facts, guess, ref, doubt, tid)._replace(call=call, timed=timed)
    if gone and not gone.ends:
        words = f"waits for {gone.what}; its owner, thread {gone.tid}, has ended without letting go of it, most likely"
        return Told(words, end=End.NOBODY, do=_look_closer(facts), call=call, timed=timed)
    told = _nobody(sight, facts, f"waits for {futexes.without_owner(wait)}", private=wait.private)
    return told._replace(call=call, timed=timed)


def _doubt(sight: Sight, facts: Facts, wait: Wait, guess: Guess, ref: Ref) -> str | None:
    """What speaks against this owner, in words; empty if nothing does, None if it cannot be."""
    if ref.pid == facts.pid:
        own = (ref.tid or ref.pid) == facts.tid
        return None if guess.ends and own else ""
    if wait.private or guess.ends:
        return None
    shares = sight.shares(facts.alive, wait.address, ref.pid)
    if shares is None:
        return "whether it has that memory is not shown"
    return "" if shares else None


def _owned(facts: Facts, guess: Guess, ref: Ref, doubt: str, tid: int) -> Told:
    if guess.ends:
        return Told("waits for the end of a thread (pthread_join), most likely", (Edge(ref, "ends", sure=False),))
    by = "owned by" if guess.certain else "most likely owned by"
    owner = "which it owns itself" if tid == facts.tid else by
    words = f"waits for {guess.what}, {owner}" + (f" ({doubt})" if doubt else "")
    return Told(words, (Edge(ref, "owner", sure=guess.certain),))


def _nobody(sight: Sight, facts: Facts, words: str, *, private: bool) -> Told:
    """Where nobody is known to own it: any other thread may wake it."""
    if len(sight.living(facts.pid)) > 1:
        return Told(f"{words}; any other of its threads might wake it", (Edge(Ref(facts.pid), "any", False, True),))
    if private:
        return Told(f"{words}, and no other thread lives that could wake it", end=End.NOBODY, do=_look_closer(facts))
    words = f"{words}; whoever shares this memory might wake it, and who that is does not show"
    return Told(words, end=End.UNTOLD, do=_look_closer(facts))


def _look_closer(facts: Facts) -> str:
    return f"gdb -p {facts.pid} -batch -ex 'thread apply all bt'"
