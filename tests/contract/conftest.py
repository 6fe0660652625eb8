"""The gates that the contract is held against: every one there is, skipped where the kernel does not take it.

``PIDWARDEN_REQUIRE=lsm,fmod_ret`` forbids the skip.
"""

from __future__ import annotations

import os

import pytest
from gatekit import BY_KEY, why_not


@pytest.fixture(params=list(BY_KEY))
def gate(request: pytest.FixtureRequest) -> str:
    """The key of a gate that this machine has."""
    if os.geteuid() == 0 and (why := why_not(request.param)):
        if request.param in os.environ.get("PIDWARDEN_REQUIRE", "").split(","):
            pytest.fail(f"PIDWARDEN_REQUIRE={request.param}, but: {why}", pytrace=False)
        pytest.skip(f"no {request.param} gate here: {why}")
    return str(request.param)


@pytest.fixture
def hook(gate: str) -> str:
    """The key of a gate that sees every way into fork."""
    if BY_KEY[gate].hole:
        pytest.skip(f"the {gate} gate does not promise it: {BY_KEY[gate].hole}")
    return gate
