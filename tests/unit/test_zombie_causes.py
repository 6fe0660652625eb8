"""Which cause is named for which evidence, with values; and what holds for any evidence."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zombieparts import PARENT, PAUSE, case, parent, sleep, thread, zombie

from pidwarden.diagnose import remedies
from pidwarden.diagnose.account import GUARD, LOOKS, Account
from pidwarden.diagnose.cause import Cause
from pidwarden.diagnose.ladders import unit_of
from pidwarden.diagnose.remedies import Step
from pidwarden.diagnose.zombies import diagnose
from pidwarden.model.zombie import Freeze, History, Holder, kinds

ANY = 0xFFFFFFFF  # -1, as the file has it
WEXITED, WNOTHREAD, WALL, WCLONE = 4, 0x20000000, 0x40000000, 0x80000000
EPOLL = sleep("epoll_wait", 4, wchan="ep_poll")
FUTEX = sleep("futex", wchan="futex_do_wait")
PIPE = sleep("read", 3, wchan="pipe_read", target="pipe:[9]", holders=[Holder(7, b"tail")], searched=True)
HIDDEN = sleep(hidden="it takes root")


def only(found):
    (finding,) = diagnose(found)
    return finding


def cause(of, zombies=None, **fields):
    return only(case(of, zombies, **fields)).cause


V2 = Freeze(2, "/sys/fs/cgroup/a/b", "/sys/fs/cgroup/a")
PART = V2._replace(whole=False)

TABLE = [
    ("asleep", parent(), Cause.NEVER_WAITS),
    ("polls", parent(thread(asleep=EPOLL)), Cause.NEVER_WAITS),
    ("accepts", parent(thread(asleep=sleep("accept", 3, target="socket:[4]"))), Cause.NEVER_WAITS),
    ("reads a signalfd", parent(thread(asleep=sleep("read", 3, target="anon_inode:[signalfd]"))), Cause.NEVER_WAITS),
    ("stopped", parent(thread(state="T")), Cause.STOPPED),
    ("traced", parent(thread(state="t", tracer=9)), Cause.STOPPED),
    ("frozen", parent(freeze=V2), Cause.FROZEN),
    ("frozen out of sight", parent(thread(asleep=sleep(wchan="__refrigerator"), state="D")), Cause.FROZEN),
    ("frozen, not all", parent(thread(asleep=sleep(wchan="get_signal")), freeze=PART), Cause.FROZEN),
    ("keeps others from it", parent(thread(asleep=sleep(wchan="fuse"), state="D"), freeze=PART), Cause.BLOCKED),
    ("frozen and stopped", parent(thread(state="T"), freeze=V2), Cause.FROZEN),
    ("frozen in a wait", parent(thread(asleep=sleep("wait4", ANY, wchan="do_freezer_trap")), freeze=V2), Cause.FROZEN),
    ("wait4", parent(thread(asleep=sleep("wait4", 7))), Cause.WAITS_FOR_ANOTHER),
    ("wait4 in another thread", parent(thread(), thread(101, sleep("wait4", 7))), Cause.WAITS_FOR_ANOTHER),
    ("wait4 of a group", parent(thread(asleep=sleep("wait4", 0xFFFFFFF8))), Cause.WAITS_FOR_ANOTHER),
    ("wait4 of its own group", parent(thread(asleep=sleep("wait4", 0))), Cause.UNKNOWN),
    ("wait4 of the zombie", parent(thread(asleep=sleep("wait4", 200))), Cause.UNKNOWN),
    ("wait4 of anybody", parent(thread(asleep=sleep("wait4", ANY))), Cause.UNKNOWN),
    ("of its own thread's", parent(thread(asleep=sleep("wait4", ANY, 0, WNOTHREAD))), Cause.WAITS_FOR_ANOTHER),
    ("of clones", parent(thread(asleep=sleep("wait4", ANY, 0, WCLONE))), Cause.WAITS_FOR_ANOTHER),
    ("waitid", parent(thread(asleep=sleep("waitid", 1, 7, 0, WEXITED))), Cause.WAITS_FOR_ANOTHER),
    ("waitid of stops", parent(thread(asleep=sleep("waitid", 0, 0, 0, 2))), Cause.WAITS_FOR_ANOTHER),
    ("do_wait, not told more", parent(thread(asleep=sleep(wchan="do_wait"))), Cause.WAITS_FOR_ANOTHER),
    ("wait beats the mask", parent(thread(asleep=sleep("wait4", 7), blocked=1, pending=1)), Cause.WAITS_FOR_ANOTHER),
    ("pipe", parent(thread(asleep=PIPE)), Cause.BLOCKED),
    ("lock", parent(thread(asleep=sleep("flock", 3, target="/run/lock"))), Cause.BLOCKED),
    ("futex, alone", parent(thread(asleep=FUTEX)), Cause.BLOCKED),
    ("futex, the other in a read", parent(thread(asleep=FUTEX), thread(101, PIPE)), Cause.BLOCKED),
    ("futex, the other in a loop", parent(thread(asleep=FUTEX), thread(101, EPOLL)), Cause.NEVER_WAITS),
    ("a loop, the other in a read", parent(thread(asleep=EPOLL), thread(101, PIPE)), Cause.NEVER_WAITS),
    ("D", parent(thread(asleep=sleep(wchan="rpc_wait"), state="D")), Cause.BLOCKED),
    ("D beats the mask", parent(thread(asleep=sleep(), state="D", blocked=1, pending=1)), Cause.BLOCKED),
    ("mask", parent(thread(blocked=1, pending=1)), Cause.SIGCHLD_BLOCKED),
    ("mask, handler", parent(thread(blocked=1, pending=1, caught=1)), Cause.SIGCHLD_BLOCKED),
    ("mask of one thread", parent(thread(blocked=1, pending=1), thread(101)), Cause.NEVER_WAITS),
    ("mask, none pending", parent(thread(blocked=1)), Cause.NEVER_WAITS),
    ("mask, signalfd, in a read", parent(thread(asleep=PIPE, blocked=1, pending=1), signalfd=True), Cause.BLOCKED),
    ("mask, signalfd, idle", parent(thread(blocked=1, pending=1), signalfd=True), Cause.SIGCHLD_BLOCKED),
    ("signalfd was read", parent(thread(asleep=EPOLL, blocked=1), signalfd=True, waited=True), Cause.ONE_PER_SIGNAL),
    ("ignored", parent(thread(ignored=1)), Cause.IGNORED_LATE),
    ("handler that waits", parent(thread(caught=1), waited=True), Cause.ONE_PER_SIGNAL),
    ("handler that never did", parent(thread(caught=1)), Cause.NEVER_WAITS),
    ("handler, held up", parent(thread(asleep=PIPE, caught=1)), Cause.BLOCKED),
    ("init of a container", parent(thread(nspid=(PARENT, 1))), Cause.CONTAINER_INIT),
    ("init of a container, runs", parent(thread(nspid=(PARENT, 1), state="R")), Cause.CONTAINER_INIT),
    ("init that waits for one", parent(thread(asleep=sleep("wait4", 7), nspid=(PARENT, 1))), Cause.WAITS_FOR_ANOTHER),
    ("in a container", parent(thread(nspid=(PARENT, 12))), Cause.NEVER_WAITS),
    ("init that ends", parent(thread(nspid=(PARENT, 1)), exiting=True), Cause.NAMESPACE_DYING),
    ("who ends and is no init", parent(exiting=True), Cause.NEVER_WAITS),
    ("zap", parent(thread(asleep=sleep(wchan="zap_pid_ns_processes"))), Cause.NAMESPACE_DYING),
    ("runs", parent(thread(state="R", asleep=sleep())), Cause.UNKNOWN),
    ("hidden", parent(thread(asleep=HIDDEN)), Cause.UNKNOWN),
    ("hidden, handler that waits", parent(thread(asleep=HIDDEN, caught=1), waited=True), Cause.ONE_PER_SIGNAL),
    ("hidden, may be in system()", parent(thread(asleep=HIDDEN, blocked=1, pending=1)), Cause.UNKNOWN),
    ("hidden, stopped", parent(thread(asleep=HIDDEN, state="T")), Cause.STOPPED),
    ("leader dead, a thread lives", parent(thread(101))._replace(status=thread(state="Z").status), Cause.NEVER_WAITS),
]  # fmt: skip


@pytest.mark.parametrize(("of", "named"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_the_cause_of_some_evidence(of, named):
    found = only(case(of, [zombie(), zombie(201)]))
    assert found.cause is named
    assert found.unknown or named is not Cause.UNKNOWN


def test_gone_zombies_were_transient_and_the_rest_is_the_parents():
    found = diagnose(case(gone=[zombie(5)]))
    assert [(f.cause, [z.pid for z in f.zombies]) for f in found] == [
        (Cause.TRANSIENT, [5]),
        (Cause.NEVER_WAITS, [200]),
    ]
    assert found[0].evidence == ("reaped within 0.2 s",)


def test_dead_leaders_and_traced_zombies_stand_apart():
    zombies = [zombie(200, threads=3), zombie(201), zombie(202)]
    of = parent(thread(asleep=sleep("wait4", ANY)), names={9: b"strace"})
    found = diagnose(case(of, zombies, tracers={201: 9}, living={200: [(210, "S"), (211, "D")]}))
    assert [f.cause for f in found] == [Cause.DEAD_LEADER, Cause.TRACED, Cause.UNKNOWN]
    assert "2 threads live: 210 (S), 211 (D)" in found[0].evidence[0]
    assert "pidwarden stuck" in found[0].evidence[1]
    assert found[1].evidence[0].startswith("TracerPid strace (9)")
    assert [r.step for r in found[1].ladder] == [Step.DETACH, Step.KILL_TRACER]


def test_who_is_traced_by_its_own_parent_is_owed_by_him():
    assert cause(parent(), tracers={200: PARENT}) is Cause.NEVER_WAITS


def test_a_child_that_sends_another_signal_is_passed_over_without_wall():
    clones = [zombie(exit_signal=10)]
    waiting = parent(thread(asleep=sleep("wait4", ANY)))
    found = only(case(waiting, clones))
    assert found.cause is Cause.WAITS_FOR_ANOTHER
    assert "without __WALL" in found.evidence[0]
    assert cause(parent(thread(asleep=sleep("wait4", ANY, 0, WALL))), clones) is Cause.UNKNOWN


def test_what_was_forked_before_exec_is_known_from_the_history():
    later = History(exec_ns=50, born_ns={200: 40}, own=frozenset({200}))
    assert cause(parent(), history=later) is Cause.EXECED
    assert cause(parent(), history=later._replace(exec_ns=30)) is Cause.NEVER_WAITS
    assert cause(parent(), history=later._replace(own=frozenset())) is Cause.NEVER_WAITS
    assert cause(parent(), [zombie(), zombie(201)], history=later) is Cause.NEVER_WAITS
    assert cause(parent(thread(state="T")), history=later) is Cause.STOPPED


def test_who_was_adopted_is_said():
    found = only(case(zombies=[zombie(), zombie(201)], history=History(adopted=frozenset({201, 999}))))
    assert "1 of 2 were adopted: others made them, and ended" in found.evidence


def test_a_handler_and_one_zombie_may_be_held_up_instead():
    held = parent(thread(asleep=PIPE, caught=1), waited=True)
    assert cause(held, [zombie()]) is Cause.BLOCKED
    assert cause(held, [zombie(), zombie(201)]) is Cause.ONE_PER_SIGNAL


def test_process_one_of_the_machine_is_given_time():
    init = parent(waited=True)._replace(key=parent().key._replace(tgid=1), pidns=0xEFFFFFFC)
    assert cause(init) is Cause.UNKNOWN
    assert cause(init, watched_ns=10**10) is Cause.NEVER_WAITS
    assert cause(init._replace(pidns=5)) is Cause.CONTAINER_INIT
    assert not {Step.KILL, Step.TERM, Step.INJECT} & {r.step for r in only(case(init)).ladder}


def test_a_parent_that_is_gone_or_out_of_sight():
    (found,) = diagnose(case()._replace(parent=None, why="outside"))
    assert (found.cause, found.unknown) == (Cause.UNKNOWN, ("outside",))


def steps(of, zombies=None):
    return [r.step for r in only(case(of, zombies)).ladder]


def test_the_ladder_begins_with_the_harmless():
    assert steps(parent(thread(state="T"), freeze=V2))[:2] == [Step.THAW, Step.CONTINUE]
    assert only(case(parent(freeze=V2))).ladder[0].target == "/sys/fs/cgroup/a"
    assert steps(parent(thread(state="t", tracer=9)))[:2] == [Step.DETACH, Step.KILL_TRACER]
    assert Step.INJECT not in steps(parent(thread(state="t", tracer=9)))
    handler = parent(thread(caught=1), waited=True)
    assert steps(handler, [zombie(), zombie(201)]) == [Step.NOTIFY, Step.INJECT, Step.TERM, Step.KILL]
    assert Step.NOTIFY not in steps(parent())
    assert steps(parent(thread(asleep=sleep("wait4", 7))))[0] is Step.AWAITED
    assert steps(parent(thread(asleep=PIPE)))[0] is Step.UNBLOCK
    unit = parent(cgroup="/system.slice/web.service")
    assert steps(unit) == [Step.INJECT, Step.RESTART, Step.TERM, Step.KILL]


@pytest.mark.parametrize(
    ("path", "unit"),
    [
        ("/system.slice/web.service", ("web.service", False)),
        ("/system.slice/web.service/worker", ("web.service", False)),
        ("/user.slice/user-1.slice/user@1.service/app.slice/a.service", ("a.service", True)),
        ("/user.slice/user-1.slice/user@1.service/init.scope", ("", True)),
        ("/", ("", False)),
    ],
)
def test_the_unit_of_a_cgroup(path, unit):
    assert unit_of(path) == unit


# -- for any evidence --------------------------------------------------------------------------------------------------

calls = st.sampled_from(
    [PAUSE, EPOLL, FUTEX, PIPE, HIDDEN, sleep(), sleep("wait4", 7), sleep("wait4", ANY), sleep("waitid", 3, 5, 0, 4)]
)
threads = st.builds(
    lambda tid, call, state, b, nspid: thread(
        tid, call, state=state, blocked=b & 1, pending=b >> 1 & 1, ignored=b >> 2 & 1, caught=b >> 3, nspid=nspid
    ),
    st.integers(100, 110), calls, st.sampled_from("SDRTt"), st.integers(0, 15),
    st.sampled_from([(100,), (100, 1), (100, 8)]),
)  # fmt: skip
parents = st.builds(
    lambda ts, waited, fd, exiting, freeze: parent(*ts, waited=waited, signalfd=fd, exiting=exiting, freeze=freeze),
    st.lists(threads, min_size=1, max_size=4), st.booleans(), st.sampled_from([None, False, True]), st.booleans(),
    st.sampled_from([None, V2]),
)  # fmt: skip
crowds = st.lists(
    st.builds(
        zombie, st.integers(200, 260), threads=st.integers(1, 3), comm=st.binary(max_size=15),
        exit_signal=st.sampled_from([17, 10]),
    ),
    min_size=1, max_size=6, unique_by=lambda z: z.pid,
)  # fmt: skip


@given(parents, crowds, st.sets(st.integers(200, 260), max_size=9), st.booleans())
def test_every_zombie_gets_one_cause_and_the_text_stays_in_its_lines(of, crowd, traced, codes):
    it = case(of, crowd, tracers=dict.fromkeys(traced, 9), living={z.pid: [] for z in crowd if z.threads > 1})
    found = diagnose(it)
    assert sorted(z.pid for f in found for z in f.zombies) == sorted(z.pid for z in crowd)
    for finding in found:
        assert finding.evidence or finding.unknown
        assert finding.ladder
        if finding.cause is Cause.UNKNOWN:
            assert finding.unknown
    account = Account(it, found, 1, 0.2, 10**9, LOOKS, "root", codes)
    assert all(line.isprintable() for line in account.lines(8000))
    assert account.object(8000)["bytes"] <= 8000 * len(crowd)
    assert sum(n for _name, _code, n in kinds(crowd)) == len(crowd)


def test_the_age_says_where_it_is_from():
    it = case()
    by_looks, by_guard = (Account(it, diagnose(it), 3, 0.2, 10**9, by, "www", True) for by in (LOOKS, GUARD))
    assert "oldest at least 1s (by two looks), 3 more in 0.2 s" in by_looks.lines(None)[1]
    assert "oldest 1s (by exit events)" in by_guard.lines(None)[1]
    assert by_looks.object(None)["bytes"] is None
    assert by_looks.object(None)["per_second"] == 15


def test_who_is_in_the_freezer_while_others_cannot_be_is_frozen_and_thawed():
    found = only(case(parent(thread(asleep=sleep(wchan="get_signal")), freeze=PART)))
    assert "not all in there are frozen yet" in found.evidence[0]
    assert found.ladder[0] == remedies.thaw(V2.asked)


def test_what_is_hidden_is_not_said_to_be_seen():
    words = " ".join(only(case(parent(thread(asleep=HIDDEN)))).evidence)
    assert "nothing is set for SIGCHLD" in words
    assert "no thread of it waits" not in words


def test_a_parent_that_no_thread_can_be_borrowed_of_is_not_injected():
    steps = [{rung.step for rung in only(case(parent(thread(state=state)))).ladder} for state in "SD"]
    assert [Step.INJECT in them for them in steps] == [True, False]
