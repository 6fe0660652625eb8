"""Where a command takes processes from: the guard's history if there is one to ask, else /proc; and who is meant."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from pidwarden.errors import PidwardenError, UsageError
from pidwarden.kernel.clock import boot_ns
from pidwarden.model import paths
from pidwarden.model.selector import Selector, SelectorKind

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Mapping

    from pidwarden.model.moment import Clock
    from pidwarden.model.view import View

T = TypeVar("T")


class Source(NamedTuple):
    """What the guard answered, and the bytes of its records; without a guard, why there is none and no bytes."""

    answer: Mapping[str, Any] | None
    data: bytes
    now_ns: int
    notes: tuple[str, ...]  # what a person should know about what is shown

    def clock(self) -> Clock:
        """The moment of the records."""
        import time  # noqa: PLC0415

        from pidwarden.model.moment import Clock  # noqa: PLC0415  (brings datetime: only where times are shown)

        return Clock(self.now_ns, time.time_ns() - boot_ns() + self.now_ns)

    def heading(self) -> dict[str, Any]:
        """The first keys of every JSON object: where it is from, when, and what it lacks."""
        counters = self.answer["counters"] if self.answer else {}
        return {
            "source": "guard" if self.answer else "proc",
            "boot_ns": self.now_ns,
            "notes": list(self.notes),
            "lost": {n: v for n, v in counters.items() if n.startswith("lost_")} if self.answer else None,
        }


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what all commands that ask for processes have in common."""
    parser.add_argument("--no-guard", action="store_true", help="ask no guard; read /proc")
    parser.add_argument("--run-dir", metavar="DIR", help=f"where the guard's socket lies (default: {paths.RUN_DIR})")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def take(args: argparse.Namespace, without: str, *, as_asked: str = "as asked") -> Source:
    """Asks the guard. What falls short is said on standard error; `without` names what /proc cannot tell.

    `as_asked` is the reason given with ``--no-guard``; if it is empty, that goes without saying.
    """
    source = _from_proc(without, as_asked) if args.no_guard else _ask(args.run_dir, without)
    for note in source.notes:
        print(f"pidwarden {args.command}: {note}", file=sys.stderr)
    return source


def past_the_stuck(args: argparse.Namespace, look: Callable[[frozenset[int]], T]) -> T:
    """What `look` finds without those for whom the kernel does not answer, whom it says on standard error."""
    from pidwarden.kernel import patience  # noqa: PLC0415

    found, stuck = patience.past_the_stuck(look)
    if stuck:
        print(f"pidwarden {args.command}: {patience.left_out(stuck)}", file=sys.stderr)
    return found


def take_view(args: argparse.Namespace, without: str) -> tuple[Source, View]:
    """The same as records with their links, ready to be shown."""
    from pidwarden.kernel import place, snapshot  # noqa: PLC0415  (what `ps` does not need, it does not wait for)
    from pidwarden.model.view import View  # noqa: PLC0415

    taken = take(args, without)
    if taken.answer is None:
        records = past_the_stuck(args, lambda without: snapshot.records_from_proc(without=without))
        found = View.of(records, taken.clock(), user_name, creators=False)
        return taken, found.with_places(place.place_of)
    from pidwarden.kernel.parse import parse_records  # noqa: PLC0415  (only with a guard)

    held = frozenset(taken.answer["held"])
    found = View.of(parse_records(taken.data), taken.clock(), user_name, held=held)
    return taken, found.with_places(place.place_of)


def _ask(given: str | None, without: str) -> Source:
    from pidwarden.cli.where import run_dir  # noqa: PLC0415  (a fifth of the start, for nothing with --no-guard)
    from pidwarden.guard.control import ask_bulk  # noqa: PLC0415
    from pidwarden.kernel import abi  # noqa: PLC0415

    directory = run_dir(given)
    try:
        found = ask_bulk(directory, "records")
        if found and (found[0].get("format"), found[0].get("size")) != (abi.DUMP.format, abi.DUMP.size):
            return _from_proc(without, f"the guard in {directory} is of another version; restart it")
    except PidwardenError as why:
        return _from_proc(without, str(why))
    if found is None:
        hint = "type `sudo pidwarden guard` to start one, or add `--run-dir DIR`"
        return _from_proc(without, f"no guard is running in {directory}; {hint}")
    answer, data = found
    return Source(answer, data, int(answer["boot_ns"]), gaps(answer["counters"]))


