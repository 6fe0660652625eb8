"""Looking at many things of which some do not answer."""

from __future__ import annotations

import threading

import pytest

from pidwarden.kernel import patience, since


@pytest.fixture
def never():
    """Blocks whoever waits for it, until the test is over."""
    lock = threading.Event()
    yield lock
    lock.set()


def test_all_answer():
    swept = patience.sweep(range(1000), lambda n: n * n)
    assert swept.found == [(n, n * n) for n in range(1000)]
    assert (swept.lost, swept.left) == ([], [])
    assert patience.sweep([], lambda n: n) == ([], [], [])


@pytest.mark.parametrize("silent", [{0}, {4}, {9}, {2, 3, 7}])
def test_who_does_not_answer_is_passed_over(never, silent):
    def look(n):
        if n in silent:
            never.wait()
        return -n

    swept = patience.sweep(range(10), look, seconds=0.3)  # of a busy machine nobody else may be late
    assert swept.found == [(n, -n) for n in range(10) if n not in silent]
    assert swept.lost == sorted(silent)


def test_an_answer_that_comes_too_late_is_not_taken(never):
    looked = []

    def look(n):
        looked.append(n)
        if n == 1:
            never.wait()
        return n

    swept = patience.sweep(range(3), look, seconds=0.02)
    never.set()
    assert (swept.found, swept.lost) == ([(0, 0), (2, 2)], [1])
    assert looked == [0, 1, 2]


def test_it_gives_up_when_too_many_do_not_answer(never):
    swept = patience.sweep(range(5), lambda _n: never.wait(), seconds=0.01, most_lost=2)
    assert (swept.lost, swept.left) == ([0, 1], [2, 3, 4])


def test_what_a_look_raises_is_raised():
    with pytest.raises(ZeroDivisionError):
        patience.sweep([1, 0], lambda n: 1 // n)


# -- the clocks of processors ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "numbers"), [("0-3,8\n", {0, 1, 2, 3, 8}), ("\n", set()), ("(null)\n", set()), ("5", {5}), ("x-3,1-", {1})]
)
def test_lists_of_processors(text, numbers):
    assert since.parse_list(text) == numbers


def test_when_a_thread_ran_last(tmp_path):
    (tmp_path / "sched").write_text("name (1, #threads: 1)\n---\nse.exec_start   :   1091033.265281\nse.x : 1\n")
    assert since.last_ran_ns(str(tmp_path)) == 1_091_033_265_281
    (tmp_path / "sched").write_text("se.exec_start\n---\nse.exec_start   :   0.000000\n")
    assert since.last_ran_ns(str(tmp_path)) is None
    assert since.last_ran_ns(str(tmp_path / "gone")) is None
