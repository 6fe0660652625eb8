"""What `pidwarden status` makes of values: headroom and its trend, what is held, losses."""

from __future__ import annotations

import pytest

from pidwarden.cli import where
from pidwarden.cli.status import guard_lines, held_lines, history_lines, losses
from pidwarden.cli.table import table
from pidwarden.guard.headroom import Headroom, duration, headroom_lines, trend
from pidwarden.kernel.limits import Limit

HOUR_NS = 3_600_000_000_000
DAY = 86_400.0


def room(used, limit, per_hour, seconds=DAY):
    return Headroom([Limit("pid_max", used, limit), Limit("threads-max", used, 100_000)], per_hour, seconds)


def family(number, slots=3, *, held=False, comm="sh"):
    founder = {"pid": 100 + number, "start_ns": 1, "comm": comm}
    return {"family": number, "founder": founder, "slots": slots, "peak": slots, "limit": 450, "held": held}


def incident(number, state, guilty=0, **more):
    head = {"family": number, "guilty_family": guilty, "state": state, "alarm_ns": HOUR_NS, "rule": 1}
    return head | {"verdict": "bomb", "members": 9, "reasons": ["copies that copy themselves"]} | more


HISTORY = {"records": 80, "max_records": 65536, "ceiling_bytes": 62_500_000, "window_seconds": 30.0}
HISTORY |= {"kept_because": "", "aged": 9, "contracted": 0, "folded": 0, "without_record": 0}


def answer(families=(), incidents=(), past=(), **lost):
    counters = {"forks": 5, "lost_tasks": 0, "lost_procs": 0, "lost_groups": 0, "lost_events": 0} | lost
    head = {"pid": 7, "version": "1", "mode": "hold", "capabilities": {"know": "bpf"}, "counters": counters}
    head["history"] = HISTORY
    return head | {"families": list(families), "incidents": list(incidents), "past": list(past)}


def test_the_history_says_what_it_keeps_and_what_did_not_fit():
    [line] = history_lines({"history": HISTORY})
    assert line == "history: 80 of 65536 records (62 MB, allocated at the start); the dead stay for 30 s"
    short = HISTORY | {"kept_because": "2 held", "contracted": 4, "folded": 700, "without_record": 3}
    text = "\n".join(history_lines({"history": short}))
    assert all(
        t in text for t in ("longer now: 2 held", "4 dead ancestors", "700 processes, 3 of them alive", "max_records")
    )


@pytest.mark.parametrize(
    ("hours", "text"),
    [(100.0, "4 days"), (30.0, "30 hours"), (3.2, "3 hours"), (0.75, "45 minutes"), (90 / 3600, "90 seconds")],
)
def test_durations(hours, text):
    assert duration(hours) == text


@pytest.mark.parametrize("rate", [0, -50.0])
def test_a_table_that_does_not_grow_is_not_filling(rate):
    assert trend(room(1000, 32768, rate)) == "not filling"


def test_the_time_to_full_is_what_is_free_by_the_rate():
    assert room(2768, 32768, 1000.0).hours == 30.0
    assert trend(room(2768, 32768, 1000.0)).startswith("full in 30 hours at this rate (+24000 tasks in 24 hours)")


def test_a_few_tasks_in_a_second_are_no_trend():
    assert trend(room(1000, 32768, 3 * 3600, seconds=1)) == "no trend to be seen yet (+3 tasks in 1 second)"


def test_but_a_table_that_is_full_in_a_minute_is_said_at_once():
    assert trend(room(1000, 32768, 1000 * 3600, seconds=1)).startswith("full in 32 seconds at this rate")


def test_a_full_table():
    assert headroom_lines(room(32768, 32768, 0))[0].endswith(
        "32768 of 32768 used, 0 free (pid_max binds); FULL: fork fails"
    )


def test_the_limit_that_binds_comes_first_and_the_others_below():
    assert headroom_lines(room(5, 32768, 0)) == [
        "process table: 5 of 32768 used, 32763 free (pid_max binds); not filling",
        "  threads-max: 5 of 100000 used",
    ]


def test_without_limits():
    assert headroom_lines(Headroom([], 0, 1)) == ["process table: /proc does not show its limits"]


def test_what_waits_is_shown_with_both_commands_and_the_part_that_is_held():
    found = answer([family(12), family(14, slots=305, held=True, comm="bomb")], [incident(12, "waiting", guilty=14)])
    assert held_lines(found, " --run-dir /run/x") == [
        "HELD    family 12 of bomb (114) (its guilty part: 14): 305 slots, verdict bomb",
        "        copies that copy themselves",
        "        let it go:  pidwarden release 12 --run-dir /run/x",
        "        kill it:    pidwarden kill 12 --run-dir /run/x",
    ]


@pytest.mark.parametrize("state", ["held", "killing", "clearing"])
def test_nothing_is_to_be_typed_where_nothing_is_to_be_decided(state):
    lines = held_lines(answer([family(12)], [incident(12, state)]), "")
    assert len(lines) == 2
    assert "pidwarden" not in "".join(lines)
    assert state.upper() in lines[0]


def test_a_family_without_a_name_or_beyond_the_list_does_not_stop_the_rest():
    lines = held_lines(answer([family(1, comm="")], [incident(1, "waiting"), incident(99, "waiting")]), "")
    assert "family 1 of ? (101)" in lines[0]
    assert "family 99 of ?: 9 members" in lines[4]


def test_past_incidents_the_latest_first_and_only_some():
    past = [incident(n, "done", founder=f"name{n}", alarm_ns=HOUR_NS * n) for n in range(1, 8)]
    text = "\n".join(guard_lines(answer(past=past), "/run/x", 10 * HOUR_NS))
    rows = [line.split() for line in text.splitlines() if "branch-slots" in line]
    assert [row[3] for row in rows] == ["7", "6", "5", "4", "3"]
    assert rows[0][:3] == ["3", "hours", "ago"]
    assert "name7" in rows[0]


def test_losses_are_shown_only_if_there_are_any():
    assert losses(answer()) == {}
    assert "LOSSES" not in "\n".join(guard_lines(answer(), "/run/x", 0))
    lost = answer(lost_procs=4)
    assert losses(lost) == {"lost_procs": 4}
    assert "LOSSES: lost_procs 4" in "\n".join(guard_lines(lost, "/run/x", 0))


def test_a_held_family_is_marked_in_the_list():
    lines = guard_lines(answer([family(1), family(2, held=True)]), "/run/x", 0)
    assert [line.split()[-1] for line in lines if line.endswith("HELD")] == ["HELD"]


@pytest.mark.parametrize("text", ["hold_at = 1\n", "nonsense", 'run_dir = "/run/elsewhere"\n'])
def test_a_broken_configuration_does_not_keep_status_from_working(monkeypatch, tmp_path, text):
    path = tmp_path / "pidwarden.toml"
    path.write_text(text)
    monkeypatch.setattr(where.paths, "CONFIG", str(path))
    assert where.run_dir(None) == ("/run/elsewhere" if "elsewhere" in text else where.paths.RUN_DIR)
    assert where.run_dir("/run/given") == "/run/given"


def test_numbers_stand_right_and_words_left():
    assert table(("N", "NAME"), [(5, "a"), (123, "bc")]) == ["    N  NAME", "    5  a", "  123  bc"]
    assert table(("N",), []) == []
