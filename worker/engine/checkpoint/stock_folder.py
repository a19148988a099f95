"""A checkpoint's folder as transformers' loader needs it: it reads more of one than describe_folder has judged."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from checkpoints.file_names import ADAPTER, checkpoint_names
from checkpoints.files.shards import INDEX_NAME


@contextmanager
def as_stock_reads(folder: Path) -> Iterator[Path]:
    """The folder itself, or for as long as this lasts one that links to the checkpoint's own files.

    An index need not have `metadata`, which the loader takes for granted, and it goes by a dtype that stands there. An adapter
    beside the weights would be loaded on top.
    """
    names = checkpoint_names(path.name for path in folder.iterdir())
    if INDEX_NAME not in names and not (folder / ADAPTER).exists():
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="secateur-original-") as scratch:
        place = Path(scratch)
        for name in names:
            if name == INDEX_NAME:
                index = {"metadata": {}, "weight_map": json.loads((folder / name).read_bytes())["weight_map"]}
                (place / name).write_text(json.dumps(index))
            else:
                (place / name).symlink_to((folder / name).absolute())
        yield place
