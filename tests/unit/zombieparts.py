"""Parents and zombies as values, for the tests of what is said about them."""

from __future__ import annotations

from pidwarden.model.key import ProcessKey
from pidwarden.model.task import SIGCHLD, Status, Syscall
from pidwarden.model.zombie import Case, Parent, Sleep, Thread, Zombie

PARENT = 100
BIT = 1 << (SIGCHLD - 1)
STACK = 0x7FFC_0000_0000


def zombie(pid=200, *, comm=b"child", threads=1, exit_signal=17):
    fields = [b"Z", PARENT, 100, 100, 0, -1, 4228172, 17, 0, 0, 0, 0, 0, 0, 0, 20, 0, threads, 0, 500]
    fields += [0] * 15 + [exit_signal] + [0] * 14
    text = b" ".join(f if isinstance(f, bytes) else str(f).encode() for f in fields)
    return Zombie(pid, b"%d (%s) %s\n" % (pid, comm, text))


def status(state="S", nspid=(PARENT,), tracer=0, **signals):
    pending, blocked, ignored, caught = (BIT * signals.get(k, 0) for k in ("pending", "blocked", "ignored", "caught"))
    return Status(
        PARENT, PARENT, 1, tracer, 0, 0, tuple(nspid), 1, 0, pending, blocked, ignored, caught, 0, state,
    )  # fmt: skip


def sleep(name="", *args, wchan="", **more):
    call = Syscall(0, (*args, *[0] * (6 - len(args))), STACK, STACK) if name else None
    return Sleep(call, name, wchan, **more)


PAUSE = sleep("pause", wchan="__do_sys_pause")


def thread(tid=PARENT, asleep=PAUSE, **fields):
    found = status(**fields)
    return Thread(tid, found.state, found, asleep)


def parent(*threads, **fields):
    threads = list(threads) or [thread()]
    return Parent(ProcessKey(PARENT, 1), b"server", 1, 100, threads[0].status, threads, **fields)


def case(of=None, zombies=None, **fields):
    zombies = [zombie()] if zombies is None else zombies
    fields = {"watched_ns": 200_000_000, "asked": len(zombies), "comm": b"server", **fields}
    return Case(PARENT, parent() if of is None else of, zombies, **fields)
