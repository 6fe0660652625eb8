"""The console of `pidwarden rescue`. Read in when the priority is raised already."""

from __future__ import annotations

import heapq  # noqa: F401  (Counter.most_common would read it in when it is first called)
import importlib
from contextlib import suppress
from typing import TYPE_CHECKING

from pidwarden.cli.unattended import spared
from pidwarden.cli.where import run_dir
from pidwarden.errors import PidwardenError
from pidwarden.guard.control import ask_bulk
from pidwarden.kernel.snapshot import from_guard
from pidwarden.model.key import TICK_NS
from pidwarden.rescue.choose import KINDS
from pidwarden.rescue.commands import Processes, no_family, not_root
from pidwarden.rescue.console import Command, Console, Leave, become_shell
from pidwarden.rescue.desk import Desk
from pidwarden.rescue.strength import Before, strengthen
from pidwarden.rescue.system import Machine

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence


def _say(text: str) -> None:
    print(text, flush=True)


_HELP = {
    "who": ("who", "two looks: the largest groups, then the suspects with their reasons"),
    "ps": ("ps [--all] [SELECTOR …]", "the process table, or those of it that fit all selectors"),
    "tree": ("tree [--all] [SELECTOR …]", "who is whose parent"),
    "zombies": ("zombies", "whose children ended and are not reaped"),
    "spared": ("spared", "who is never touched, and why"),
    "freeze": ("freeze [--dry-run] N | SELECTOR …", "stop them, pass upon pass, until nobody new is found"),
    "frozen": ("frozen", "who is stopped"),
    "thaw": ("thaw [N | SELECTOR …]", "let go what was frozen here, or those who fit"),
    "kill": (
        "kill [--dry-run] [N | SELECTOR …]",
        "freeze, kill, prove that nobody is left; alone: what is frozen here",
    ),
    "hold": ("hold N | SELECTOR …", "load the gate into the kernel: they do not fork any more"),
}


_HELP_MACHINE = {
    "why": ("why [pid:N] [user:U]", "which limit makes fork fail, who fills it, and what would make room"),
    "limits": ("limits [pid:N | NAME VALUE]", "the limits on tasks; with a name and a value, another value"),
    "cat": ("cat PATH", "a file"),
    "write": ("write [--once] PATH VALUE", "a setting below /proc/sys or in a cgroup"),
    "changes": ("changes", "the settings that were changed from here"),
    "log": ("log [LINES]", "the kernel's last messages"),
    "reboot": ("reboot [--no-sync] [yes, reboot]", "restart the machine by a system call; asked twice"),
}


def _family(number: int) -> frozenset[tuple[int, int]]:
    """The members of a family by pid and start, from the guard that runs here.

    Raises:
        NotPossible: none does.
        PidwardenError: it does not answer, or has no such family.
    """
    found = ask_bulk(run_dir(None), "records")
    if found is None:
        return no_family(number)
    frame = from_guard(found[1], ("tgid", "start_ns", "family", "live"))
    rows = zip(*(frame[name] for name in ("tgid", "start_ns", "family", "live")), strict=True)
    members = frozenset((pid, start // TICK_NS) for pid, start, family, live in rows if family == number and live > 0)
    if not members:
        msg = f"family:{number}: the guard knows nobody in it who lives; `ps`, or `who` without it"
        raise PidwardenError(msg)
    return members


class _Menu:
    """All that can be typed."""

    def __init__(self, processes: Processes, machine: Machine, *, shell: bool) -> None:
        self._processes, self._machine, self._shell = processes, machine, shell
        self.commands = {name: Command(*text, getattr(processes, name)) for name, text in _HELP.items()}
        self.commands |= {name: Command(*text, getattr(machine, name)) for name, text in _HELP_MACHINE.items()}
        self.commands["undo"] = Command(
            "undo [--force]", "take the last thing back; a setting also if others changed it", self._undo
        )
        self.commands["sh"] = Command("sh", "a shell again, in this place", self._sh)
        self.commands["quit"] = Command("quit", "leave: a shell again" if shell else "leave", self._quit)
        self.commands["help"] = Command("help [COMMAND …]", "what can be typed", self._help)
        self._words = [*self.commands, *(f"{kind}:" for kind in KINDS)]

    def complete(self, text: str) -> list[str]:
        """What a word may become."""
        return [word for word in self._words if word.startswith(text)]

    def _undo(self, words: Sequence[str]) -> None:
        if list(words) == ["--force"]:
            self._machine.undo(force=True)
        elif self._processes.acts:
            _say(self._processes.acts[-1].undo())
            self._processes.acts.pop()
        else:
            _say("nothing was done that can be undone")

    def _sh(self, _words: Sequence[str]) -> None:
        self._processes.leaving()
        raise Leave

    def _quit(self, _words: Sequence[str]) -> None:
        self._processes.leaving()
        raise Leave(shell=self._shell)

    def _help(self, words: Sequence[str]) -> None:
        for name in words or self.commands:
            if name in self.commands:
                _say(f"{self.commands[name].usage:<38} {self.commands[name].text}")
        if not words:
            _say("a SELECTOR is one of " + "; ".join(KINDS.values()))


def console(args: argparse.Namespace, before: Before) -> int:
    """The console, until it is left; then a shell takes its place."""
    strengthen()
    sparing, remarks = spared(args.config)
    desk = Desk(sparing)
    processes = Processes(desk, _say, _family)
    menu = _Menu(processes, Machine(_say, processes.acts), shell=not args.no_shell)
    with suppress(ImportError):
        importlib.import_module("readline")  # edits lines and completes, where there is a terminal and it is installed
    loop = Console(menu.commands, _say, menu.complete)
    room = desk.room()
    near = f"{room.used:,} of {room.limit:,} slots are in use ({room.name}). Type `who`, then `help`."
    for line in (*remarks, *not_root(), near):
        _say(line)
    while loop.run(shell_at_end=not args.no_shell):
        why = become_shell(before)
        _say(f"no shell can be started: {why}; staying here")
    return 0
