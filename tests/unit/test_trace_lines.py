"""Records become the lines that strace -f prints."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pidwarden.cli import tracing
from pidwarden.trace import abi
from pidwarden.trace.event import Event
from pidwarden.trace.lines import TICK_NS, Lines
from pidwarden.trace.style import Sitting, Stamp, Style

NAMES = {0: "read", 3: "close", 56: "clone", 59: "execve", 231: "exit_group"}
COUNTS = {0: 3, 3: 1, 56: 1, 59: 2, 231: 1}  # arguments
KNOWN = {0: 1}  # of them known at the entry
SECOND = 1_000_000_000
PLAIN = Style()


class Decoder:
    """Writes numbers; of a read the buffer is known when it has returned."""

    def name(self, nr):
        return NAMES[nr]

    def arguments(self, enter, done):
        event = done or enter
        count = COUNTS[event.nr] if done else KNOWN.get(event.nr, COUNTS[event.nr])
        return [str(value) for value in event.args[:count]]

    def result(self, event):
        return " = ?" if event.nr == 231 else f" = {event.ret}"

    def signal(self, event):
        return f"--- SIG{event.args[0]} {{}} ---"

    def ending(self, event):
        return f"+++ exited with {event.ret >> 8} +++"


def event(kind, ns, tid=1, nr=3, enter=0, ret=0, flags=0, args=(7, 8, 9, 0, 0, 0), **more):  # noqa: PLR0913
    fields = {"tgid": tid, "lost": 0, "last": 0, "pieces": ()} | more
    return Event(ns, enter, tid, fields["tgid"], kind, nr, flags, fields["lost"], fields["last"], ret, args, ())


def enter(ns, tid=1, nr=3, **more):
    return event(abi.ENTER, ns, tid, nr, ns, **more)


def done(ns, began, tid=1, nr=3, ret=0, flags=abi.ENTERED, **more):  # noqa: PLR0913
    return event(abi.RETURN, ns, tid, nr, began, ret, flags, **more)


def alone(ns, began, tid=1, nr=3, ret=0, **more):
    """A return of which no entry was told."""
    return done(ns, began, tid, nr, ret, flags=0, **more)


class Pending:
    def __init__(self, tid, nr, enter_ns, args=(7, 8, 9, 0, 0, 0)):
        self.tid, self.nr, self.enter_ns, self.args = tid, nr, enter_ns, args


def lines(*events, style=PLAIN, now=0, pending=(), **more):
    return Lines(Decoder(), style, **more).feed(list(events), pending, now)


def test_a_call_is_one_line_with_its_result_in_column_40():
    assert lines(enter(10), done(20, 10)) == ["close(7)".ljust(39) + " = 0"]
    assert lines(alone(20, 10)) == ["close(7)".ljust(39) + " = 0"]


def test_the_column_counts_what_is_before_the_call():
    found = lines(alone(20, 10), style=Style(to_file=True, stamp=Stamp.SECONDS))
    assert found == ["1     00:00:00 close(7)".ljust(39) + " = 0"]


def test_a_long_call_is_followed_by_its_result_at_once():
    big = 10**18
    assert lines(alone(20, 10, nr=0, args=(big, big, big))) == [f"read({big}, {big}, {big}) = 0"]


def test_one_thread_has_no_number_unless_asked_or_in_a_file():
    assert lines(alone(20, 10), style=Style(always_pid=True))[0].startswith("[pid     1] close")
    assert lines(alone(20, 10), style=Style(to_file=True))[0].startswith("1     close")
    assert lines(alone(20, 10), threads=[1, 2])[0].startswith("[pid     1] close")


def test_what_comes_between_splits_a_call_and_the_known_part_is_first():
    found = lines(enter(10, 1, 0), enter(12, 2), done(14, 12, 2), done(20, 10, 1, 0, ret=5))
    assert found == [
        "[pid     1] read(7,  <unfinished ...>",
        "[pid     2] close(7)".ljust(39) + " = 0",
        "[pid     1] <... read resumed>8, 9)".ljust(39) + " = 5",
    ]


def test_entries_are_put_in_at_their_time_where_only_the_return_is_told():
    found = lines(alone(14, 12, 2), alone(20, 10, 1, 0, ret=5))
    assert found == [
        "[pid     1] read(7,  <unfinished ...>",
        "[pid     2] close(7)".ljust(39) + " = 0",
        "[pid     1] <... read resumed>8, 9)".ljust(39) + " = 5",
    ]


def test_a_call_with_all_its_arguments_known_is_resumed_without_any():
    found = lines(enter(10, 1), enter(12, 2), done(14, 12, 2), done(20, 10, 1))
    assert found[0] == "[pid     1] close(7 <unfinished ...>"
    assert found[2] == "[pid     1] <... close resumed>)".ljust(39) + " = 0"


def test_a_call_that_lasts_is_shown_before_it_returns():
    shown = Lines(Decoder(), Style())
    assert shown.feed([], [Pending(1, 0, 10)], 20) == []
    assert shown.feed([], [Pending(1, 0, 10)], 20 + 2 * TICK_NS) == ["read(7,  <unfinished ...>"]
    assert shown.feed([], [Pending(1, 0, 10)], 20 + 4 * TICK_NS) == []
    assert shown.feed([alone(9 * TICK_NS, 10, 1, 0, ret=5)]) == ["<... read resumed>8, 9)".ljust(39) + " = 5"]


def test_who_returned_meanwhile_is_not_pending():
    found = lines(alone(20, 10, 1, 0), pending=[Pending(1, 0, 10)], now=30)
    assert found == ["read(7, 8, 9)".ljust(39) + " = 0"]


def test_who_sits_in_a_call_waits_for_the_records_before_it():
    """Of a batch that is full, with more behind it: the thread has made other calls in between."""
    shown, late = Lines(Decoder(), Style()), 9 * TICK_NS
    batch = [enter(n, 1 + n % 2) for n in range(1, tracing._AT_ONCE + 1)]
    assert tracing.told_until(batch[1:], late) == late
    found = shown.feed(batch, [Pending(1, 0, TICK_NS)], tracing.told_until(batch, late))
    assert not [line for line in found if "read" in line]


def test_calls_under_way_at_the_beginning_are_begun_and_resumed():
    shown = Lines(Decoder(), Style())
    assert shown.begin([Sitting(1, 0, (7, 0, 0, 0, 0, 0))], 5) == ["read(7,  <unfinished ...>"]
    found = shown.feed([done(20, 0, 1, 0, ret=3, flags=abi.NO_ENTRY | abi.FIRST)])
    assert found == ["<... read resumed>8, 9)".ljust(39) + " = 3"]


def test_a_return_without_entry_says_why():
    first = lines(done(20, 0, flags=abi.NO_ENTRY | abi.FIRST))
    assert first[0].endswith(" = 0 <begun before the trace>")
    denied = lines(done(20, 0, ret=-1, flags=abi.NO_ENTRY))
    assert denied[0].endswith(" = -1 <never entered: denied, as by seccomp>")
    assert lines(done(20, 10, flags=abi.ENTRY_LOST))[0].endswith(" = 0 <entry lost>")


def test_the_child_of_a_clone_does_not_return_from_it():
    assert lines(done(20, 0, 2, 56, flags=abi.NO_ENTRY | abi.FIRST)) == []


@pytest.mark.parametrize(
    ("style", "head"),
    [
        (Style(stamp=Stamp.SECONDS), "01:01:01 close"),
        (Style(stamp=Stamp.MICROSECONDS), "01:01:01.000002 close"),
        (Style(stamp=Stamp.UNIX), "3661.000002 close"),
        (Style(relative=True), "     0.000000 close"),
        (Style(stamp=Stamp.SECONDS, relative=True), "01:01:01 (+     0.000000) close"),
    ],
)
def test_times_are_written_as_strace_does(style, head):
    ahead = 3661 * SECOND + 2000
    assert lines(alone(20, 10), style=style._replace(ahead_ns=ahead - 10))[0].startswith(head)


def test_relative_times_are_from_line_to_line():
    found = lines(alone(2000, 1000), alone(1_501_000, 1_500_000), style=Style(relative=True))
    assert [line[:14] for line in found] == ["     0.000000 ", "     0.001499 "]


def test_the_time_spent_is_behind_the_result():
    assert lines(alone(2_500_000, 1_000_000), style=Style(took=True))[0].endswith(" = 0 <0.001500>")


def test_an_exit_ends_the_call_it_was_in():
    last = event(abi.EXIT, 20, 1, 231, 10, ret=3 << 8, args=(3, 0, 0, 0, 0, 0))
    assert lines(last) == ["exit_group(3)".ljust(39) + " = ?", "+++ exited with 3 +++"]


def test_a_thread_that_dies_within_a_call_leaves_it_unfinished():
    shown = Lines(Decoder(), Style(), threads=[1, 2])
    shown.feed([enter(10, 1, 0), enter(12, 2), done(14, 12, 2)])
    found = shown.feed([event(abi.EXIT, 20, 1, 0, 10, ret=9)])
    assert found == [
        "[pid     1] <... read resumed> <unfinished ...>) = ?",
        "[pid     1] +++ exited with 0 +++",
    ]
    assert shown.feed([alone(40, 30, 2)])[0].startswith("close")  # one thread is left


def test_forks_are_told_and_may_be_left_out():
    born = event(abi.FORK, 20, 1, args=(5, 5, 0, 0, 0, 0))
    assert lines(born) == ["pidwarden: Process 5 attached"]
    assert lines(born, style=Style(attached=False)) == []
    thread = event(abi.FORK, 20, 1, args=(5, 1, 0, 0, 0, 0))
    assert lines(thread) == ["pidwarden: Thread 5 attached"]


def test_exec_in_a_thread_takes_the_number_of_its_process():
    shown = Lines(Decoder(), Style(), threads=[1, 2])
    found = shown.feed([enter(10, 2, 59), event(abi.EXEC, 20, 1, args=(2, 0, 0, 0, 0, 0)), done(21, 10, 1, 59)])
    assert found == [
        "[pid     2] execve(7, 8 <unfinished ...>",
        "+++ superseded by execve in pid 2 +++",
        "<... execve resumed>)".ljust(39) + " = 0",
    ]
    assert lines(event(abi.EXEC, 20, 1, args=(1, 0, 0, 0, 0, 0))) == []


def test_signals_are_lines_of_their_own_and_can_be_chosen():
    arrived = event(abi.SIGNAL, 20, 1, args=(17, 0, 0, 0, 0, 0))
    assert lines(arrived) == ["--- SIG17 {} ---"]
    assert lines(arrived, signals=frozenset({1})) == []


def test_losses_stand_where_they_happened():
    found = lines(alone(20, 10), alone(40, 30, lost=37))
    assert found[1] == "--- 37 records lost ---"
    assert lines(alone(40, 30, lost=1))[0] == "--- 1 record lost ---"


def test_a_return_that_was_lost_is_not_taken_for_another():
    found = lines(enter(10, 1, 0), done(40, 30, 1, 3, lost=1))
    assert found == [
        "read(7,  <unfinished ...>",
        "--- 1 record lost ---",
        "<... read resumed> <return lost>)".ljust(39) + " = ?",
        "close(7)".ljust(39) + " = 0",
    ]


def test_what_goes_on_at_the_end_is_detached():
    shown = Lines(Decoder(), Style(), threads=[1, 2])
    shown.feed([enter(10, 1, 0), enter(12, 2)])
    assert shown.end(50) == ["[pid     1] <... read resumed> <detached ...>", "[pid     2] close(7 <detached ...>"]


def test_calls_chosen_by_their_result_are_whole():
    whole = Style(whole=True)
    shown = Lines(Decoder(), whole)
    assert shown.feed([enter(10, 1, 0), enter(12, 2), done(14, 12, 2)], [], SECOND) == [
        "[pid     2] close(7)".ljust(39) + " = 0"
    ]
    assert shown.end(SECOND) == []


def test_only_wanted_calls_are_shown():
    found = lines(alone(20, 10), alone(40, 30, nr=0), wanted=lambda name: name == "read")
    assert [line[:4] for line in found] == ["read"]


@settings(max_examples=50)
@given(
    st.lists(
        st.tuples(st.integers(1, 4), st.integers(1, 50), st.integers(1, 200), st.booleans()), min_size=1, max_size=60
    ),
    st.integers(1, 7),
)
def test_every_call_comes_out_once_in_order_whatever_the_batches(steps, batch):
    """Threads that each make one call after the other; entries told or not; read in batches of any size."""
    clock = dict.fromkeys(range(1, 5), 0)
    events, expected = [], dict.fromkeys(clock, 0)
    for number, (tid, gap, length, told) in enumerate(steps):
        began = clock[tid] + gap * 10 + tid  # no two at the same time
        clock[tid] = ended = began + length * 10
        expected[tid] += 1
        args = (number, 0, 0, 0, 0, 0)
        if told:
            events.append(enter(began, tid, args=args))
        events.append(done(ended, began, tid, flags=abi.ENTERED * told, args=args))
    events.sort(key=lambda e: e.ns)
    shown, out = Lines(Decoder(), Style(always_pid=True)), []
    for at in range(0, len(events), batch):
        out += shown.feed(events[at : at + batch], (), events[min(at + batch, len(events)) - 1].ns)
    ends = [line for line in out if " = 0" in line]
    for tid in clock:
        mine = [line for line in out if line.startswith(f"[pid {tid:5}]")]
        assert sum(" = 0" in line for line in mine) == expected[tid]
        begun = [int(line.split("(")[1].split(" ")[0].rstrip(")")) for line in mine if "resumed" not in line]
        assert begun == sorted(begun)
        opened = False
        for line in mine:
            assert ("resumed" in line) == opened
            opened = "unfinished" in line
    assert len(ends) == len(steps)
    assert shown.end(10**9) == []
