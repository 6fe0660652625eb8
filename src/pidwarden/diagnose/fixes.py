"""What to change in a program, so that its zombies do not come back, by the cause. Pure."""

from __future__ import annotations

from pidwarden.diagnose.cause import Cause

_FIXES = {
    Cause.TRACED: "nothing is wrong with the parent; the debugger or tracer has to let go",
    Cause.WAITS_FOR_ANOTHER: "wait for any child (waitpid with -1 and WNOHANG), or give the wait for one a time limit",
    Cause.BLOCKED: "wait for children in a handler or a thread of its own, so that what blocks does not hold that up; "
    "give the call that blocks a time limit",
    Cause.ONE_PER_SIGNAL: "in the handler of SIGCHLD call waitpid(-1, …, WNOHANG) until it returns 0 or an error: "
    "signals that come together are one",
    Cause.SIGCHLD_BLOCKED: "unblock SIGCHLD, read its signalfd, or wait without the signal; and unblock it before "
    "exec, as the mask is inherited",
    Cause.IGNORED_LATE: "ignore SIGCHLD (or set SA_NOCLDWAIT) before the first fork: it does not apply to who is dead",
    Cause.EXECED: "wait for the children before exec, or fork them from a process that stays",
    Cause.NEVER_WAITS: "call waitpid for every child that is started, or ignore SIGCHLD before the first fork if "
    "nobody wants to know how they end",
    Cause.CONTAINER_INIT: "start the container with an init that reaps: docker run --init, tini, dumb-init, or "
    "shareProcessNamespace in a pod",
}


def fix(cause: Cause) -> str:
    """One sentence; empty where nothing has to be changed, or nobody knows what."""
    return _FIXES.get(cause, "")
