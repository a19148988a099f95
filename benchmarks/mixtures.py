"""Several labels a clip, AudioSet-style: mixtures of two real recordings, mean average precision at every step.

Takes a single-label checkpoint and its keyword data, mixes two clips of different labels into one, turns the checkpoint into
a multi-label one (same weights, binary cross entropy, a few epochs of recovery without a cut), prunes it with the paper's
method and prints mAP by step, ours beside scikit-learn's.

    python -m benchmarks.mixtures --model CHECKPOINT --data PARQUET_FOLDER
"""

import argparse
import io
import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile
import torch
from sklearn.metrics import average_precision_score

from api_schemas.enums import Split
from api_schemas.results.events import EngineEvent, StepDone
from api_schemas.spec.inputs import Columns, Splits
from api_schemas.spec.job import EngineSpec
from api_schemas.spec.recovery import Finetune, Lora
from checkpoints.describe import describe_folder
from demo.score import read_clips
from worker.engine.checkpoint.load import load_original, load_step
from worker.engine.checkpoint.save import save_checkpoint
from worker.engine.data import PreparedData, prepare
from worker.engine.evaluate import answers_of
from worker.engine.models.attention import attention_blocks, projections_by_name
from worker.engine.recovery import finetune
from worker.engine.run import Inputs, run
from worker.engine.tasks import Classification

CPU = torch.device("cpu")
TASK = Classification(several=True)


def write_mixtures(data: Path, out: Path, split: str, count: int, seed: int) -> None:
    """`count` mixtures of two clips of different labels of one split, each 3 dB around the other, as a parquet shard."""
    random = np.random.default_rng(seed)
    clips, names = read_clips(data, split)
    labels = sorted(set(names))
    rows: list[dict[str, Any]] = []
    while len(rows) < count:
        first, second = random.integers(len(clips), size=2)
        if names[first] == names[second]:
            continue
        (a, rate), (b, _) = clips[first], clips[second]
        mixed = np.zeros(max(len(a), len(b)), dtype=np.float32)
        mixed[: len(a)] += a
        mixed[: len(b)] += b * 10 ** (random.uniform(-3, 3) / 20) * (a.std() + 1e-6) / (b.std() + 1e-6)
        mixed *= 0.9 / max(1e-6, float(np.abs(mixed).max()))
        buffer = io.BytesIO()
        soundfile.write(buffer, mixed, rate, format="FLAC")
        ids = sorted({labels.index(names[first]), labels.index(names[second])})
        rows.append({"audio": {"bytes": buffer.getvalue(), "path": f"{len(rows)}.flac"}, "label": ids})
    features = {
        "audio": {"decode": False, "_type": "Audio"},
        "label": {"feature": {"names": labels, "_type": "ClassLabel"}, "_type": "List"},
    }
    audio = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([("audio", audio), ("label", pa.list_(pa.int64()))])
    schema = schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), out / f"{split}.parquet", row_group_size=128)


def features_of(model: Path, data: Path, cache: Path) -> PreparedData:
    """The mixtures as the engine prepares them."""
    return prepare(
        data,
        model,
        labels=describe_folder(model).labels,
        multi_label=True,
        columns=Columns(),
        splits=Splits(),
        seed=0,
        cache_dir=cache,
        progress=lambda _done, _total: None,
    )


def make_multi_label(model: Path, out: Path, data: Path, cache: Path, epochs: int) -> None:
    """A copy of the checkpoint with several labels a clip, adapted for `epochs` epochs."""
    declared = out.with_name("declared")
    shutil.copytree(model, declared)
    config = json.loads((declared / "config.json").read_text()) | {"problem_type": "multi_label_classification"}
    (declared / "config.json").write_text(json.dumps(config))
    loaded = load_original(declared)
    prepared = features_of(declared, data, cache)
    adapted, _ = finetune(
        loaded.model,
        prepared.splits[Split.TRAIN],
        Finetune(epochs=epochs, learning_rate=2e-3, lora=Lora(rank=64, alpha=64)),
        projections=projections_by_name(attention_blocks(loaded.model, loaded.model_spec, loaded.widths)),
        classifiers=loaded.model_spec.classifiers,
        task=TASK,
        pad_value=prepared.pad_value,
        seed=0,
        device=CPU,
        on_batch=lambda _done, _total: None,
        on_epoch=lambda loss: print(f"  adapting, epoch {loss.epoch} of {epochs}: loss {loss.train_loss:.4f}"),
    )
    save_checkpoint(out, replace(loaded, model=adapted), declared)


def reference_map(folder: Path, original: bool, prepared: PreparedData) -> float:
    """scikit-learn's mean average precision on validation, over the classes that occur."""
    split = prepared.splits[Split.VALIDATION]
    model = (load_original(folder) if original else load_step(folder)).model
    scores = answers_of(model, split, TASK, batch_size=32, device=CPU).numpy()
    targets = split.all_targets().numpy()
    occurring = targets.any(axis=0)
    return float(average_precision_score(targets[:, occurring], scores[:, occurring], average="macro"))


def main() -> None:
    """Print a table; exit status 1 where ours and scikit-learn's mAP differ by 1e-6."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--train", type=int, default=6000, help="mixtures to train on")
    parser.add_argument("--validation", type=int, default=1500)
    parser.add_argument("--test", type=int, default=1500)
    parser.add_argument("--adapt-epochs", type=int, default=6)
    parser.add_argument("--epochs", type=int, default=1, help="recovery epochs after every step")
    parser.add_argument("--sparsity", type=float, default=0.5)
    parser.add_argument("--granularity", default="entire_head")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory(prefix="mixtures-") as scratch:
        place = Path(scratch)
        data, model, cache = place / "data", place / "model", place / "cache"
        data.mkdir()
        for seed, split in enumerate(("train", "validation", "test")):
            write_mixtures(arguments.data, data, split, getattr(arguments, split), seed)
        make_multi_label(arguments.model, model, data, cache, arguments.adapt_epochs)
        pruning = {
            "preset": "paper",
            "target": {"attention_sparsity": arguments.sparsity},
            "granularity": arguments.granularity,
        }
        finetuning = {"epochs": arguments.epochs, "learning_rate": 1e-3}
        spec = EngineSpec.model_validate({"pruning": pruning, "finetune": finetuning})
        prepared = features_of(model, data, cache)
        steps: list[StepDone] = []

        def emit(event: EngineEvent) -> None:
            if isinstance(event, StepDone):
                steps.append(event)

        run(Inputs(model, data, place / "out", cache, device="cpu", threads=arguments.threads), spec, emit)
        print(
            "\n| attention removed | mAP, validation | scikit-learn's | before recovery | mAP, test |\n|---|---|---|---|---|"
        )
        worst = 0.0
        for step in steps:
            metrics = step.metrics
            ours = metrics.validation.mean_average_precision or 0.0
            folder = place / "out" / step.folder if metrics.step else model
            theirs = reference_map(folder, metrics.step == 0, prepared)
            worst = max(worst, abs(ours - theirs))
            before, test = metrics.validation_before_recovery, metrics.test
            print(
                f"| {metrics.achieved_sparsity:.1%} | {ours:.4f} | {theirs:.4f} "
                f"| {f'{before.mean_average_precision:.4f}' if before else '—'} "
                f"| {f'{test.mean_average_precision:.4f}' if test else '—'} |"
            )
        print(f"\nlargest difference to scikit-learn: {worst:.2e}")
        raise SystemExit(worst > 1e-6)


if __name__ == "__main__":
    main()
