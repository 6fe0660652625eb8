"""Process keys and the values around them."""

from __future__ import annotations

import pytest
from histories import record

from pidwarden.model.key import NOBODY, ProcessKey
from pidwarden.model.record import Rule


@pytest.mark.parametrize(("ns", "ticks"), [(0, 0), (9_999_999, 0), (10_000_000, 1), (12_345_678_901, 1234)])
def test_start_time_is_shown_in_ticks_as_proc_does(ns, ticks):
    assert ProcessKey(1, ns).start_ticks == ticks


def test_a_key_without_start_time_or_tgid_is_not_known():
    assert ProcessKey(5, 1).known
    assert not ProcessKey(5, 0).known
    assert not ProcessKey(0, 5).known
    assert not NOBODY.known


def test_same_pid_at_another_time_is_somebody_else():
    assert ProcessKey(5, 1) != ProcessKey(5, 2)
    assert str(ProcessKey(5, 2)) == "5@2"


def test_alive_zombie_and_gone_exclude_each_other():
    key = ProcessKey(5, 1)
    alive, zombie, gone = record(key), record(key, live=0), record(key, live=0, slots=0)
    assert [(r.alive, r.zombie) for r in (alive, zombie, gone)] == [(True, False), (False, True), (False, False)]


def test_rule_is_written_with_hyphens():
    assert [r.text for r in Rule] == ["branch-slots", "family-slots", "generations"]
