"""Bombs with no pen and no cap of any kind, the guard as shipped, and bystanders who fork all through."""

from __future__ import annotations

import pytest
from scene import CPUS, USERS, bomb, bystanders, guard, settle

from pidwarden.drill.shapes import SHAPES
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


def most_allowed(gate, before, released):
    """Slots a bomb may have at most: at a gate in the fork itself the limit is exact, at the system call it is not."""
    if "entry" in gate:
        return 4 * HOLD_AT  # docs/adr/0011
    return (HOLD_AT + 8 * CPUS) * (2 if released else 1) + before


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("shape", SHAPES)
def test_an_uncapped_bomb_is_contained(shape, user, guarded, neighbours, record_property):
    gate = guarded.events("ready")[0]["capabilities"]["hold"]
    kills, releases = len(guarded.events("killed")), len(guarded.events("released"))
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
        released = len(guarded.events("released")) > releases
        assert burning.most <= most_allowed(gate, burning.before, released)
