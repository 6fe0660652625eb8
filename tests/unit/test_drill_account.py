"""From the guard's events to a result."""

from __future__ import annotations

import json

import pytest

from pidwarden.drill.account import Account

MS = 1_000_000
BOMB = 5_000 * MS


def event(name, at_ms, family=7, **fields):
    return {"event": name, "boot_ns": BOMB + int(at_ms * MS), "family": family, **fields}


def alarm(at_ms, slots=301, **fields):
    return event("alarm", at_ms, founder={}, slots=slots, rule="branch-slots", **fields)


def verdict(at_ms, kind="bomb", **fields):
    return event("verdict", at_ms, verdict=kind, guilty={"pid": 9}, members=3, spared=4, reasons=["because"], **fields)


def killed(at_ms, **fields):
    facts = {"killed": 303, "survivors": 0, "unreaped": 302, "peak_slots": 304, "held_ms": 0.2, "dead_ms": 85.2}
    return event("killed", at_ms, **(facts | fields))


def cleared(at_ms, clear_ms=1640.8, **fields):
    return event("cleared", at_ms, clear_ms=clear_ms, **fields)


KILL = [alarm(70.9), event("held", 71.0, slots=301), verdict(81.6), event("released", 90.3, after_ms=19.4), killed(156)]
GOOD = [*KILL, cleared(1711)]


def play(events, cap=3000, **pen):
    account = Account("tight", cap, BOMB)
    for e in events:
        account.hear(e)
    return account, account.finish(**({"pen_peak": 303, "pen_left": 0, "alive": False} | pen))


def test_a_bomb_that_is_contained_and_cleared():
    account, result = play(GOOD)
    assert account.cleared
    assert (result.noticed_ms, result.held_ms, result.judged_ms) == (70.9, 0.2, 10.7)
    assert (result.dead_ms, result.dead_after_first_ms, result.cleared_ms) == (85.2, 85.2, 1640.8)
    assert (result.peak, result.pen_peak, result.killed, result.survivors) == (304, 303, 303, 0)
    assert (result.verdicts, result.guilty) == (["bomb"], {"pid": 9})
    assert result.contained
    assert result.proven_empty
    assert result.passed
    assert json.loads(json.dumps(result.as_json()))["passed"] is True


def test_events_of_other_families_and_other_words_change_nothing():
    account, result = play([event("ready", 0), event("note", 1, family=None), cleared(2, family=99), *GOOD])
    assert result == play(GOOD)[1]
    assert account.hear(cleared(3, family=99)) is None


def test_a_thread_bomb_is_let_go_once_and_timed_from_its_last_alarm():
    account, result = play(
        [
            alarm(11.4, 300),
            event("held", 11.4, slots=300),
            verdict(15.4, "burst"),
            event("released", 16, after_ms=4.6),
            alarm(28.4, 450),
            verdict(31.3),
            event("released", 32, after_ms=4.0),
            killed(46, dead_ms=17.8, killed=1, peak_slots=450),
            cleared(47, 18.9),
        ]
    )
    assert account.cleared
    assert result.verdicts == ["burst", "bomb"]
    assert (result.noticed_ms, result.dead_ms, result.cleared_ms) == (11.4, 17.8, 18.9)
    assert result.dead_after_first_ms == 34.8
    assert result.passed


def test_two_families_at_once_are_both_waited_for():
    second = [alarm(80, family=8), verdict(84, family=8), killed(100, family=8, killed=5, dead_ms=20.0)]
    account, result = play([*GOOD, *second])
    assert account.killed
    assert not account.cleared
    assert not result.proven_empty
    account.hear(cleared(1800, family=8))
    assert account.cleared
    assert account.finish(pen_peak=303, pen_left=0, alive=False).killed == 308


def test_killing_is_not_over_while_another_family_is_only_held():
    account, result = play([*GOOD, alarm(200, family=8)])
    assert not account.killed
    assert not result.contained


@pytest.mark.parametrize(
    ("events", "pen", "contained", "proven"),
    [
        ([], {}, False, False),  # nobody noticed anything
        (GOOD[:3], {}, False, False),  # judged, never killed
        (KILL, {}, True, False),  # killed, never cleared
        (KILL, {"pen_left": 3}, True, False),
        (GOOD, {"pen_left": 1}, True, False),  # the guard says cleared, the pen says no
        (GOOD, {"alive": True, "pen_left": 1}, False, False),
        (GOOD, {"pen_peak": 3000}, False, True),  # it got as far as the pen let it
        ([*GOOD[:4], killed(156, survivors=2), cleared(1711)], {}, False, True),
        ([alarm(70), verdict(80, "burst"), event("released", 81, after_ms=11.0)], {}, False, False),
    ],
)
def test_what_is_no_success(events, pen, contained, proven):
    result = play(events, **pen)[1]
    assert (result.contained, result.proven_empty, result.passed) == (contained, proven, False)


def test_a_hurt_bystander_is_no_success():
    result = play(GOOD)[1]
    result.bystanders_hurt = ["the pipeline is dead"]
    assert result.contained
    assert not result.passed
