"""What the corpus counts as missed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "bench" / "corpus"))

from account import Run
from guilty import GUILTY
from innocent import INNOCENT
from table import misses, row

MS = 1_000_000
START = 1000 * MS


def run(label, *events):
    made = Run("some", label, started_ns=START, ended_ns=START + 60_000 * MS)
    for at_ms, name, fields in events:
        made.hear({"event": name, "boot_ns": START + at_ms * MS, "family": 7} | fields)
    return made


def held(at_ms):
    return [(at_ms, "alarm", {"rule": "branch-slots", "slots": 300}), (at_ms, "held", {"slots": 300})]


def verdict(at_ms, kind):
    return (at_ms, "verdict", {"verdict": kind, "reasons": [f"it is a {kind}"]})


def released(at_ms, after_ms):
    return (at_ms, "released", {"after_ms": after_ms})


def killed(at_ms, count, dead_ms):
    return (at_ms, "killed", {"killed": count, "survivors": 0, "dead_ms": dead_ms})


BURST = [*held(100), verdict(110, "burst"), released(120, 21)]
BOMB = [*held(100), verdict(110, "bomb"), released(120, 21), killed(150, 300, 51), (200, "cleared", {})]


def test_nothing_heard_is_right_for_the_innocent_and_wrong_for_the_guilty():
    assert run("innocent").missed() == []
    assert run("guilty").missed() == ["no verdict bomb"]


def test_a_burst_is_right_for_the_innocent_and_wrong_for_the_guilty():
    innocent = run("innocent", *BURST)
    assert innocent.missed() == []
    assert innocent.held_ms == 21
    assert innocent.judged_ms() == (11, 110)
    assert run("guilty", *BURST).missed() == ["no verdict bomb"]


def test_a_bomb_is_right_for_the_guilty_and_wrong_for_the_innocent():
    guilty = run("guilty", *BOMB)
    assert guilty.missed() == []
    assert guilty.settled
    assert guilty.killed == 300
    assert "300 killed" in run("innocent", *BOMB).missed()


def test_a_bomb_that_lives_is_missed_whatever_was_killed():
    guilty = run("guilty", *BOMB)
    guilty.bomb_left = 3
    assert guilty.missed() == ["3 members of the bomb live (verdicts: bomb)"]


@pytest.mark.parametrize(("second_ms", "missed"), [(9_000, ["held again after 8.9 s"]), (10_200, [])])
def test_an_innocent_is_held_at_most_once_in_ten_seconds(second_ms, missed):
    again = [*held(second_ms), verdict(second_ms + 10, "burst"), released(second_ms + 20, 21)]
    assert run("innocent", *BURST, *again).missed() == missed


def test_an_innocent_is_held_for_a_quarter_of_a_second_at_most():
    slow = [*held(100), verdict(110, "burst"), released(400, 300)]
    assert run("innocent", *slow).missed() == ["held 300 ms in total, more than 250"]


def test_an_innocent_that_waits_for_a_person_is_missed():
    waiting = [*held(100), verdict(110, "unsure"), (111, "waiting", {"why": "the judge is not sure"})]
    made = run("innocent", *waiting)
    assert made.waiting
    assert made.missed() == ["held for a person"]


def test_who_was_hurt_or_could_not_run_is_named():
    hurt, absent = run("guilty", *BOMB), run("innocent")
    hurt.hurt, absent.not_run = ["the pipeline is dead (signal 9)"], "ninja missing"
    assert hurt.missed() == ["the pipeline is dead (signal 9)"]
    assert absent.missed() == ["not run: ninja missing"]


def test_a_row_says_what_each_of_several_runs_missed():
    runs = [run("innocent", *BURST), run("innocent", *BOMB)]
    assert misses(runs) == ["300 killed (1 of 2)"]
    assert row(runs).split(" | ")[:3] == ["| some", "innocent", "burst; bomb"]
    assert row(runs[:1]).split(" | ")[3:5] == ["11", "110"]


def test_every_workload_has_a_name_of_its_own_and_the_label_of_its_list():
    names = [w.name for w in (*INNOCENT, *GUILTY)]
    assert len(set(names)) == len(names)
    assert {w.label for w in INNOCENT} == {"innocent"}
    assert {w.label for w in GUILTY} == {"guilty"}
