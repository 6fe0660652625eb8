"""`pidwarden zombies`: the cause that is named is the one that was made, and without it another one is.

All props stand beside each other, and one look is taken at all of them.
"""

from __future__ import annotations

import contextlib
import time

import pytest
from zombiekit import ABSENT, PROPS, causes, findings

pytestmark = pytest.mark.root
SECONDS = 60.0
_NO_FREEZER = pytest.mark.skip("no freezer of that version here")
EVERY = [*PROPS, *(pytest.param(prop, marks=_NO_FREEZER) for prop in ABSENT)]


@pytest.fixture(scope="module")
def made():
    with contextlib.ExitStack() as stack:
        yield {prop.name: stack.enter_context(prop.make(prop)) for prop in PROPS}


def settle(made, wanted):
    """Looks until everybody is told what is wanted, or there is no more time: the last answers, by prop."""
    end = time.monotonic() + SECONDS
    while True:
        found = findings([m.pid for m in made.values()])
        answers = {name: found[m.pid] for name, m in made.items()}
        if time.monotonic() > end or all(causes(answers[p.name]) == wanted(p) for p in PROPS):
            return answers


@pytest.fixture(scope="module")
def told(made):
    return settle(made, lambda prop: (prop.cause,))


@pytest.fixture(scope="module")
def told_after(made, told):
    assert told
    for prop in PROPS:
        made[prop.name].cure()
    return settle(made, lambda prop: prop.after)


@pytest.mark.parametrize("prop", EVERY, ids=lambda prop: prop.name)
def test_the_cause_is_named(prop, told):
    assert causes(told[prop.name]) == (prop.cause,)
    finding = told[prop.name][0]
    assert prop.says in " ".join(finding.evidence)
    assert finding.ladder
    assert finding.unknown or prop.cause != "unknown"


@pytest.mark.parametrize("prop", EVERY, ids=lambda prop: prop.name)
def test_without_the_cause_the_answer_is_another(prop, told_after):
    assert causes(told_after[prop.name]) == prop.after
