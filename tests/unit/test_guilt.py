"""Where the growth sits and who is excused: single rules of judge/guilt.py, and properties over any history."""

from __future__ import annotations

import pytest
from histories import BOMBS, BOOTED, LIMIT, MS, SECOND, STARTS, History, guess, queued, record, shell, tight, zombies
from hypothesis import given, settings
from hypothesis import strategies as st

from pidwarden.judge.case import Rules
from pidwarden.judge.guilt import find_suspects, weights
from pidwarden.judge.kin import Kin, copied, itself_again
from pidwarden.judge.onset import onset
from pidwarden.model.key import ProcessKey
from pidwarden.model.record import ProcFlag
from pidwarden.model.tree import Tree

RULES = Rules()


def suspects(h: History, protected: frozenset[ProcessKey] = frozenset()) -> list[tuple[ProcessKey, str]]:
    tree = Tree(h.records())
    kin = Kin(tree, protected)
    births = [(r.key.start_ns, r.slots) for r in tree.records]
    began = onset(births, max(RULES.min_members, RULES.heavy_share * h.slots()), RULES.witness_ns)
    sums = tree.totals(weights(kin, bytearray(b"\1") * len(tree), began, dead_count=False))
    return [(tree.records[s.root].key, s.excuse) for s in find_suspects(kin, sums, began, RULES)]


# -- the onset ---------------------------------------------------------------------------------------------------------


def test_onset_is_where_the_births_pause():
    old = [(at * SECOND, 1) for at in range(1, 1000)]
    burst = [(2000 * SECOND + at, 1) for at in range(300)]
    assert onset(old + burst, 45, RULES.witness_ns) == 2000 * SECOND


def test_onset_does_not_depend_on_the_order():
    births = [(at * at * MS, 1) for at in range(100)]
    assert onset(births, 10, MS) == onset(births[::-1], 10, MS)


def test_onset_of_a_slow_bomb_is_its_beginning():
    """It doubles every five seconds: its own pauses are shorter than all that came after them."""
    births = [(3600 * SECOND + 5 * SECOND * doubling, 1 << doubling) for doubling in range(9)]
    assert onset([(SECOND, 50), *births], 45, RULES.witness_ns) == 3600 * SECOND


@pytest.mark.parametrize("last", [46, 128, 200])
def test_onset_of_a_slow_bomb_whose_last_beat_was_cut_short_is_its_beginning(last):
    births = [(3600 * SECOND + 150 * MS * beat, 1 << beat) for beat in range(8)] + [(3600 * SECOND + 1200 * MS, last)]
    assert onset([(SECOND, 50), *births], 45, RULES.witness_ns) == 3600 * SECOND


@pytest.mark.parametrize("before", [(100, 100), (10, 90), (100, 10)])
def test_onset_of_a_burst_after_others_that_did_not_grow_or_only_once_is_its_own(before):
    births = [(3600 * SECOND + 150 * MS * beat, many) for beat, many in enumerate((*before, 50))]
    assert onset(births, 45, RULES.witness_ns) == births[-1][0]


def test_onset_goes_further_back_until_enough_is_behind():
    assert onset([(SECOND, 300), (100 * SECOND, 5)], 45, RULES.witness_ns) == SECOND


def test_onset_passes_over_the_short_pauses_of_a_busy_machine():
    assert onset([(0, 50), (99 * MS, 50)], 10, RULES.witness_ns) == 0
    assert onset([(0, 50), (101 * MS, 50)], 10, RULES.witness_ns) == 101 * MS


def test_onset_of_nothing():
    assert onset([], 10, MS) == 0


# -- who is a copy -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "copy", "again"),
    [
        ({}, True, False),
        ({"comm": b"renamed"}, True, False),
        ({"execs": 1}, False, True),
        ({"execs": 1, "comm": b"other"}, False, True),
        ({"execs": 1, "exe": (8, 8)}, False, False),
        ({"flags": ProcFlag.GUESSED}, True, False),
        ({"flags": ProcFlag.GUESSED, "comm": b"other"}, False, False),
        ({"flags": ProcFlag.GUESSED, "exe": (8, 8)}, False, False),
    ],
)
def test_copies(changes, copy, again):
    creator = record(ProcessKey(2, 1), exe=(1, 1))
    child = record(ProcessKey(3, 2), creator.key, **{"exe": (1, 1), **changes})
    assert (copied(child, creator), itself_again(child, creator)) == (copy, again)


