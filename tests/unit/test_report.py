"""Events: each as a line for people and as an object for programs, and a reader that goes away ends nothing."""

from __future__ import annotations

import io
import json
import os
import re

import pytest
from histories import record

from pidwarden.guard.report import _TEXT, Reporter, who
from pidwarden.model.key import ProcessKey

FOUNDER = {"pid": 7, "start_ns": 9, "comm": "bash"}
EVENTS = {
    "ready": (
        {"version": "1", "capabilities": {"know": "maps", "hold": "stop", "kill": "pidfd"}, "pid": 1},
        "ready: knows families by maps, hold: stop, kill: pidfd",
    ),
    "alarm": (
        {"family": 3, "founder": FOUNDER, "slots": 300, "rule": "branch-slots"},
        "family 3 of bash (7): 300 slots, alarm by branch-slots",
    ),
    "held": ({"family": 3, "slots": 301}, "family 3: held at 301 slots"),
    "verdict": (
        {"family": 3, "verdict": "bomb", "guilty": FOUNDER, "members": 4, "spared": 2, "reasons": ["one", "two"]},
        "family 3: bomb, 4 members, 2 spared: one; two",
    ),
    "killed": (
        {
            "family": 3, "killed": 4, "survivors": 0, "unreaped": 1, "peak_slots": 310, "held_ms": 0.1, "dead_ms": 50.2,
        },
        "family 3: killed 4, survivors 0, unreaped 1, peak 310 slots; held 0.1 ms, dead 50.2 ms after the alarm",
    ),
    "cleared": ({"family": 3, "clear_ms": 900.5}, "family 3: last zombie reaped 900.5 ms after the alarm"),
    "released": ({"family": 3, "after_ms": 7.0}, "family 3: released after 7.0 ms"),
    "would": ({"family": 3, "action": "kill", "members": 4}, "family 3: would kill (4 members); observing only"),
    "waiting": (
        {"family": 3, "why": "not sure"},
        "family 3: not sure; type `pidwarden kill 3` or `pidwarden release 3`",
    ),
    "frozen": (
        {"family": 3, "frozen_by": "cgroup v2", "members": 4, "plan": ["freeze /a"]},
        "family 3: 4 processes frozen by cgroup v2",
    ),
    "thawed": ({"family": 3}, "family 3: its processes go on; forks are still held"),
    "finding": ({"rule": "zombies", "what": "begins", "text": "sh (7) owes 9"}, "zombies: sh (7) owes 9"),
    "remedy": ({"rule": "zombies", "done": True, "text": "sh (7): sigchld sent"}, "zombies: sh (7): sigchld sent"),
    "note": ({"text": "hello"}, "hello"),
    "stopped": ({}, "stopped"),
}  # fmt: skip
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[^ ]*"


def test_every_kind_of_event_is_tested():
    assert set(EVENTS) == set(_TEXT)


@pytest.mark.parametrize("event", EVENTS)
def test_as_text(event):
    out = io.StringIO()
    fields, text = EVENTS[event]
    Reporter(as_json=False, out=out)(event, **fields)
    assert re.fullmatch(f"{TIME} {re.escape(text)}\n", out.getvalue())


@pytest.mark.parametrize("event", EVENTS)
def test_as_json(event):
    out = io.StringIO()
    fields, _text = EVENTS[event]
    Reporter(as_json=True, out=out)(event, **fields)
    [line] = out.getvalue().splitlines()
    found = json.loads(line)
    assert re.fullmatch(TIME, found.pop("time"))
    assert isinstance(found.pop("boot_ns"), int)
    assert found == {"event": event, **fields}


def test_a_reader_that_went_away_is_counted_and_survived():
    read, write = os.pipe()
    os.close(read)
    out = os.fdopen(write, "w", buffering=1)
    report = Reporter(as_json=True, out=out)
    for _ in range(3):
        report("stopped")
    assert report.dropped == 3
    with pytest.raises(BrokenPipeError):
        out.close()


def test_a_closed_output_is_counted_and_survived():
    out = io.StringIO()
    report = Reporter(as_json=False, out=out)
    out.close()
    report("stopped")
    assert report.dropped == 1


def test_names_are_escaped_and_stay_one_line():
    key = ProcessKey(5, 6)
    hostile = who(record(key, comm=b"a\n\x1b[2J\xff) R"), key)
    assert hostile == {"pid": 5, "start_ns": 6, "comm": r"a\n\x1b[2J\xff) R"}
    out = io.StringIO()
    Reporter(as_json=False, out=out)("alarm", family=1, founder=hostile, slots=2, rule="x")
    assert len(out.getvalue().splitlines()) == 1


def test_of_somebody_who_is_gone_the_key_is_left():
    assert who(None, ProcessKey(5, 6)) == {"pid": 5, "start_ns": 6, "comm": ""}


def test_braces_in_a_text_are_no_format():
    out = io.StringIO()
    Reporter(as_json=False, out=out)("note", text="{family} {0}")
    assert out.getvalue().endswith(" {family} {0}\n")


def test_a_reader_that_does_not_read_holds_nobody_up():
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as silent, os.fdopen(writing, "w") as out:
        report = Reporter(as_json=True, out=out)
        for _ in range(1000):
            report("note", text="x" * 500)
        assert report.dropped > 500
        os.set_blocking(silent.fileno(), False)
        whole = silent.read().decode().splitlines()
        assert len(whole) == 1000 - report.dropped
        assert all(json.loads(line)["event"] == "note" for line in whole)
        report("note", text="again")
        assert json.loads(silent.read())["text"] == "again"


def test_who_listens_is_told_of_changes_that_last():
    report, heard = Reporter(as_json=True, out=io.StringIO()), []
    report.on_change = lambda: heard.append(1)
    for event, (fields, _text) in EVENTS.items():
        report(event, **fields)
    report.changed()
    assert len(heard) == len(EVENTS) - len({"note", "stopped", "alarm", "verdict"}) + 1
