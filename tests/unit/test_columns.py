"""The process table's columns by values, known and unknown, and as lines."""

from __future__ import annotations

import pytest
from views import CLOCK, HOSTILE, NOW

from pidwarden.model import columns
from pidwarden.model.columns import COLUMNS, Rows, fields_of, forks_per_second, lines, values_of
from pidwarden.model.record import ProcFlag

SECOND = 1_000_000_000
GUARD = {
    "tgid": (1, 20, 300), "start_ns": (SECOND, 2 * SECOND, 3 * SECOND), "parent_tgid": (0, 1, 20),
    "parent_start_ns": (0, SECOND, 2 * SECOND), "ppid": (0, 1, 0), "state": (83, 90, 0), "slots": (3, 1, 0),
    "live": (3, 0, 0), "comm": (b"init\0\0", b"a\nb\0", b"gone\0"), "uid": (0, 7, 7), "family": (1, 2, 2),
    "branch": (4, 5, 6), "held_ns": (0, 0, 0), "forks": (2, 1, 0), "execs": (1, 0, 0), "generation": (0, 1, 2),
    "exec_ns": (SECOND, 0, 0), "exit_ns": (0, NOW, NOW - SECOND), "exit_code": (0, 9, 512), "flags": (1, 0, 33),
    "folded": (0, 5, 0), "skipped": (0, 0, 8), "tick_ns": (NOW - 2 * SECOND, 0, 0), "tick_forks": (9, 0, 0),
    "last_forks": (0, 0, 0), "nspid": (1, 4, None), "pidns": (4026531836, 4026532000, None),
    "cgroup": ("/", "/a\n\udcff", None), "container": (None, "docker:" + "ab" * 32, None),
}  # fmt: skip
PROC = {name: GUARD[name] for name in ("tgid", "start_ns", "ppid", "state", "slots", "live", "comm", "uid", "flags")}


def rows(fields=GUARD, **changes):
    fields = fields | {name: tuple(values) for name, values in changes.items()}
    return Rows(fields, len(fields["tgid"]), NOW, lambda: CLOCK, lambda uid: {0: "root"}.get(uid, str(uid)))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("stat", ["S", "Z", "-"]), ("state", ["S", "Z", "-"]), ("pid", [1, 20, 300]), ("ppid", [0, 1, 0]),
        ("creator", [0, 1, 20]), ("comm", ["init", "a\\nb", "gone"]), ("user", ["root", "7", "7"]), ("uid", [0, 7, 7]),
        ("family", [1, 2, 2]), ("branch", [4, 5, 6]), ("slots", [4, 1, 0]), ("own", [3, 1, 0]), ("threads", [3, 0, 0]),
        ("rate", [4.5, 0, 0]), ("forks", [2, 1, 0]), ("execs", [1, 0, 0]), ("generation", [0, 1, 2]),
        ("age", [999 * SECOND, 998 * SECOND, 996 * SECOND]), ("start", [SECOND, 2 * SECOND, 3 * SECOND]),
        ("exec", [SECOND, None, None]), ("end", [None, NOW, NOW - SECOND]), ("exit", [None, 9, 512]),
        ("held", [None, None, None]), ("marks", ["spawner", "-", "spawner,guessed"]), ("folded", [0, 5, 0]),
        ("skipped", [0, 0, 8]), ("nspid", [1, 4, None]), ("pidns", [4026531836, 4026532000, None]),
        ("cgroup", ["/", "/a\n\udcff", None]), ("container", [None, "docker:" + "ab" * 32, None]),
    ],
)  # fmt: skip
def test_each_column(name, values):
    assert list(values_of(name, rows())) == values


def test_there_is_a_test_of_each_column():
    tested = {case[0] for mark in test_each_column.pytestmark for case in mark.args[1]}
    assert tested == set(COLUMNS)


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_needs_no_more_fields_than_it_says(name):
    needed = {field: GUARD[field] for field in fields_of([name]) | {"tgid"}}
    assert list(values_of(name, rows(needed))) == list(values_of(name, rows()))


@pytest.mark.parametrize("name", COLUMNS)
def test_every_column_can_be_shown_with_and_without_a_guard(name):
    for fields in (GUARD, PROC):
        table = rows(fields)
        text = lines([name], table, [values_of(name, table)])
        assert len(text.splitlines()) == 4
        assert text.splitlines()[0].strip() == COLUMNS[name].heading


def test_what_proc_does_not_know_is_a_dash():
    table = rows(PROC)
    names = ["family", "creator", "rate", "exit", "held", "pid"]
    assert lines(names, table, [values_of(n, table) for n in names]).splitlines()[2].split() == ["-"] * 5 + ["20"]


def test_the_subtree_without_a_guard_goes_by_parents():
    assert list(values_of("slots", rows(PROC, ppid=(0, 1, 20)))) == [4, 1, 0]


def test_a_held_process_is_marked():
    table = rows(held_ns=(NOW - SECOND, 0, 0))
    assert list(values_of("stat", table)) == ["Sh", "Z", "-"]
    assert lines(["held"], table, [values_of("held", table)]).split() == ["HELD", "1s", "-", "-"]


@pytest.mark.parametrize(
    ("tick_ns", "now_count", "before", "rate"),
    [(0, 0, 0, 0), (NOW - SECOND // 2, 3, 40, 40), (NOW - SECOND // 2, 90, 40, 90), (NOW - 4 * SECOND, 10, 99, 2.5),
     (NOW - 1000 * SECOND, 10, 0, 0.0)],
)  # fmt: skip
def test_forks_per_second(tick_ns, now_count, before, rate):
    assert forks_per_second(NOW, tick_ns, now_count, before) == rate


def test_lines_are_aligned_and_end_where_the_name_ends():
    table = rows()
    names = ["stat", "ppid", "pid", "user", "comm"]
    assert lines(names, table, [values_of(n, table) for n in names]) == (
        "STAT PPID PID USER COMM\n"
        "S       0   1 root init\n"
        "Z       1  20 7    a\\nb\n"
        "-       0 300 7    gone\n"
    )  # fmt: skip


def test_without_headings_there_is_nothing_but_values():
    table = rows()
    assert lines(["pid"], table, [values_of("pid", table)], headings=False) == "  1\n 20\n300\n"
    assert lines(["pid"], table, [[]], headings=False) == ""
    assert lines(["pid", "comm"], table, [[], []]) == "PID COMM\n"


@pytest.mark.parametrize("comm", HOSTILE)
def test_no_name_breaks_a_line(comm):
    table = rows(comm=(comm, comm, comm))
    text = lines(["comm", "pid"], table, [values_of("comm", table), values_of("pid", table)])
    assert len(text.split("\n")) == 5
    assert all(line.isprintable() for line in text.splitlines())


def test_marks_have_names():
    assert columns.marks(int(ProcFlag.SHELL | ProcFlag.EXEMPT)) == "shell,exempt"
    assert columns.marks(0) == ""


def test_where_a_process_is_is_shown_harmless_and_short():
    table = rows()
    names = ["nspid", "container", "cgroup"]
    shown = lines(names, table, [values_of(n, table) for n in names]).splitlines()
    assert [line.split() for line in shown[1:]] == [
        ["1", "-", "/"], ["4", "docker:abababababab", "/a\\n\\xff"], ["-", "-", "-"],
    ]  # fmt: skip
