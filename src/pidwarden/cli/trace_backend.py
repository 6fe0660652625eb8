"""What the command needs of the kernel side and of the decoder: which calls there are here, plans, a tracer."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Self

from pidwarden.kernel import callformats, evidence, procfs
from pidwarden.model.text import escape
from pidwarden.trace import abi, capture, redact
from pidwarden.trace.decode import Decoder, signatures
from pidwarden.trace.descriptors import CHANGE, NamingDecoder
from pidwarden.trace.enlist import Enlisting
from pidwarden.trace.numbers import CALLS
from pidwarden.trace.tracer import Settings, Tracer

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from types import TracebackType

    from pidwarden.cli.trace_whom import Whom
    from pidwarden.trace.event import Event
    from pidwarden.trace.filters import Filter
    from pidwarden.trace.tracer import Count, Pending, Tallies, Total

_RINGS_BYTES, _LEAST_RING, _MOST_RING = 128 << 20, 1 << 20, 16 << 20
# Calls made all the time whose structures have no text of anybody's, or none that is shown.
_HOT = (
    "stat lstat fstat newfstatat statx getdents getdents64 wait4 waitid poll ppoll select pselect6 epoll_wait "
    "epoll_pwait epoll_ctl rt_sigaction rt_sigprocmask clock_gettime nanosleep clock_nanosleep futex prlimit64"
)
_NUMBERS = frozenset(_HOT.split())
MOST_BYTES = abi.PIECE_BYTES - 1


class Backend:
    """Of this machine, for one command line."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._args = args
        machine = os.uname().machine
        self._signatures = signatures(callformats.read())
        self.knows_arguments = bool(self._signatures)
        self._machine = machine
        self.decoder: Decoder = Decoder(machine, self._signatures, string=args.s)
        self._names: dict[int, str] = {}
        for kind, names in enumerate(CALLS.get(machine, ())):
            self._names |= {abi.CALLS * kind + number: name for number, name in names.items() if number < abi.CALLS}
        self._kinds: dict[tuple[int, int], int] = {}

    def calls(self) -> dict[str, Sequence[tuple[str, str]]]:
        """Every call of this machine: types and names of its arguments, none where they are not known."""
        known = self._signatures
        return {name: known[name].args if name in known else () for name in self._names.values()}

    def name_descriptors(self, wanted: Filter, clean: Callable[[str], str]) -> None:
        """Has the decoder name descriptors (-y); `clean` takes secrets out of a name."""
        self._clean = clean

        def look(pid: int, fd: int | None) -> str:
            try:
                path = procfs.link(pid, "cwd" if fd is None else f"fd/{fd}")
            except OSError:  # it is gone, or not ours to look at
                return ""
            return clean(escape(os.fsencode(path)))

        self.decoder = NamingDecoder(
            self._machine, self._signatures, string=self._args.s, look=look, keep=not wanted.by_result
        )

    def learn_descriptors(self, pids: Iterable[int]) -> None:
        """What they lead to now, of those who are there."""
        decoder = self.decoder
        if not isinstance(decoder, NamingDecoder):
            return
        for pid in pids:
            if not procfs.within_exec(f"{procfs.PROC}/{pid}"):
                names: dict[int | None, str] = dict(evidence.descriptors(pid).items())
                with contextlib.suppress(OSError):
                    names[None] = procfs.link(pid, "cwd")
                decoder.learn(pid, {fd: self._clean(escape(os.fsencode(name))) for fd, name in names.items()})

    def kind(self, nr: int, arg: int) -> int:
        """What an argument of a call points to, as a redactor wants to know it."""
        return self._kinds.get((nr, arg), redact.BYTES)

    def _know(self, nr: int, name: str, plan: capture.Plan) -> None:
        for arg, each in enumerate(plan.args):
            if each.kind in (abi.STRING, abi.STRINGS):
                self._kinds[nr, arg] = redact.STRING
            elif each.kind == abi.BYTES and name in _NUMBERS:
                self._kinds[nr, arg] = redact.NO_TEXT

    def _packed(self, wanted: Filter) -> dict[int, bytes]:
        found = {}
        machine = os.uname().machine
        for nr, plan in capture.every(machine, self._signatures, data=self._args.data, string=self._args.s).items():
            name = self.decoder.name(nr)
            shown = wanted.wants(name)
            if shown or (self._args.y and name in CHANGE):
                self._know(nr, name, plan)
                found[nr] = plan._replace(traced=not self._args.c, counted=shown).pack()
        return found

    def trace(self, wanted: Filter, whom: Iterable[Whom], *, command: bool) -> Trace:
        """A trace that is not attached yet.

        Raises:
            PidwardenError: the kernel refuses.
        """
        args, whom = self._args, list(whom)
        flags = abi.STREAM if not args.c or args.by_process else 0  # who forked and what it became has names
        flags |= abi.BY_PROCESS * bool(args.by_process)
        flags |= abi.FOLLOW * (command or any(target.follow for target in whom))
        flags |= {"failed": abi.ONLY_FAILED, "done": abi.ONLY_DONE}.get(wanted.only, 0)
        flags |= abi.LATE * wanted.by_result
        settings = Settings(
            flags=flags,
            uid=next((target.uid for target in whom if target.uid is not None), None),
            cgroup=next((target.cgroup for target in whom if target.cgroup is not None), None),
            min_ns=wanted.min_ns,
            errnos=wanted.errnos,
            ring_bytes=_ring_bytes(os.cpu_count() or 1),
        )
        return Trace(Tracer(settings, self._packed(wanted)))


