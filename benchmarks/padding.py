"""What padding is worth where inputs differ in length: batches of one length each, as training and measuring once had them,
beside batches of similar lengths, filled up and masked.

Random models and inputs; lengths as they come: texts as long as the docstrings of installed packages, clips as long as short
sentences are spoken, transcripts as long as these. Both ways in turn, round by round, in one process; times are its own
(user and system), and of each round their ratio is taken. Writes FOLDER/padding.json, and the page from it.

    python -m benchmarks.padding --out FOLDER [--rounds 2]
"""

import argparse
import ast
import json
import statistics
import sysconfig
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    PreTrainedModel,
    Wav2Vec2Config,
    Wav2Vec2ForCTC,
    WhisperConfig,
    WhisperForConditionalGeneration,
)

from benchmarks.race.machine import describe
from checkpoints.families import FAMILIES
from worker.engine.data.split import Column, FeatureSplit, Ragged
from worker.engine.models.model_spec import ModelSpec
from worker.engine.recovery.objective import Objective
from worker.engine.tasks import Task
from worker.engine.tasks.classification import Classification
from worker.engine.tasks.ctc import Ctc
from worker.engine.tasks.padding import real_positions
from worker.engine.tasks.sequences import SequenceToSequence

BATCH = 32
CPU = torch.device("cpu")
PACKAGES = ("numpy", "peft", "transformers")
TEXTS, CLIPS = 500, 96
MOST_TOKENS, WORDS, LETTERS = 512, 4000, 32
SECOND, QUARTER = 16_000, 4_000
SMALL = 8
"""Rows under which a batch is called small."""
Steps = list[list[Tensor]]
Row = dict[str, Any]
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Case:
    """A model, its task, which says how it is padded, and rows of several lengths."""

    model: PreTrainedModel
    task: Task
    split: FeatureSplit

    @property
    def padded(self) -> FeatureSplit:
        return self.split.padded(self.task.padding)


def docstring_lengths() -> NDArray[np.int64]:
    """Words of every docstring of PACKAGES, with two special tokens, as many as a text is cut to at most."""
    found = []
    for package in PACKAGES:
        for path in sorted((Path(sysconfig.get_path("purelib")) / package).rglob("*.py")):
            try:
                tree = ast.parse(path.read_bytes())
            except SyntaxError:  # written for another Python
                continue
            nodes = (node for node in ast.walk(tree) if isinstance(node, _DOCUMENTED))
            found += [len(text.split()) for node in nodes if (text := ast.get_docstring(node))]
    return np.array([min(words + 2, MOST_TOKENS) for words in found], np.int64)


def _clip_lengths(random: np.random.Generator) -> NDArray[np.int64]:
    """Samples: one to eight seconds, most of them about three, to the quarter of a second that clips are lengthened to."""
    seconds = np.clip(random.lognormal(np.log(3.0), 0.5, CLIPS), 1.0, 8.0)
    return (np.ceil(seconds * SECOND / QUARTER) * QUARTER).astype(np.int64)


def texts() -> Case:
    """BERT for texts, 2 layers 256 wide."""
    random = np.random.default_rng(0)
    lengths = random.choice(docstring_lengths(), TEXTS, replace=False)
    config = BertConfig(
        vocab_size=WORDS,
        hidden_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=1024,
        id2label=dict(enumerate("abcd")),
    )
    ids = Ragged.of([random.integers(1, WORDS, length) for length in lengths])
    split = FeatureSplit({"input_ids": ids}, torch.from_numpy(random.integers(0, 4, TEXTS)))
    return _case(BertForSequenceClassification(config), Classification(several=False), split)


