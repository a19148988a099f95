"""Which files of a folder make a checkpoint, from their names alone."""

from collections.abc import Iterable

from checkpoints.families import FAMILIES, Family
from checkpoints.files.shards import INDEX_NAME, SHARD_NAME, WEIGHTS_NAME


def checkpoint_names(names: Iterable[str], family: Family | None = None) -> list[str]:
    """Of a folder with whatever in it, the files that a checkpoint is read from: a model card or a report is none of them.

    Without a family, whatever a checkpoint of any has.
    """
    families = FAMILIES if family is None else (family,)
    known = {name for each in families for name in each.files} - {"README.md"}
    found = [name for name in names if name in (*known, WEIGHTS_NAME, INDEX_NAME) or SHARD_NAME.fullmatch(name)]
    if WEIGHTS_NAME in found:
        # Some publish one file and its shards: one of the two is enough.
        return [name for name in found if name != INDEX_NAME and not SHARD_NAME.fullmatch(name)]
    return found
