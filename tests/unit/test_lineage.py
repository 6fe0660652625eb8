"""Who descends from whom: missing ancestors, cycles, and chains too long for recursion."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pidwarden.model.lineage import NOT_THERE, below, chain, children, links, sums

DEEP = 50_000


def test_links_by_key():
    assert links(["a", "b", "c", "d"], ["", "a", "a", "c"]) == [-1, 0, 0, 2]


def test_a_creator_that_is_not_known_makes_a_root():
    assert links([1, 2], [7, 1]) == [NOT_THERE, 0]


def test_nobody_is_its_own_creator():
    assert links([1, 2], [1, 2]) == [NOT_THERE, NOT_THERE]


def test_a_cycle_is_cut_at_its_first_row():
    assert links([1, 2, 3, 4], [3, 1, 2, 3]) == [NOT_THERE, 0, 1, 2]


def test_a_chain_of_fifty_thousand():
    above = links(range(DEEP), range(-1, DEEP - 1))
    assert sums(above, [1] * DEEP)[0] == DEEP
    assert chain(above, DEEP - 1) == list(range(DEEP - 1, -1, -1))
    assert len(below(above, [0])) == DEEP


def test_children_come_in_the_order_of_the_rows():
    assert children([-1, 0, 0, 1, 0]) == {0: [1, 2, 4], 1: [3]}


def test_below_counts_nobody_twice():
    above = [-1, 0, 1, 1, -1]
    assert sorted(below(above, [0, 1])) == [0, 1, 2, 3]
    assert below(above, [4]) == [4]
    assert below(above, []) == []


graphs = st.integers(1, 40).flatmap(lambda n: st.lists(st.integers(-1, n - 1), min_size=n, max_size=n))


@given(graphs)
def test_whatever_rows_say_there_is_no_cycle_and_nothing_else_is_cut(creators):
    above = links(range(len(creators)), creators)
    for row in range(len(above)):
        assert len(set(chain(above, row))) <= len(above)  # and chain() came to an end
    cut = [row for row, up in enumerate(above) if up == NOT_THERE and creators[row] >= 0]
    for row in cut:  # each cut was in a cycle: going up from it leads back to it
        at = creators[row]
        for _ in creators:
            if at == row:
                break
            at = creators[at]
        assert at == row
    assert all(above[row] == creators[row] for row in range(len(above)) if row not in cut)


@given(graphs, st.data())
def test_sums_are_those_of_everybody_below(creators, data):
    above = links(range(len(creators)), creators)
    weights = data.draw(st.lists(st.integers(-3, 9), min_size=len(above), max_size=len(above)))
    found = sums(above, weights)
    for row in range(len(above)):
        assert found[row] == sum(weights[other] for other in below(above, [row]))
        assert {o for o in range(len(above)) if row in chain(above, o)} == set(below(above, [row]))


@pytest.mark.parametrize("empty", [links([], []), sums([], []), children([])])
def test_nobody(empty):
    assert not empty
