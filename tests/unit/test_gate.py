"""The covering of a matrix: every two values that can meet do, with few rows, and the same ones every time."""

import random
from itertools import product

from tests.families.cells import HEADS, IN_WHOLE, cells, in_gate
from tests.support.gate import covering, pairs


def all_pairs(rows):
    return {pair for row in rows for pair in pairs(row)}


def test_every_two_values_meet_in_few_rows():
    rows = list(product(range(5), range(4), range(3), range(3), range(2)))
    found = covering(rows, lambda row: row)
    assert all_pairs(found) == all_pairs(rows)
    # No fewer than the two largest factors' values, which all have to meet.
    assert 20 <= len(found) <= 30
    assert found == covering(rows, lambda row: row)
    assert found == sorted(found)


def test_what_cannot_meet_need_not():
    chance = random.Random(3)
    for _ in range(20):
        rows = [row for row in product(range(4), range(3), "abc", "xy") if chance.random() < 0.4]
        assert all_pairs(covering(rows, lambda row: row)) == all_pairs(rows)


def test_one_factor_and_no_rows():
    assert covering([(1,), (2,)], lambda row: row) == []
    assert covering([], lambda row: row) == []


def test_the_gate_has_every_two_choices_of_a_family_matrix_of_those_that_pass_and_of_those_that_are_refused():
    few = in_gate(list(cells()))
    rows = [cell for cell in cells() if cell.name not in IN_WHOLE]
    assert {HEADS[cell.name] for cell in rows} == set(HEADS.values())
    assert len(few) < len(rows) / 10
    for refused in (False, True):
        every, chosen = ([cell for cell in each if cell.refused == refused] for each in (rows, few))
        assert all_pairs(cell.factors for cell in chosen) == all_pairs(cell.factors for cell in every)
