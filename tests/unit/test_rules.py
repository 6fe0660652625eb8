"""The guard's rules: when a finding is told, when it has doubled, when it is over; the ladder; what is left."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from histories import record
from hypothesis import given, settings
from hypothesis import strategies as st

from pidwarden.act.spare import UNPROTECTED
from pidwarden.diagnose.cause import Cause
from pidwarden.guard.rules import Rules, room, surroundings
from pidwarden.guard.rules.episodes import MOST, Episodes, Finding
from pidwarden.guard.rules.ladder import Parent, plan
from pidwarden.guard.rules.orphans import answered_for, may_be_orphan
from pidwarden.kernel import procfs
from pidwarden.kernel.limits import Limit
from pidwarden.kernel.procfs import Stat
from pidwarden.model.key import TICK_NS, ProcessKey
from pidwarden.model.record import GroupFlag, ProcFlag
from pidwarden.model.task import Status
from pidwarden.settings import Settings, parse
from pidwarden.settings.rules import STEPS, HeadroomRule

SECOND = 1_000_000_000
FOUNDER = ProcessKey(50, 10 * SECOND)
CHLD = 1 << 16


# -- episodes ----------------------------------------------------------------------------------------------------------


def finding(size, *, beyond=True):
    return Finding(size, beyond, f"{size} of them", {"count": size})


def looks(*sizes, least=10):
    """What is told of one parent, look by look; None: it is gone."""
    episodes = Episodes()
    return [
        [t.what for t in episodes.look({} if s is None else {"p": finding(s, beyond=s >= least)}, at * SECOND)]
        for at, s in enumerate(sizes)
    ]


def test_it_is_told_once_and_not_at_every_look():
    assert looks(5, 10, 12, 19) == [[], ["begins"], [], []]


def test_it_is_told_again_each_time_that_it_has_doubled():
    assert looks(10, 19, 20, 30, 39, 40, 400) == [["begins"], [], ["doubled"], [], [], ["doubled"], ["doubled"]]


def test_a_look_without_it_is_a_pause_and_two_are_the_end():
    assert looks(10, 9, 10, 9, 9, 9) == [["begins"], [], [], [], ["over"], []]


def test_who_is_gone_is_over_at_once_and_begins_anew():
    assert looks(10, None, None, 10) == [["begins"], ["over"], [], ["begins"]]


def test_the_end_says_how_long_it_lasted_and_what_is_left():
    episodes = Episodes()
    episodes.look({"p": finding(10)}, 5 * SECOND)
    episodes.look({"p": finding(4, beyond=False)}, 7 * SECOND)
    [told] = episodes.look({"p": finding(3, beyond=False)}, 9 * SECOND)
    assert (told.what, told.finding.size, told.lasted_ns) == ("over", 3, 4 * SECOND)
    assert told.finding.facts == {"count": 3}
    episodes.look({"p": finding(10)}, 10 * SECOND)
    [told] = episodes.look({}, 11 * SECOND)
    assert (told.finding.size, told.finding.facts) == (0, {"count": 10})


def test_more_than_can_be_followed_are_counted_and_the_largest_are_followed():
    episodes = Episodes()
    told = episodes.look({n: finding(10 + n) for n in range(MOST + 7)}, 0)
    assert (len(told), episodes.unfollowed) == (MOST, 7)
    assert [t.who for t in told] == list(range(MOST + 6, 6, -1))
    assert 0 not in episodes
    assert episodes.look({n: finding(10 + n) for n in range(MOST + 7)}, 1) == []


@settings(max_examples=60)
@given(st.lists(st.dictionaries(st.integers(0, 5), st.integers(0, 100)), max_size=30))
def test_every_episode_begins_once_doubles_within_and_ends_once(history):
    episodes, state = Episodes(), {}
    for at, sizes in enumerate(history):
        for told in episodes.look({w: finding(s, beyond=s >= 10) for w, s in sizes.items()}, at):
            match told.what:
                case "begins":
                    assert told.who not in state
                    assert told.finding.size >= 10
                    state[told.who] = told.finding.size
                case "doubled":
                    assert told.finding.size >= 2 * state[told.who]
                    state[told.who] = told.finding.size
                case "over":
                    del state[told.who]
        assert state.keys() == episodes.open.keys()
        assert all(who in state for who, size in sizes.items() if size >= 10)


# -- what a guard loads ------------------------------------------------------------------------------------------------

_LOADED = """
import json, sys
import pidwarden.cli.guard
off = [m for m in sys.modules if m.startswith("pidwarden.guard.rules")]
import pidwarden.guard.rules
print(json.dumps([off, {n: m.__file__ for n, m in sys.modules.items() if n.startswith("pidwarden.")}]))
"""


def test_without_a_rule_nothing_of_them_is_loaded_and_with_one_nothing_later():
    done = subprocess.run([sys.executable, "-c", _LOADED], capture_output=True, text=True, check=True)
    off, modules = json.loads(done.stdout)
    assert off == []
    assert "pidwarden.diagnose.zombies" in modules
    late = {
        name
        for name, file in modules.items()
        if not name.startswith("pidwarden.cli.")
        for node in ast.walk(ast.parse(Path(file).read_text()))
        if isinstance(node, ast.FunctionDef) and any(isinstance(n, ast.Import | ast.ImportFrom) for n in ast.walk(node))
    }
    # The rules themselves, at the start; and what is there already when a selector is parsed.
    assert late <= {"pidwarden.guard.loop", "pidwarden.model.selector"}
    assert "pidwarden.model.container" in modules


# -- the ladder --------------------------------------------------------------------------------------------------------


def status(**changes):
    values = {
        "tgid": 7, "pid": 7, "ppid": 1, "tracer": 0, "uid": 0, "euid": 0, "nspid": (7,), "threads": 1, "pending": 0,
        "shared_pending": 0, "blocked": 0, "ignored": 0, "caught": 0, "seccomp": 0, "state": "S",
    }  # fmt: skip
    return Status(**(values | changes))


def steps(up_to, *tried, cause=Cause.UNKNOWN, terminal=False, untouched="", **changes):
    return plan(Parent(status(**changes), cause, terminal, untouched), up_to, tried)


def test_who_has_a_handler_is_reminded_and_ended_only_if_that_is_allowed():
    assert steps("sigchld", caught=CHLD).steps == ("sigchld",)
    assert steps("sigcont", caught=CHLD).steps == ("sigchld",)
    assert steps("sigterm", caught=CHLD).steps == ("sigchld", "sigterm")
    assert steps("sigkill", caught=CHLD).steps == ("sigchld", "sigterm", "sigkill")


def test_who_has_none_is_not_disturbed_for_nothing():
    found = steps("sigcont")
    assert found.steps == ()
    assert found.why_not == "sigchld: it has no handler for SIGCHLD; sigcont: it is not stopped"
    assert "ignores" in steps("sigchld", ignored=CHLD).why_not
    assert "blocks" in steps("sigchld", caught=CHLD, blocked=CHLD).why_not


def test_who_is_stopped_is_continued_first_but_not_the_job_of_a_terminal():
    assert steps("sigkill", state="T", caught=CHLD).steps == ("sigcont", "sigterm", "sigkill")
    assert steps("sigchld", state="T", caught=CHLD).steps == ()
    paused = steps("sigcont", terminal=True, state="T")
    assert paused.steps == ()
    assert "somebody may have paused" in paused.why_not


def test_what_was_tried_is_not_tried_again():
    assert steps("sigterm", "sigchld", caught=CHLD).steps == ("sigterm",)
    done = steps("sigterm", "sigchld", "sigterm", caught=CHLD)
    assert done.steps == ()
    assert done.why_not == "sigchld, sigterm did not help, and up_to allows no more (sigterm)"


@pytest.mark.parametrize("up_to", STEPS)
def test_the_spared_the_held_and_the_traced_are_never_touched(up_to):
    assert steps(up_to, untouched="spawner", caught=CHLD).steps == ()
    assert "spawner" in steps(up_to, untouched="spawner", caught=CHLD).why_not
    assert steps(up_to, tracer=99, state="t", caught=CHLD).steps == ()
    assert "99 traces it" in steps(up_to, tracer=99, caught=CHLD).why_not


def test_the_init_of_a_container_is_never_ended():
    assert steps("sigkill", nspid=(70, 1)).steps == ()
    assert "init" in steps("sigkill", nspid=(70, 1)).why_not
    assert steps("sigkill", nspid=(70, 1), caught=CHLD).steps == ("sigchld",)


@settings(max_examples=60)
@given(
    st.sampled_from(STEPS), st.sampled_from("RSTtDZ"), st.integers(0, 7), st.booleans(), st.sets(st.sampled_from(STEPS))
)
def test_no_step_is_beyond_what_is_allowed(up_to, state, masks, terminal, tried):
    changes = {name: CHLD * bool(masks & bit) for name, bit in (("caught", 1), ("ignored", 2), ("blocked", 4))}
    found = steps(up_to, *tried, terminal=terminal, state=state, **changes)
    allowed = STEPS[: STEPS.index(up_to) + 1]
    assert set(found.steps) <= set(allowed) - tried
    assert bool(found.steps) != bool(found.why_not)


@pytest.mark.parametrize("cause", [Cause.TRACED, Cause.FROZEN, Cause.NAMESPACE_DYING])
def test_against_what_no_signal_helps_none_is_sent(cause):
    assert steps("sigkill", cause=cause, caught=CHLD).steps == ()
    assert steps("sigkill", cause=cause, caught=CHLD).why_not


# -- what goes wrong ---------------------------------------------------------------------------------------------------


def test_a_mistake_in_a_rule_is_said_once_and_ends_only_the_look(monkeypatch):
    def fails(*_arguments):
        raise ValueError("no number")

    said = []
    told = parse('[rules.headroom]\nmode = "warn"', "a test")
    nothing, responder = SimpleNamespace(), SimpleNamespace(settings=told)
    watching = Rules(nothing, responder, nothing, lambda _event, text: said.append(text))
    monkeypatch.setattr(watching._room, "look", fails)
    for _ in range(3):
        watching._next_ns = 0
        watching.tick()
    assert said == ["rules: a look was given up: ValueError: no number; the rules look again in 10 s"]
    assert watching._looks == 3
    assert watching.next_ns() > 0


# -- whom they speak of ------------------------------------------------------------------------------------------------


def around(*, everything=False, pids=(), flags=0, covers=False, incidents=()):
    group = SimpleNamespace(flags=int(flags), held=bool(flags & GroupFlag.HELD))
    source = SimpleNamespace(group=lambda _number: group, record=lambda _key: None)
    scope = SimpleNamespace(everything=everything, pids=list(pids), covers=lambda _record: covers)
    look = SimpleNamespace(protection=UNPROTECTED)
    responder = SimpleNamespace(settings=Settings(), look=look, incidents=list(incidents))
    return surroundings.Surroundings(source, responder, scope)


def test_only_who_is_in_scope_is_spoken_of():
    one = record(FOUNDER)
    assert around(everything=True).covers(one)
    assert around(everything=True).covers(None)
    assert not around(pids=[7]).covers(one)
    assert around(pids=[7], flags=GroupFlag.SCOPED).covers(one)
    assert around(covers=True).covers(one)
    assert not around(covers=False).covers(one)
    assert not around(covers=True).covers(None)  # of one without a record it is not known


def test_who_is_held_or_waits_or_is_not_known_is_not_touched():
    stat = procfs.stat(os.getppid())
    other = record(ProcessKey(stat.pid, stat.start_ticks * TICK_NS), family=3, branch=0)
    waits = SimpleNamespace(family=3, guilty_family=0)
    for found, why in (
        (around().hold(None), "knows nothing"),
        (around().hold(record(ProcessKey(2**22 + 1, 5))), "just ended"),
        (around(flags=GroupFlag.HELD).hold(other), "held by this guard"),
        (around(incidents=[waits]).hold(other), "waits for a decision"),
        (around().hold(other._replace(flags=int(ProcFlag.SPAWNER))), "spawner"),
        (around().hold(other), ""),
    ):
        held, text = found
        assert text == why or (why and why in text)
        if held:
            held.close()


# -- orphans -----------------------------------------------------------------------------------------------------------


def orphan(**changes):
    return record(ProcessKey(60, 20 * SECOND), parent=FOUNDER, **({"ppid": 1} | changes))


def founder(exit_ns):
    return record(FOUNDER, live=0 if exit_ns else 1, exit_ns=exit_ns)


def test_an_orphan_is_who_outlived_a_creator_that_lived_on():
    assert may_be_orphan(orphan(), founder(30 * SECOND))
    assert not may_be_orphan(orphan(), founder(20 * SECOND + 1000))  # it ended by design: a daemon
    assert not may_be_orphan(orphan(ppid=50), founder(0))
    assert not may_be_orphan(orphan(), founder(0))
    assert may_be_orphan(orphan(), None)  # forgotten, so long dead
    assert not may_be_orphan(orphan(live=0), founder(30 * SECOND))
    assert not may_be_orphan(orphan(flags=int(ProcFlag.SPAWNER)), founder(30 * SECOND))


def stat(session):
    return Stat(60, b"x", "S", 1, 60, session, 0, -1, 1, 2000)


def test_who_leads_a_session_or_is_in_one_that_lives_or_in_a_service_is_answered_for():
    assert answered_for(stat(50), {60}, ["/user.slice/session-1.scope"]) == ""
    assert "leads" in answered_for(stat(60), set(), [])
    assert "leader of its session" in answered_for(stat(50), {50}, [])
    assert "service" in answered_for(stat(50), set(), ["/", "/system.slice/cron.service"])


# -- headroom ----------------------------------------------------------------------------------------------------------


def judged(used, before=None, *, seconds=300, limit=1000, **rule):
    trend = room.Trend()
    trend.note(0, Limit("pid_max", used if before is None else before, limit))
    found = trend.headroom([Limit("pid_max", used, limit)], seconds * SECOND)
    return room.judge(found, HeadroomRule(mode="warn", **rule))


def test_a_share_below_what_should_be_free_is_told():
    assert not judged(900, free=0.1).beyond
    assert judged(901, free=0.1).beyond
    assert "99 free (pid_max binds)" in judged(901, free=0.1).text


def test_it_is_told_again_when_half_of_what_was_free_is_gone():
    episodes = Episodes()
    told = [[t.what for t in episodes.look({"room": judged(used, free=0.1)}, 0)] for used in (910, 920, 950, 956, 978)]
    assert told == [["begins"], [], [], ["doubled"], ["doubled"]]


def test_what_is_soon_full_is_told_if_it_was_seen_for_long_enough():
    found = judged(500, 250, free=0.0, full_in=1800)  # 250 in 5 minutes, 500 are left
    assert found.beyond
    assert found.facts["full_in_s"] == 600
    assert "full in 10 minutes" in found.text
    assert not judged(500, 250, free=0.0, full_in=599).beyond
    assert not judged(500, 250, free=0.0, full_in=0).beyond
    assert not judged(500, 480, seconds=12, free=0.0, full_in=1800).beyond  # as fast, but for 12 s
    assert not judged(500, 600, free=0.0, full_in=1800).beyond  # it empties


def test_a_full_table_is_told_as_that():
    assert "FULL: fork fails" in judged(1000, 900, free=0.1).text


def test_what_another_limit_was_used_for_is_no_trend():
    trend = room.Trend()
    trend.note(0, Limit("pid_max", 100, 1000))
    tight = Limit("pids.max of /a", 900, 950)
    trend.note(300 * SECOND, tight)
    assert trend.headroom([tight], 300 * SECOND).per_hour == 0


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 1000)), max_size=400))
def test_the_trend_keeps_ten_minutes_and_no_more_than_it_may(steps):
    trend, now = room.Trend(), 0
    for seconds, used in steps:
        now += seconds * SECOND
        limit = Limit("pid_max", used, 32768)
        trend.note(now, limit)
        assert trend.headroom([limit], now).seconds <= room.TREND_SECONDS + 1e-6
        assert len(trend._seen) <= room._LOOKS + 1


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0 s"), (119, "119 s"), (120, "2 minutes"), (7200, "2 hours"), (2e5, "2 days")]
)
def test_times_in_words(seconds, text):
    assert surroundings.lasting(int(seconds * SECOND)) == text
