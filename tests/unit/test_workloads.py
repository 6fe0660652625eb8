"""Verdicts on what real workloads record: those of bench/corpus, as histories. Guilty ones first, then honest ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from histories import LIMIT, MS, SECOND, History, chain, shell, threads, tight
from hypothesis import given, settings
from hypothesis import strategies as st
from test_judge import HONEST, RULES, STARTS, assert_bomb, make, roots, verdict

from pidwarden.judge.judge import judge
from pidwarden.model.record import Rule
from pidwarden.model.verdict import Kind

if TYPE_CHECKING:
    from pidwarden.model.key import ProcessKey


def session(h: History) -> ProcessKey:
    return h.found(b"sh", age=600 * SECOND)


def test_members_that_start_a_decoy_each():
    """``b() { sleep 1000 & b & b & }``: half of it are programs that do nothing."""
    h = History()
    root = h.run(session(h), b"bomb")
    members = [root]
    while h.slots() < LIMIT:
        h.wait(MS // 2)
        member = members.pop(0)
        h.run(member, b"sleep")
        members += [h.fork(member), h.fork(member)]
    assert_bomb(h, verdict(h), root)


def test_a_script_with_a_sleeper_and_a_bomb_whose_members_sleep_too_is_spared():
    h = History()
    script = h.found(b"job.sh")
    sleeper = h.run(script, b"sleep")
    h.wait(5 * MS)
    root = h.fork(script)
    members = [root]
    while h.slots() < LIMIT:
        h.wait(MS // 2)
        member = members.pop(0)
        h.run(member, b"sleep")
        members += [h.fork(member), h.fork(member)]
    found = verdict(h)
    assert_bomb(h, found, root)
    assert sleeper not in found.members


def test_a_program_that_starts_itself_through_a_shell():
    """Python, ``sh -c``, Python, ``sh -c`` …: no member is a copy of its creator, nor runs its program."""
    h = History()
    root = h.run(session(h), b"python3")
    members = [root]
    while h.slots() < LIMIT:
        h.wait(MS)
        between = h.run(members.pop(0), b"dash")
        members += [h.run(between, b"python3") for _ in range(2)]
    assert_bomb(h, verdict(h), root)


def test_a_script_that_starts_itself_and_runs_a_program_first():
    """Each member runs grep before it does: at any moment, many are that."""
    h = History()
    root = h.run(session(h), b"itself.sh")
    members = [root]
    while h.slots() < LIMIT * 2 // 3:
        h.wait(MS)
        member = members.pop(0)
        members += [h.run(member, b"itself.sh") for _ in range(2)]
    for member in members[: LIMIT // 3]:
        h.run(member, b"grep")
    assert_bomb(h, verdict(h), root)


def test_members_that_become_another_program_each_are_a_bomb_at_the_second_alarm():
    h = History()
    root = h.run(session(h), b"bomb")
    members = [root]
    while h.slots() < LIMIT:
        h.wait(MS)
        members.append(h.run(h.random.choice(members), b"name%d" % len(members)))
        h.all[members[-1]].exe = (1, len(members))
    h.stop(members)
    first = verdict(h)
    assert (first.kind, first.doubtful) == (Kind.BURST, True)
    for member in members[::2]:
        h.fork(member)  # on its way to exec
    assert_bomb(h, verdict(h, strikes=1), root)


def test_members_that_make_threads_as_well():
    h = History()
    root = h.run(session(h), b"bomb")
    members = [root]
    while h.slots() < LIMIT:
        h.wait(MS // 2)
        for member in list(members):
            h.threads(member, 1)
            members.append(h.fork(member))
    h.stop(members)
    assert_bomb(h, verdict(h), root)


def test_one_that_sleeps_first_and_then_forks_more_than_its_copies():
    """It had a processor to itself for a while: it has children as a server has requests, but all of them want more."""
    h = History()
    root = h.run(session(h), b"bomb")
    h.wait(3 * SECOND)
    copies = [h.fork(root) for _ in range(60)]
    for copy in copies:
        for _ in range(4):
            h.wait(MS // 10)
            h.fork(copy)
    h.stop(sorted(h.below(root)))
    assert_bomb(h, verdict(h), root)


def test_a_slow_bomb_each_of_whose_members_founds_branches():
    h = History()
    root = h.run(session(h), b"bomb")
    members = [root]
    while h.slots() < 450:
        h.wait(2 * SECOND)
        members += [h.fork(m) for m in members]
    assert_bomb(h, verdict(h), root)


def test_zombies_that_double_are_a_bomb_at_the_second_alarm_at_the_latest():
    h = History()
    root = h.run(session(h), b"bomb")
    brood = 1
    while h.slots() < 450:
        for _ in range(brood):
            h.wait(MS // 20)
            h.exit(h.fork(root))
        brood *= 2
        h.wait(SECOND // 2)
    if (first := verdict(h)).kind is not Kind.BOMB:
        assert first.doubtful
    assert_bomb(h, verdict(h, strikes=1), root)


@pytest.mark.parametrize(("state", "kind"), [("S", Kind.BOMB), ("R", Kind.UNSURE), ("", Kind.UNSURE)])
@pytest.mark.parametrize("work", ["sleep_flood", "make"])
def test_programs_without_end_that_just_wait_are_a_bomb_at_the_third_alarm(work, state, kind):
    h = History()
    root = h.run(session(h), b"xargs")
    while h.slots() < 1200:
        HONEST["sleep_flood"](h, root)
    if work == "make":
        kind = Kind.UNSURE
        make(h, root, 1200)
    case = h.case(strikes=2)
    found = judge(case._replace(records=tuple(r._replace(state=state) for r in case.records)), RULES)
    assert found.kind is kind
    assert judge(case._replace(strikes=1), RULES).kind is not Kind.BOMB


def test_threads_that_make_threads_are_a_bomb_at_once():
    h = History()
    root = h.run(session(h), b"bomb")
    threads(h, root)
    case = h.case()
    counted = tuple(r._replace(thread_forks=r.live - 2, thread_depth=8) if r.key == root else r for r in case.records)
    assert_bomb(h, judge(case._replace(records=counted), RULES), root)


def test_a_bomb_under_a_parallel_build():
    h = History()
    build = h.run(session(h), b"make")
    for _ in range(8):
        h.run(h.run(build, b"sh"), b"cc1")
    root = h.run(h.run(build, b"sh"), b"gen")
    shell(h, root)
    assert_bomb(h, verdict(h), root)


def test_a_bomb_below_an_old_server_through_a_shell_that_waits():
    h = History()
    server = h.run(session(h), b"server", age=60 * SECOND)
    worker = h.run(server, b"worker", age=30 * SECOND)
    root = h.run(h.run(server, b"dash"), b"bomb")
    tight(h, root)
    found = verdict(h)
    assert_bomb(h, found, root)
    assert not {server, worker} & set(found.members)


def test_a_chain_that_starts_itself_by_exec():
    h = History()
    root = last = h.run(session(h), b"bomb")
    for _ in range(150):
        h.wait(MS)
        after = h.run(last, b"bomb")
        h.exit(last, reaped=True)
        last = after
    assert_bomb(h, verdict(h, branch_of=last, rule=Rule.GENERATIONS), root)


def test_what_is_left_of_a_chain_whose_middle_was_taken_out():
    h = History()
    root = session(h)
    chain(h, h.run(root, b"bomb"))
    case = h.case(rule=Rule.GENERATIONS)
    below = sorted((r for r in case.records if r.comm == b"bomb"), key=lambda r: r.key.start_ns)
    kept = [below[0], *below[-9:]]
    kept[1] = kept[1]._replace(parent=kept[0].key, skipped=len(below) - 10)
    found = judge(case._replace(records=(*[r for r in case.records if r not in below], *kept)), RULES)
    assert (found.kind, roots(found)) == (Kind.BOMB, [kept[0].key])
    assert "150 deep" in found.reasons[0]


# -- honest ------------------------------------------------------------------------------------------------------------


def nested_make(h: History, root: ProcessKey) -> None:
    """make -j in a tree of directories: make, sh, make, sh, make …, and compilers at the ends."""
    makes = [root]
    full = h.slots() + LIMIT
    while h.slots() < full:
        h.wait(MS)
        here = makes.pop(0)
        makes += [h.run(h.run(here, b"dash"), b"make") for _ in range(2)]
        for _ in range(2):
            driver = h.run(h.run(here, b"dash"), b"cc")
            h.run(driver, b"cc1")


def fork_tree(h: History, root: ProcessKey) -> None:
    """A sum by halves, each half in a forked copy, eight deep; most have their two children by now and wait."""
    members = [root]
    for _ in range(8):
        h.wait(8 * MS)
        members = [h.fork(m) for m in members for _ in "ab"]


def forkers(h: History, root: ProcessKey) -> None:
    """stress-ng --fork: workers fork thirty that end at once, then wait for all; the gate stops them in between."""
    full = h.slots() + LIMIT
    workers = [h.fork(root) for _ in range(12)]
    for _ in range(6):
        h.wait(5 * MS)
        for worker in workers:
            for _ in range(30):
                h.exit(h.fork(worker), reaped=True)
    h.wait(5 * MS)
    while h.slots() < full:
        for worker in workers:
            h.exit(h.fork(worker))
    h.stop(workers)


def script_recursion(h: History, root: ProcessKey) -> None:
    """walk.sh: five wide, four deep, a program at each leaf."""
    members = [root]
    for _ in range(4):
        h.wait(50 * MS)
        members = [h.run(m, b"sh") for m in members for _ in range(5)]
    for leaf in members:
        h.run(leaf, b"sleep")


def browser(h: History, root: ProcessKey) -> None:
    """A zygote that starts its own program again, a second below it, and renderers that are copies of that."""
    h.threads(root, 30)
    h.run(root, b"crashpad")
    zygote = h.run(root, b"chrome")
    inner = h.fork(zygote)
    h.exec(inner, b"chrome")
    h.threads(h.run(root, b"chrome"), 12)
    full = h.slots() + LIMIT
    while h.slots() < full:
        h.wait(8 * MS)
        h.threads(h.fork(inner), 14)


def daemons(h: History, root: ProcessKey) -> None:
    """A test suite that double-forks daemons, each of which has a helper; none wants any more."""
    full = h.slots() + LIMIT
    while h.slots() < full:
        h.wait(MS)
        between = h.fork(root)
        daemon = h.fork(between)
        h.exit(between, reaped=True)
        h.fork(daemon)


def pools_with_helpers(h: History, root: ProcessKey) -> None:
    for _ in range(20):
        pool = h.fork(root)
        for _ in range(8):
            h.wait(MS // 10)
            h.fork(h.fork(pool))


def database(h: History, root: ProcessKey) -> None:
    """One backend a connection, and each is about to do nothing."""
    for _ in range(6):
        h.fork(root)
    for _ in range(LIMIT):
        h.wait(MS)
        h.fork(root)
    h.stop([root])


def wide_scripts(h: History, root: ProcessKey) -> None:
    """A script that starts scripts, a hundred at once, each of which runs a program."""
    full = h.slots() + LIMIT
    while h.slots() < full:
        h.wait(MS)
        h.run(h.run(root, b"sh"), b"curl")


REAL = (nested_make, browser, daemons, pools_with_helpers, database, wide_scripts, forkers)


@pytest.mark.parametrize("start", ["by_exec", "by_fork", "below_server", "below_session"])
@pytest.mark.parametrize("work", REAL)
@pytest.mark.parametrize("strikes", [0, 1])
def test_honest_work_is_no_bomb_even_in_a_second_budget(work, start, strikes):
    h = History()
    root = STARTS[start](h)
    work(h, root)
    found = verdict(h, strikes=strikes)
    if work in (daemons, pools_with_helpers) and strikes:
        return  # copies three deep that fill a second budget at once: nobody can tell (docs/adr/0011)
    assert found.kind is Kind.BURST, found.reasons


def test_a_sum_by_halves_in_forked_copies_gets_a_second_look():
    h = History()
    fork_tree(h, h.found(b"python3"))
    found = verdict(h)
    assert (found.kind, found.doubtful) == (Kind.BURST, True)
    assert judge(h.case()._replace(gated=False), RULES).kind is Kind.BOMB  # nobody knows who wants more


@pytest.mark.parametrize("strikes", [0, 1])
def test_a_script_that_calls_itself_for_every_directory_is_no_bomb(strikes):
    h = History()
    script_recursion(h, h.run(session(h), b"sh"))
    assert verdict(h, strikes=strikes).kind is Kind.BURST


@pytest.mark.parametrize("work", [nested_make, browser, database, wide_scripts, script_recursion])
def test_honest_work_gets_a_large_budget_at_once(work):
    h = History()
    root = STARTS["by_exec"](h)
    work(h, root)
    assert not verdict(h).doubtful


def test_a_full_process_table_makes_impatient():
    h = History()
    HONEST["sleep_flood"](h, h.found(b"script"))
    assert not judge(h.case()._replace(pressure=0.89), RULES).doubtful
    assert judge(h.case()._replace(pressure=0.9), RULES).doubtful
    found = judge(h.case(strikes=1)._replace(pressure=0.97), RULES)
    assert found.kind is Kind.UNSURE
    assert "97 % of the process table" in found.reasons[0]


def test_reasons_tell_who_set_it_up():
    h = History()
    build = h.run(session(h), b"make")
    root = h.run(build, b"a\x1b[2J")
    tight(h, root)
    spawner = h.case().records[0]._replace(comm=b"sshd", uid=7)
    found = judge(h.case()._replace(spawner=spawner), RULES)
    assert (
        "it began with a\\x1b[2J (1003, user 0), started by make (1002, user 0), in the family of sh (1001"
        in (found.reasons[1])
    )
    assert found.reasons[1].endswith(f"a child of sshd ({spawner.key.tgid}, user 7)")


# -- any history -------------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(
    st.sampled_from(sorted(STARTS)), st.sampled_from([*HONEST.values(), *REAL, tight, shell, chain, threads]),
    st.integers(0, 2), st.randoms(use_true_random=False),
)  # fmt: skip
def test_the_order_of_the_records_does_not_matter(start, work, strikes, random):
    h = History()
    work(h, STARTS[start](h))
    case = h.case(strikes=strikes)
    shuffled = list(case.records)
    random.shuffle(shuffled)
    assert judge(case._replace(records=tuple(shuffled)), RULES) == judge(case, RULES)


@settings(max_examples=60)
@given(
    st.sampled_from(sorted(STARTS)), st.sampled_from([tight, shell, threads]), st.integers(0, 1), st.integers(1, 400),
    st.booleans(),
)  # fmt: skip
def test_an_older_member_that_has_nothing_to_do_with_it_is_never_guilty(start, bomb, strikes, more, program):
    h = History()
    root = STARTS[start](h)
    oldest = min(h.all)
    older = [h.run(oldest, b"x") if program else h.fork(oldest) for _ in range(min(more, 50))]
    h.threads(older[0], more)
    h.wait(20 * SECOND)
    if oldest != root:
        bomb(h, root)
        assert not set(older) & set(verdict(h, strikes=strikes).members) or verdict(h).kind is not Kind.BOMB


@settings(max_examples=60)
@given(
    st.sampled_from(sorted(STARTS)),
    st.sampled_from([*HONEST.values(), *REAL, tight, shell]),
    st.integers(0, 3),
    st.data(),
)
def test_members_are_of_the_guilty_subtrees_and_never_spared(start, work, strikes, data):
    h = History()
    work(h, STARTS[start](h))
    spared = data.draw(st.frozensets(st.sampled_from(sorted(h.all)), max_size=40))
    found = judge(h.case(strikes=strikes)._replace(spared=spared), RULES)
    below = set().union(*(h.below(root) for root in roots(found)))
    assert set(found.members) <= below - spared


def test_a_build_that_has_grown_is_no_bomb_at_any_alarm():
    h = History()
    make(h, STARTS["below_session"](h), 1200)
    for strikes in range(4):
        assert verdict(h, strikes=strikes).kind is not Kind.BOMB