def test_of_whom_neither_execs_nor_creator_are_known_nothing_is_claimed():
    assert not copied(record(ProcessKey(3, 2), flags=ProcFlag.GUESSED), None)


# -- who is excused ----------------------------------------------------------------------------------------------------


def with_bomb(h: History, parent: ProcessKey, *, exec_: bool = False) -> ProcessKey:
    root = h.run(parent, b"bomb") if exec_ else h.fork(parent)
    tight(h, root)
    return root


def test_nothing_speaks_for_a_young_script_that_does_nothing_else():
    h = History()
    script = h.found()
    with_bomb(h, script)
    assert suspects(h) == [(script, "")]


def test_a_parent_that_lived_for_a_second_is_passed_over():
    h = History()
    root = with_bomb(h, h.found(age=SECOND))
    assert suspects(h) == [(root, "")]


def test_one_that_lived_for_less_is_not():
    h = History()
    parent = h.found(age=SECOND - MS)
    with_bomb(h, parent)
    assert suspects(h) == [(parent, "")]


def test_who_started_another_program_is_passed_over():
    h = History()
    root = with_bomb(h, h.found(), exec_=True)
    assert suspects(h) == [(root, "")]


def test_a_light_child_that_runs_a_program_is_a_witness():
    h = History()
    script = h.found()
    h.run(script, b"sleep")
    root = with_bomb(h, script)
    assert suspects(h) == [(root, "")]


def test_a_subshell_that_runs_a_program_is_a_witness():
    h = History()
    script = h.found()
    h.run(h.fork(script), b"sleep")
    root = with_bomb(h, script)
    assert suspects(h) == [(root, "")]


def test_a_heavy_subshell_that_runs_a_build_is_a_witness():
    h = History()
    script = h.found()
    subshell = h.fork(script)
    for _ in range(60):
        h.run(subshell, b"cc1")
    root = with_bomb(h, script)
    assert (root, "") in suspects(h)
    assert script not in dict(suspects(h))


def test_a_child_whose_own_children_come_and_go_is_a_witness():
    h = History()
    script = h.found()
    loop = h.fork(script)
    for _ in range(3):
        h.exit(h.run(loop, b"true"), reaped=True)
    root = with_bomb(h, script)
    assert suspects(h) == [(root, "")]


def test_a_bomb_whose_members_also_start_what_ends_at_once_is_not_its_own_witness():
    """Before each copy, every member forks twice more and waits for that: pids are recycled, or it is a decoy."""
    h = History()
    root = h.found()
    members = [root]
    for parent, copies in [(0, 4), (1, 5), (2, 5), (3, 5), (4, 2), *((at, 5) for at in range(5, 20))]:
        for _ in range(copies):
            for _ in range(2):
                h.exit(h.fork(members[parent]), reaped=True)
            members.append(h.fork(members[parent]))
    h.stop(members[20:])
    assert suspects(h) == [(root, "")]


def test_an_older_copy_that_is_at_work_is_a_witness():
    h = History()
    script = h.found()
    h.fork(script)
    h.wait(RULES.witness_ns)
    root = with_bomb(h, script)
    assert suspects(h) == [(root, "")]


def test_a_dead_child_was_no_older_copy_at_work():
    h = History()
    script = h.found()
    h.exit(h.fork(script))
    h.wait(RULES.witness_ns)
    with_bomb(h, script)
    assert suspects(h) == [(script, "")]


def test_a_slow_bomb_is_as_slow_as_its_copies():
    """Every copy sleeps for five seconds before it forks, so each of them "lived before" its children."""
    h = History()
    root = h.found(b"bomb")
    members = [root]
    for _ in range(9):
        h.wait(5 * SECOND)
        members += [h.fork(m) for m in members]
    assert suspects(h) == [(root, "")]


def test_a_slow_bomb_whose_members_fork_twice_is_as_slow_as_its_copies():
    """``b() { sleep 5; b & b & }``: nobody in it has four children by which it could be known."""
    h = History()
    root = h.found(b"bomb")
    youngest = [root]
    for _ in range(8):
        h.wait(5 * SECOND)
        youngest = [h.fork(m) for m in youngest for _ in "ab"]
    assert suspects(h) == [(root, "")]


def test_the_old_parent_of_a_slow_bomb_is_passed_over():
    h = History()
    parent = h.found(b"server", age=300 * SECOND)
    root = h.fork(parent)
    members = [root]
    for _ in range(9):
        h.wait(5 * SECOND)
        members += [h.fork(m) for m in members]
    assert suspects(h) == [(root, "")]


