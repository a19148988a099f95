"""Packs a folder of recordings into parquet shards with the audio embedded, as the service takes data.

Rows are built with pyarrow and carry Hugging Face features in the schema: `datasets.load_dataset("parquet", …)` reads them.
"""

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import soundfile

SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".mp3"})
SHARD_ROWS = 2048
"""Rows of a shard: 64 MB of one-second clips at 16 kHz."""
GROUP_ROWS = 256


def pack_folder(folder: Path, out: Path) -> None:
    """Write `<split>-00000-of-0000n.parquet` to `out` for every split of `folder/<split>/<label>/<speaker>_….wav`.

    A folder of labels without splits becomes `train`. The speaker is what precedes the first underscore of a file's name.
    """
    splits = {name: folder / name for name in ("train", "validation", "test") if (folder / name).is_dir()}
    splits = splits or {"train": folder}
    labels = sorted({path.name for root in splits.values() for path in root.iterdir() if path.is_dir()})
    if not labels:
        raise ValueError(f"{folder} has no folder a label in it")
    for split, root in splits.items():
        clips = [
            (path, label) for label in labels for path in sorted((root / label).glob("*")) if path.suffix in SUFFIXES
        ]
        if not clips:
            raise ValueError(f"{root} has no recordings: none of {', '.join(sorted(SUFFIXES))} under {labels}")
        schema = _schema(labels, soundfile.info(clips[0][0]).samplerate)
        # By speaker and number rather than by label, so that the start of a shard holds every label.
        clips.sort(key=lambda clip: clip[0].name)
        shards = (len(clips) + SHARD_ROWS - 1) // SHARD_ROWS
        for shard, rows in enumerate(_groups(clips, SHARD_ROWS)):
            with pq.ParquetWriter(out / f"{split}-{shard:05d}-of-{shards:05d}.parquet", schema) as writer:
                for group in _groups(rows, GROUP_ROWS):
                    writer.write_table(_table(group, labels, schema))


def _schema(labels: Sequence[str], rate: int) -> pa.Schema:
    features = {
        "audio": {"sampling_rate": rate, "decode": False, "_type": "Audio"},
        "label": {"names": list(labels), "_type": "ClassLabel"},
        "speaker": {"dtype": "string", "_type": "Value"},
    }
    audio = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([("audio", audio), ("label", pa.int64()), ("speaker", pa.string())])
    return schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def _table(clips: Sequence[tuple[Path, str]], labels: Sequence[str], schema: pa.Schema) -> pa.Table:
    rows = [
        {
            "audio": {"bytes": path.read_bytes(), "path": path.name},
            "label": labels.index(label),
            "speaker": path.name.split("_")[0],
        }
        for path, label in clips
    ]
    return pa.Table.from_pylist(rows, schema=schema)


def _groups(clips: Sequence[tuple[Path, str]], size: int) -> Iterator[list[tuple[Path, str]]]:
    rest = iter(clips)
    while group := list(islice(rest, size)):
        yield group
