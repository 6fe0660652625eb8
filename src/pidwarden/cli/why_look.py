"""The looks that `pidwarden why` takes at one subject, and what it makes of them."""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import TYPE_CHECKING, Any

from pidwarden.act.places import failed
from pidwarden.cli import why_more, why_text, why_who
from pidwarden.cli.where import run_dir
from pidwarden.diagnose import message
from pidwarden.diagnose.limits import Binding, Kind, Seen, grown
from pidwarden.errors import PidwardenError
from pidwarden.guard.control import ask
from pidwarden.guard.headroom import DAY_HOURS, SECOND_NS
from pidwarden.kernel import limits, procfs, tasks
from pidwarden.kernel.clock import boot_ns
from pidwarden.model.key import TICK_NS
from pidwarden.model.text import escape
from pidwarden.rescue import why

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from pidwarden.cli.why_who import Asked
    from pidwarden.model.selector import Selector

_BETWEEN_SECONDS = 0.5  # the two looks: long enough to see a bomb, short enough to wait for
_SYSTEMD = "/run/systemd/system"  # sd_booted(3)


def _own_words() -> dict[str, str]:
    """What the C library calls the errors in the caller's language, in lower case."""
    import locale  # noqa: PLC0415  (for a message only)

    with contextlib.suppress(locale.Error):
        locale.setlocale(locale.LC_MESSAGES, "")
    words = {os.strerror(number).lower(): name for number, name in message.names().items()}
    locale.setlocale(locale.LC_MESSAGES, "C")
    return words


class _Look:
    """One look after the other at the same subject."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._args = args
        self._wanted: Selector | None = why_who.selector(args)
        self.said = message.parse(args.message, _own_words()) if args.message is not None else None
        self.meant = message.meaning(self.said) if self.said else None
        self._first: tuple[float, list[Binding]] | None = None

    def asked(self, counted: tasks.Tasks) -> Asked:
        """Whom it is about; a line of the kernel's names the cgroup itself."""
        if self._wanted is None and self.said and self.said.cgroup:
            path = "/" + os.path.normpath(self.said.cgroup).lstrip("/")
            label = f"cgroup {escape(os.fsencode(path))}, which the line names"
            if why_who.exists(path):
                return why_who.Asked(label, (), (path,))
            here = why_who.find(self._args, None, counted)
            return here._replace(notes=(*here.notes, f"{label}, is gone, and its counters with it"))
        return why_who.find(self._args, self._wanted, counted)

    def now(self) -> tuple[Asked, list[Binding]]:
        """A look, with the rates since the first one.

        Raises:
            PidwardenError: nobody is meant, or he is gone.
        """
        at = time.monotonic()
        try:
            counted = tasks.count()
            asked = self.asked(counted)
            found = why.survey(asked.subjects, counted, paths=asked.paths)
            if self.meant:
                found = why_more.found(self.meant.kinds, asked.subjects, counted) + found
        except (FileNotFoundError, ProcessLookupError) as gone:
            msg = "it ended while it was looked at; name a process that stays: `pidwarden why pid:N`"
            raise PidwardenError(msg) from gone
        except OSError as failure:
            raise failed(f"tried to read {failure.filename or procfs.PROC}", failure, "type it again") from failure
        if self._first is None:
            self._first = at, found
            return asked, found
        return asked, grown(self._first[1], found, at - self._first[0])


def _by_guard(bindings: Sequence[Binding], directory: str) -> list[Binding]:
    """With the guard's rate, which it has seen for longer, for the tables of the whole machine; if one answers."""
    try:
        answer = ask(directory, "status")
    except PidwardenError:
        answer = None
    stat = procfs.stat(answer["pid"]) if answer else None
    if answer is None or stat is None:
        return list(bindings)
    age = min(boot_ns() - stat.start_ticks * TICK_NS, DAY_HOURS * 3600 * SECOND_NS) / SECOND_NS
    found = []
    for b in bindings:
        if b.kind in (Kind.PID_MAX, Kind.THREADS_MAX) and b.seen and b.fills_in is None and age > b.seen.seconds:
            found.append(b._replace(seen=Seen(answer["tasks_per_hour"] / 3600, age, source="the guard")))
        else:
            found.append(b)
    return found


def _filters(asked: Asked) -> list[str]:
    """Those of the subjects that a seccomp filter may refuse as well."""
    found = [s.pid for s in asked.subjects if limits.status(s.pid).get("Seccomp") == "2"]
    return [
        f"process {pid} is under a seccomp filter: that can refuse with any error, and no file shows it"
        for pid in found
    ]


def _all_of_it(look: _Look, asked: Asked, bindings: list[Binding], args: argparse.Namespace) -> why_text.Found:
    logged, refused = why_more.logged()
    notes = list(asked.notes)
    if args.message is not None and look.said is None:
        notes.append(f"--message: nothing in it is known; what can be given is {message.GIVEN}")
    if look.said and not any(b.binds for b in bindings):
        notes += _filters(asked)
    if refused:
        notes.append(f"the kernel's log is not looked at: {refused}")
    if os.geteuid() != 0 and any(b.who.endswith("may be more") for b in bindings):
        notes.append("/proc hides processes of others from us: `sudo pidwarden why` counts them all")
    if not args.no_guard:
        bindings = _by_guard(bindings, run_dir(args.run_dir))
    systemd = os.path.isdir(_SYSTEMD)
    return why_text.Found(asked.label, bindings, look.said, look.meant, logged, notes, systemd)


def _print(found: why_text.Found, args: argparse.Namespace) -> None:
    if args.json:
        shown: dict[str, Any] = why_text.json_object(found)
        print(json.dumps(shown, indent=None if args.watch else 2), flush=True)
    else:
        print("\n".join(why_text.lines(found)), flush=True)


def run(args: argparse.Namespace) -> int:
    """Looks twice and says what was found; 1 if a limit is reached.

    Raises:
        UsageError: the selector is none.
        PidwardenError: nobody is meant, or he is gone.
    """
    look = _Look(args)
    look.now()
    time.sleep(_BETWEEN_SECONDS)
    while True:
        asked, bindings = look.now()
        found = _all_of_it(look, asked, bindings, args)
        _print(found, args)
        if args.watch is None:
            return int(bool(found.reached))
        time.sleep(args.watch)
        if not args.json:
            print(f"\n{time.strftime('%H:%M:%S')}")
