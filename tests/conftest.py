"""Markers, a capability each: skipped where it is missing, failed if PIDWARDEN_REQUIRE names it."""

from __future__ import annotations

import functools
import os
import signal

import pytest

from pidwarden.errors import PidwardenError

# A shell has its jobs in the background ignore the first, nohup(1) the second, and what those start in turn as well.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@functools.cache
def _missing(capability: str) -> str:
    """Why a capability is not there; empty if it is. BPF is probed by trying, and only if a test asks."""
    if capability == "root":
        return "" if os.geteuid() == 0 else "not root"
    if capability == "vm":
        return _no_lab()
    if capability == "connector":
        from pidwarden.kernel.connector import Connector  # noqa: PLC0415

        try:
            Connector().close()
        except (PidwardenError, OSError) as why:
            return f"no process connector: {why}"
        return ""
    from pidwarden.kernel.bpf import Programs  # noqa: PLC0415

    try:
        Programs.load(max_records=1024).close()
    except (PidwardenError, OSError) as why:
        return f"BPF does not load: {why}"
    return ""


def _no_lab() -> str:
    from lab import kernels, machine  # noqa: PLC0415  (beside the tests that ask)
    from lab.errors import Unavailable  # noqa: PLC0415

    try:
        machine.emulator()
        kernels.find()
    except Unavailable as why:
        return str(why)
    return ""


def pytest_runtest_setup(item: pytest.Item) -> None:
    required = os.environ.get("PIDWARDEN_REQUIRE", "").split(",")
    for capability in ("root", "bpf", "vm", "connector"):
        if item.get_closest_marker(capability) and (why := _missing(capability)):
            if capability in required:
                pytest.fail(f"PIDWARDEN_REQUIRE={capability}, but: {why}", pytrace=False)
            pytest.skip(why)
