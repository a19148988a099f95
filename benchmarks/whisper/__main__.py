"""A real Whisper, cut: wrong words, speed and encoder parameters, beside LiteASR's low-rank encoder.

    python -m benchmarks.whisper --model CHECKPOINT --out DIR [--lite-asr CHECKOUT] [--job 100] [--write docs/results/whisper.md]

Speech comes from Debian's packages fortunes, flite, espeak-ng and pocketsphinx-testdata (speech.py). Every arm is calibrated on
the same synthesised clips, choices are made on others of them, and the test clips are read for the results alone. What is
measured is kept in DIR/arms, a JSON file an arm, and not measured again.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import WhisperForConditionalGeneration

from api_schemas.enums import Split
from benchmarks.command import shown
from benchmarks.race.machine import describe
from benchmarks.whisper import job
from benchmarks.whisper.judging import BATCH, Words, encoder_parameters, speed, words
from benchmarks.whisper.lite_asr import LiteAsr
from benchmarks.whisper.ours import BOTH, ONE_DRAW, Cutter, encoder_alone
from benchmarks.whisper.page import page
from benchmarks.whisper.setup import CPU, Setup, load_setup
from worker.engine.evaluate import evaluate

SIZES = (6_480_000, 7_000_000, 7_410_000)
"""Encoder parameters of LiteASR's three models of Whisper tiny."""
THRESHOLDS = (0.95, 0.99, 0.999)
"""Of LiteASR's attention; the feed-forward maps' is what meets a size. The best on validation is taken."""
CUTS: dict[str, tuple[dict[str, float], dict[str, Any]]] = {
    "25% of attention": ({"attention_sparsity": 0.25}, {}),
    "50% of attention": ({"attention_sparsity": 0.5}, {}),
    "50% of FLOPs": ({"flops": 0.5}, BOTH),
}
Make = Callable[[], tuple[nn.Module, dict[str, Any]]]
"""A model, and what is to be said of how it was made."""


class Arms:
    """What is measured, kept in a folder."""

    def __init__(self, setup: Setup, folder: Path) -> None:
        self._setup, self._folder = setup, folder
        folder.mkdir(parents=True, exist_ok=True)
        self.found: dict[str, dict[str, Any]] = {}

    def measure(self, name: str, make: Make) -> None:
        """The arm `name`, from its file or anew."""
        path = self._folder / f"{name.replace(' ', '-').replace('%', '')}.json"
        if not path.is_file():
            began = time.process_time()
            model, about = make()
            made = time.process_time() - began
            setup = self._setup
            judged = {test: words(model, split, setup.task).as_json() for test, split in setup.tests.items()}
            window = setup.data.splits[Split.VALIDATION].batch([0])[0]["input_features"]
            row = {
                "about": about,
                "encoder_parameters": encoder_parameters(model, setup.task),
                "parameters": sum(each.numel() for each in model.parameters()),
                "words": judged,
                "speed": asdict(speed(setup.dense.model, model, window, setup.task)),
                "seconds_to_make": round(made, 1),
            }
            path.write_text(json.dumps(row))
        self.found[name] = json.loads(path.read_text())
        rates = {test: f"{Words.from_json(each).rate:.1f}" for test, each in self.found[name]["words"].items()}
        print(f"{name}: WER {rates}, encoder {self.found[name]['encoder_parameters']:,}", flush=True)


class LiteArms:
    """LiteASR's models by encoder parameters. The clips are heard once a run, when the first is made."""

    def __init__(self, setup: Setup, checkout: Path) -> None:
        self._setup, self._checkout = setup, checkout
        self._made: LiteAsr | None = None

    def of_size(self, size: int) -> tuple[nn.Module, dict[str, Any]]:
        """Its model of about so many encoder parameters: of those with different thresholds the best on validation.

        Raises ValueError where there is none.
        """
        if self._made is None:
            stock = WhisperForConditionalGeneration.from_pretrained(self._setup.model, dtype=torch.float32).eval()
            train = self._setup.data.splits[Split.TRAIN]
            clips = torch.cat([train.batch([row])[0]["input_features"] for row in range(len(train))])
            self._made = LiteAsr(self._checkout, stock, clips)
        candidates = self._made.of_size(size, THRESHOLDS, lambda model: encoder_parameters(model, self._setup.task))
        if not candidates:
            raise ValueError(f"LiteASR meets {size:,} encoder parameters with none of {THRESHOLDS}")
        losses = [_loss(self._setup, model) for _, _, model in candidates]
        attention, feed_forward, model = candidates[losses.index(min(losses))]
        return model, {"thresholds": [attention, round(feed_forward, 6)], "validation loss": min(losses)}


def _loss(setup: Setup, model: nn.Module) -> float:
    """On validation, with the texts given."""
    split = setup.data.splits[Split.VALIDATION]
    found = evaluate(model, split, setup.task, batch_size=BATCH, device=CPU, texts=False).cross_entropy
    assert found is not None
    return found


