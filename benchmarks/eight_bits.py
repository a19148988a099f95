"""Eight bits after a cut: what both come to together, in time, bytes and accuracy, beside the dense model in torch's float32.

Each model stands as it is, as ONNX in float32 and in eight bits as a job writes them (`exports`), and quantized by torchao
(weights alone; weights and activations as they come). Time and bytes are an AST-base's, with random weights and scores as uneven
as real ones (benchmarks/latency.py), all in turn in one run; accuracy is that of a trained AST, cut by the preset `best` without
training. Writes FOLDER/eight-bits.json, and the page from everything that is in it.

    python -m benchmarks.eight_bits time --out FOLDER [--seconds 120]
    python -m benchmarks.eight_bits accuracy --model CHECKPOINT --data DATA --cache FOLDER --out FOLDER [--test]
"""

import argparse
import copy
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from transformers.modeling_outputs import SequenceClassifierOutput

from api_schemas.enums import Split
from api_schemas.spec.job import EngineSpec
from benchmarks.latency import SHAPES, contestants, timed
from benchmarks.race.evaluation import measure
from benchmarks.race.machine import describe
from benchmarks.race.results.bootstrap import paired
from benchmarks.race.setup import Setup, load_setup
from checkpoints.families.audio.ast import AST
from checkpoints.planning.settled import settled
from worker.engine.checkpoint.load import LoadedModel
from worker.engine.data.split import Inputs
from worker.engine.exports.graph import float_graph, write_int8
from worker.engine.exports.runtime import OnnxFile
from worker.engine.latency.paired import median_interval
from worker.engine.models.model_spec import ModelSpec
from worker.engine.pruning.cutting import Cutting
from worker.engine.runtime.progress import Reporter
from worker.engine.tasks import Classification, Task

SHARES = (0.5, 0.75)
"""Of FLOPs that are gone, of attention and feed-forward blocks together."""
SAMPLES = 512
BATCHES = (1, 8)
TOKENS = 146
"""A second of sound."""
APART = Path(sys.prefix) / "apart"
"""Where scripts/install.sh puts torchao, which transformers would import wherever it finds it."""
FASTER, SMALLER, LOST = 4.0, 6.0, 1.0
"""Aimed at: times as fast, times as small, at most so many points lost."""
DENSE, FLOAT32 = "dense", "torch, float32"
FORMS = (FLOAT32, "ONNX, float32", "ONNX, 8 bits", "torchao, 8-bit weights", "torchao, 8 bits")
Row = dict[str, Any]


class _Answering(nn.Module):
    """An ONNX file in the place of the model it is of."""

    def __init__(self, file: Callable[..., Tensor]) -> None:
        super().__init__()
        self._file = file
        # Inputs are made of the dtype of a model's parameters.
        self.none = nn.Parameter(torch.empty(0))

    def forward(self, **inputs: Tensor) -> SequenceClassifierOutput:
        return SequenceClassifierOutput(logits=self._file(**inputs))


@contextmanager
def forms(loaded: LoadedModel, task: Task, example: Inputs) -> Iterator[dict[str, tuple[nn.Module, int]]]:
    """The model in every one of FORMS, and the bytes of what is stored of it. `example`: one sample as the model is called."""
    with TemporaryDirectory(prefix="eight-bits-") as folder:
        files = {name: Path(folder) / f"{number}.onnx" for number, name in enumerate(FORMS[1:3])}
        graph = float_graph(loaded, task, example)
        onnx.save(graph, files[FORMS[1]])
        write_int8(graph, files[FORMS[2]])
        made: dict[str, tuple[nn.Module, int]] = {FLOAT32: (loaded.model, _stored(loaded.model))}
        made |= {name: (_Answering(OnnxFile(path)), path.stat().st_size) for name, path in files.items()}
        for name, model in zip(FORMS[3:], _by_torchao(loaded.model), strict=True):
            made[name] = (model, _stored(model))
        yield made


def _by_torchao(model: nn.Module) -> tuple[nn.Module, nn.Module]:
    """With weights of eight bits, and with activations as well. The model itself stays as it is."""
    sys.path.append(str(APART))
    from torchao.quantization import (
        Int8DynamicActivationInt8WeightConfig,
        Int8WeightOnlyConfig,
        quantize_,
    )

    found = copy.deepcopy(model), copy.deepcopy(model)
    for each, how in zip(found, (Int8WeightOnlyConfig(), Int8DynamicActivationInt8WeightConfig()), strict=True):
        quantize_(each, how)
    return found


def _stored(model: nn.Module) -> int:
    """Bytes of its weights, as torch saves them."""
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    return buffer.tell()


