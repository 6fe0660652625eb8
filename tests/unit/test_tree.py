"""The history tree: links, subtrees and sums, for histories as the kernel makes them."""

from __future__ import annotations

from histories import BOOTED, MS, History, record
from hypothesis import given
from hypothesis import strategies as st

from pidwarden.model.key import NOBODY, ProcessKey
from pidwarden.model.tree import Tree

_STEPS = st.lists(st.tuples(st.sampled_from("fFexr"), st.integers(0, 1 << 30), st.integers(0, 2000)), max_size=60)


@st.composite
def histories(draw):
    """Forks, execs, exits and releases in any order, of any member, at any pace."""
    h = History(draw(st.integers(0, 99)))
    h.found()
    for step, pick, wait in draw(_STEPS):
        h.wait(wait * MS)
        living = [k for k, p in h.all.items() if p.live > 0]
        if not living:
            break
        key = living[pick % len(living)]
        if step in "fF":
            h.fork(key)
        elif step == "e":
            h.exec(key, b"other")
        else:
            h.exit(key, reaped=step == "r")
    return h


def naive(record, records, weight) -> int:
    return weight(record) + sum(naive(r, records, weight) for r in records if r.parent == record.key)


@given(histories())
def test_sums_are_those_of_the_recursive_definition(h):
    records = list(h.records())
    sums = Tree(records).sums(lambda r: r.slots + 3 * r.execs)
    assert sums == {r.key: naive(r, records, lambda r: r.slots + 3 * r.execs) for r in records}


@given(histories())
def test_subtrees_of_the_roots_are_everybody_once_creators_first(h):
    tree = Tree(h.records())
    seen = [r.key for root in tree.roots for r in tree.subtree(root.key)]
    assert sorted(seen) == sorted(tree.by_key)
    assert len(tree) == len(seen)
    place = {key: at for at, key in enumerate(seen)}
    assert all(place[r.parent] < place[r.key] for r in tree.by_key.values() if r.parent in place)


@given(histories())
def test_a_subtree_is_whoever_has_its_root_among_the_creators(h):
    tree = Tree(h.records())
    for root in tree.by_key:
        assert {r.key for r in tree.subtree(root)} == h.below(root) & tree.by_key.keys()


@given(histories())
def test_the_dead_are_kept_as_long_as_somebody_descends_from_them(h):
    tree = Tree(h.records())
    assert len(tree.roots) <= 1
    assert all(any(d.slots for d in tree.subtree(key)) for key in tree.by_key)


def test_a_creator_that_is_not_known_makes_a_root():
    a, b = ProcessKey(2, 10), ProcessKey(3, 20)
    tree = Tree([record(a, ProcessKey(9, 9)), record(b, a)])
    assert [r.key for r in tree.roots] == [a]
    assert [r.key for r in tree.kids(a)] == [b]
    assert tree.kids(b) == []


def test_the_same_pid_at_another_time_is_not_the_creator():
    first, second = ProcessKey(2, 10), ProcessKey(2, 30)
    tree = Tree([record(first), record(second), record(ProcessKey(3, 40), second)])
    assert tree.kids(first) == []
    assert len(tree.kids(second)) == 1


def test_who_is_his_own_creator_is_a_root():
    key = ProcessKey(2, BOOTED)
    tree = Tree([record(key, key)])
    assert [r.key for r in tree.subtree(key)] == [key]
    assert tree.sums(lambda _r: 1) == {key: 1}


def test_subtree_of_a_stranger_is_empty():
    assert list(Tree([]).subtree(NOBODY)) == []


def test_time_for_which_creators_were_held_does_not_count_as_age():
    h = History()
    root = h.found()
    h.wait(5 * MS)
    first = h.fork(root)
    h.hold(3600 * 1000 * MS)
    h.wait(7 * MS)
    second = h.fork(first)
    tree = Tree(h.records())
    births = {r.key: birth for r, birth in zip(tree.records, tree.births, strict=True)}
    assert births[first] - births[root] == first.start_ns - root.start_ns
    assert births[second] - births[first] == second.start_ns - first.start_ns - 3600 * 1000 * MS