def _from_proc(without: str, why: str) -> Source:
    notes = [f"from /proc, without {without} ({why})"] if why else []
    if os.geteuid() and (hidden := hidden_by()):
        notes.append(f"/proc is mounted with {hidden}: processes of others may be missing; type `sudo pidwarden …`")
    return Source(None, b"", boot_ns(), tuple(notes))


def hidden_by() -> str:
    """The mount option that hides other users' processes from us (proc(5)), empty if there is none."""
    from pidwarden.kernel.procfs import mounts  # noqa: PLC0415  (root sees everything anyway)

    options = [fields[3].split(",") for fields in mounts() if fields[1] == "/proc"]
    found = [o for o in (options[-1] if options else []) if o.startswith("hidepid=")]
    return next((o for o in found if o not in ("hidepid=0", "hidepid=off")), "")


def gaps(counters: Mapping[str, int]) -> tuple[str, ...]:
    """What the history lacks, in words; empty if it lacks nothing."""
    lost = counters.get("lost_procs", 0) + counters.get("lost_tasks", 0)
    hidden = counters.get("hidden", 0)
    found = []
    if hidden:
        found.append(
            f"{hidden} living processes have no record of their own, as records ran short: counted with others"
        )
    if lost:
        found.append(f"{lost} tasks were never recorded: a map was full; raise max_records in the configuration")
    return tuple(found)


def user_name(uid: int) -> str:
    """The name of a user, the number if there is none."""
    import pwd  # noqa: PLC0415

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def matcher(selector: Selector) -> Callable[[int, int, int], bool]:
    """For all but ``pid:``: whether a process of this pid (0: it is dead), uid and family is meant.

    Raises:
        UsageError: there is no such user.
        PidwardenError: there is no such cgroup or container.
    """
    value = selector.value
    if selector.kind is SelectorKind.FAMILY:
        return lambda _pid, _uid, family: family == int(value)
    if selector.kind is SelectorKind.USER:
        from pidwarden.guard.scope import uid_of  # noqa: PLC0415

        wanted = uid_of(value)
        return lambda _pid, uid, _family: uid == wanted
    if selector.kind is SelectorKind.CGROUP:
        from pidwarden.kernel import cgroup  # noqa: PLC0415

        mounted = cgroup.mounts()
        path = cgroup.relative(value, mounted)
        if not any(os.path.isdir(root + path) for root in mounted.roots):
            msg = f"{selector}: there is no such cgroup in any hierarchy; see `cat /proc/PID/cgroup`"
            raise PidwardenError(msg)
        return lambda pid, _uid, _family: cgroup.within(pid, path)
    if selector.kind is SelectorKind.CONTAINER:
        from pidwarden.guard.scope import container_id  # noqa: PLC0415
        from pidwarden.kernel import place  # noqa: PLC0415

        ids = frozenset({container_id(selector)})
        return lambda pid, _uid, _family: place.is_in(pid, ids)
    if selector.kind is SelectorKind.NSPID:
        from pidwarden.kernel import namespaces  # noqa: PLC0415

        number, _at, namespace = value.partition("@")
        return lambda pid, _uid, _family: namespaces.is_inner(pid, int(number), int(namespace or 0))
    msg = f"{selector} names one process"
    raise UsageError(msg)


def parse_pid(text: str) -> tuple[int, int]:
    """``PID``, ``pid:N`` or either with ``@START_NS``: the pid, and the start in ns since boot, 0 if none was given.

    Raises:
        UsageError: it is none of these.
    """
    from pidwarden.model.selector import parse_selector  # noqa: PLC0415

    number, at, start = text.removeprefix("pid:").partition("@")
    if at and not (start.isascii() and start.isdecimal() and 0 < len(start) <= 20):  # noqa: PLR2004  (64 bits)
        msg = f"{text!r}: {start!r} is no start time; type PID@START_NS as `pidwarden history PID` shows it"
        raise UsageError(msg)
    try:
        return int(parse_selector(f"pid:{number}").value), int(start or 0)
    except UsageError as why:
        msg = f"{text!r} is not a process id; type PID, pid:N or PID@START_NS"
        raise UsageError(msg) from why


def newest(candidates: Iterable[tuple[int, bool, int]]) -> int | None:
    """Of (row, whether it holds a slot, start) the row that a bare pid means: who holds one, else the youngest."""
    best = max(candidates, key=lambda c: (c[1], c[2]), default=None)
    return best[0] if best else None
