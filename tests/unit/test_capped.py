"""Whose forks fail without end, at a cap that is not ours, gets no more room; whoever is just large keeps it."""

from __future__ import annotations

import pytest

from pidwarden.guard.capped import Capped
from pidwarden.judge.case import SECOND
from pidwarden.model.key import NOBODY
from pidwarden.model.record import Group, GroupFlag, GroupKind
from pidwarden.settings import Settings

SETTINGS = Settings(hold_at=300)
BEGAN = 100 * SECOND


class Groups:
    """A source with one group."""

    def __init__(self, slots=400, kind=GroupKind.BRANCH, flags=0):
        self.group = Group(
            id=7, family=7, founder=NOBODY, spawner=NOBODY, born_ns=0, alarm_ns=0, held_ns=0, forks=1000, asks=2000,
            settle_at=0, slots=slots, inflight=0, peak=slots, limit=700, depth_limit=50, kind=int(kind),
            flags=int(flags), rule=0, stops=0,
        )  # fmt: skip
        self.limits = []

    def groups(self):
        return {7: self.group}

    def set_limit(self, group, limit):
        self.limits.append((group, limit))

    def fork(self, count):
        self.group = self.group._replace(forks=self.group.forks + count, asks=self.group.asks + 2 * count)

    def fail(self, count):
        self.group = self.group._replace(asks=self.group.asks + count)


def look(capped, at, settings=SETTINGS):
    return capped.tick(settings, BEGAN + int(at * SECOND))


def test_who_fails_without_end_has_what_it_has():
    source = Groups()
    capped = Capped(source, BEGAN)
    assert not look(capped, 0)
    source.fail(150)
    assert look(capped, 0.5)
    assert source.limits == [(7, 400)]
    source.fail(150)
    assert look(capped, 1)
    assert len(source.limits) == 2


@pytest.mark.parametrize("source", [Groups(299), Groups(400, GroupKind.FAMILY), Groups(flags=GroupFlag.HELD)])
def test_who_is_small_or_held_is_left_alone(source):
    settings = Settings(hold_at=300, family_hold_at=500)
    capped = Capped(source, BEGAN)
    look(capped, 0, settings)
    source.fail(10_000)
    assert not look(capped, 5, settings)
    assert not source.limits


def test_forks_that_are_done_do_not_count_and_a_few_may_fail():
    source = Groups()
    capped = Capped(source, BEGAN)
    look(capped, 0)
    source.fork(10_000)
    source.fail(99)
    assert not look(capped, 0.5)
    source.fail(99)
    assert not look(capped, 1)


def test_it_looks_often_at_first_and_while_somebody_fails_and_then_rarely():
    source = Groups()
    capped = Capped(source, BEGAN)
    for at in range(21):
        look(capped, at / 2)
    assert capped.next_ns == BEGAN + 15 * SECOND
    source.fail(1 << 20)
    assert not look(capped, 14)
    assert look(capped, 15)
    assert capped.next_ns == BEGAN + 15 * SECOND + SECOND // 2


def test_observing_tells_once():
    source = Groups()
    capped = Capped(source, BEGAN)
    settings = Settings(hold_at=300, mode="observe")
    for at in range(6):
        look(capped, at / 2, settings)
        source.fail(1000)
    assert source.limits == [(7, 400)]
