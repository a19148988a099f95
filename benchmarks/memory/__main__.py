"""What one-shot `best` takes of the memory of its host, for checkpoints of published sizes with random weights.

    python -m benchmarks.memory --shape ast-base wav2vec2-large whisper-large-v3 [--write docs/results/memory.md]

Every job is a process of its own, on the CPU with one thread, and is watched from outside. With `--service` nothing is pruned:
the checkpoint, in shards, is sent to a service and fetched again, and the service's processes are watched. The last line of
output is JSON.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from api_schemas.spec.job import EngineSpec
from benchmarks.command import shown
from benchmarks.kept_runs import keep
from benchmarks.memory.page import page, tables
from benchmarks.memory.service import through
from benchmarks.memory.shapes import SHAPES, Shape
from benchmarks.memory.watch import most, watched

SAMPLES = {"train": 8, "validation": 2, "test": 2}
SPEC: dict[str, Any] = {
    "pruning": {"target": {"attention_sparsity": 0.5}, "schedule": {"steps": 1}},
    "finetune": None,
    "evaluate": {
        "batch_size": 4, "latency_batch_sizes": [1], "latency_runs": 5, "latency_seconds": 0, "sensitivity_samples": None,
    },
}  # fmt: skip
BOTH = {"pruning": {**SPEC["pruning"], "parts": ["attention", "feed_forward"], "target": {"flops": 0.5}}}
BY_MAGNITUDE = {"pruning": {**SPEC["pruning"], "preset": "paper", "criterion": "magnitude"}}
"""Nothing is scored on samples and nothing refitted: the phases that load, write and check a large model, in little time."""
TIMES, BESIDE = 1.3, 1.5 * 2**30
"""The goal: so many times the bytes of the weights, and so many beside."""


def measure(shape: str, folder: Path, layers: int | None, changes: Mapping[str, Any]) -> dict[str, Any]:
    """One job; of SPEC with these changes."""
    known = SHAPES[shape] if layers is None else SHAPES[shape].cut_to(layers)
    known.write(folder / "model")
    known.write_data(folder / "data", SAMPLES)
    weights = sum(file.stat().st_size for file in (folder / "model").glob("*.safetensors"))
    spec = EngineSpec.model_validate({**SPEC, **changes})
    found = watched(folder / "job", folder / "model", folder / "data", spec)
    written = sum(file.stat().st_size for file in (folder / "job" / "out" / "step-1").glob("*.safetensors"))
    held = most(found, "held")
    return {
        "shape": shape if layers is None else f"{shape} of {layers} layers",
        "parts": [part.value for part in spec.pruning.cuts],
        "dtype": _dtype(known),
        "weights": weights,
        "written": written,
        "held": held,
        "together": most(found, "together"),
        "resident": most(found, "resident"),
        "times": round(held / weights, 2),
        "goal": round(TIMES * weights + BESIDE),
        **found,
    }


def measure_service(shape: str, folder: Path, layers: int | None, shard: str) -> dict[str, Any]:
    """One checkpoint, in shards, to a service and back."""
    known = SHAPES[shape] if layers is None else SHAPES[shape].cut_to(layers)
    known.write(folder / "model", shard)
    known.write_data(folder / "data", SAMPLES)
    found = through(folder / "sent", folder / "model", folder / "data")
    return {"shape": shape if layers is None else f"{shape} of {layers} layers", "dtype": _dtype(known), **found}


def _dtype(shape: Shape) -> str:
    return str(shape.dtype).removeprefix("torch.")


def main(argv: list[str] | None = None) -> int:
    """Measure and print; write the page where asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, nargs="+", default=["ast-base", "wav2vec2-large"])
    parser.add_argument("--layers", type=int, metavar="L", help="only so many, of an encoder and of a decoder")
    parser.add_argument("--magnitude", action="store_true", help="by the paper's magnitude: score and refit nothing")
    parser.add_argument("--both", action="store_true", help="cut feed-forward blocks as well")
    parser.add_argument(
        "--service", action="store_true", help="send the checkpoint to a service and fetch it, prune nothing"
    )
    parser.add_argument("--shard", default="1GB", metavar="SIZE", help="of a shard that is sent, at most")
    parser.add_argument("--label", default="now", help="what the page calls these runs")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="where inputs and results stay")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="Markdown page to write, JSON beside it")
    words = sys.argv[1:] if argv is None else argv
    arguments = parser.parse_args(words)
    changes = BOTH if arguments.both else BY_MAGNITUDE if arguments.magnitude else {}
    runs = []
    for shape in arguments.shape:
        with tempfile.TemporaryDirectory(prefix="memory-") as place:
            folder = (arguments.keep or Path(place)) / shape
            if arguments.service:
                runs.append(measure_service(shape, folder, arguments.layers, arguments.shard))
            else:
                runs.append(measure(shape, folder, arguments.layers, changes))
        print(tables(runs[-1:]), flush=True)
        found = {"command": shown(parser, words), "runs": runs}
        if arguments.write:
            keep(arguments.write, arguments.label, found, page)
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
