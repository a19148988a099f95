"""Loads a checkpoint with stock transformers and scores it on recordings: the user's side of the demo, and nothing else.

Run as a program it is one file that needs torch, transformers, pyarrow and soundfile, nothing of this project:

    python -I demo/score.py CHECKPOINT DATA [--split test] [--limit 400] [--logits FILE.npy]

It prints one line of JSON. DATA is a folder of parquet shards with embedded audio, `<split>.parquet` or `<split>-*.parquet`.
"""

import argparse
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("USE_TORCH", "1")

import numpy as np
import pyarrow.parquet as pq
import soundfile
import torch
from numpy.typing import NDArray


def read_clips(
    data: Path, split: str, limit: int | None = None
) -> tuple[list[tuple[NDArray[np.float32], int]], list[str]]:
    """([(mono samples, rate)], [label name]) of a split; `limit` takes that many, evenly spread over it."""
    shards = sorted(data.glob(f"{split}.parquet")) + sorted(data.glob(f"{split}-*.parquet"))
    if not shards:
        raise SystemExit(f"{data} has no shard of the split {split!r}")
    names: list[str] = []
    rows: list[dict[str, Any]] = []
    for shard in shards:
        file = pq.ParquetFile(shard)
        names = json.loads(file.schema_arrow.metadata[b"huggingface"])["info"]["features"]["label"]["names"]
        rows += file.read(columns=["audio", "label"]).to_pylist()
    if limit is not None and limit < len(rows):
        rows = [rows[index] for index in np.linspace(0, len(rows) - 1, limit).astype(int)]
    clips = []
    for row in rows:
        samples, rate = soundfile.read(io.BytesIO(row["audio"]["bytes"]), dtype="float32", always_2d=True)
        clips.append((samples.mean(axis=1), rate))
    return clips, [names[row["label"]] for row in rows]


def extract_features(extractor: Any, clips: list[tuple[NDArray[np.float32], int]]) -> torch.Tensor:
    """input_values [N, frames, mels] by the checkpoint's own feature extractor."""
    rate = extractor.sampling_rate
    return torch.cat(
        [extractor(_resampled(*clip, rate), sampling_rate=rate, return_tensors="pt").input_values for clip in clips]
    )


def _resampled(samples: NDArray[np.float32], rate: int, wanted: int) -> NDArray[np.float32]:
    if rate == wanted:
        return samples
    from torchaudio.functional import resample

    return np.asarray(resample(torch.from_numpy(samples), rate, wanted).numpy())


def _batches(features: torch.Tensor, size: int = 32) -> Iterator[torch.Tensor]:
    yield from features.split(size)


def main() -> None:
    """Load, score, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--split", default="test")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--logits", type=Path, help="also write the logits [N, C], float32")
    options = parser.parse_args()

    from transformers import AutoFeatureExtractor, AutoModelForAudioClassification

    # Only a layout that no stock class can express comes with code of its own.
    custom = "auto_map" in json.loads((options.checkpoint / "config.json").read_text())
    model = AutoModelForAudioClassification.from_pretrained(options.checkpoint, trust_remote_code=custom).eval()
    extractor = AutoFeatureExtractor.from_pretrained(options.checkpoint)
    clips, labels = read_clips(options.data, options.split, options.limit)
    with torch.inference_mode():
        logits = torch.cat([model(batch).logits for batch in _batches(extract_features(extractor, clips))])
    if options.logits:
        np.save(options.logits, logits.numpy())
    named = [model.config.id2label[index] for index in logits.argmax(dim=1).tolist()]
    result = {
        "accuracy": sum(a == b for a, b in zip(named, labels, strict=True)) / len(labels),
        "samples": len(labels),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "class": type(model).__name__,
        "custom_code": custom,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
