"""Verdicts: every common bomb, however it was started, is called one with the right root; honest work never is."""

from __future__ import annotations

import re

import pytest
from histories import (
    BOMBS,
    BOOTED,
    LIMIT,
    MS,
    SECOND,
    STARTS,
    History,
    chain,
    guess,
    record,
    setsid,
    shell,
    threads,
    tight,
    zombies,
)  # fmt: skip
from hypothesis import given, settings
from hypothesis import strategies as st

from pidwarden.judge.case import Case, Rules
from pidwarden.judge.evidence import examine
from pidwarden.judge.judge import judge
from pidwarden.judge.kin import Kin
from pidwarden.model.key import ProcessKey
from pidwarden.model.record import GroupKind, Rule
from pidwarden.model.tree import Tree
from pidwarden.model.verdict import Kind, Verdict

RULES = Rules()


def verdict(h: History, **case: object) -> Verdict:
    return judge(h.case(**case), RULES)  # type: ignore[arg-type]


def roots(found: Verdict) -> list[ProcessKey]:
    return [r.key for r in found.roots]


def assert_bomb(h: History, found: Verdict, *bombs: ProcessKey) -> None:
    """A bomb with just these roots; the members are all below them that hold a slot, and nobody else."""
    assert (found.kind, set(roots(found))) == (Kind.BOMB, set(bombs)), found.reasons
    expected = set().union(*map(h.holding, bombs))
    assert set(found.members) == expected
    assert len(found.members) == len(expected)
    assert found.slots == sum(h.all[k].slots for k in expected)
    assert found.spared == sum(p.live > 0 for p in h.all.values()) - sum(h.all[k].live > 0 for k in expected)
    assert_reasons(found)


def assert_reasons(found: Verdict) -> None:
    assert found.reasons
    assert all(reason and reason.isprintable() for reason in found.reasons)
    assert re.search(r"\d", found.reasons[0])


# -- bombs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("bomb", BOMBS)
@pytest.mark.parametrize("start", STARTS)
def test_branch_alarm(start, bomb, seed):
    h = History(seed)
    root = STARTS[start](h)
    BOMBS[bomb](h, root)
    rule = Rule.GENERATIONS if bomb == "chain" else Rule.BRANCH_SLOTS
    assert_bomb(h, verdict(h, branch_of=root, rule=rule, strikes=int(bomb == "threads")), root)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("bomb", sorted(BOMBS.keys() - {"chain"}))  # a chain never fills a family
@pytest.mark.parametrize("start", STARTS)
def test_family_alarm(start, bomb, seed):
    h = History(seed)
    root = STARTS[start](h)
    BOMBS[bomb](h, root)
    assert_bomb(h, verdict(h, strikes=int(bomb == "threads")), root)


@pytest.mark.parametrize("held", [0, 2 * SECOND, 3600 * SECOND])
@pytest.mark.parametrize("start", STARTS)
def test_time_for_which_a_bomb_was_held_is_no_part_of_its_life(start, held):
    """Nobody was there to judge it: let go with more room, it goes on, and is no older for having stood still."""
    h = History()
    root = STARTS[start](h)
    members = [root]
    for count in range(LIMIT):
        if count == LIMIT // 8:
            h.hold(held)
        h.wait(40_000)
        members.append(h.fork(h.random.choice(members)))
    assert_bomb(h, verdict(h), root)


def test_a_row_of_copies_that_each_leave_sleepers_behind_is_a_bomb_once_it_is_long():
    """Nobody has many children, and of all the members hardly any had a copy."""
    h = History()
    last = root = h.found(b"relay")
    for _ in range(60):
        for _ in range(20):
            h.fork(last)
        h.wait(5 * MS)
        nxt = h.fork(last)
        h.exit(last)
        last = nxt
    assert_bomb(h, verdict(h, strikes=1), root)