@pytest.mark.parametrize("bomb", [tight, queued])
def test_an_old_program_that_copies_itself_all_of_a_sudden_is_no_innocent_parent(bomb):
    """``sleep 5; while :; do fork; done``: all it ever forked is itself, and its copies do as it does."""
    h = History()
    root = h.found(b"bomb", age=5 * SECOND)
    bomb(h, root)
    assert suspects(h) == [(root, "")]


@pytest.mark.parametrize("bombs", [2, 3, 6, 12])
@pytest.mark.parametrize("bomb", [tight, shell])
def test_a_server_several_of_whose_workers_go_off_is_passed_over(bomb, bombs):
    h = History()
    server = h.found(b"server", age=60 * SECOND)
    for _ in range(20):  # requests it served before
        h.exit(h.fork(server), reaped=True)
    h.wait(20 * SECOND)
    roots = [h.fork(server) for _ in range(bombs)]
    for root in roots:
        bomb(h, root, LIMIT // bombs)
    assert dict(suspects(h)) == dict.fromkeys(roots, "")


def test_old_workers_of_a_server_do_not_weigh():
    h = History()
    server = h.found(b"server", age=3600 * SECOND)
    for number in range(LIMIT * 3):
        h.fork(server, age=(10 + number) * SECOND)
    root = with_bomb(h, server)
    assert suspects(h) == [(root, "")]


def test_new_workers_of_a_server_do_not_make_it_the_breeder():
    """Under load it forks more than the one worker that went off."""
    h = History()
    server = h.found(b"server", age=3600 * SECOND)
    for _ in range(LIMIT * 2):
        h.fork(server)
    root = with_bomb(h, server)
    assert suspects(h) == [(root, "")]


def test_one_that_is_heavy_by_itself_is_named_with_what_speaks_for_it():
    h = History()
    server = h.found(b"server", age=20 * SECOND)
    zombies(h, server)
    [(key, excuse)] = suspects(h)
    assert key == server
    assert excuse.startswith("it lived 20.0 s")


def test_who_is_protected_is_passed_over_and_weighs_nothing():
    h = History()
    shell_, other = h.found(), None
    root = h.fork(shell_)
    tight(h, root)
    other = h.fork(root)
    h.threads(other, 1000)
    assert dict(suspects(h, frozenset([shell_, other]))) == {root: ""}


def test_who_is_protected_is_no_suspect_however_heavy():
    h = History()
    session = h.found(age=60 * SECOND)
    daemon = h.run(session, b"daemon")
    h.threads(daemon, 1000)
    root = with_bomb(h, session)
    assert suspects(h, frozenset([daemon])) == [(root, "")]


def test_the_light_children_of_the_guilty_root_belong_to_it():
    h = History()
    root = h.found(b"bomb")
    tight(h, root)
    light = [k for k in h.all[root].children if len(h.below(k)) < RULES.min_members]
    assert light
    assert suspects(h) == [(root, "")]


def test_nobody_is_suspect_below_min_members():
    h = History()
    root = h.found(b"bomb")
    tight(h, root, RULES.min_members - 2)
    assert suspects(h) == []
    tight(h, root, 1)
    assert suspects(h) == [(root, "")]


def test_what_was_there_before_the_guard_passes_for_copies_of_the_same_program_only():
    h = History()
    script = h.found(age=100 * MS)
    h.run(script, b"java")
    root = h.fork(script)
    guess(h)
    tight(h, root)
    assert suspects(h) == [(root, "")]


# -- any history -------------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(st.sampled_from(sorted(STARTS)), st.sampled_from(sorted(BOMBS)), st.integers(0, 1000), st.integers(20, 400))
def test_suspects_are_disjoint_and_carry_the_growth(start, bomb, seed, slots):
    h = History(seed)
    BOMBS[bomb](h, STARTS[start](h), slots)
    found = [key for key, _excuse in suspects(h)]
    below = [h.below(key) for key in found]
    assert len(set().union(*below)) == sum(map(len, below))


def test_histories_are_what_they_say():
    """The builder itself: branches and generations as the kernel side gives them."""
    h = History()
    founder = h.found(age=2 * SECOND)
    child = h.fork(founder)
    assert h.all[child].branch != h.all[founder].branch
    grandchild = h.fork(child)
    assert (h.all[grandchild].branch, h.all[grandchild].generation) == (h.all[child].branch, 1)
    assert h.now >= BOOTED
