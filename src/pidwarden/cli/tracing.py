"""The trace itself: attach, say what everybody sits in, show what comes, count, and detach in any case."""

from __future__ import annotations

import json
import signal
import sys
import time
from typing import TYPE_CHECKING

from pidwarden.cli import trace_backend, trace_out, trace_report, trace_rights, trace_snapshot, trace_whom
from pidwarden.cli.trace_child import Child
from pidwarden.cli.trace_stacks import Stacks
from pidwarden.errors import NoPermission, PidwardenError, UsageError
from pidwarden.kernel.clock import boot_ns
from pidwarden.trace import filters, summary
from pidwarden.trace.descriptors import NamingDecoder
from pidwarden.trace.jsonlines import Objects
from pidwarden.trace.lines import TICK_NS, Lines
from pidwarden.trace.redact import Redactor
from pidwarden.trace.style import Sitting, Stamp, Style

if TYPE_CHECKING:
    import argparse
    from collections.abc import Collection, Sequence

    from pidwarden.cli.trace_backend import Trace
    from pidwarden.cli.trace_snapshot import Sight
    from pidwarden.cli.trace_whom import Whom
    from pidwarden.trace.event import Event
    from pidwarden.trace.tracer import Pending

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_WATCHED = (*_ENDING, signal.SIGCHLD)
_IDLE_SECONDS = 0.05
_AT_ONCE = 2000  # records; between two batches the rings are emptied
_PENDING_SHARE = 10  # a look at what threads sit in may take a tenth of the time
_SITTING_LINES = 20
_SECOND_NS = 1_000_000_000


def say(args: argparse.Namespace, text: str) -> None:
    """To the person who started it."""
    if not args.quiet:
        print(f"pidwarden trace: {text}", file=sys.stderr, flush=True)


def run(args: argparse.Namespace) -> int:
    """Traces; the exit code.

    Raises:
        PidwardenError: nobody is meant, an option makes no sense, or it is not possible here.
    """
    _check(args)
    backend = trace_backend.Backend(args)
    if not backend.knows_arguments:
        say(args, "types and names of arguments are known of some calls only, as tracefs cannot be read (root can)")
    wanted = filters.parse(args.e, backend.calls(), args.slower)
    whom = trace_whom.parse(args)
    if args.snapshot:
        return _snapshot(args, whom, backend)
    if args.no_redact:
        print("pidwarden trace: --no-redact: passwords, tokens and keys are shown as they are", file=sys.stderr)
    if not trace_rights.may_load() or trace_rights.is_inside():
        return _without_rights(args, whom, backend, trace_rights.of_trace())
    output = trace_out.of(args.o, args.rotate_size, args.rotate_keep, 2 if args.argv else 1)
    old = signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
    child: Child | None = None
    try:
        child = Child(args.argv, set(_WATCHED) - old) if args.argv else None
        try:
            with backend.trace(wanted, whom, command=child is not None) as trace:
                _Session(args, backend, wanted, whom, output, child, trace).run()
        except NoPermission as why:
            if child is not None:
                raise
            return _without_rights(args, whom, backend, [str(why), *trace_rights.of_trace()])
        if child is not None:
            child.poll()
    finally:
        output.close()
        if child is not None:
            child.close()
        signal.pthread_sigmask(signal.SIG_SETMASK, old)
    return child.end_alike() if child is not None else 0


def _check(args: argparse.Namespace) -> None:
    if not (args.targets or args.p or args.argv):
        msg = "nobody is meant; type PID, tree:PID, user:NAME …, or `pidwarden trace -- COMMAND`"
        raise UsageError(msg)
    if args.argv is not None and (not args.argv or args.targets or args.p or args.snapshot):
        msg = "type either targets or `--` and a command"
        raise UsageError(msg)
    args.S = summary.ALIASES.get(args.S, args.S)
    if args.S not in summary.ORDERS:
        msg = f"-S {args.S}: type one of {', '.join(summary.ORDERS)}"
        raise UsageError(msg)
    if args.c and args.C:
        msg = "-c is counts alone, -C counts and lines; type one of them"
        raise UsageError(msg)
    if not 0 <= args.s <= trace_backend.MOST_BYTES:
        msg = f"-s {args.s}: type a number of bytes from 0 to {trace_backend.MOST_BYTES}"
        raise UsageError(msg)
    if args.duration is not None and not 0 < args.duration < 366 * 86_400:
        msg = f"--duration {args.duration:g}: type seconds, more than 0 and less than a year"
        raise UsageError(msg)
    if args.limit is not None and args.limit < 1:
        msg = f"--limit {args.limit}: type how many events, 1 or more"
        raise UsageError(msg)
    if args.limit is not None and (args.c or ((args.by_process or args.histogram) and not args.C)):
        msg = "--limit is of records, and counts have none; type --duration, or -C in place of -c"
        raise UsageError(msg)
    if args.t > Stamp.UNIX:
        args.t = int(Stamp.UNIX)
    args.c = args.c or ((args.by_process or args.histogram) and not args.C)