def clips(norm: str) -> Case:
    """wav2vec 2.0 with CTC, 2 layers 256 wide, 32 channels of convolutions."""
    random = np.random.default_rng(1)
    lengths = _clip_lengths(random)
    config = Wav2Vec2Config(
        vocab_size=LETTERS, hidden_size=256, num_hidden_layers=2, num_attention_heads=4, intermediate_size=1024,
        conv_dim=(32,) * 7, feat_extract_norm=norm, apply_spec_augment=False, layerdrop=0.0, num_conv_pos_embeddings=64,
    )  # fmt: skip
    waves = Ragged.of([random.standard_normal(length, np.float32) for length in lengths])
    said = Ragged.of([random.integers(1, LETTERS, max(1, 12 * length // SECOND)) for length in lengths])
    return _case(Wav2Vec2ForCTC(config), Ctc(blank=0, decode=str), FeatureSplit({"input_values": waves}, said))


def speech() -> Case:
    """Whisper, 2 and 2 layers 256 wide; five seconds whatever is said in them."""
    random = np.random.default_rng(2)
    config = WhisperConfig(
        vocab_size=WORDS, d_model=256, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=1024, decoder_ffn_dim=1024, max_source_positions=250,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=3, begin_suppress_tokens=None,
    )  # fmt: skip
    features = random.standard_normal((CLIPS, config.num_mel_bins, 500), np.float32)
    written = [random.integers(4, WORDS, 4 + 4 * length // SECOND) for length in _clip_lengths(random)]
    inputs: dict[str, Column] = {"input_features": features, "decoder_input_ids": Ragged.of(written)}
    return _case(
        WhisperForConditionalGeneration(config),
        SequenceToSequence(decode=str),
        FeatureSplit(inputs, Ragged.of(written)),
    )


CASES: dict[str, Callable[[], Case]] = {
    "texts": texts,
    "clips, norm by frame": lambda: clips("layer"),
    "clips, norm over all frames": lambda: clips("group"),
    "Whisper": speech,
}


def _case(model: PreTrainedModel, task: Task, split: FeatureSplit) -> Case:
    name = type(model).__name__
    family = next(family for family in FAMILIES if name in family.architectures)
    task.padding = ModelSpec(family, name).padding_of(model)
    return Case(model, task, split)


def train(case: Case, split: FeatureSplit, steps: Steps) -> None:
    """An epoch of all weights."""
    model = case.model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    objective = Objective(model, CPU, case.task, None, None)
    for step in steps:
        optimizer.zero_grad(set_to_none=True)
        objective.backward([split.batch(numbers) for numbers in step])
        optimizer.step()


def measure(case: Case, split: FeatureSplit, passes: list[Tensor]) -> None:
    """Answers and losses of all rows."""
    model = case.model.eval()
    with torch.inference_mode():
        for numbers in passes:
            inputs, targets = split.batch(numbers)
            case.task.loss(case.task.outputs(model, inputs), targets, real_positions(model, inputs))


@dataclass(frozen=True)
class Way:
    """What an epoch and a measurement consist of."""

    trained: FeatureSplit
    steps: Steps
    measured: FeatureSplit
    passes: list[Tensor]


def ways(case: Case) -> dict[str, Way]:
    """Before and after. Where Whisper was measured, texts were filled up already."""
    order = torch.randperm(len(case.split), generator=torch.Generator().manual_seed(0))
    measured, padded = case.padded if case.task.given else case.split, case.padded
    steps = [[part] for part in case.split.batches(BATCH, order)]
    return {
        "before": Way(case.split, steps, measured, measured.batches(BATCH)),
        "after": Way(padded, padded.steps(BATCH, order), padded, padded.passes(BATCH)),
    }


def filled(case: Case, steps: Steps) -> float:
    """Share of what passes through the model in training that is padding."""
    lengths = case.padded.lengths
    held = sum(len(numbers) * int(lengths[numbers].max()) for step in steps for numbers in step)
    return 1.0 - float(lengths.sum()) / held if held else 0.0


def compare(case: Case, rounds: int) -> Row:
    """Counts of both ways, and the ratios of their times, after to before, by round."""
    found: Row = {"rows": len(case.split)}
    both = ways(case)
    for name, way in both.items():
        held = np.array([sum(map(len, step)) for step in way.steps])
        found[name] = {
            "steps": len(way.steps),
            "small": float((held < SMALL).mean()),
            "passes": sum(map(len, way.steps)),
            "filled": filled(case, way.steps),
            "measured_passes": len(way.passes),
        }
    ratios: dict[str, list[float]] = {"training": [], "measuring": []}
    for number in range(rounds):
        seconds: dict[str, list[float]] = {}
        for name, way in list(both.items())[:: 1 if number % 2 else -1]:
            times = [time.process_time()]
            train(case, way.trained, way.steps)
            times.append(time.process_time())
            measure(case, way.measured, way.passes)
            times.append(time.process_time())
            seconds[name] = np.diff(times).tolist()
        for place, each in enumerate(ratios.values()):
            each.append(seconds["after"][place] / seconds["before"][place])
        print(number, seconds, flush=True)
    return found | {"ratios": ratios}


def page(results: Row) -> str:
    """The page, of everything that was measured."""
    machine = ", ".join(f"{part} {value}" for part, value in results["machine"].items())
    lines = [
        "# What padding gains",
        "",
        f"Rows of many lengths in batches of {BATCH}. Before, all rows of a batch had the same length. After",
        "([why](../adr/0037-padding.md)), a batch holds rows of similar lengths, which are padded and masked where that does not",
        "change the outputs. The models have random weights:",
        "",
        f"- BERT, 2 layers, width 256, on texts as long as the docstrings of {', '.join(PACKAGES)};",
        "- wav2vec 2.0 with CTC, 2 layers, width 256, on clips of 1 to 8 seconds. With `feat_extract_norm` `layer`",
        "  (normalised by frame) clips are padded; with `group` (over all frames) they are not, since the silence would",
        "  change the outputs;",
        "- Whisper, 2 encoder and 2 decoder layers, width 256. Its encoder always gets five seconds.",
        "",
        f"Small batches have fewer than {SMALL} rows. Times are ratios of processor seconds, after / before: the median of",
        f"{results['rounds']} rounds, with the smallest and the largest. Written by `python -m benchmarks.padding`.",
        "",
        f"Machine: {machine}.",
        "",
        "| | rows | steps per epoch | small batches | passes | padding | time of an epoch | time of an evaluation |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, row in results["cases"].items():
        before, after = row["before"], row["after"]
        cells = [name, str(row["rows"])]
        cells.append(f"{before['steps']} → {after['steps']}")
        cells.append(f"{before['small']:.0%} → {after['small']:.0%}")
        cells.append(f"{before['passes']} → {after['passes']}")
        cells.append(f"{after['filled']:.1%}")
        cells += [
            f"{statistics.median(each):.2f} ({min(each):.2f} to {max(each):.2f})" for each in row["ratios"].values()
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def main() -> None:
    """Measure, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results: Row = {
        "machine": describe(CPU, ("torch", "transformers", "numpy")),
        "rounds": arguments.rounds,
        "cases": {},
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, make in CASES.items():
        torch.manual_seed(0)
        print(name, flush=True)
        results["cases"][name] = compare(make(), arguments.rounds)
        (arguments.out / "padding.json").write_text(json.dumps(results, indent=1) + "\n")
        (arguments.out / "padding.md").write_text(page(results))


if __name__ == "__main__":
    main()
