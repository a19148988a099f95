"""The arms on a tiny Whisper: the encoder's size is met and its decoder kept, and what is measured is not measured again."""

import json
from pathlib import Path

import pytest
import torch

from api_schemas.enums import Split
from benchmarks.whisper.__main__ import Arms
from benchmarks.whisper.judging import encoder_parameters
from benchmarks.whisper.ours import Cutter, encoder_alone
from benchmarks.whisper.setup import Setup, prepared
from checkpoints.describe import describe_folder
from tests.support.checkpoints.rows import write_splits
from tests.unit.engine.jobs.test_every_task import CASES, checkpoint
from worker.engine.checkpoint.load import load_original
from worker.engine.tasks.sequences import SequenceToSequence


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    place = tmp_path_factory.mktemp("whisper")
    case = next(case for case in CASES if case.files == "whisper")
    model, data = checkpoint(case, place / "model"), write_splits(place / "data", *case.data())
    described = describe_folder(model)
    read = prepared(data, model, described, place / "cache")
    assert read.decode is not None
    task = SequenceToSequence(decode=read.decode, normalize=read.normalize)
    tests = {"synthesised": read.splits[Split.TEST], "real": read.splits[Split.VALIDATION]}
    return Setup(model, described, load_original(model), read, tests, task)


def test_an_encoder_of_the_size_asked_for_beside_the_decoder_as_it_was(setup: Setup) -> None:
    whole = encoder_parameters(setup.dense.model, setup.task)
    wanted = round(0.8 * whole)
    target, changes = encoder_alone(setup, wanted)
    cutter = Cutter(setup)
    cut = cutter.cut(target, changes)
    assert encoder_parameters(cut.model, setup.task) == pytest.approx(wanted, abs=60)
    layers = setup.dense.model.config.encoder_layers
    assert cut.widths.layers[layers:] == setup.dense.widths.layers[layers:]
    original = setup.dense.model.state_dict()
    seconds = {name: tensor for name, tensor in cut.model.state_dict().items() if "decoder" in name and ".fc2." in name}
    assert seconds
    assert all(torch.equal(tensor, original[name]) for name, tensor in seconds.items())
    attention = cutter.cut({"attention_sparsity": 0.5}, {})
    assert attention.widths.feed_forward == setup.dense.widths.feed_forward
    before = {name: tensor.clone() for name, tensor in cut.model.state_dict().items()}
    after = cutter.recovered(cut, feed_forward=True).model.state_dict()
    assert any(not torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_what_is_measured_is_kept(setup: Setup, tmp_path: Path) -> None:
    made: list[int] = []

    def make() -> tuple[torch.nn.Module, dict[str, object]]:
        made.append(1)
        return setup.dense.model, {"target": 1}

    for _ in range(2):
        arms = Arms(setup, tmp_path)
        arms.measure("50% of it", make)
    assert made == [1]
    (path,) = tmp_path.glob("*.json")
    found = arms.found["50% of it"]
    assert json.loads(path.read_text()) == found
    assert found["speed"]["low"] <= found["speed"]["ratio"] <= found["speed"]["high"]
    assert len(found["words"]["real"]["wanted"]) == len(setup.tests["real"])
