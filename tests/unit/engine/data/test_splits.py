"""Roles and the rows held out for those that have no split."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api_schemas.enums import Split
from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.spec.inputs import Splits
from checkpoints.data.split_names import name_splits
from worker.engine.data.splits import Role, assign_roles


def rows(roles: dict[Split, Role]) -> dict[Split, list[int]]:
    return {role: assigned.rows.tolist() for role, assigned in roles.items()}


def held_out(strata: list[int], groups: list[int] | None = None, seed: int = 0) -> dict[Split, list[int]]:
    return rows(assign_roles({Split.TRAIN: "train"}, {"train": len(strata)}, strata, groups, seed))


def test_roles_take_the_splits_of_their_name_or_a_usual_one() -> None:
    assert name_splits(["train", "dev", "test"], Splits())[Split.VALIDATION] == "dev"
    assert Split.VALIDATION not in name_splits(["train", "dev"], Splits(validation="mine"))
    assert name_splits(["training", "train"], Splits())[Split.TRAIN] == "train"


def test_splits_that_exist_are_taken_whole() -> None:
    named = {Split.TRAIN: "a", Split.VALIDATION: "b", Split.TEST: "c"}
    roles = assign_roles(named, {"a": 3, "b": 2, "c": 1}, [0, 0, 0], None, 0)
    assert rows(roles) == {Split.TRAIN: [0, 1, 2], Split.VALIDATION: [0, 1], Split.TEST: [0]}
    assert roles[Split.TEST].split == "c"


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 5), min_size=12, max_size=300), st.integers(0, 9))
def test_every_row_has_one_role_and_labels_keep_their_share(strata: list[int], seed: int) -> None:
    roles = held_out(strata, seed=seed)
    assert sorted(row for found in roles.values() for row in found) == list(range(len(strata)))
    size = round(0.1 * len(strata))
    assert len(roles[Split.VALIDATION]) == len(roles[Split.TEST]) == size
    count = Counter(strata)
    held = Counter(strata[row] for row in roles[Split.VALIDATION])
    assert all(abs(held[label] - size * count[label] / len(strata)) < 1 for label in count)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 30), min_size=12, max_size=300).filter(lambda g: len(set(g)) >= 6), st.integers(0, 9))
def test_no_group_is_on_two_sides(groups: list[int], seed: int) -> None:
    roles = held_out([0] * len(groups), groups, seed)
    assert sorted(row for found in roles.values() for row in found) == list(range(len(groups)))
    sides = [{groups[row] for row in found} for found in roles.values()]
    assert all(sides)
    assert sum(len(side) for side in sides) == len(set(groups))


def test_groups_of_equal_size_come_close_to_a_tenth() -> None:
    roles = held_out([0] * 1000, list(np.repeat(np.arange(50), 20)))
    assert [len(roles[role]) for role in Split] == [800, 100, 100]


def test_the_seed_decides() -> None:
    strata = [n % 4 for n in range(100)]
    assert held_out(strata, seed=3) == held_out(strata, seed=3)
    assert held_out(strata, seed=3) != held_out(strata, seed=4)


@pytest.mark.parametrize(
    ("strata", "groups"), [([0], None), ([0, 1], None), ([0] * 50, [1] * 50), ([0] * 4, [1, 1, 2, 2])]
)
def test_too_little_to_divide_is_refused(strata: list[int], groups: list[int] | None) -> None:
    with pytest.raises(SecateurError) as caught:
        held_out(strata, groups)
    assert caught.value.code is ErrorCode.DATASET_EMPTY