def _asked(share: float) -> dict[str, Any]:
    return {"target": {"flops": share}, "parts": ("attention", "feed_forward")}


def _name(share: float) -> str:
    return f"{share:.0%} of FLOPs removed"


def by_time(shape: str, seconds: float) -> Row:
    """Speed-up over the dense model in torch's float32, of every model in every form, and bytes."""
    cuts = {_name(share): {**_asked(share), "granularity": "head_and_width", "align": 8} for share in SHARES}
    _, *found = contestants(shape, TOKENS, cuts, torch.device("cpu"), torch.float32)
    task, kind = Classification(several=False), ModelSpec(AST, "ASTForAudioClassification")
    config = found[0].model.config
    models: dict[tuple[str, str], tuple[nn.Module, int]] = {}
    for each in found:
        example = {"input_values": torch.randn(1, config.max_length, config.num_mel_bins)}
        loaded = LoadedModel(each.model, kind, each.widths, torch.float32)
        with forms(loaded, task, example) as made:
            models |= {(each.name, form): model for form, model in made.items()}
    rows: dict[tuple[str, str], Row] = {
        key: {"model": key[0], "form": key[1], "bytes": stored} for key, (_, stored) in models.items()
    }
    for batch in BATCHES:
        inputs = {"input_values": torch.randn(batch, config.max_length, config.num_mel_bins)}
        # The process's own time: neighbours disturb it less.
        times = timed([model for model, _ in models.values()], inputs, seconds)[..., 1]
        for number, row in enumerate(rows.values()):
            ratios = times[:, 0] / times[:, number]
            row[f"batch {batch}"] = [float(np.median(ratios)), *median_interval(ratios)]
        print(f"batch {batch}: {len(times)} rounds", flush=True)
    return {"shape": shape, "rows": list(rows.values())}


def by_accuracy(setup: Setup, *, test: bool) -> Row:
    """Accuracy of every model in every form, and its difference from the dense model in torch's float32."""
    roles = (Split.VALIDATION, Split.TEST) if test else (Split.VALIDATION,)
    example, _ = setup.split(Split.VALIDATION).batch(torch.tensor([0]))
    dense = {role: measure(setup, setup.dense.model, role).by_sample() for role in roles}
    rows = []
    for name, loaded in (DENSE, setup.dense), *((_name(share), _cut(setup, share)) for share in SHARES):
        with forms(loaded, setup.task, example) as made:
            for form, (model, stored) in made.items():
                row: Row = {"model": name, "form": form, "bytes": stored}
                for role in roles:
                    right = measure(setup, model, role).by_sample()
                    difference = paired(right, dense[role])
                    points = [difference.points, difference.low, difference.high]
                    row[role.value] = {"accuracy": 100 * float(right.mean()), "points": points}
                rows.append(row)
                print(name, form, {role.value: row[role.value] for role in roles}, flush=True)
    return {"rows": rows}


def _cut(setup: Setup, share: float) -> LoadedModel:
    """By the preset `best`, once, without training."""
    pruning = {**_asked(share), "schedule": {"steps": 1}, "calibration": {"samples": setup.calibration_samples}}
    spec = EngineSpec.model_validate({"pruning": pruning, "finetune": None})
    spec = settled(spec, setup.described.shape, setup.dense.widths, setup.described.architecture.head)
    quiet = Reporter(lambda _event: None, 1, {})
    cutting = Cutting(spec, setup.described, setup.data, setup.task, setup.device, quiet)
    return cutting.prune(cutting.score(setup.dense, 1), share)[0]


def _machine(found: Mapping[str, Any]) -> str:
    return ", ".join(f"{part} {value}" for part, value in found["machine"].items())


def _interval(found: Sequence[float], form: str) -> str:
    value, low, high = found
    return f"{value:{form}} ({low:{form}} to {high:{form}})"


