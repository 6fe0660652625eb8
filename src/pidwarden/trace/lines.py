"""Records become the lines that ``strace -f`` prints. Pure: records in, text out.

A call is one line if nothing else came between its entry and its return, else two (``<unfinished ...>``, ``resumed``),
as strace 6.1 has it. Other than strace we get a call's record when it returns, mostly: its entry is put in at its time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pidwarden.trace.abi import ENTER, ENTERED, ENTRY_LOST, EXEC, EXIT, FIRST, FORK, NO_ENTRY, RETURN, SIGNAL
from pidwarden.trace.event import Event
from pidwarden.trace.style import SECOND, clock_text, seconds_text

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from pidwarden.trace.style import Decoder, Follower, Pending, Sitting, Style

TICK_NS: Final = 200_000_000  # who sits in a call for longer is shown to sit in it
# Their return in the child has no entry there; strace does not show it either.
_TWICE: Final = frozenset({"clone", "clone3", "fork", "vfork"})
_ENDS: Final = frozenset({"exit", "exit_group"})


class _Open:
    """A call that has not returned."""

    __slots__ = ("enter", "printed", "shown")

    def __init__(self, enter: Event) -> None:
        self.enter = enter
        self.printed = False
        self.shown = 0  # arguments that were printed


def everything(_name: str) -> bool:
    """Every call."""
    return True


class Lines:
    """Give it records in order of time; it gives lines, without their ends."""

    def __init__(  # noqa: PLR0913  (each by its name)
        self,
        decoder: Decoder,
        style: Style,
        *,
        threads: Collection[int] = (),
        wanted: Callable[[str], bool] = everything,
        signals: Collection[int] | None = None,
        follower: Follower | None = None,
    ) -> None:
        """`threads`: those there are when the trace begins; `signals`: those that are shown, None: all.

        `follower` is told of what is not shown.
        """
        self._follower, self._unseen = follower, dict[int, Event]()
        self._decoder, self._style = decoder, style
        self._threads = set(threads)
        self._sitting: dict[int, int] = {}
        self._wanted, self._signals = wanted, signals
        self._open: dict[int, _Open] = {}
        self._held = 0  # the thread whose entry is to be printed, if its return does not come next
        self._last_ns = 0  # of the line before, for -r
        self._seen_ns = 0  # up to which everything was told
        self.records = 0  # that were lost, as far as lines say so

    def begin(self, sitting: Iterable[Sitting], now_ns: int) -> list[str]:
        """The calls that were under way when the trace began, as strace shows them: by their beginnings."""
        out: list[str] = []
        for tid, nr, args in sitting:
            self._sitting[tid] = nr
            event = Event(now_ns, now_ns, tid, 0, ENTER, nr, 0, 0, 0, 0, args, ())
            if not self._style.whole and self._wanted(self._name(event)):
                opened = self._open[tid] = _Open(event)
                out.append(self._leader(tid, now_ns) + self._begun(opened) + " <unfinished ...>")
        return out

    # -- what comes in -------------------------------------------------------------------------------------------------

    def feed(self, events: Sequence[Event], pending: Sequence[Pending] = (), now_ns: int = 0) -> list[str]:
        """The lines of some records. `pending`: calls that threads sit in at `now_ns`, after these records."""
        until = max(events[-1].ns if events else 0, now_ns - TICK_NS)
        out: list[str] = []
        for event in self._in_order(events, pending, until):
            self._take(event, out)
        held = self._open.get(self._held)
        if held is not None and not self._style.whole and now_ns - held.enter.ns > TICK_NS:
            self._unfinished(out)
        self._seen_ns = max(self._seen_ns, until)
        return out

    def _in_order(self, events: Sequence[Event], pending: Sequence[Pending], until: int) -> Iterable[Event]:
        """With entries put in where there was no record of one."""
        if self._style.whole or (not pending and not self._held and _of_one(events)):
            return events  # nobody comes between
        entries = [
            _entry(e, e.nr, e.enter_ns)
            for e in events
            if e.kind == RETURN
            and not e.flags & (NO_ENTRY | ENTERED)
            and self._seen_ns <= e.enter_ns < e.ns
            and not self._knows(e)
        ]
        told = {(e.tid, e.enter_ns) for e in events} if pending else set()
        for p in pending:
            opened = self._open.get(p.tid)
            known = p.tid in self._sitting or (opened is not None and opened.enter.ns == p.enter_ns)
            if not known and 0 < p.enter_ns <= until and (p.tid, p.enter_ns) not in told:
                entries.append(Event(p.enter_ns, p.enter_ns, p.tid, 0, ENTER, p.nr, 0, 0, 0, 0, tuple(p.args), ()))
        if not entries:
            return events
        return sorted([*entries, *events], key=lambda e: e.ns)

    def _knows(self, event: Event) -> bool:
        opened = self._open.get(event.tid)
        return opened is not None and opened.enter.ns == event.enter_ns

    def _take(self, event: Event, out: list[str]) -> None:
        if event.lost:
            self._lost(event, out)
        if event.kind not in (EXIT, FORK):
            self._threads.add(event.tid)
        _TAKES[event.kind](self, event, out)

    def end(self, now_ns: int) -> list[str]:
        """The lines of what is not finished when the trace ends."""
        out: list[str] = []
        for tid, opened in sorted(self._open.items(), key=lambda item: item[1].enter.ns):
            if self._style.whole:
                continue
            if opened.printed:
                text = f"<... {self._name(opened.enter)} resumed> <detached ...>"
            else:
                arguments = self._decoder.arguments(opened.enter, None)
                text = f"{self._name(opened.enter)}({', '.join(arguments)} <detached ...>"
            out.append(self._leader(tid, now_ns if opened.printed else opened.enter.ns) + text)
        self._open.clear()
        self._held = 0
        return out

    # -- calls ---------------------------------------------------------------------------------------------------------

    def _name(self, event: Event) -> str:
        return self._decoder.name(event.nr)

    def _enter(self, event: Event, out: list[str]) -> None:
        if not self._wanted(self._name(event)):
            if self._follower is not None:
                self._unseen[event.tid] = event
            return
        self._sitting.pop(event.tid, None)
        if not self._style.whole:
            self._unfinished(out)
            self._held = event.tid
        self._open[event.tid] = _Open(event)

    def _unfinished(self, out: list[str], but: int = 0) -> None:
        """Prints the entry that waits for its return, as something else comes before that."""
        if not self._held or self._held == but:
            return
        opened = self._open.get(self._held)
        tid, self._held = self._held, 0
        if opened is None or opened.printed:
            return
        out.append(self._leader(tid, opened.enter.ns) + self._begun(opened) + " <unfinished ...>")

    def _begun(self, opened: _Open) -> str:
        """The part of a call that is known at its entry, as strace leaves it."""
        arguments = list(self._decoder.arguments(opened.enter, None))
        opened.printed, opened.shown = True, len(arguments)
        more = ", " if arguments and self._more(opened.enter, len(arguments)) else ""
        return f"{self._name(opened.enter)}({', '.join(arguments)}{more}"

    def _more(self, enter: Event, shown: int) -> bool:
        """Whether arguments are to come: as many as there would be if it had returned."""
        done = enter._replace(kind=RETURN, ret=-1, pieces=())
        return len(self._decoder.arguments(enter, done)) > shown

    def _return(self, event: Event, out: list[str]) -> None:
        if event.flags or self._held or event.tid in self._open or event.tid in self._sitting:
            self._end_of_call(event, out)
            return
        name, decoder, style = self._name(event), self._decoder, self._style  # most come alone
        if not self._wanted(name):
            self._end_of_call(event, out)
            return
        text = f"{self._leader(event.tid, event.enter_ns)}{name}({', '.join(decoder.arguments(None, event))})"
        took = f" <{seconds_text(event.ns - event.enter_ns)}>" if style.took else ""
        out.append(f"{text.ljust(style.column - 1)}{decoder.result(event)}{took}")

    def _end_of_call(self, event: Event, out: list[str]) -> None:
        name = self._name(event)
        opened = self._open.pop(event.tid, None)
        before = self._sitting.pop(event.tid, None)
        if opened is not None and (
            opened.enter.nr != event.nr if before is not None else opened.enter.ns != event.enter_ns
        ):
            self._given_up(opened, event, out)  # its return was lost
            opened = None
        if not self._wanted(name):
            if self._follower is not None:
                self._follower.unseen(self._unseen.pop(event.tid, None), event)
            return
        denied = False
        if opened is None and event.flags & NO_ENTRY:
            if name in _TWICE and event.ret == 0:
                return  # a child, on its way back from the call that made it
            denied = before is None and not event.flags & FIRST
        self._unfinished(out, but=event.tid)
        at = event.ns
        if opened is not None and opened.printed:
            arguments = list(self._decoder.arguments(opened.enter, event))[opened.shown :]
            text = f"<... {name} resumed>{', '.join(arguments)})"
        else:
            arguments = list(self._decoder.arguments(opened.enter if opened else None, event))
            text = f"{name}({', '.join(arguments)})"
            at = opened.enter.ns if opened else event.enter_ns or event.ns
        self._held = 0 if self._held == event.tid else self._held
        took = f" <{seconds_text(event.ns - event.enter_ns)}>" if self._style.took and event.enter_ns else ""
        note = self._note(event, denied=denied, announced=opened is not None)
        out.append(self._aligned(self._leader(event.tid, at) + text) + f"{self._decoder.result(event)}{took}{note}")

    @staticmethod
    def _note(event: Event, *, denied: bool, announced: bool) -> str:
        if denied:
            return " <never entered: denied, as by seccomp>"
        if event.flags & ENTRY_LOST:
            return " <entry lost>"
        return " <begun before the trace>" if event.flags & NO_ENTRY and not announced else ""

    def _given_up(self, opened: _Open, event: Event, out: list[str]) -> None:
        """A call whose return never came."""
        if self._held == event.tid:
            self._held = 0
        if self._style.whole:
            return
        start = f"<... {self._name(opened.enter)} resumed>" if opened.printed else self._begun(opened)
        out.append(self._aligned(f"{self._leader(event.tid, event.enter_ns)}{start} <return lost>)") + " = ?")

    # -- everything else -----------------------------------------------------------------------------------------------

    def _fork(self, event: Event, out: list[str]) -> None:
        tid = event.args[0]
        self._threads.add(tid)
        if self._follower is not None and event.args[1] != event.tgid:
            self._follower.forked(event.tgid, event.args[1])
        if self._style.attached:
            kind = "Thread" if event.args[1] == event.tgid and tid != event.args[1] else "Process"
            self._unfinished(out, but=event.tid)
            out.append(f"pidwarden: {kind} {tid} attached")

    def _exec(self, event: Event, out: list[str]) -> None:
        old = event.args[0]
        if not old or old == event.tid:
            return
        self._unfinished(out)
        self._threads.discard(old)
        self._open.pop(event.tid, None)
        opened = self._open.pop(old, None)
        if opened is not None:
            self._open[event.tid] = opened
        out.append(f"{self._leader(event.tid, event.ns)}+++ superseded by execve in pid {old} +++")

    def _signal(self, event: Event, out: list[str]) -> None:
        if self._signals is not None and event.args[0] not in self._signals:
            return
        self._unfinished(out)
        out.append(f"{self._leader(event.tid, event.ns)}{self._decoder.signal(event)}")

    def _exit(self, event: Event, out: list[str]) -> None:
        opened = self._open.pop(event.tid, None)
        if opened is None and event.enter_ns and not self._style.whole and self._wanted(self._name(event)):
            opened = _Open(_entry(event, event.nr, event.enter_ns))
        if opened is not None and not self._style.whole:
            self._unfinished(out, but=event.tid)
            out.append(self._cut_off(opened, event))
        elif opened is not None and self._name(opened.enter) in _ENDS:
            out.append(self._cut_off(opened, event))
        self._held = 0 if self._held == event.tid else self._held
        self._unfinished(out)
        if self._signals is None or self._signals:
            out.append(f"{self._leader(event.tid, event.ns)}{self._decoder.ending(event)}")
        self._threads.discard(event.tid)
        self._sitting.pop(event.tid, None)

    def _cut_off(self, opened: _Open, event: Event) -> str:
        """A call that ends with its thread."""
        name = self._name(opened.enter)
        if opened.printed:
            more = self._more(opened.enter, opened.shown)
            text, at = f"<... {name} resumed>{' <unfinished ...>' * more})", event.ns
        else:
            text, at = self._begun(opened), opened.enter.ns
            text += " <unfinished ...>)" if text.endswith(", ") else ")"
        return self._aligned(self._leader(event.tid, at) + text) + " = ?"

    def _lost(self, event: Event, out: list[str]) -> None:
        self.records += event.lost
        self._unfinished(out, but=event.tid)
        held = self._open.get(event.tid)
        if self._held == event.tid and held is not None and held.enter.ns != event.enter_ns:
            self._unfinished(out)
        records = "record" if event.lost == 1 else "records"
        out.append(f"{self._leader(event.tid, event.ns)}--- {event.lost} {records} lost ---")

    def aside(self, tid: int, now_ns: int, text: str) -> str:
        """A line of a thread that comes from elsewhere."""
        return self._leader(tid, now_ns) + text

    # -- how lines begin and end ---------------------------------------------------------------------------------------

    def _leader(self, tid: int, ns: int) -> str:
        style = self._style
        text = ""
        if style.to_file:
            text = f"{tid:<5} "
        elif style.always_pid or len(self._threads) > 1:
            text = f"[pid {tid:5}] "
        if style.stamp:
            text += clock_text(ns + style.ahead_ns, style.stamp) + " "
        if style.relative:
            since = max(ns - self._last_ns, 0) if self._last_ns else 0
            seconds = f"{since // SECOND:6}.{since % SECOND // 1000:06}"
            text += f"(+{seconds}) " if style.stamp else f"{seconds} "
            self._last_ns = ns
        return text

    def _aligned(self, text: str) -> str:
        return text.ljust(self._style.column - 1)


_TAKES: Final = {
    ENTER: Lines._enter,  # noqa: SLF001
    RETURN: Lines._return,  # noqa: SLF001
    FORK: Lines._fork,  # noqa: SLF001
    EXEC: Lines._exec,  # noqa: SLF001
    SIGNAL: Lines._signal,  # noqa: SLF001
    EXIT: Lines._exit,  # noqa: SLF001
}


def _of_one(events: Sequence[Event]) -> bool:
    """Whether they are all of one thread."""
    return all(event.tid == events[0].tid for event in events)


def _entry(event: Event, nr: int, ns: int, args: tuple[int, ...] | None = None) -> Event:
    """The entry of a call, of which only another record told."""
    given = event.args if args is None else args
    return Event(ns, ns, event.tid, event.tgid, ENTER, nr, 0, 0, 0, 0, given, ())