@pytest.mark.parametrize(
    ("deep", "ends", "strikes", "kind", "doubtful"),
    [
        (3, 6, 0, Kind.BURST, True),  # three deep: a little more
        (3, 2, 0, Kind.BURST, False),  # helpers of a few workers
        (2, 20, 0, Kind.BURST, False),  # a pool, and what its workers start
        (4, 11, 1, Kind.BOMB, False),
        (3, 20, 1, Kind.BURST, True),
    ],
)
def test_copies_of_one_parent_of_which_hardly_any_came_to_copy_itself(deep, ends, strikes, kind, doubtful):
    """Each member waits for a lock before it forks, or has not had the processor yet: a pool, but for a few."""
    h = History()
    root = h.found(b"pool")
    last = [h.fork(root) for _ in range(LIMIT * (1 + 2 * strikes))]
    for _ in range(deep - 1):
        last = [h.fork(parent) for parent in last[:ends]]
    found = verdict(h, strikes=strikes)
    assert (found.kind, found.doubtful) == (kind, doubtful), found.reasons
    assert roots(found) == [root]


def test_reasons_name_the_shape_and_its_numbers():
    h = History()
    tight(h, h.found(b"bomb"))
    reason, origin = verdict(h).reasons
    assert origin == "it began with bomb (1001, user 0)"
    assert reason.startswith("301 slots in 0.0")
    assert "300 of 300 are plain copies" in reason
    assert "copies that copy themselves" in reason


def test_reasons_tell_the_memory_that_is_known():
    h = History()
    tight(h, h.found(b"bomb"))
    case = h.case()
    case = case._replace(memory={r.key: 2 << 20 for r in case.records})
    assert "602 MiB" in judge(case, RULES).reasons[0]


