"""`pidwarden zombies`: the cause that is named is the one that was made, and without it another one is."""

from __future__ import annotations

import pytest
from kit import until
from zombiekit import PROPS, findings, named

pytestmark = pytest.mark.root


@pytest.mark.parametrize("prop", PROPS, ids=lambda prop: prop.name)
def test_the_cause_is_named_and_its_cure_changes_the_answer(prop):
    with prop.make(prop) as made:
        until(lambda: prop.cause in named(made.pid), f"{prop.cause} to be named")
        found = findings(made.pid)
        assert [str(f.cause) for f in found] == [prop.cause]
        assert prop.says in " ".join(found[0].evidence)
        assert found[0].zombies
        made.cure()
        until(lambda: tuple(c for c in named(made.pid) if c != "transient") == prop.after, f"{prop.after} after the cure")
