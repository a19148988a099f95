"""Which rows have which role: the dataset's own splits if it has them, otherwise rows held out of train by seed."""

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from api_schemas.enums import Split
from api_schemas.errors import ErrorCode, SecateurError
from checkpoints.data.split_names import held_out


@dataclass(frozen=True)
class Role:
    """Rows of one of the dataset's splits, in ascending order."""

    split: str
    rows: NDArray[np.int64]


def assign_roles(
    named: Mapping[Split, str],
    lengths: Mapping[str, int],
    strata: Sequence[Hashable],
    groups: Sequence[Hashable] | None,
    seed: int,
) -> dict[Split, Role]:
    """Rows by role. A role without a split takes a tenth of train's rows, drawn by `seed`.

    `strata` and `groups` are values of train's rows. With `groups`, all rows of a group go to the same side; without,
    every stratum (label) gives its share. Raises DATASET_EMPTY where a split has no rows or too few to be divided.
    """
    roles = {role: Role(split, np.arange(lengths[split])) for role, split in named.items()}
    for role, given in roles.items():
        if not len(given.rows):
            raise SecateurError(ErrorCode.DATASET_EMPTY, f"The {role.value} split {given.split!r} has no rows.")
    train, rest = named[Split.TRAIN], roles[Split.TRAIN].rows
    size = held_out(len(rest))
    random = np.random.default_rng(seed)
    missing = [role for role in Split if role not in named]
    for role in missing:
        taken = (
            _draw_stratified(rest, strata, size, random) if groups is None else _draw_groups(rest, groups, size, random)
        )
        roles[role], rest = Role(train, taken), np.setdiff1d(rest, taken)
        if not len(taken) or not len(rest):
            unit = "rows" if groups is None else "groups"
            detail = (
                f"The train split has too few {unit} to hold out a {role.value} split; upload one, or upload more data."
            )
            raise SecateurError(ErrorCode.DATASET_EMPTY, detail)
    roles[Split.TRAIN] = Role(train, rest)
    return {role: roles[role] for role in Split}


def _members(rows: NDArray[np.int64], values: Sequence[Hashable]) -> list[NDArray[np.int64]]:
    """Rows by value, in order of first appearance."""
    members: defaultdict[Hashable, list[int]] = defaultdict(list)
    for row in rows.tolist():
        members[values[row]].append(row)
    return [np.array(found) for found in members.values()]


def _draw_groups(
    rows: NDArray[np.int64], groups: Sequence[Hashable], size: int, random: np.random.Generator
) -> NDArray[np.int64]:
    """Whole groups in random order, each taken where that brings the number of rows closer to `size`."""
    members = _members(rows, groups)
    taken: list[NDArray[np.int64]] = []
    count = 0
    for index in random.permutation(len(members)):
        if abs(count + len(members[index]) - size) < abs(count - size):
            taken.append(members[index])
            count += len(members[index])
    if not taken and len(members) > 1:  # Every group is more than twice the size: the smallest is the closest.
        taken = [min(members, key=len)]
    return np.sort(np.concatenate(taken)) if taken else np.array([], dtype=np.int64)


def _draw_stratified(
    rows: NDArray[np.int64], strata: Sequence[Hashable], size: int, random: np.random.Generator
) -> NDArray[np.int64]:
    """`size` rows: of every stratum its share rounded down, the remaining ones by largest remainder, ties by chance."""
    members = [random.permutation(found) for found in _members(rows, strata)]
    exact = np.array([len(found) for found in members]) * (size / len(rows))
    quota = np.floor(exact).astype(int)
    order = random.permutation(len(members))
    by_remainder = order[np.argsort(-(exact - quota)[order], kind="stable")]
    quota[by_remainder[: size - int(quota.sum())]] += 1
    return np.sort(np.concatenate([found[:count] for found, count in zip(members, quota, strict=True)]))
