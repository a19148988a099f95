"""How one target is divided between attention and feed-forward blocks."""

from math import inf

import pytest

from worker.engine.pruning.part_shares import STEP, best_shift


def asked(loss, most=6):
    tried = []

    def spy(shift):
        tried.append(round(shift / STEP, 6))
        return loss(shift / STEP)

    return best_shift(spy, most) / STEP, tried


@pytest.mark.parametrize(
    ("least", "found", "tried"),
    [
        (0.0, 0.0, [0, 1, -1, 0.5, -0.5]),
        (1.1, 1.0, [0, 1, 2, 1.5, 0.5]),
        (2.4, 2.5, [0, 1, 2, 3, 2.5]),
        (-1.0, -1.0, [0, 1, -1, -2, -0.5, -1.5]),
        (0.4, 0.5, [0, 1, -1, 0.5]),
        # Where the tries are used up the best of them is taken.
        (9.0, 5.0, [0, 1, 2, 3, 4, 5]),
    ],
)
def test_the_search_follows_the_loss_down(least, found, tried):
    assert asked(lambda steps: abs(steps - least)) == (pytest.approx(found), tried)


def test_a_division_that_cannot_be_had_is_not_taken_and_equal_ones_change_nothing():
    assert asked(lambda steps: inf if steps > 0 else 1.0)[0] == 0
    assert asked(lambda _steps: 1.0)[0] == 0
