"""Which gates this machine has."""

from __future__ import annotations

import functools

from pidwarden.kernel.gates import GATES, missing

BY_KEY = {gate.key: gate for gate in GATES}


@functools.cache
def why_not(key: str) -> str:
    """Why a gate is not there; empty if it is."""
    lacking = missing(BY_KEY[key])
    return lacking.why if lacking else ""
