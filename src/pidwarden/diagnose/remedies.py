"""What can be done about zombies, step by step from the harmless to the last, and what each step risks. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Step(StrEnum):
    """One rung of a ladder."""

    WAIT = "wait"  # look again
    INSPECT = "inspect"  # look closer, with another command
    THAW = "thaw"
    CONTINUE = "sigcont"
    DETACH = "detach"  # end the tracing, in the tracer
    AWAITED = "awaited"  # deal with the child that is waited for
    UNBLOCK = "unblock"  # deal with what holds the parent up
    NOTIFY = "sigchld"
    INJECT = "inject"  # make the living parent wait, through ptrace
    RESTART = "restart"  # of the unit, by its service manager
    KILL_TRACER = "kill-tracer"
    KILL_GROUP = "kill-group"  # the living threads of a process whose leader is dead
    TERM = "sigterm"  # the parent
    KILL = "sigkill"  # the parent


class Rung(NamedTuple):
    """A step: what to do, in words or as a command; what it risks; the pid or the directory it is done to."""

    step: Step
    do: str
    risk: str
    target: int | str = 0


_LOSES = "what it was doing is lost; its children go to the next reaper, which takes their statuses"


def wait(why: str) -> Rung:
    """Only look again."""
    return Rung(Step.WAIT, f"look again: pidwarden zombies --watch ({why})", "none")


def thaw(directory: str) -> Rung:
    """End a freeze."""
    return Rung(
        Step.THAW, f"thaw {directory}", "all that is frozen there runs on; somebody froze it for a reason", directory
    )


def cont(pid: int) -> Rung:
    """Continue a stopped process."""
    risk = "it runs on; whoever stopped it, by Ctrl-Z or for a look at it, may have meant it"
    return Rung(Step.CONTINUE, f"kill -CONT {pid}", risk, pid)


def detach(tracer: int, who: str) -> Rung:
    """End a tracing the gentle way."""
    return Rung(
        Step.DETACH, f"let {who} end its tracing (quit the debugger)", "what was being looked at runs on", tracer
    )


def kill_tracer(tracer: int, who: str) -> Rung:
    """End a tracing the hard way."""
    return Rung(
        Step.KILL_TRACER,
        f"kill {tracer}: {who}",
        "the debugging session is lost, and what else it traces runs on",
        tracer,
    )


def awaited(pid: int, who: str) -> Rung:
    """Deal with the child that is waited for."""
    return Rung(
        Step.AWAITED, f"find out why {who} does not end: pidwarden history {pid}; kill {pid}", "its work is lost", pid
    )


def notify(pid: int, times: int) -> Rung:
    """SIGCHLD, which only helps who catches it."""
    again = f", {times} times with a moment between" if times > 1 else ""
    return Rung(Step.NOTIFY, f"kill -CHLD {pid}{again}", "none, as the program expects this signal", pid)


def inject(pid: int) -> Rung:
    """A wait that the parent is made to do."""
    risk = "the program never learns these statuses; the time limit of a call it sleeps in may start anew"
    return Rung(Step.INJECT, f"pidwarden reap pid:{pid} --inject", risk, pid)


def restart(pid: int, unit: str, *, user: bool) -> Rung:
    """Through the service manager."""
    command = f"systemctl {'--user ' if user else ''}restart {unit}"
    return Rung(Step.RESTART, command, "the service is away for a moment, and loses what it has not saved", pid)


def term(pid: int) -> Rung:
    """Ask the parent to end."""
    return Rung(Step.TERM, f"kill {pid}", "it ends, if it heeds that: " + _LOSES, pid)


def kill(pid: int) -> Rung:
    """End the parent."""
    return Rung(Step.KILL, f"kill -KILL {pid}", "it ends without saving anything: " + _LOSES, pid)
