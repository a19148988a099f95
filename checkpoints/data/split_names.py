"""Which split a file of rows belongs to, and which role each split has, from their names.

The inspector, the estimate and the engine must agree on it.
"""

import re
from collections.abc import Mapping, Sequence

from api_schemas.enums import Split
from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.spec.inputs import Splits

HELD_OUT_SHARE = 0.1
# Usual other names, which count where the spec does not ask for a name of its own: a split called `dev` left lying, and
# validation held out of train instead, would surprise.
ALIASES: Mapping[Split, tuple[str, ...]] = {
    Split.TRAIN: ("training",),
    Split.VALIDATION: ("valid", "val", "dev"),
    Split.TEST: ("testing", "eval", "evaluation"),
}
# Names that say "a piece of the data" and not "a split of it".
_PIECES = frozenset({"", "data", "dataset", "part", "shard", "chunk", "file"})


_KNOWN = frozenset({role.value for role in Split} | {name for names in ALIASES.values() for name in names})
_NUMBERED = re.compile(r"(.*?)[_.]\d+(_of_\d+)?")


def split_of(file_name: str) -> str:
    """`<split>.parquet` and `<split>-*.parquet` are of that split; a name without one (`0000.parquet`) is of `train`.

    So are `<split>_00.parquet` and `<Split>.parquet` where the split has a usual name.
    """
    name = file_name[:-3] if file_name.lower().endswith(".gz") else file_name
    split = split_called(name.rsplit(".", 1)[0].split("-", 1)[0])
    return "train" if split.lower() in _PIECES or split.isdigit() else split


def lone_split(name: str | None) -> str:
    """Of the only rows there are, whose split is called so: that where it is a usual name, else what there is to train on."""
    return name if name is not None and name.lower() in _KNOWN else Split.TRAIN.value


def split_called(name: str) -> str:
    """A split's usual name for one that only differs by capitals or by the number of a piece; else the name itself."""
    numbered = _NUMBERED.fullmatch(name)
    for each in (name, numbered[1] if numbered else name):
        if each.lower() in _KNOWN | _PIECES:
            return each.lower()
    return name


def name_splits(available: Sequence[str], splits: Splits) -> dict[Split, str]:
    """The dataset's split for every role that has one. Raises DATASET_SCHEMA where there is none to train on."""
    named: dict[Split, str] = {}
    for role in Split:
        wanted = str(getattr(splits, role.value))
        candidates = [wanted, *(ALIASES[role] if wanted == role.value else ())]
        # Named as the files are, or as `split_of` calls what is in them.
        candidates += [split_called(name) for name in candidates]
        found = [name for name in candidates if name in available]
        if found:
            named[role] = found[0]
    if Split.TRAIN not in named:
        detail = (
            f"There is no split {splits.train!r} to train on. The dataset has the splits "
            f"{', '.join(sorted(available))}."
        )
        raise SecateurError(ErrorCode.DATASET_SCHEMA, detail)
    return named


def held_out(rows: int) -> int:
    """How many of train's rows a role takes that has no split: a tenth."""
    return max(1, round(HELD_OUT_SHARE * rows))


def samples_by_role(rows: Mapping[str, int], named: Mapping[Split, str]) -> dict[Split, int]:
    """How many rows each role gets of splits of so many `rows`: those of its split, or its tenth of train's.

    None of train's may be left, or fewer than none. Where rows are grouped, what is held out is about as many.
    """
    train = rows[named[Split.TRAIN]]
    held = held_out(train)
    counts = {role: rows[named[role]] if role in named else held for role in Split}
    return counts | {Split.TRAIN: train - held * (len(Split) - len(named))}
