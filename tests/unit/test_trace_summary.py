"""Counts of calls as text and as an object."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pidwarden.trace import summary

NAMES = {0: "read", 3: "close", 1024 + 6: "close", 7: "openat"}


class Count(NamedTuple):
    calls: int
    errors: int = 0
    ns: int = 0
    max_ns: int = 0
    lost: int = 0


COUNTS = {0: Count(2, 1, 3000, 2000), 3: Count(5, 0, 500, 200, 4), 7: Count(1, 1, 9000, 9000)}


def rows(order="time", counts=COUNTS, **more):
    return summary.rows(counts, NAMES.__getitem__, order, **more)


@pytest.mark.parametrize(
    ("order", "first"),
    [("time", "openat"), ("calls", "close"), ("errors", "openat"), ("name", "close"), ("max", "openat"),
     ("lost", "close"), ("mean", "openat")],
)  # fmt: skip
def test_rows_are_sorted_by_what_was_asked(order, first):
    assert rows(order)[0].name == first


def test_numbers_of_one_name_are_one_row():
    found = rows(counts={3: Count(5, 1, 500, 200), 1024 + 6: Count(2, 0, 100, 400)}, buckets={3: (0, 5), 1030: (2,)})
    assert found == [summary.Row("close", 7, 1, 600, 400, 0, (2, 5))]


def test_what_was_never_called_has_no_row():
    assert rows(counts={0: Count(0)}) == []


def test_the_table_is_that_of_strace_with_more_columns():
    head, rule, *lines, last_rule, total = summary.table(rows(), utf8=True)
    assert head.split() == ["%", "time", "seconds", "mean", "max", "calls", "errors", "lost", "syscall"]
    assert set(rule) == {"-", " "}
    assert last_rule == rule
    assert lines[0].split() == ["72.00", "0.000009", "9.00us", "9.00us", "1", "1", "openat"]
    assert total.split() == ["100.00", "0.000013", "1.56us", "9.00us", "8", "2", "4", "total"]


def test_losses_have_a_column_only_if_there_are_any():
    assert "lost" not in summary.table(rows(counts={0: Count(1)}))[0]


def test_histograms_share_a_scale_and_show_every_call():
    found = rows(counts={0: Count(101), 3: Count(1)}, buckets={0: (0, 100, 0, 1), 3: (0, 0, 0, 0, 1)})
    head, _rule, first, second, *_rest = summary.table(found)
    assert head.endswith("2ns .. 32ns")
    assert first.endswith("close               █") or second.endswith("close               █")
    assert any(line.endswith("read             █ ▁") for line in (first, second))
    assert all(line.isascii() for line in summary.table(found, utf8=False))


def test_the_full_histogram_has_a_line_for_each_bucket():
    lines = summary.histogram(summary.Row("read", 3, 0, 30, 20, 0, (0, 0, 0, 2, 0, 1)))
    assert lines[0] == "read: 3 calls, mean 10ns, longest 20ns"
    assert [line.split()[0] for line in lines[1:]] == ["8ns", "16ns", "32ns"]
    assert lines[1].count("█") == 40
    assert lines[3].count("█") == 20


def test_processes_are_told_apart_and_the_busiest_is_first():
    counts = {(5, 0): Count(1, 0, 10), (9, 3): Count(1, 0, 90), (9, 0): Count(1, 0, 5)}
    found = summary.processes(counts, NAMES.__getitem__, lambda pid: f"p{pid}")
    assert [(p.pid, p.comm, [r.name for r in p.rows]) for p in found] == [
        (9, "p9", ["close", "read"]),
        (5, "p5", ["read"]),
    ]
    text = summary.text(rows(counts={0: Count(2, 0, 15)}), found)
    assert "9 p9" in text


def test_nothing_counted_is_said():
    assert summary.text([]) == ["no call was counted"]


def test_the_object_has_exact_numbers():
    found = summary.as_json(rows(buckets={7: (0, 0, 1)}))
    assert found["total"] == {"calls": 8, "errors": 2, "ns": 12500, "mean_ns": 1562, "max_ns": 9000, "lost": 4,
                              "histogram": [{"from_ns": 4, "calls": 1}]}  # fmt: skip
    assert found["calls"][0]["histogram"] == [{"from_ns": 4, "calls": 1}]
    assert "processes" not in found


@pytest.mark.parametrize(
    ("ns", "text"),
    [(0, "0"), (999, "999ns"), (1000, "1.00us"), (12_345, "12.3us"), (123_456, "123us"), (1_500_000, "1.50ms"),
     (59 * 10**9, "59.0s"), (5000 * 10**9, "5000s")],
)  # fmt: skip
def test_times_have_three_digits(ns, text):
    assert summary.span(ns) == text


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=40))
def test_bars_show_whatever_is_there(buckets):
    drawn = summary.bars(buckets)
    assert len(drawn) == (len(buckets) if any(buckets) else 0)
    assert all((sign == " ") == (calls == 0) for sign, calls in zip(drawn, buckets, strict=False))
