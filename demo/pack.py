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

    Folders of labels without splits are split by `validation_list.txt` and `testing_list.txt` where they lie beside them
    (Speech Commands; `_background_noise_` is left out), and become `train` otherwise. The speaker is what precedes the
    first underscore of a file's name.
    """
    splits = _clips_by_split(folder)
    labels = sorted({label for clips in splits.values() for _, label in clips})
    if not labels:
        raise ValueError(f"{folder} has no recordings ({', '.join(sorted(SUFFIXES))}) in folders named by their label")
    for split, clips in splits.items():
        if not clips:
            raise ValueError(f"{folder} has no recordings in its split {split}")
        schema = _schema(labels, soundfile.info(clips[0][0]).samplerate)
        # By speaker and number rather than by label, so that the start of a shard holds every label.
        clips.sort(key=lambda clip: clip[0].name)
        shards = (len(clips) + SHARD_ROWS - 1) // SHARD_ROWS
        for shard, rows in enumerate(_groups(clips, SHARD_ROWS)):
            with pq.ParquetWriter(out / f"{split}-{shard:05d}-of-{shards:05d}.parquet", schema) as writer:
                for group in _groups(rows, GROUP_ROWS):
                    writer.write_table(_table(group, labels, schema))


def _clips_by_split(folder: Path) -> dict[str, list[tuple[Path, str]]]:
    """(recording, label) of every split."""
    roots = {name: folder / name for name in ("train", "validation", "test") if (folder / name).is_dir()}
    if roots:
        return {split: _labelled(root) for split, root in roots.items()}
    listed = {
        name: split
        for split, names in (("validation", "validation_list.txt"), ("test", "testing_list.txt"))
        if (folder / names).is_file()
        for name in (folder / names).read_text().split()
    }
    splits: dict[str, list[tuple[Path, str]]] = {split: [] for split in ("train", *dict.fromkeys(listed.values()))}
    for path, label in _labelled(folder):
        splits[listed.get(f"{label}/{path.name}", "train")].append((path, label))
    return splits


def _labelled(root: Path) -> list[tuple[Path, str]]:
    folders = sorted(path for path in root.iterdir() if path.is_dir() and path.name != "_background_noise_")
    return [(path, label.name) for label in folders for path in sorted(label.glob("*")) if path.suffix in SUFFIXES]


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
