"""What the status file says: what is held with what is to be typed, within bounds, and nothing but plain text."""

from __future__ import annotations

import pytest
from histories import SECOND, record
from hypothesis import given
from hypothesis import strategies as st

from pidwarden.guard.headroom import Headroom
from pidwarden.guard.incident import Incident, State
from pidwarden.guard.lines import harmless
from pidwarden.guard.statustext import MOST, Family, Seen, status_text
from pidwarden.kernel.limits import Limit
from pidwarden.model.key import NOBODY, ProcessKey
from pidwarden.model.moment import Clock
from pidwarden.model.record import Rule, Signal, SignalKind
from pidwarden.model.verdict import Kind, Verdict

NOW = Clock(46_512_300_000_000, 1_795_282_000_000_000_000)
ROOM = Headroom([Limit("pid_max", 312, 32768, 280), Limit("threads-max", 312, 63000)], 0.0, 900.0)


def incident(number=12, state=State.WAITING, *, part=14, reasons=("copies that copy themselves",), comm="bomb"):
    made = Incident(Signal(NOW.boot_ns, number, number, NOBODY, SignalKind.ALARM, Rule.BRANCH_SLOTS, 300, 0))
    made.state, made.guilty_family = state, part
    made.origin = {"pid": 4712, "start_ns": 1, "comm": comm}
    if reasons:
        made.verdict = Verdict(Kind.BOMB, (record(ProcessKey(4712, 1)),), (), 301, 0, reasons)
    return made


def seen(*incidents, **more):
    values = {
        "pid": 4711, "mode": "hold", "version": "0.1", "directory": "/run/pidwarden", "clock": NOW,
        "every_seconds": 5.0, "room": ROOM, "incidents": incidents,
        "slots": {14: 301}, "families": (), "past": (), "gate": "lsm",
    }  # fmt: skip
    return Seen(**(values | more))


def past(number, **more):
    found = {"family": number, "founder": "bomb", "alarm_ns": number * SECOND, "verdict": "bomb", "members": 300}
    return found | {"killed": 301, "reasons": ["copies"]} | more


def test_the_headroom_and_when_it_was_written():
    lines = status_text(seen()).splitlines()
    assert lines[0] == "pidwarden guard: pid 4711, mode hold, version 0.1"
    assert lines[1].startswith("written: 2026-11-21T")
    assert "46512.3 s since boot" in lines[1]
    assert "process table: 312 of 32768 used, 32176 free (pid_max binds); not filling" in lines
    assert "nothing is held" in lines


def test_what_the_rules_find_is_there_and_nothing_where_none_is_on():
    found = {"rule": "zombies", "mode": "act", "going_on": 3, "unfollowed": 4, "findings": ["a (7) owes 9", "b (8)"]}
    calm = {"rule": "stuck", "mode": "warn", "going_on": 0, "unfollowed": 0, "findings": []}
    rules = {"every": 10.0, "last_look": {"tasks": 900, "busy_ms": 12.5, "slices": 9}, "on": [found, calm]}
    text = status_text(seen(rules=rules))
    assert "\nrules, every 10 s; the last look at 900 tasks took 12.5 ms\n" in text
    assert "\n  zombies (act): 7 found\n    a (7) owes 9\n    b (8)\n    and 5 more\n" in text
    assert "\n  stuck (warn): nothing found\n" in text
    for off in (None, {"every": 10.0, "last_look": None, "on": []}):
        assert "rules" not in status_text(seen(rules=off))


def test_what_waits_is_there_with_what_to_type():
    text = status_text(seen(incident()))
    assert "HELD: 1, of which 1 wait for a decision\n" in text
    assert "family 12 of bomb (4712) (held: 14): waiting, 301 slots, verdict bomb\n" in text
    assert "\n  copies that copy themselves\n" in text
    assert "\n  to kill it:   echo 'kill 12' >/run/pidwarden/control\n" in text
    assert "\n  to let it go: echo 'release 12' >/run/pidwarden/control\n" in text
    assert "by itself" not in text


@pytest.mark.parametrize("state", [State.HELD, State.KILLING, State.CLEARING])
def test_what_does_not_wait_has_nothing_to_type(state):
    text = status_text(seen(incident(state=state, reasons=())))
    assert f": {state}, 301 slots, not judged yet\n" in text
    assert "kill 12" not in text


def test_what_comes_of_itself_is_said():
    made = incident()
    made.deadline_ns, made.then = NOW.boot_ns + 12 * SECOND, "release"
    assert "\n  released by itself in 12 s\n" in status_text(seen(made))


def test_a_family_that_is_gone_and_one_without_a_name():
    made = incident(part=0, comm="")
    text = status_text(seen(made, slots={}))
    assert "family 12 of ? (4712): waiting, 300 slots at the alarm" in text


def test_the_largest_families_and_the_last_incidents_the_latest_first():
    families = [Family(9, "make (77)", 40, 450, held=False), Family(14, "bomb (4712)", 301, 450, held=True)]
    ended = [past(n) for n in range(1, 9)] + [past(9, killed=None, verdict="burst")]
    lines = status_text(seen(families=families, past=ended)).splitlines()
    assert "  9  40  450  make (77)" in lines
    assert "  14  301  450  bomb (4712)  HELD" in lines
    shown = [line for line in lines if " family " in line and "members" in line]
    assert len(shown) == 5
    assert shown[0].endswith("family 9 of bomb: burst, 300 members, not killed: copies")
    assert shown[1].endswith("family 8 of bomb: bomb, 300 members, 301 killed: copies")


@given(
    st.lists(st.tuples(st.text(max_size=2000), st.lists(st.text(max_size=3000), max_size=5), st.sampled_from(State)))
)
def test_it_is_bounded_and_plain_whatever_there_is(found):
    made = [incident(n, state, reasons=tuple(why), comm=name) for n, (name, why, state) in enumerate(found, 1)]
    text = status_text(seen(*made, past=[past(n, reasons=why) for n, (_, why, _) in enumerate(found, 1)]))
    assert len(text) <= MOST + 20
    assert text.endswith("\n")
    assert harmless(text).replace(b"\n", b"").decode("ascii").isprintable()
