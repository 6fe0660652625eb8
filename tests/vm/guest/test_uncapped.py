"""Bombs with no pen and no cap of any kind, the guard as shipped, and bystanders who fork all through."""

from __future__ import annotations

import pytest
from scene import CPUS, USERS, bomb, bystanders, guard, settle

from pidwarden.drill.shapes import SHAPES
from pidwarden.model.record import Rule
from pidwarden.settings import Settings

pytestmark = [pytest.mark.root, pytest.mark.bpf]

HOLD_AT = Settings().hold_at


@pytest.fixture(scope="module")
def guarded():
    with guard() as running:
        yield running


@pytest.fixture(scope="module")
def neighbours():
    return bystanders()


def most_allowed(gate, events, before):
    """Slots a bomb may have at most, out of the budgets that it was given.

    These are its branch's, or its family's where that is what it crossed, and four times as much once it was taken
    for a burst, as threads are at first (docs/adr/0011). At a gate in the fork itself they are exact but for the
    processors; at the system call's entry, forks under way complete.
    """
    rules = {e["rule"] for e in events if e["event"] == "alarm"}
    budget = Settings().family_limit if Rule.FAMILY_SLOTS.text in rules else HOLD_AT
    if any(e["verdict"] == "burst" for e in events if e["event"] == "verdict"):
        budget *= 4
    return (2 * budget if "entry" in gate else budget) + 8 * CPUS + before


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("shape", SHAPES)
def test_an_uncapped_bomb_is_contained(shape, user, guarded, neighbours, record_property):
    gate = guarded.events("ready")[0]["capabilities"]["hold"]
    kills, said = len(guarded.events("killed")), len(guarded.events())
    for neighbour in neighbours:
        neighbour.mark()
    with bomb(shape, user) as burning:
        burning.light()
        burning.watch(lambda: len(guarded.events("killed")) > kills, "it to be killed", 120)
        burning.watch(lambda: not burning.living(), "nobody of it to live", 60)
        settle()
        assert not burning.living()
        record_property("gate", gate)
        record_property("peak slots", burning.most)
        delays = {n.name: f"{n.assert_unharmed() / 1000:.0f} ms" for n in neighbours}
        record_property("longest delays", delays)
        # A bomb may cross as a branch and as a family: then it is two incidents.
        assert [e["survivors"] for e in guarded.events("killed")[kills:] if e["survivors"]] == []
        since = guarded.events()[said:]
        record_property("alarms", [e["rule"] for e in since if e["event"] == "alarm"])
        record_property("verdicts", [e["verdict"] for e in since if e["event"] == "verdict"])
        assert burning.most <= most_allowed(gate, since, burning.before)
