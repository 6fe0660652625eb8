"""Where a process came from, in words."""

from __future__ import annotations

import json

import pytest
from views import HOSTILE, NOW, dead, key, living, row, view

from pidwarden.model.key import NOBODY, ProcessKey
from pidwarden.model.record import ProcFlag
from pidwarden.model.story import ancestry, tell

SECOND = 1_000_000_000


def told(shown, pid, **options):
    return list(tell(shown, row(shown, pid), **options))


def paragraphs(lines):
    """Lines by the title above them."""
    titles = [at for at, line in enumerate(lines) if not line.startswith("    ")]
    ends = [*titles[1:], len(lines)]
    return {lines[at]: [line.strip() for line in lines[at + 1 : end]] for at, end in zip(titles, ends, strict=True)}


def test_up_to_the_founder_and_who_made_it():
    shown = view(
        living(1, comm=b"init", family=1),
        living(2, 1, b"sshd", family=2),
        living(3, 2, b"bash", family=7, execs=2, exec_ns=4 * SECOND, forks=3),
        dead(4, 3, b"script", 7 << 8, family=7, uid=1000),
        living(5, 4, b"daemon", family=7, ppid=1),
    )
    assert paragraphs(told(shown, 5)) == {
        "daemon (5)  user root (0), state S, family 7": [
            "started  2023-11-14 21:56:45 (16m35s ago)  5@5000000000",
            "creator  script (4)",
            "parent   init (1) now",
        ],
        "script (4)  user user1000 (1000), DEAD (exit 7), family 7": [
            "started  2023-11-14 21:56:44 (16m36s ago)  4@4000000000",
            "ended    2023-11-14 22:13:10 (10s ago), lived 16m26s, exit 7",
            "creator  bash (3)",
        ],
        "bash (3)  user root (0), state S, founder of family 7": [
            "started  2023-11-14 21:56:43 (16m37s ago)  3@3000000000",
            "exec     2023-11-14 21:56:44 (16m36s ago), the last of 2",
            "made     3 processes",
            "creator  sshd (2)",
        ],
        "sshd (2)  user root (0), state S, founder of family 2, made the founder": [
            "started  2023-11-14 21:56:42 (16m38s ago)  2@2000000000",
            "creator  init (1)",
        ],
        "above it: init (1)": [],
    }


@pytest.fixture(autouse=True)
def utc(monkeypatch):
    import time  # noqa: PLC0415

    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_gaps_are_told():
    shown = view(living(1), living(2, 1, skipped=40))
    assert "    creator  40 ancestors left out here; the next one known is sh (1)" in told(shown, 2)


def test_a_creator_whose_record_is_gone():
    lines = told(view(living(2, 77)), 2)
    assert "    creator  pid 77, of which nothing is known any more" in lines
    assert lines[0].endswith("oldest known of family 7")


def test_found_running():
    guessed = int(ProcFlag.GUESSED)
    shown = view(living(1, flags=guessed), living(2, 1, flags=guessed))
    lines = told(shown, 2)
    assert any(line.startswith("    creator  sh (1) (guessed: ") for line in lines)
    assert "    creator  unknown: found running when the guard started" in lines


def test_a_zombie_and_one_whose_end_was_missed():
    shown = view(dead(2, exit_ns=0), living(3, 2, live=0, state="Z", exit_ns=NOW - SECOND, exit_code=9))
    lines = told(shown, 3)
    assert "zombie (SIGKILL, not reaped)" in lines[0]
    assert any("DEAD (its end was not seen)" in line for line in lines)


def test_folded_and_held():
    lines = told(view(living(2, folded=9, held_ns=5)), 2)
    assert "state S, HELD" in lines[0]
    assert "    made     0 processes, 9 descendants folded into its counts" in lines


def test_without_a_guard_it_speaks_of_parents_only():
    shown = view(living(1, comm=b"init"), living(2, 1), creators=False)
    lines = told(shown, 2)
    assert not any("creator" in line or "family" in line for line in lines)
    assert "    parent   init (1)" in lines
    assert lines[-1] == "    parent   none that can be seen"


@pytest.mark.parametrize("comm", HOSTILE)
def test_no_name_breaks_a_line(comm):
    assert all(line.isprintable() for line in told(view(living(1, comm=comm), dead(2, 1, comm), living(3, 2)), 3))


def test_two_that_claim_to_have_made_each_other():
    shown = view(living(1, key(2)), living(2, key(1)))
    assert len(ancestry(shown, row(shown, 2))[0]) == 2


def test_fifty_thousand_ancestors_are_summed_up_unless_all_are_wanted():
    shown = view(*(dead(pid, pid - 1 if pid > 1 else 0) for pid in range(1, 50_001)))
    lines = told(shown, 50_000)
    assert "… 49980 more ancestors, 49980 of them dead: sh; --full shows each" in lines
    assert len(lines) < 100
    assert sum(not line.startswith(" ") for line in told(shown, 50_000, full=True)) == 50_000


def test_the_object_is_for_programs():
    shown = view(
        dead(2, code=9, comm=b"a\nb"), living(3, 2, ppid=1, flags=int(ProcFlag.GUESSED)), living(4, ProcessKey(9, 9))
    )
    found = json.loads(json.dumps([shown.object(row(shown, pid)) for pid in (2, 3, 4)]))
    assert (found[0]["comm"], found[0]["ending"], found[0]["in_table"]) == ("a\\nb", "SIGKILL", False)
    assert found[0]["creator"] is None
    assert found[1]["creator"] == {"pid": 2, "start_ns": 2 * SECOND, "comm": "a\\nb"}
    assert (found[1]["ppid"], found[1]["guessed"], found[1]["marks"]) == (1, True, ["guessed"])
    assert found[2]["creator"] == {"pid": 9, "start_ns": 9, "comm": None}
    assert view(living(1, NOBODY), creators=False).object(0)["parent"] is None