# -- without tracing ---------------------------------------------------------------------------------------------------


def _sights(whom: Sequence[Whom], backend: trace_backend.Backend) -> tuple[list[Sight], int, set[int]]:
    pids = trace_whom.members(whom)
    sights, silent = trace_snapshot.look(trace_whom.threads(pids), backend.decoder)
    return sights, silent, pids


def _snapshot(args: argparse.Namespace, whom: Sequence[Whom], backend: trace_backend.Backend) -> int:
    """What everybody sits in now; 3 if that may be seen of nobody."""
    sights, silent, pids = _sights(whom, backend)
    hidden = [s for s in sights if s.why.startswith(trace_snapshot.HIDDEN)]
    if args.json:
        print(json.dumps({"boot_ns": boot_ns(), "silent": silent, "threads": [s.object() for s in sights]}))
    else:
        print("\n".join(trace_snapshot.lines(sights, silent)) or "nobody is there (any more)", flush=True)
    if hidden or not sights:
        for reason in trace_rights.of_snapshot(pids):
            print(f"pidwarden trace: {reason}", file=sys.stderr)
    return NoPermission.exit_code if sights and len(hidden) == len(sights) else 0


def _without_rights(
    args: argparse.Namespace, whom: Sequence[Whom], backend: trace_backend.Backend, reasons: Sequence[str]
) -> int:
    """Says what is in the way, and shows what may be seen all the same."""
    for reason in reasons:
        print(f"pidwarden trace: {reason}", file=sys.stderr)
    if args.argv:
        msg = "the command was not started; `strace -f` needs no such right for a command of yours"
        raise NoPermission(msg)
    print(
        "pidwarden trace: in its place, what your own processes sit in now (`--snapshot`; `--why PID` says for whom "
        "they wait); exit code 3",
        file=sys.stderr,
    )
    _snapshot(args, whom, backend)
    return NoPermission.exit_code


def told_until(events: Sequence[Event], now: int) -> int:
    """Up to when everything is told with this batch: a full one has more behind it, of what was before `now`."""
    return now if len(events) < _AT_ONCE else events[-1].ns


# -- with --------------------------------------------------------------------------------------------------------------


