"""Times and endings in words."""

from __future__ import annotations

import pytest

from pidwarden.model.moment import SECOND_NS, Clock, ending, span


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (-5, "0ms"), (0, "0ms"), (999_999, "0ms"), (40_000_000, "40ms"), (SECOND_NS, "1s"), (59 * SECOND_NS, "59s"),
        (60 * SECOND_NS, "1m"), (61 * SECOND_NS, "1m1s"), (3600 * SECOND_NS, "1h"), (3601 * SECOND_NS, "1h"),
        (3661 * SECOND_NS, "1h1m"), (90_000 * SECOND_NS, "1d1h"), (86_460 * SECOND_NS, "1d"),
        (400 * 86_400 * SECOND_NS, "400d"),
    ],
)  # fmt: skip
def test_spans(ns, text):
    assert span(ns) == text


@pytest.mark.parametrize(
    ("code", "text"),
    [(0, "exit 0"), (7 << 8, "exit 7"), (255 << 8, "exit 255"), (9, "SIGKILL"), (11 | 0x80, "SIGSEGV (core dumped)"),
     (40, "signal 40"), (15, "SIGTERM")],
)  # fmt: skip
def test_endings(code, text):
    assert ending(code) == text


def test_the_clock_on_the_wall(monkeypatch):
    clock = Clock(boot_ns=100 * SECOND_NS, epoch_ns=1_000_000_100 * SECOND_NS)
    assert clock.rfc3339(SECOND_NS) == "2001-09-09T01:46:41.000Z"
    assert clock.rfc3339(0) is None
    assert clock.since(40 * SECOND_NS) == "1m"
    monkeypatch.setenv("TZ", "UTC-2")
    import time  # noqa: PLC0415

    time.tzset()
    try:
        assert clock.wall(SECOND_NS) == "2001-09-09 03:46:41"
    finally:
        monkeypatch.undo()
        time.tzset()
