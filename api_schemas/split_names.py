"""Which split of a dataset a file of rows belongs to, from its name. The inspector and the engine must agree on it."""

# Names that say "a piece of the data" and not "a split of it".
_PIECES = frozenset({"", "data", "dataset", "part", "shard", "chunk", "file"})


def split_of(file_name: str) -> str:
    """`<split>.parquet` and `<split>-*.parquet` are of that split; a name without one (`0000.parquet`) is of `train`."""
    split = file_name.rsplit(".", 1)[0].split("-", 1)[0]
    return "train" if split.lower() in _PIECES or split.isdigit() else split
