"""A whole job by the engine as a program: recordings of tones in, a cut checkpoint out. Its time counts, not its accuracy."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import datasets
import torch

from benchmarks.families.examples import LABELS, spectrogram
from benchmarks.gpu.sizes import Size
from benchmarks.latency import SHAPES
from tests.support.checkpoints.clips import encoded, tone
from tests.support.checkpoints.rows import CLIP, write_split

PITCHES = dict(zip(LABELS, (300.0, 1200.0, 4000.0), strict=True))
SPEC = {
    "pruning": {"parts": ["attention", "feed_forward"], "target": {"flops": 0.5}, "schedule": {"steps": 2}},
    "finetune": {"epochs": 1},
    "evaluate": {"latency_batch_sizes": [1, 32], "latency_runs": 30, "latency_seconds": 2, "sensitivity_samples": 64},
}


def write_inputs(folder: Path, size: Size) -> None:
    """`model`, `data` and `spec.json` in the folder."""
    for split, clips in size.clips.items():
        names = [LABELS[number % len(LABELS)] for number in range(clips)]
        rows = [
            {"audio": encoded(tone(PITCHES[name], seconds=1.0, seed=number), kind="pcm"), "label": name}
            for number, name in enumerate(names)
        ]
        write_split(folder / "data" / f"{split}.parquet", {"audio": CLIP, "label": datasets.Value("string")}, rows)
    frames, mels = (126, 128) if size.shape == "base" else (26, 128)
    strides = {"frequency_stride": 10, "time_stride": 10, "initializer_range": 0.02}
    example = spectrogram(
        "ASTForAudioClassification", **SHAPES[size.shape], max_length=frames, num_mel_bins=mels, **strides
    )
    example.save(example.stock(), folder / "model")
    (folder / "spec.json").write_text(json.dumps(SPEC))


def _events(folder: Path) -> list[dict[str, Any]]:
    """What the engine has said; its last line may be half written where it was ended."""
    lines = (folder / "events").read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def measure(size: Size, device: torch.device) -> dict[str, Any]:
    """Its seconds in all and by phase, and its peaks of memory. RuntimeError with the engine's own words where it failed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_inputs(folder, size)
        command = [sys.executable, "-m", "worker.engine", "--device", str(device), "--out", str(folder / "out")]
        command += [part for what in ("model", "data", "spec") for part in (f"--{what}", str(folder / what))]
        command[-1] += ".json"
        (folder / "out").mkdir()
        begun = time.perf_counter()
        with (folder / "events").open("w") as events_file:
            try:
                ran = subprocess.run(command, stdout=events_file, timeout=size.job_seconds, check=False)
            except subprocess.TimeoutExpired:
                phases_begun = [e["phase"] for e in _events(folder) if e["type"] == "phase"]
                raise RuntimeError(f"given up after {size.job_seconds:.0f} s, in phase {phases_begun[-1:]}") from None
        seconds = time.perf_counter() - begun
        events = _events(folder)
    steps = [event["metrics"] for event in events if event["type"] == "step"]
    if ran.returncode or not steps:
        failed = [event["detail"] for event in events if event["type"] == "failed"]
        raise RuntimeError(f"the engine ended with {ran.returncode}: {' '.join(failed)}")
    phases: dict[str, float] = {}
    for step in steps:
        for phase, taken in step["seconds"].items():
            phases[phase] = round(phases.get(phase, 0.0) + taken, 2)
    return {
        "spec": SPEC,
        "clips": dict(size.clips),
        "seconds": round(seconds, 1),
        "phases": phases,
        "memory": steps[-1]["memory"],
        "sparsity": steps[-1]["achieved_sparsity"],
        "latency": steps[-1]["latency"],
    }