def test_two_bombs_at_once_are_both_guilty():
    h = History()
    session = h.found(b"bash", age=60 * SECOND)
    first, second = h.run(session, b"one"), h.run(session, b"two")
    tight(h, first, LIMIT // 2)
    setsid(h, second, LIMIT // 2)
    found = verdict(h)
    assert_bomb(h, found, first, second)
    assert "1 more subtrees like it" in found.reasons


def test_a_bomb_without_a_record_of_its_parent():
    h = History()
    root = h.found(b"bomb", execs=0)
    tight(h, root)
    assert_bomb(h, verdict(h), root)


def test_a_bomb_each_of_whose_copies_runs_a_program_as_well():
    h = History()
    root = h.found(b"bomb")
    tight(h, root, LIMIT)
    for key in sorted(h.below(root))[LIMIT // 2 :]:
        h.run(key, b"sleep")
    found = verdict(h)
    assert found.kind is Kind.BOMB
    assert set(found.members) <= h.holding(root)


def test_a_slow_bomb_that_founds_a_branch_with_every_fork():
    h = History()
    root = h.run(h.found(b"bash", age=3600 * SECOND), b"bomb")
    members = [root]
    for _ in range(9):
        h.wait(5 * SECOND)
        members += [h.fork(m) for m in members]
    assert_bomb(h, verdict(h), root)


def test_a_bomb_that_starts_itself_instead_of_copying():
    """``$0 & $0 &``: all members call exec, but nobody runs anything else."""
    h = History()
    root = h.found(b"bomb")
    members = [root]
    for _ in range(LIMIT):
        h.wait(MS // 2)
        members.append(h.run(h.random.choice(members), b"bomb"))
    assert_bomb(h, verdict(h), root)


def test_members_from_before_the_guard():
    """The guard is started while the bomb goes off already."""
    h = History()
    root = STARTS["beside_bystanders"](h)
    tight(h, root)
    guess(h)
    tight(h, root)
    assert_bomb(h, verdict(h), root)


# -- innocents beside a bomb -------------------------------------------------------------------------------------------


def test_a_heavy_program_beside_the_bomb_is_neither_taken_for_it_nor_hides_it():
    """Young, many threads, and gigabytes of memory."""
    h = History()
    script = h.found(b"job.sh")
    java = h.run(script, b"java")
    h.threads(java, 180)
    h.wait(50 * MS)
    root = h.run(script, b"bomb")
    tight(h, root, 120)
    case = h.case()
    found = judge(case._replace(memory={java: 64 << 30}, strikes=1), RULES)
    assert_bomb(h, found, root)


def test_a_build_beside_the_bomb_is_neither_taken_for_it_nor_hides_it():
    h = History()
    script = h.found(b"job.sh")
    make(h, h.run(script, b"make"), 200)
    root = h.fork(script)
    tight(h, root, 100)
    assert_bomb(h, verdict(h), root)


def test_a_few_nested_copies_in_a_large_build_are_not_why_the_alarm_rang():
    h = History()
    session = h.found(b"bash", age=60 * SECOND)
    make(h, h.run(session, b"make"), LIMIT)
    small = h.run(session, b"nest")
    tight(h, small, 20)
    found = verdict(h)
    assert found.kind is Kind.BURST
    assert small not in found.members


def test_a_server_whose_workers_go_off_all_at_once_is_spared():
    h = History()
    server = h.found(b"server", age=3600 * SECOND)
    old = [h.fork(server, age=60 * SECOND) for _ in range(20)]
    workers = [h.fork(server) for _ in range(5)]
    for worker in workers:
        shell(h, worker, LIMIT // 5)
    found = verdict(h)
    assert_bomb(h, found, *workers)
    assert not {server, *old} & set(found.members)


def test_protected_members_are_spared():
    h = History()
    root = STARTS["by_script"](h)
    tight(h, root)
    spared = frozenset(sorted(h.below(root))[5:50:5])
    found = judge(h.case()._replace(spared=spared), RULES)
    assert found.kind is Kind.BOMB
    assert not spared & set(found.members)


def test_a_branch_alarm_does_not_look_at_other_branches():
    """A build as big as the bomb, in another branch of the same family."""
    h = History()
    session = h.found(b"bash", age=60 * SECOND)
    shell(h, h.run(session, b"other"))
    root = h.run(session, b"bomb")
    tight(h, root)
    assert_bomb(h, verdict(h, branch_of=root), root)


# -- honest work -------------------------------------------------------------------------------------------------------


def make(h: History, root: ProcessKey, slots: int = LIMIT) -> None:
    """make -j: each recipe a shell, each shell a compiler; a few are between fork and exec."""
    for number in range(slots // 2):
        h.wait(2 * MS)
        recipe = h.run(root, b"sh")
        compiler = h.fork(recipe)
        if number % 10:
            h.exec(compiler, b"cc1")


def prefork(h: History, root: ProcessKey) -> None:
    """One parent, flat copies."""
    for _ in range(LIMIT):
        h.wait(MS // 10)
        h.fork(root)


def nested_pools(h: History, root: ProcessKey) -> None:
    """Workers with workers of their own: copies of copies, and no deeper."""
    for _ in range(20):
        pool = h.fork(root)
        for _ in range(14):
            h.wait(MS // 10)
            h.fork(pool)


def sleep_flood(h: History, root: ProcessKey) -> None:
    """``for i in $(seq 300); do sleep 1000 & done``."""
    for _ in range(LIMIT):
        h.wait(MS)
        h.run(root, b"sleep")


def subshell_flood(h: History, root: ProcessKey) -> None:
    """``for f in *; do ( n=$(grep x $f | wc -l); echo $n ) & done``: four fifths are copies, at this moment."""
    for number in range(LIMIT // 3):
        h.wait(MS)
        outer = h.fork(root)
        inner = h.fork(outer)
        if number % 3:
            last = h.fork(inner)
            if number % 2:
                h.exec(last, b"grep")
        else:
            h.stop([inner])


HONEST = {f.__name__: f for f in (make, prefork, nested_pools, sleep_flood, subshell_flood, threads)}
HONEST_STARTS = ("by_exec", "by_fork", "by_fork_and_exec", "beside_bystanders", "below_server", "below_session")


@pytest.mark.parametrize("kind", ["branch", "family"])
@pytest.mark.parametrize("work", HONEST)
@pytest.mark.parametrize("start", HONEST_STARTS)
def test_honest_work_is_a_burst(start, work, kind):
    h = History()
    root = STARTS[start](h)
    HONEST[work](h, root)
    found = verdict(h, branch_of=root if kind == "branch" else None)
    assert found.kind is Kind.BURST, found.reasons
    assert_reasons(found)


@pytest.mark.parametrize("work", sorted(HONEST.keys() - {"threads"}))
@pytest.mark.parametrize("start", HONEST_STARTS)
@pytest.mark.parametrize(("strikes", "kind"), [(1, Kind.BURST), (2, Kind.UNSURE), (9, Kind.UNSURE)])
def test_work_that_fills_every_budget_is_left_to_a_person(start, work, strikes, kind):
    h = History()
    root = STARTS[start](h)
    HONEST[work](h, root)
    found = verdict(h, strikes=strikes)
    assert found.kind is kind, found.reasons
    assert found.doubtful is (kind is Kind.BURST)  # a second budget is a small one
    assert found.members


def test_threads_are_a_bomb_only_after_a_strike():
    h = History()
    root = h.found(b"pool")
    threads(h, root)
    assert verdict(h).kind is Kind.BURST
    assert_bomb(h, verdict(h, strikes=1), root)


@pytest.mark.parametrize(("age", "kind"), [(9, Kind.BOMB), (11, Kind.UNSURE), (86_400, Kind.UNSURE)])
def test_threads_of_an_old_process_are_a_load(age, kind):
    h = History()
    root = h.found(b"java", age=age * SECOND)
    h.threads(root, LIMIT)
    assert verdict(h, strikes=1).kind is kind
    slower = Rules(slow_ns=(age + 1) * SECOND)
    assert judge(h.case(strikes=1), slower).kind is Kind.BOMB


def test_threads_do_not_outlive_an_exec():
    """``sleep 60; exec bomb``: the process is old, its threads cannot be."""
    h = History()
    root = h.exec(h.found(b"sh", age=60 * SECOND), b"bomb")
    threads(h, root)
    assert verdict(h, strikes=1).kind is Kind.BOMB


def test_zombies_that_came_slowly_are_a_leak():
    h = History()
    root = h.found(b"leaky")
    for _ in range(LIMIT):
        h.wait(SECOND // 20)
        h.exit(h.fork(root))
    found = verdict(h)
    assert (found.kind, roots(found)) == (Kind.UNSURE, [root])
    assert_reasons(found)


@pytest.mark.parametrize(("strikes", "kind"), [(0, Kind.BURST), (1, Kind.BURST), (2, Kind.UNSURE)])
def test_zombies_of_an_old_process_may_only_not_be_reaped_yet(strikes, kind):
    h = History()
    root = h.found(b"server", age=60 * SECOND)
    h.exit(h.fork(root), reaped=True)  # it does reap
    h.wait(SECOND)
    zombies(h, root)
    found = verdict(h, strikes=strikes)
    assert (found.kind, roots(found)) == (kind, [root])
    assert "for 1001 speaks that it lived 61.0 s before that began" in found.reasons


@pytest.mark.parametrize(("strikes", "kind"), [(0, Kind.BURST), (1, Kind.BURST), (2, Kind.UNSURE)])
def test_zombies_of_programs_may_only_not_be_reaped_yet(strikes, kind):
    """A script that starts programs first and waits for them all afterwards."""
    h = History()
    root = h.found(b"script")
    h.exit(h.run(root, b"mkdir"), reaped=True)
    for _ in range(LIMIT):
        h.exit(h.run(root, b"true"))
    assert verdict(h, strikes=strikes).kind is kind


@pytest.mark.parametrize("age", [0, 2])
def test_a_supervisor_that_restarts_what_fails_and_never_reaps_is_a_bomb_at_the_second_alarm(age):
    h = History()
    root = h.found(b"supervise", age=age * SECOND)
    for number in range(LIMIT):
        h.wait(max(2, 200 - 5 * number) * MS)
        h.exit(h.run(root, b"false"))
    first = verdict(h)
    assert (first.kind, first.doubtful) == (Kind.BURST, True)
    assert_bomb(h, verdict(h, strikes=1), root)


def test_a_supervisor_that_leaves_something_behind_at_each_restart_is_a_bomb_at_the_second_alarm():
    h = History()
    root = h.found(b"supervise")
    for number in range(LIMIT):
        h.wait(max(2, 200 - 5 * number) * MS)
        service = h.fork(root)
        h.run(service, b"sleep")
        h.exit(h.exec(service, b"false"), reaped=True)
    first = verdict(h)
    assert (first.kind, first.doubtful) == (Kind.BURST, True)
    assert_bomb(h, verdict(h, strikes=1), root)


def test_zombies_of_a_supervisor_with_services_are_no_bomb():
    h = History()
    root = h.found(b"supervisor")
    h.run(root, b"service")
    zombies(h, root)
    assert verdict(h, strikes=1).kind is not Kind.BOMB
    assert verdict(h, strikes=2).kind is Kind.UNSURE


def test_a_chain_of_different_programs_is_no_bomb():
    h = History()
    last = h.found(b"restart")
    for number in range(150):
        h.wait(5 * MS)
        after = h.run(last, b"program%d" % number)
        h.exit(last)
        last = after
    assert verdict(h, branch_of=last, rule=Rule.GENERATIONS).kind is Kind.BURST


def test_a_chain_counts_its_dead():
    h = History()
    root = STARTS["below_session"](h)
    chain(h, root)
    assert h.slots() < RULES.min_members + 2 * LIMIT + 10
    assert_bomb(h, verdict(h, branch_of=root, rule=Rule.GENERATIONS), root)
    assert "150 deep" in verdict(h, branch_of=root, rule=Rule.GENERATIONS).reasons[0]


def test_many_small_copies_below_an_old_parent_are_not_its_fault():
    """Each request's worker forks a helper that forks a helper: nobody of them is heavy, and the server is old."""
    h = History()
    server = h.found(b"server", age=3600 * SECOND)
    for _ in range(LIMIT // 3):
        h.wait(MS)
        h.fork(h.fork(h.fork(server)))
    assert verdict(h).kind is Kind.BURST


def test_what_was_there_before_the_guard_is_not_taken_for_copies():
    """Programs, of whom it is only unknown that they called exec."""
    h = History()
    session = h.found(b"bash")
    last = session
    for number in range(LIMIT):
        last = h.run(last if number % 8 else session, b"program%d" % number)
    guess(h)
    assert verdict(h).kind is Kind.BURST


def test_nobody_to_blame():
    h = History()
    h.found()
    found = verdict(h)
    assert (found.kind, found.roots, found.members, found.slots, found.spared) == (Kind.UNSURE, (), (), 0, 1)
    assert "min_members" in found.reasons[0]


def test_a_small_chain_beside_slowly_gathered_workers_does_not_condemn_their_server():
    """The growth is as old as the server, so nothing speaks for it but that most of its children do nothing."""
    h = History()
    root = STARTS["below_server"](h)
    chain(h, root, 60)
    assert verdict(h).kind is Kind.BURST


# -- evidence ----------------------------------------------------------------------------------------------------------


def evidence(case: Case, root: ProcessKey):
    kin = Kin(Tree(case.records), case.spared, case.memory)
    return examine(kin, kin.tree.number[root], case.now_ns)


def test_evidence_counts():
    h = History()
    root = h.found(b"x")
    copy = h.fork(root)
    again = h.run(copy, b"x")
    h.run(copy, b"y")
    h.exit(h.fork(again))
    h.threads(root, 4)
    h.stop([again])
    case = h.case()
    seen = evidence(case, root)
    assert (seen.slots, seen.processes, seen.zombies, seen.threads) == (9, 4, 1, 4)
    assert (seen.known, seen.copies, seen.again, seen.strangers) == (4, 2, 1, 1)
    assert (seen.breeders, seen.starters, seen.eager, seen.living) == (1, 2, 1, 2)
    assert (seen.execs, seen.one_program, seen.started) == (2, 3, 4)
    assert (seen.depth, seen.repeats, seen.rounds) == (1, 3, 3)


def test_who_tried_to_copy_itself_and_was_stopped_counts_as_a_breeder():
    h = History()
    root = h.found(b"x")
    copies = [h.fork(root) for _ in range(5)]
    h.stop(copies[:3])
    case = h.case()
    seen = evidence(case, root)
    assert (seen.breeders, seen.depth, seen.idle) == (3, 2, 2)


# -- anything at all ---------------------------------------------------------------------------------------------------

_KEYS = st.builds(ProcessKey, st.integers(0, 12), st.integers(0, 5))
_ANY = st.builds(
    record,
    _KEYS,
    _KEYS,
    branch=st.integers(0, 3),
    slots=st.integers(-2, 400),
    live=st.integers(-2, 400),
    forks=st.integers(0, 400),
    execs=st.integers(0, 2),
    exec_ns=st.integers(0, BOOTED),
    generation=st.integers(0, 200),
    flags=st.integers(0, 127),
    stops=st.integers(0, 2),
    comm=st.binary(max_size=15),
)


@settings(max_examples=400)
@given(
    st.lists(_ANY, max_size=40), st.sampled_from(GroupKind), st.sampled_from(Rule), st.integers(0, 4),
    st.integers(0, 9), st.frozensets(_KEYS), st.integers(1, 20),
)  # fmt: skip
def test_no_records_whatever_make_it_raise(records, kind, rule, strikes, now, spared, least):  # noqa: PLR0913
    """Cycles, own creators, creators younger than their children, counts below zero, one key twice."""
    case = Case(tuple(records), 1, kind, rule, now, strikes, {}, spared)
    found = judge(case, Rules(min_members=least))
    assert not spared & set(found.members)
    by_key = {r.key: r for r in records}
    assert all(by_key[m].slots > 0 for m in found.members)
    for member in found.members:
        seen = set()
        while member not in roots(found):
            assert member not in seen
            seen.add(member)
            member = by_key[member].parent  # noqa: PLW2901
    assert_reasons(found)


@settings(max_examples=80)
@given(
    st.sampled_from(sorted(STARTS)), st.sampled_from(sorted(BOMBS)), st.integers(0, 10_000), st.integers(60, 500),
    st.data(),
)  # fmt: skip
def test_members_always_descend_from_the_roots_and_are_never_innocent(start, bomb, seed, slots, data):
    h = History(seed)
    root = STARTS[start](h)
    innocent = set(h.all) - {root}
    BOMBS[bomb](h, root, slots)
    spared = data.draw(st.frozensets(st.sampled_from(sorted(h.below(root)))))
    found = judge(h.case(strikes=seed % 3)._replace(spared=spared), RULES)
    assert set(found.members) <= set().union(*map(h.holding, roots(found))) - spared
    if found.kind is Kind.BOMB:
        assert not innocent & set(found.members)


def sleepers(h: History, count: int = 200) -> tuple[ProcessKey, list[ProcessKey]]:
    """Copies that slept for longer than anybody is taken for young."""
    root = h.found(b"bomb")
    asleep = [h.fork(root) for _ in range(count)]
    h.wait(5 * SECOND // 2)
    return root, asleep


def grow(h: History, root: ProcessKey, slots: int) -> None:
    members = [root]
    while len(members) < slots:
        h.wait(40_000)
        members.append(h.fork(h.random.choice(members)))
    h.stop(members)


def test_copies_that_slept_until_all_of_them_fork_are_one_bomb_with_who_made_them():
    h = History()
    root, asleep = sleepers(h)
    grow(h, asleep[17], 120)
    h.stop([root, *asleep])
    assert_bomb(h, verdict(h), root)


@pytest.mark.parametrize("quiet", ["parent", "workers"])
def test_a_server_one_of_whose_old_workers_goes_off_is_spared(quiet):
    """Its other workers may fork just then, or it may start another: not both, and not all of them."""
    h = History()
    root, asleep = sleepers(h)
    grow(h, asleep[17], 120)
    h.stop([root] if quiet == "workers" else asleep)
    found = verdict(h)
    assert not {root, *asleep} - {asleep[17]} & set(found.members)


def test_a_script_is_not_taken_for_the_zombies_of_the_chain_that_it_started():
    h = History()
    root = STARTS["by_script"](h)
    BOMBS["chain"](h, root, 60)
    zombies = sorted((r for r in h.case().records if r.zombie), key=lambda r: r.key.start_ns)
    found = judge(h.case(strikes=1)._replace(spared=frozenset([zombies[-1].key])), RULES)
    assert found.kind is not Kind.BOMB or roots(found) == [root]


def test_a_server_with_many_workers_is_not_the_chain_that_one_of_them_once_was():
    h = History()
    root = STARTS["below_server"](h)
    server = h.all[root].parent
    BOMBS["chain"](h, root, 60)
    for key in h.below(root):
        h.exit(key, reaped=key != max(h.below(root)))
    found = verdict(h)
    assert found.kind is not Kind.BOMB or server not in found.members


def test_fifty_thousand_records():
    h = History()
    root = STARTS["beside_bystanders"](h)
    tight(h, root, 50_000)
    assert_bomb(h, verdict(h), root)


# -- by exec -----------------------------------------------------------------------------------------------------------


def starting_itself(h: History, root: ProcessKey, slots: int = LIMIT) -> None:
    """Each member starts the program again, twice, under another name."""
    todo = [root]
    while h.slots() < slots:
        parent = todo.pop(0)
        for _ in range(2):
            h.wait(MS // 10)
            child = h.run(parent, b"bomb")
            h.all[child].comm = f"name{h.slots()}".encode()
            todo.append(child)


def test_a_program_that_starts_itself_again_under_other_names_is_a_bomb():
    h = History()
    session = h.found(b"sh", age=600 * SECOND)
    root = h.run(session, b"bomb")
    starting_itself(h, root)
    assert_bomb(h, verdict(h), root)


def test_a_young_script_that_starts_a_script_that_is_a_bomb_is_spared():
    """Both are the same program, an interpreter; what the inner one does is copy itself."""
    h = History()
    outer = h.run(h.found(b"sshd", age=600 * SECOND), b"bash")
    h.wait(5 * MS)
    inner = h.run(outer, b"bash")
    shell(h, inner)
    assert_bomb(h, verdict(h), inner)


def test_memory_weighs_in_the_score():
    """Two parts of a family, alike in slots: the one that takes the memory is named first."""
    h = History()
    session = h.found(b"sh", age=600 * SECOND)
    small, large = h.run(session, b"small"), h.run(session, b"large")
    tight(h, small, 100)
    tight(h, large, 150)
    memory = dict.fromkeys(h.holding(large), 1 << 20)
    found = judge(h.case()._replace(memory=memory), RULES)
    assert roots(found)[0] == large
    memory = dict.fromkeys(h.holding(small), 640 << 20)
    found = judge(h.case()._replace(memory=memory), RULES)
    assert roots(found)[0] == small
