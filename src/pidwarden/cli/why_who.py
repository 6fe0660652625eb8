"""Whom `pidwarden why` is asked about: the processes and cgroups that stand for a selector."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, NamedTuple

from pidwarden.cli import source
from pidwarden.errors import PidwardenError, UsageError
from pidwarden.kernel import cgroup, procfs, subjects
from pidwarden.kernel.subjects import Subject
from pidwarden.model.selector import ASKABLE, Selector, SelectorKind, parse_selector
from pidwarden.model.text import escape

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from pidwarden.kernel.tasks import Tasks

_LOOKED_THROUGH = (b"sudo", b"su", b"doas", b"pkexec")  # whoever types them means the shell that they were typed in


class Asked(NamedTuple):
    """Who is meant, in words; the processes and the cgroups that stand for it; what a person should know."""

    label: str
    subjects: tuple[Subject, ...]
    paths: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def selector(args: argparse.Namespace) -> Selector | None:
    """What was asked for; None: the shell that we were called from.

    Raises:
        UsageError: more than one, or none that there is.
    """
    given = [args.selector] if args.selector else []
    given += [f"user:{args.user}"] if args.user is not None else []
    given += [f"cgroup:{args.cgroup}"] if args.cgroup is not None else []
    if len(given) > 1:
        msg = f"{' and '.join(given)}: type one of SELECTOR, --user and --cgroup"
        raise UsageError(msg)
    if not given:
        return None
    if given[0].isascii() and given[0].isdecimal():
        given = [f"pid:{given[0]}"]
    return parse_selector(given[0], ASKABLE)


def find(args: argparse.Namespace, wanted: Selector | None, counted: Tasks) -> Asked:
    """Those who are meant, as they are now.

    Raises:
        UsageError: there is no such user.
        PidwardenError: nobody is meant, or he is gone.
    """
    if wanted is None:
        return _process(_caller(), counted)
    if wanted.kind is SelectorKind.PID:
        return _process(int(wanted.value), counted)
    if wanted.kind is SelectorKind.USER:
        return _user(wanted, counted)
    if wanted.kind is SelectorKind.CGROUP:
        return _cgroup(wanted, counted)
    if wanted.kind is SelectorKind.FAMILY:
        return _those(str(wanted), _family(args, int(wanted.value)), counted)
    match = source.matcher(wanted)
    paths: tuple[str, ...] = ()
    if wanted.kind is SelectorKind.CONTAINER:
        from pidwarden.guard.scope import container_id  # noqa: PLC0415
        from pidwarden.kernel import place  # noqa: PLC0415

        paths = tuple(place.roots_of(container_id(wanted)))
    return _those(str(wanted), [pid for pid in counted.processes if match(pid, 0, 0)], counted)._replace(paths=paths)


def _caller() -> int:
    """The shell that we were called from, through sudo and its like; ourselves, where it is outside of a container.

    By the numbers that /proc has: it may be that of another pid namespace than ours.
    """
    own = int(os.readlink(f"{procfs.PROC}/self"))
    itself = procfs.stat(own)
    pid = (itself.ppid if itself else 0) or own
    while (found := procfs.stat(pid)) and found.comm in _LOOKED_THROUGH and found.ppid > 1:
        pid = found.ppid
    return pid


def _process(pid: int, counted: Tasks) -> Asked:
    found = counted.processes.get(pid)
    if found is None:
        msg = f"looked for process {pid}: it is gone, or /proc hides it from us; name one that lives, or be root"
        raise PidwardenError(msg)
    if found.zombie:
        msg = (
            f"process {pid} has ended and process {found.parent} has not waited for it: it forks no more; "
            f"type `pidwarden why pid:{found.parent}`"
        )
        raise PidwardenError(msg)
    label = f"process {pid} ({escape(found.name)}) of {escape(source.user_name(found.uid).encode())}"
    return Asked(label, (Subject(pid, found.uid),))


def _those(label: str, pids: Iterable[int], counted: Tasks) -> Asked:
    pids = list(pids)
    if not pids:
        msg = f"{label}: no such process lives, or /proc hides it from us; `pidwarden ps` lists those there are"
        raise PidwardenError(msg)
    found = subjects.apart(pids, counted)
    notes = (
        (f"{found.left_out} of {len(pids)} processes are not looked at one by one; name one: `pidwarden why pid:N`",)
        if found.left_out > 0
        else ()
    )
    return Asked(f"{label} ({len(pids)} process{'es' * (len(pids) != 1)})", found.found, (), notes)


def _user(wanted: Selector, counted: Tasks) -> Asked:
    from pidwarden.guard.scope import uid_of  # noqa: PLC0415

    uid = uid_of(wanted.value)
    name = source.user_name(uid)
    shown = f"user {escape(name.encode())}"
    notes = tuple(_login(name, uid))
    pids = [pid for pid, p in counted.processes.items() if p.uid == uid]
    slice_ = f"/user.slice/user-{uid}.slice"
    mounts = cgroup.mounts()
    mount = mounts.v1.get("pids") or mounts.v2
    paths = (slice_,) if mount and os.path.isdir(mount + slice_) else ()
    if not pids:
        return Asked(
            f"{shown} (no process)",
            (),
            paths,
            ("no process of that user lives: these limits are the machine's", *notes),
        )
    found = _those(shown, pids, counted)
    return found._replace(paths=paths, notes=(*found.notes, *notes))


def _login(name: str, uid: int) -> Iterable[str]:
    """What a new login of a user gets."""
    import grp  # noqa: PLC0415
    import pwd  # noqa: PLC0415

    from pidwarden.kernel import pamlimits  # noqa: PLC0415

    groups = {entry.gr_name for entry in grp.getgrall() if name in entry.gr_mem}
    with contextlib.suppress(KeyError):
        groups.add(grp.getgrgid(pwd.getpwuid(uid).pw_gid).gr_name)
    for entry in pamlimits.nproc(name, uid, groups):
        kind = {"-": "soft and hard"}.get(entry.kind, escape(entry.kind.encode()))
        yield f"a login gets nproc {escape(entry.value.encode())} ({kind}) from {entry.where}"


def exists(path: str) -> bool:
    """Whether there is a cgroup of this path in any hierarchy."""
    return any(os.path.isdir(root + path) for root in cgroup.mounts().roots)


def _cgroup(wanted: Selector, counted: Tasks) -> Asked:
    mounts = cgroup.mounts()
    path = cgroup.relative(wanted.value, mounts).rstrip("/") or "/"
    shown = f"cgroup {escape(os.fsencode(path))}"
    if not exists(path):
        msg = f"{shown}: there is no such cgroup in any hierarchy; see `cat /proc/PID/cgroup`"
        raise PidwardenError(msg)
    pids: set[int] = set()
    for root in mounts.roots:
        pids |= cgroup.processes_below(root.rstrip("/") + path.rstrip("/")) or set()
    pids -= {0}
    if path == "/" or not pids:
        return Asked(shown, (), (path,), () if path == "/" else ("nobody is in it",))
    return _those(shown, pids, counted)._replace(paths=(path,))


def _family(args: argparse.Namespace, number: int) -> list[int]:
    from pidwarden.kernel import snapshot  # noqa: PLC0415

    taken = source.take(args, "families")
    if taken.answer is None:
        msg = f"family:{number}: families are known only while a guard runs; type `sudo pidwarden guard`"
        raise PidwardenError(msg)
    frame = snapshot.from_guard(taken.data, {"tgid", "slots", "family"})
    rows = zip(frame["tgid"], frame["slots"], frame["family"], strict=True)
    return [pid for pid, slots, family in rows if family == number and slots > 0]