def _table(head: Sequence[str], words: int, rows: Iterable[Sequence[str]]) -> list[str]:
    """In Markdown; all but the first `words` columns are of numbers."""
    return [
        f"| {' | '.join(head)} |",
        "|" + "---|" * words + "---:|" * (len(head) - words),
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


def page(results: Row) -> str:
    """The page, of everything that was measured."""
    lines = [
        "# Eight bits after a cut",
        "",
        "A pruned model is an ordinary model, and can be quantized in a second step. This page measures dense and pruned",
        "models in torch, as the ONNX files in float32 and in eight bits that a job writes (`exports`), and quantized by",
        "torchao 0.18 (`Int8WeightOnlyConfig` and `Int8DynamicActivationInt8WeightConfig`, which are `torchao_int8_weights`",
        "and `torchao_int8` of a job), without `torch.compile`. Written by `python -m benchmarks.eight_bits`.",
    ]  # fmt: skip
    if "time" in results:
        lines += [
            "",
            "## Time and size",
            "",
            f"An AST (shape `{results['time']['shape']}` of `benchmarks.latency`) with random weights, {TOKENS} tokens, one",
            "thread, processor time. The speed-up is that over the dense model in torch's float32, with its 95% interval; all",
            "models are timed in turn in one run. MB is the size of the stored weights.",
            "",
            *_table(
                ("model", "form", "batch 1", "batch 8", "MB", "times smaller"), 2, _time_rows(results["time"]["rows"])
            ),
            "",
            f"Machine: {_machine(results['time'])}.",
        ]
    if "accuracy" in results:
        rows = results["accuracy"]["rows"]
        roles = [role.value for role in (Split.VALIDATION, Split.TEST) if role.value in rows[0]]
        head = ("model", "form", "MB", *(word for role in roles for word in (role, "points")))
        lines += [
            "",
            "## Accuracy",
            "",
            "An AST trained on spoken words ([its page](arabic-speech-commands.md)), cut once by the preset `best`, without",
            f"training, with {SAMPLES} calibration samples. Points are the difference from the dense model in torch's float32,",
            "with the 95% interval (paired bootstrap over clips).",
            "",
            *_table(head, 2, _accuracy_rows(rows, roles)),
            "",
            f"Machine: {_machine(results['accuracy'])}.",
        ]
    if {"time", "accuracy"} <= results.keys():
        lines += [
            "",
            "## Goals",
            "",
            f"At least {FASTER:g} times as fast and {SMALLER:g} times smaller, with at most {LOST:g} point lost, on one",
            "processor. Time and size are those of the AST-base, points those of the trained AST on the last split above.",
            "",
            *_table(("model", "form", "batch 1", "batch 8", "times smaller", "points", "met"), 2, _goals(results)),
        ]
    return "\n".join([*lines, ""])


def _time_rows(rows: Sequence[Row]) -> Iterator[Sequence[str]]:
    for row in rows:
        speeds = (_interval(row[f"batch {size}"], ".2f") for size in BATCHES)
        smaller = rows[0]["bytes"] / row["bytes"]
        yield row["model"], row["form"], *speeds, f"{row['bytes'] / 1e6:.1f}", f"{smaller:.1f}"


def _accuracy_rows(rows: Sequence[Row], roles: Sequence[str]) -> Iterator[Sequence[str]]:
    for row in rows:
        found = (row[role] for role in roles)
        told = (word for each in found for word in (f"{each['accuracy']:.1f}", _interval(each["points"], "+.2f")))
        yield row["model"], row["form"], f"{row['bytes'] / 1e6:.1f}", *told


def _goals(results: Row) -> Iterator[Sequence[str]]:
    """Cut and quantized, beside what was aimed at."""
    whole = results["time"]["rows"][0]["bytes"]
    lost = {(row["model"], row["form"]): row for row in results["accuracy"]["rows"]}
    for row in results["time"]["rows"]:
        if row["model"] == DENSE or row["form"] == FLOAT32:
            continue
        accuracy = lost[row["model"], row["form"]]
        points = accuracy.get(Split.TEST.value, accuracy[Split.VALIDATION.value])["points"][0]
        speeds, smaller = [row[f"batch {size}"][0] for size in BATCHES], whole / row["bytes"]
        met = min(speeds) >= FASTER and smaller >= SMALLER and points >= -LOST
        yield (
            row["model"], row["form"], *(f"{speed:.2f}" for speed in speeds), f"{smaller:.1f}", f"{points:+.2f}",
            "yes" if met else "no",
        )  # fmt: skip


def main() -> None:
    """Measure one half, and write what there is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("time", "accuracy"))
    parser.add_argument("--model", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--cache", type=Path, help="where features are kept, from run to run")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--shape", choices=SHAPES, default="base")
    parser.add_argument("--seconds", type=float, default=120.0, help="of timing, a batch size")
    parser.add_argument("--test", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    file = arguments.out / "eight-bits.json"
    results: Row = json.loads(file.read_text()) if file.exists() else {}
    if arguments.what == "time":
        found = by_time(arguments.shape, arguments.seconds)
    else:
        setup = load_setup(
            arguments.model,
            arguments.data,
            arguments.cache,
            device="cpu",
            calibration_samples=SAMPLES,
            measured_samples=None,
        )
        found = by_accuracy(setup, test=arguments.test)
    results[arguments.what] = {
        **found,
        "machine": describe(torch.device("cpu"), ("torch", "transformers", "onnxruntime")),
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(results, indent=1) + "\n")
    (arguments.out / "eight-bits.md").write_text(page(results))


if __name__ == "__main__":
    main()
