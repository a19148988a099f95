"""A very small trained AST and the keyword data it was trained on, made once a machine and shared by all tests.

Trained, not random: scores, cuts and recovery mean something only on weights that have learnt. Eight words in two sets of
four, three layers of four heads of width eight; a few seconds on one core. Kept below the system's temporary folder under a key
of everything it is made from, behind a file lock, so that parallel test processes share it and a change makes a new one.
"""

import os
import tempfile
from functools import lru_cache
from pathlib import Path

from pyarrow import parquet

from demo import cache, keywords, phonemes, score, train
from secateur.client.files import packing

WORDS = phonemes.WORDS[:4] + phonemes.WORDS[12:16]
DATA = keywords.KeywordData(
    words=WORDS,
    clips=(("train", 640), ("validation", 120), ("test", 120)),
    speakers=(("train", 20), ("validation", 6), ("test", 6)),
    snr_db=(10.0, 25.0),
)
RECIPE = train.Recipe(layers=3, heads=4, width=32, feed_forward=64, epochs=10, batch_size=16, learning_rate=4e-3)
ROOT = Path(tempfile.gettempdir()) / f"secateur-tests-{os.getuid()}"


@lru_cache(maxsize=1)
def tiny_data() -> Path:
    """A folder with train, validation and test shards of 640, 120 and 120 clips of eight words. Read only."""

    def make(folder: Path) -> None:
        with tempfile.TemporaryDirectory() as wavs:
            keywords.make_folder(DATA, Path(wavs))
            packing.pack_folder(Path(wavs), folder)
        for shard in folder.glob("*.parquet"):
            shard.rename(folder / f"{shard.name.split('-')[0]}.parquet")

    return cache.cached(ROOT, "data", DATA, (keywords, phonemes, packing), make)


@lru_cache(maxsize=1)
def some_data() -> Path:
    """Every fifth row of `tiny_data()`, for who goes the way of a job and learns nothing by it. Read only."""

    def make(folder: Path) -> None:
        for shard in tiny_data().iterdir():
            rows = parquet.read_table(shard)
            parquet.write_table(rows.take(list(range(0, len(rows), 5))), folder / shard.name)

    return cache.cached(ROOT, "some", DATA, (keywords, phonemes, packing), make, depends=tiny_data().name)


@lru_cache(maxsize=1)
def tiny_model() -> Path:
    """A checkpoint folder trained on `tiny_data()`, well above chance (an eighth). Read only."""
    data = tiny_data()
    return cache.cached(ROOT, "model", RECIPE, (train, score), lambda out: _train(data, out), depends=data.name)


def _train(data: Path, out: Path) -> None:
    reached = train.train(data, out, RECIPE)
    assert reached >= 0.6, f"the tests' model must have learnt something; it reached {reached:.0%} on validation"