def _ring_bytes(processors: int) -> int:
    """Of one processor's ring, a power of two: what comes in a burst has room, all of them together stay small."""
    share = min(max(_RINGS_BYTES // processors, _LEAST_RING), _MOST_RING)
    return 1 << share.bit_length() - 1


class Trace:
    """A tracer, and who was put on its list. A context manager."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._members: dict[int, int] = {}

    def __enter__(self) -> Self:
        """Attaches it. Raises PidwardenError: the kernel refuses."""
        self._tracer.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, why: BaseException | None, at: TracebackType | None) -> None:
        """Detaches and frees it."""
        self._tracer.__exit__(kind, why, at)

    def enlist(self, whom: Collection[Whom]) -> tuple[set[int], set[int]]:
        """Has everybody traced who is there; their processes and threads."""

        def look() -> Mapping[int, int]:
            found: dict[int, int] = {}
            for target in whom:
                found.update(target.find())
            found.pop(os.getpid(), None)
            return found

        enlisting = Enlisting(self._tracer, look)
        enlisting.run()
        self._members = enlisting.members
        return set(enlisting.members), enlisting.tids

    def enlist_command(self, pid: int) -> None:
        """Has a child traced from its execve on."""
        self._tracer.enlist([pid], from_exec=True)

    def alive(self) -> bool:
        """Whether anybody is left, of those on the list and of their children."""
        for pid, start in list(self._members.items()):
            stat = procfs.stat(pid) or procfs.veiled(pid)
            if stat is not None and stat.start_ticks in (start, procfs.VEILED) and stat.state not in "ZX":
                return True
            if stat is not None and stat.threads > 1:  # its first thread has ended, not the others
                return True
            del self._members[pid]
        return self._tracer.known() > 0

    # what the tracer has itself

    def wait(self, seconds: float) -> None:
        """Returns after that time, or earlier when there is much to read."""
        self._tracer.wait(seconds)

    def read(self, most: int | None = None) -> list[Event]:
        """What has come, in order of time; of more than `most` records the oldest."""
        return self._tracer.read(most)

    def detach(self) -> None:
        """Ends it; what was recorded and counted can still be read."""
        self._tracer.detach()

    def pending(self) -> list[Pending]:
        """Calls that threads sit in."""
        return self._tracer.pending()

    def totals(self) -> dict[int, Total]:
        """Counts by number of the call."""
        return self._tracer.totals()

    def by_process(self) -> dict[tuple[int, int], Count]:
        """Counts by process and number of the call."""
        return self._tracer.by_process()

    def tallies(self) -> Tallies:
        """What it counted of its own work."""
        return self._tracer.tallies()

    def met(self) -> set[int]:
        """Threads of whom there are records, or will be."""
        return self._tracer.met()

    def known(self) -> int:
        """Threads that have made a call and have not ended."""
        return self._tracer.known()
