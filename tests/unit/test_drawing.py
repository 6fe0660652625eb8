"""The family tree as text: the dead in it, both parents, what was left out, and names that would like to be markup."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from views import HOSTILE, NOW, dead, key, living, row, view

from pidwarden.model import drawing
from pidwarden.model.key import NOBODY
from pidwarden.model.record import ProcFlag

SECOND = 1_000_000_000
TIMES = drawing.BOX.times


def drawn(shown, root, style=drawing.BOX, **options):
    return list(drawing.draw(shown, row(shown, root), style, **options))


def test_a_tree():
    shown = view(living(1, comm=b"init"), living(2, 1, b"a"), living(3, 2, b"b"), living(4, 1, b"c"))
    assert drawn(shown, 1) == [
        "init 1 root  16m39s  S",
        "├─ a 2 root  16m38s  S",
        "│  └─ b 3 root  16m37s  S",
        "└─ c 4 root  16m36s  S",
    ]


def test_in_ascii():
    shown = view(living(1), living(2, 1), living(3, 2, b"b"), living(4, 1, b"c"))
    lines = drawn(shown, 1, drawing.ASCII)
    assert "".join(lines).isascii()
    assert [line[:6] for line in lines[1:]] == ["|- sh ", "|  `- ", "`- c 4"]


def test_a_dead_middle_is_shown_and_so_are_both_parents():
    shown = view(living(1, comm=b"init"), dead(2, 1, b"fork", 7 << 8), living(3, 2, b"daemon", ppid=1))
    assert drawn(shown, 1)[1:] == [
        "└─ fork 2 root  lived 16m28s  DEAD (exit 7, 10s ago)",
        "   └─ daemon 3 root  16m37s  S  now child of init (1)",
    ]


def test_a_current_parent_without_a_record_is_a_number():
    shown = view(living(2), living(3, 2, ppid=99))
    assert "now child of pid 99" in drawn(shown, 2)[1]


def test_a_pid_used_again_is_not_the_parent_that_died():
    shown = view(dead(5, comm=b"old"), living(7, key(5), ppid=1), living(1, comm=b"init", parent=NOBODY))
    assert "now child of init (1)" in drawn(shown, 5)[1]


def test_a_zombie_is_not_dead_and_says_how_it_ended():
    shown = view(living(1), living(2, 1, live=0, state="Z", exit_ns=NOW - 5 * SECOND, exit_code=9))
    assert drawn(shown, 1)[1].endswith("Z (SIGKILL, 5s ago, not reaped)")


def test_an_end_that_nobody_saw():
    shown = view(dead(2, exit_ns=0), living(3, 2, ppid=1))
    assert "DEAD (end not seen)" in drawn(shown, 2)[0]


def test_guessed_held_threads_folded_and_left_out_are_marked():
    odd = living(2, 1, flags=int(ProcFlag.GUESSED), live=4, slots=4, folded=123, skipped=5, held_ns=7)
    line = drawn(view(living(1), odd), 1)[1]
    assert line.startswith("└─ sh 2? root")
    for words in ("4 threads", "+123 folded", "5 ancestors left out above it", "HELD"):
        assert words in line


def test_without_creators_nothing_is_marked_as_guessed_or_moved():
    shown = view(living(1), living(2, 1, flags=int(ProcFlag.GUESSED), ppid=9), creators=False)
    assert drawn(shown, 1)[1] == "└─ sh 2 root  16m38s  S"


def test_a_held_family_is_marked_and_a_new_one_named():
    shown = view(living(1, family=3), living(2, 1, family=9), held=[9])
    assert drawn(shown, 1)[1].endswith("S  HELD  founded family 9")


def test_like_leaves_are_one_line():
    kids = [living(10 + n, 1, b"sleep") for n in range(37)]
    shown = view(living(1), *kids, living(90, 1, b"other"))
    assert drawn(shown, 1)[1:] == [
        f"├─ sleep {TIMES}37 (10 … 46) root  15m54s … 16m30s  S",
        "└─ other 90 root  15m10s  S",
    ]
    assert len(drawn(shown, 1, full=True)) == 39


@pytest.mark.parametrize(
    "different",
    [{"comm": b"x"}, {"uid": 5}, {"state": "D"}, {"ppid": 77}, {"slots": 2, "live": 2}, {"folded": 1}, {"skipped": 1},
     {"held_ns": 1}, {"flags": int(ProcFlag.GUESSED)}, {"family": 99}],
)  # fmt: skip
def test_what_differs_stands_alone(different):
    kids = [living(10 + n, 1, b"sleep") for n in range(5)]
    shown = view(living(1), *kids, living(50, 1, **({"comm": b"sleep"} | different)))
    lines = drawn(shown, 1)
    assert len(lines) == 3
    assert f"{TIMES}5" in lines[1]
    assert " 50" in lines[2]


def test_one_with_children_is_no_leaf():
    kids = [living(10 + n, 1, b"sleep") for n in range(5)]
    shown = view(living(1), *kids, living(50, 12, b"below"))
    assert sum("below 50" in line for line in drawn(shown, 1)) == 1
    assert any(f"{TIMES}4" in line for line in drawn(shown, 1))


def test_a_run_of_the_dead_is_one_line():
    chain = [dead(2 + n, 1 + n, b"odd", skipped=2 * (n == 4)) for n in range(30)]
    shown = view(living(1), *chain, living(32, 31, b"leaf", ppid=1))
    lines = drawn(shown, 1)
    assert lines[1] == f"└─ ⋮ 30 dead, each made by the one before: odd {TIMES}30 (2 … 31), 2 more of them left out"
    assert lines[2].startswith("   └─ leaf 32")
    assert len(drawn(shown, 1, full=True)) == 32


@pytest.mark.parametrize("comm", HOSTILE)
def test_no_name_breaks_a_line_or_the_terminal(comm):
    shown = view(living(1, comm=comm), dead(2, 1, comm), living(3, 2, comm, ppid=1))
    for line in drawn(shown, 1, full=True):
        assert line.isprintable()


@pytest.mark.parametrize("make", [living, dead])
def test_fifty_thousand_deep(make):
    chain = [make(pid, pid - 1 if pid > 1 else 0) for pid in range(1, 50_001)]
    lines = drawn(view(*chain), 1, full=True)
    assert len(lines) == 50_000
    assert max(map(len, lines)) < 250
    assert "[49999] sh 50000" in lines[-1]


def test_a_member_outside_is_not_drawn():
    shown = view(living(1), living(2, 1), living(3, 2))
    assert len(drawn(shown, 1, inside={row(shown, 1), row(shown, 2)})) == 2


@given(st.lists(st.tuples(st.integers(0, 30), st.booleans(), st.binary(max_size=15)), min_size=1, max_size=30))
def test_each_process_is_drawn_once(histories):
    records = [(living if alive else dead)(n + 1, min(up, n), comm) for n, (up, alive, comm) in enumerate(histories)]
    shown = view(*records)
    roots = [r for r, above in enumerate(shown.above) if above < 0]
    lines = [line for root in roots for line in drawing.draw(shown, root, drawing.BOX, full=True)]
    assert len(lines) == len(records)
    assert all(line.isprintable() for line in lines)
