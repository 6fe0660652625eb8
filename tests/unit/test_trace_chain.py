"""Chains of waiting as values: where they end, which are circles, which circles are deadlocks; any of them ends."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pidwarden.cli import trace_picture
from pidwarden.model import filelocks, futexes
from pidwarden.model.futexes import Wait
from pidwarden.model.waiter import Edge, End, Ref, Waiter
from pidwarden.trace import chain


def waiter(number, *others, **more):
    """One that waits for those; who waits for nobody is at an end."""
    edges = tuple(o if isinstance(o, Edge) else Edge(Ref(o)) for o in others)
    words = {"end": None if edges else End.STOPPED, "edges": edges, "comm": b"x", "state": "S"} | more
    return Waiter(Ref(number), **words)


def graph_of(*waiters, roots=None, **limits):
    table = {w.ref: w for w in waiters}
    return chain.build(roots or [waiters[0].ref], table.__getitem__, **limits)


def refs(found):
    return [w.ref.pid for w in found]


def test_a_chain_is_followed_to_its_end():
    graph = graph_of(waiter(1, 2), waiter(2, 3), waiter(3))
    assert refs(chain.walk(graph)) == [1, 2, 3]
    assert refs(chain.ends(graph)) == [3]
    assert chain.cycles(graph) == []
    assert not graph.cut


def test_who_is_reached_twice_is_looked_at_once():
    asked = []
    table = {w.ref: w for w in (waiter(1, 2, 3), waiter(2, 4), waiter(3, 4), waiter(4))}
    graph = chain.build([Ref(1)], lambda ref: asked.append(ref) or table[ref])
    assert asked == [Ref(1), Ref(2), Ref(3), Ref(4)]
    assert refs(chain.ends(graph)) == [4]


def test_two_who_wait_for_each_other_are_deadlocked():
    (cycle,) = chain.cycles(graph_of(waiter(1, 2), waiter(2, 3), waiter(3, 2)))
    assert [r.pid for r in cycle.refs] == [2, 3]
    assert (cycle.deadlock, cycle.sure) == (True, True)


def test_a_circle_with_another_way_out_is_no_deadlock():
    graph = graph_of(waiter(1, 2), waiter(2, 1, 3), waiter(3))
    (cycle,) = chain.cycles(graph)
    assert not cycle.deadlock
    assert refs(chain.ends(graph)) == [3]


def test_who_needs_all_is_deadlocked_by_one():
    (cycle,) = chain.cycles(graph_of(waiter(1, 2), waiter(2, 1, 3, every=True), waiter(3)))
    assert cycle.deadlock


@pytest.mark.parametrize("more", [{"timed": True}, {"more": 1}])
def test_who_wakes_by_himself_or_is_not_seen_whole_is_not_deadlocked(more):
    (cycle,) = chain.cycles(graph_of(waiter(1, 2, **more), waiter(2, 1)))
    assert not cycle.deadlock


def test_a_deadlock_on_a_guess_is_not_sure():
    guess = Edge(Ref(1), "owner", sure=False)
    (cycle,) = chain.cycles(graph_of(waiter(1, 2), waiter(2, guess)))
    assert (cycle.deadlock, cycle.sure) == (True, False)
    (cycle,) = chain.cycles(graph_of(waiter(1, 2, partial=True), waiter(2, 1)))
    assert (cycle.deadlock, cycle.sure) == (True, False)


def test_threads_of_one_process_that_idle_are_a_circle_only_if_nobody_is_left():
    process = waiter(1, Edge(Ref(1, 1), "thread"), Edge(Ref(1, 2), "thread"), threads=2)
    first = Waiter(Ref(1, 1), edges=(Edge(Ref(1), "any", sure=False, weak=True),))
    second = first._replace(ref=Ref(1, 2))
    (cycle,) = chain.cycles(graph_of(process, first, second))
    assert (cycle.deadlock, cycle.sure) == (True, False)
    assert chain.cycles(graph_of(process, first, Waiter(Ref(1, 2), end=End.IDLE))) == []


def test_one_who_waits_for_itself():
    (cycle,) = chain.cycles(graph_of(waiter(1, 1)))
    assert cycle == chain.Cycle((Ref(1),), deadlock=True, sure=True)


def test_of_many_only_some_are_followed():
    graph = graph_of(waiter(1, *range(2, 30)), *map(waiter, range(2, 30)))
    assert len(graph.waiters) == 1 + chain.WIDTH
    assert graph.waiters[Ref(1)].more == 28 - chain.WIDTH
    assert "… and 20 more" in "\n".join(trace_picture.lines(graph))


def test_a_long_chain_is_cut_and_says_so():
    graph = graph_of(*(waiter(n, n + 1) for n in range(1, 10)), waiter(10), most=4)
    assert (len(graph.waiters), graph.cut) == (4, True)
    assert trace_picture.lines(graph)[-1].startswith("the end is not reached")


def _graphs():
    numbers = st.integers(1, 12)
    edges = st.lists(st.tuples(numbers, st.booleans(), st.booleans()), max_size=4)
    return st.lists(st.tuples(edges, st.booleans(), st.booleans()), min_size=12, max_size=12)


@settings(max_examples=60, deadline=None)
@given(_graphs())
def test_any_graph_ends(table):
    waiters = {
        Ref(n): waiter(n, *(Edge(Ref(to), "", sure, weak) for to, sure, weak in edges), every=every, timed=timed)
        for n, (edges, every, timed) in enumerate(table, 1)
    }
    graph = chain.build([Ref(1)], waiters.__getitem__)
    walked = list(chain.walk(graph))
    assert {w.ref for w in walked} == set(graph.waiters)
    locked = chain.deadlocked(graph)
    for cycle in chain.cycles(graph):
        for ref, following in zip(cycle.refs, [*cycle.refs[1:], cycle.refs[0]], strict=True):
            assert following in {e.to for e in graph.waiters[ref].edges}
        assert cycle.deadlock == (set(cycle.refs) <= locked)
    # Whoever is not deadlocked has a way to somebody who can go on by himself, or is one.
    for ref in graph.waiters.keys() - locked:
        found = graph.waiters[ref]
        ways = [e.to not in locked for e in found.edges]
        assert not ways or found.timed or found.more or (all(ways) if found.every else any(ways))
    # A chain goes on until it ends or comes round: so there is an end, or a circle.
    assert chain.ends(graph) or any(cycle.deadlock for cycle in chain.cycles(graph)) or any(w.timed for w in walked)
    lines = trace_picture.lines(graph)
    assert sum(": see above" not in line and "the end" not in line for line in lines) >= len(walked)


# -- words -------------------------------------------------------------------------------------------------------------


def test_hostile_names_and_paths_stay_on_their_line():
    path = b"/tmp/\n\x1b[2J\xff".decode("utf-8", "surrogateescape")
    bad = waiter(1, comm=b") Z 1 (\n\x1b\xff", call=f"read(3 = {path})", waits=f"waits for {path}", do=f"rm {path}")
    text = trace_picture.lines(graph_of(bad))
    assert len(text) == 2
    assert all(line.isprintable() for line in text)


def test_threads_in_the_same_wait_are_counted():
    threads = [Waiter(Ref(1, t), waits="idle", end=End.IDLE, comm=b"w") for t in range(1, 7)]
    process = waiter(1, *(Edge(t.ref, "thread") for t in threads), waits="6 threads", threads=6)
    text = trace_picture.lines(graph_of(process, *threads))
    assert text[:4] == [
        "1 x: 6 threads",
        "  1/1 w: idle",
        "  1/2 w: idle",
        "  … and 4 more threads in the same wait as 1/1: 1/3, 1/4, 1/5, 1/6",
    ]
    assert len(text) == 5


# -- futexes -----------------------------------------------------------------------------------------------------------

PRIVATE, BITSET, PI = 128, 9, 6


def words(*numbers):
    return struct.pack(f"={len(numbers)}I", *numbers)


def owners(wait, *numbers):
    return [(g.tid, g.certain, g.ends) for g in futexes.guesses(wait, words(*numbers))]


def test_the_owner_of_a_mutex_is_beside_it():
    assert owners(Wait(0, PRIVATE, 2), 2, 0, 77, 1, 0, 0, 0, 0) == [(77, False, False)]
    assert owners(Wait(0, PRIVATE, 2), 2, 0, 77, 0, 1, 0, 0, 0) == [(77, False, False)]  # 32 bits


@pytest.mark.parametrize(
    "data", [(0, 0, 77, 1, 0, 0), (2, 0, 0, 1, 0, 0), (2, 0, 1 << 30, 1, 0, 0), (2, 0, 77, 0, 0, 0), (2,), ()]
)
def test_what_does_not_look_like_a_held_mutex_has_no_owner(data):
    assert owners(Wait(0, PRIVATE, 2), *data) == []


def test_priority_inheritance_is_certain():
    assert owners(Wait(0, PI | PRIVATE, 0), 0x80000000 | 42) == [(42, True, False)]


def test_robust_joined_and_read_write():
    assert owners(Wait(0, 0, 0x80000000 | 42), 0x80000000 | 42) == [(42, False, False)]
    assert owners(Wait(0, BITSET, 42), 42) == [(42, False, True)]
    assert owners(Wait(0, BITSET | PRIVATE, 3), 3, 0, 0, 0, 42, 0) == [(42, False, False)]


def test_a_condition_variable_has_no_owner():
    wait = Wait(0, BITSET | PRIVATE | 256, 0)
    assert owners(wait, 0, 0, 77, 1, 0, 0, 0, 0) == []
    assert "no owner" in futexes.without_owner(wait)
    assert wait.words == "0x0, FUTEX_WAIT_BITSET_PRIVATE|FUTEX_CLOCK_REALTIME, 0"


# -- locks of files ----------------------------------------------------------------------------------------------------

LOCKS = """\
1: POSIX  ADVISORY  WRITE 10 00:1f:55 0 9
1: -> POSIX  ADVISORY  WRITE 20 00:1f:55 5 5
1: -> POSIX  ADVISORY  READ 21 00:1f:55 0 EOF
2: FLOCK  ADVISORY  WRITE 30 00:1f:66 0 EOF
2:  -> FLOCK  ADVISORY  WRITE 20 00:1f:66 0 EOF
3: OFDLCK ADVISORY  READ -1 00:1f:77 0 EOF
3: -> OFDLCK ADVISORY  WRITE -1 00:1f:77 0 EOF
nonsense
4: POSIX
""".splitlines()


@pytest.mark.parametrize(
    ("pid", "inode", "owner"), [(20, 55, 10), (21, 55, 10), (20, 66, 30), (99, 77, -1), (20, 5, None), (99, 55, None)]
)
def test_the_lock_in_the_way_is_the_one_above(pid, inode, owner):
    found = filelocks.blocking(LOCKS, pid, inode)
    assert [granted.pid for _asked, granted in found] == ([] if owner is None else [owner])


def test_a_lock_in_words_and_the_same_in_fdinfo():
    lock, waits = filelocks.parse(LOCKS[0])
    assert (lock.words, waits) == ("POSIX WRITE, bytes 0 to 9", False)
    other, _waits = filelocks.parse("\t1: POSIX  ADVISORY  WRITE 0 00:1f:55 0 9")
    assert lock.is_same(other)
    assert filelocks.parse(LOCKS[3])[0].words == "FLOCK WRITE"