class _Session:
    """One trace, from attaching to detaching."""

    def __init__(  # noqa: PLR0913  (made in one place)
        self,
        args: argparse.Namespace,
        backend: trace_backend.Backend,
        wanted: filters.Filter,
        whom: Sequence[Whom],
        output: trace_out.Output,
        child: Child | None,
        trace: Trace,
    ) -> None:
        self._args, self._backend, self._wanted, self._whom = args, backend, wanted, whom
        self._output, self._child, self._trace = output, child, trace
        self._redactor = None if args.no_redact else Redactor(backend.kind)
        if args.y:
            backend.name_descriptors(wanted, self._redactor.text if self._redactor else str)
        self._began_ns = boot_ns()
        self._look_ns = 0
        self._events = 0
        self._interrupts = 0
        self._lines: Lines | None = None
        self._objects: Objects | None = None
        slow_ns = wanted.min_ns or TICK_NS
        self._stacks = Stacks(backend.decoder, wanted.wants, slow_ns, as_json=args.json) if args.k else None
        self._report = trace_report.Report(args, backend, trace, self._redactor)

    def run(self) -> None:
        """Everything, up to the last line."""
        threads, sitting = self._attach()
        self._prepare(threads, sitting)
        if self._child is not None:
            self._child.go()
        try:
            while not self._over():
                self._step()
        finally:
            self._report.clear()
        self._finish()

    # -- before --------------------------------------------------------------------------------------------------------

    def _attach(self) -> tuple[Collection[int], list[Sight]]:
        """Has everybody traced and says what they sit in; their threads, and the call of each that sits in one."""
        if self._child is not None:
            self._trace.enlist_command(self._child.pid)
            self._backend.learn_descriptors([self._child.pid])
            return [self._child.pid], []
        pids, _tids = self._trace.enlist(self._whom)
        pids |= trace_whom.by_kernel(self._whom)
        threads = trace_whom.threads(pids)
        self._backend.learn_descriptors(pids)
        if not pids and all(target.ends for target in self._whom):
            msg = "nobody of those meant is there any more; `pidwarden ps` lists who is"
            raise PidwardenError(msg)
        names = ", ".join(target.text for target in self._whom)
        who = f"{trace_report.many(len(pids), 'process')}, {trace_report.many(len(threads), 'thread')} ({names})"
        say(self._args, f"traces {who}; Ctrl-C ends it")
        sights, silent = trace_snapshot.look(threads, self._backend.decoder)
        self._report.names({s.pid: s.comm for s in sights if s.tid == s.pid})
        met = self._trace.met()  # who went on meanwhile: the records say in what they were, and sit now
        sitting = [s for s in sights if s.call and s.tid not in met]
        if self._args.json and not self._args.c:
            self._output.write(json.dumps({"event": "sits", "since": "before the trace"} | s.object()) for s in sitting)
        for line in trace_snapshot.lines(sitting, silent, _SITTING_LINES):
            say(self._args, line)
        if hidden := [s.why for s in sights if s.why.startswith(trace_snapshot.HIDDEN)]:
            say(self._args, f"what {trace_report.many(len(hidden), 'thread')} sit in {hidden[0]}")
        return list(threads), sitting

    def _prepare(self, threads: Collection[int], sitting: list[Sight]) -> None:
        args = self._args
        ahead = time.time_ns() - boot_ns()
        if args.c:
            return
        if args.json:
            self._objects = Objects(self._backend.decoder, ahead, self._wanted.wants, self._wanted.signals)
            return
        zone = 0 if args.t == Stamp.UNIX else time.localtime().tm_gmtoff * _SECOND_NS
        style = Style(
            always_pid=args.always_show_pid,
            to_file=args.o is not None,
            stamp=Stamp(args.t),
            relative=args.r,
            took=args.T,
            whole=self._wanted.by_result,
            attached=args.o is None and not args.quiet,
            ahead_ns=ahead + zone,
        )
        decoder = self._backend.decoder
        self._lines = Lines(
            decoder, style,
            threads=threads, wanted=self._wanted.wants, signals=self._wanted.signals,
            follower=decoder if isinstance(decoder, NamingDecoder) else None,
        )  # fmt: skip
        now = boot_ns()
        self._output.write(self._lines.begin([Sitting(s.tid, s.nr, s.args) for s in sitting], now))

    # -- meanwhile -----------------------------------------------------------------------------------------------------

    def _step(self) -> None:
        """Shows what came, or waits a moment for a signal."""
        pending: Sequence[Pending] = ()
        before = boot_ns()
        looks = (self._lines is not None and not self._wanted.by_result) or self._stacks is not None
        if looks and before >= self._look_ns:
            pending = self._trace.pending()  # before what they returned is read, so that none is between
            self._look_ns = boot_ns() + _PENDING_SHARE * (boot_ns() - before)
        events = self._trace.read(_AT_ONCE)
        now = boot_ns()
        self._show(events, pending, told_until(events, now))
        if self._stacks is not None:
            found = self._stacks.of(pending, now)
            self._output.write(self._lines.aside(tid, now, text) if self._lines else text for tid, text in found)
        self._report.tick(now)
        if not events:
            self._trace.wait(_IDLE_SECONDS)
        self._signal()

    def _show(self, events: list[Event], pending: Sequence[Pending], now: int) -> None:
        if self._args.limit is not None:
            events = events[: self._args.limit - self._events]
        self._events += len(events)
        if self._redactor is not None:
            redacted, name = self._redactor.event, self._backend.decoder.name
            events = [redacted(event, name(event.nr)) for event in events]
        if self._args.by_process:
            for event in events:
                self._report.note(event)
        if self._objects is not None:
            self._output.write(json.dumps(found) for found in self._objects.feed(events))
        elif self._lines is not None:
            self._output.write(self._lines.feed(events, pending, now))

    def _signal(self) -> None:
        """Takes one, if one has come."""
        info = signal.sigtimedwait(_WATCHED, 0)
        if info is None or info.si_signo == signal.SIGCHLD:
            return
        self._interrupts += 1
        if self._child is None or self._child.poll():
            return
        if info.si_signo != signal.SIGINT:  # that one the terminal has sent it too
            self._child.signal(info.si_signo)
        if self._interrupts == 1:
            self._report.clear()
            say(self._args, "the command has that signal as well; once more ends the trace")

    def _over(self) -> bool:
        args = self._args
        if self._interrupts > (self._child is not None):
            return True
        if args.duration is not None and boot_ns() - self._began_ns > args.duration * _SECOND_NS:
            return True
        if args.limit is not None and self._events >= args.limit:
            return True
        if self._child is not None and not self._child.poll():
            return False
        return all(target.ends for target in self._whom) and not self._trace.alive()

    # -- after ---------------------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        """What is left in the kernel, calls that are not finished, counts, losses."""
        self._trace.detach()
        while events := self._trace.read(_AT_ONCE):
            self._show(events, (), told_until(events, boot_ns()))
        if self._lines is not None:
            self._output.write(self._lines.end(boot_ns()))
        if self._objects is not None:
            self._output.write(json.dumps(found) for found in self._objects.end())
        if self._args.c or self._args.C:
            self._output.write(self._report.summary())
        for text in trace_report.shortfalls(self._trace.tallies()):
            print(f"pidwarden trace: {text}", file=sys.stderr, flush=True)