def _ours(setup: Setup, cutter: Cutter, target: Mapping[str, float], changes: Mapping[str, Any], recover: bool) -> Make:
    def make() -> tuple[nn.Module, dict[str, Any]]:
        cut = cutter.cut(target, changes)
        if recover:
            cut = cutter.recovered(cut, feed_forward="parts" in changes)
        return cut.model, {"target": dict(target), "validation loss": _loss(setup, cut.model)}

    return make


def measure(
    setup: Setup,
    arms: Arms,
    checkout: Path | None,
    sizes: Sequence[int],
    cuts: Sequence[str],
    lora: Sequence[str],
    gates: Sequence[str] = (),
) -> None:
    """Everything that is missing. `gates`: cuts that are made by the preset's own criterion as well."""
    arms.measure("dense", lambda: (setup.dense.model, {}))
    cutter, made = Cutter(setup), None if checkout is None else LiteArms(setup, checkout)
    for size in sizes:
        target, changes = encoder_alone(setup, size)
        arms.measure(f"ours, encoder of {size / 1e6:.2f} M", _ours(setup, cutter, target, changes, recover=False))
        if made is not None:
            arms.measure(f"LiteASR, encoder of {size / 1e6:.2f} M", partial(made.of_size, size))
    if setup.further is not None:
        size, clips = min(sizes), len(setup.further.splits[Split.TRAIN])
        target, changes = encoder_alone(setup, size)
        cutter_of_more = Cutter(replace(setup, data=setup.further), ONE_DRAW)
        name = f"ours, encoder of {size / 1e6:.2f} M by {clips} clips"
        arms.measure(name, _ours(setup, cutter_of_more, target, changes, recover=False))
    for recover, names in ((False, cuts), (True, lora)):
        for name in reversed(names):
            target, changes = CUTS[name]
            full = f"ours, {name}{', LoRA' if recover else ''}"
            arms.measure(full, _ours(setup, cutter, target, changes, recover))
    by_gates = Cutter(setup, {"criterion": "fisher_gate"})
    for name in gates:
        target, changes = CUTS[name]
        arms.measure(f"ours, {name} by fisher_gate", _ours(setup, by_gates, target, changes, recover=False))


def measured_job(model: Path, fortunes: Path, out: Path, clips: int) -> dict[str, Any]:
    """A job on so many clips, from its file or anew."""
    path = out / f"job-{clips}.json"
    if not path.is_file():
        path.write_text(json.dumps(job.measure(model, fortunes, out, clips)))
    found: dict[str, Any] = json.loads(path.read_text())
    print(f"job: {found['processor']} s of processor, {found['wall']} s of wall, first estimates {found['estimates']}")
    return found


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.whisper", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model", type=Path, metavar="CHECKPOINT", required=True, help="checkpoint folder of a Whisper"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", required=True, help="where speech, features and arms are kept"
    )
    parser.add_argument("--fortunes", type=Path, default=Path("/usr/share/games/fortunes"))
    parser.add_argument("--sphinx", type=Path, default=Path("/usr/share/pocketsphinx/test/data"))
    parser.add_argument(
        "--lite-asr", type=Path, metavar="CHECKOUT", help="a checkout of efeslab/LiteASR, to run beside ours"
    )
    parser.add_argument("--train", type=int, default=60, help="synthesised clips to calibrate and train on")
    parser.add_argument(
        "--further", type=int, default=0, help="clips more, by which the smallest encoder is calibrated once more"
    )
    parser.add_argument("--validation", type=int, default=20)
    parser.add_argument("--test", type=int, default=105)
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES, help="encoder parameters")
    parser.add_argument("--cuts", nargs="*", default=list(CUTS), choices=list(CUTS), help="of the whole model")
    parser.add_argument("--lora", nargs="*", default=list(CUTS), choices=list(CUTS), help="cuts with recovery")
    parser.add_argument(
        "--gates", nargs="*", default=[], choices=list(CUTS), help="cuts by the preset's criterion as well"
    )
    parser.add_argument("--job", type=int, metavar="CLIPS", help="a whole job on so many clips as well; 5 at least")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="the page; its JSON lies beside it")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    counts = {Split.TRAIN: arguments.train, Split.VALIDATION: arguments.validation, Split.TEST: arguments.test}
    setup = load_setup(
        arguments.model, arguments.fortunes, arguments.sphinx, arguments.out, counts, more=arguments.further
    )
    arms = Arms(setup, arguments.out / "arms")
    load, whole = os.getloadavg()[0], {}
    try:
        asked = (arguments.sizes, arguments.cuts, arguments.lora, arguments.gates)
        measure(setup, arms, arguments.lite_asr, *asked)
        if arguments.job is not None:
            whole = measured_job(arguments.model, arguments.fortunes, arguments.out, arguments.job)
    finally:
        if arguments.write is not None and "dense" in arms.found:
            about = {
                "command": shown(parser, sys.argv[1:]),
                "machine": describe(CPU, ("torch", "transformers", "peft")),
                "load": round(load, 1),
                "clips": {"train": arguments.train, "validation": arguments.validation, "test": arguments.test},
            }
            found = {**about, "arms": arms.found, **({"job": whole} if whole else {})}
            before = arguments.write.read_text() if arguments.write.is_file() else ""
            arguments.write.write_text(page(found, before))
            arguments.write.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
