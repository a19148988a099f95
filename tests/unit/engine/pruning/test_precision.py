"""Scoring as a GPU does it, bfloat16 products and float32 second moments, chooses what float64 throughout chooses."""

import pytest
import torch

from api_schemas.enums import Split
from api_schemas.spec.inputs import Columns, Splits
from api_schemas.spec.job import EngineSpec
from checkpoints.describe import describe_folder
from tests.support.checkpoints.tiny import tiny_data, tiny_model
from worker.engine.checkpoint.load import load_original
from worker.engine.data import prepare
from worker.engine.data.split import placed
from worker.engine.pruning import cutting
from worker.engine.pruning.targets import selection_for
from worker.engine.runtime import precision
from worker.engine.runtime.progress import Reporter
from worker.engine.scoring import observe
from worker.engine.tasks import Classification

CPU, GPU = torch.device("cpu"), torch.device("cuda")
MOST_OTHERS = 0.01
"""Of all channels, those that the two choose differently."""


@pytest.fixture(scope="module")
def described():
    return describe_folder(tiny_model())


@pytest.fixture(scope="module")
def data(described, tmp_path_factory):
    return prepare(
        tiny_data(), tiny_model(), labels=described.labels, multi_label=False, columns=Columns(),
        splits=Splits(), seed=0, cache_dir=tmp_path_factory.mktemp("cache"), progress=lambda *_: None,
    )  # fmt: skip


def observe_in_float64(model, blocks, batches, *arguments, **settings):
    """The model, its inputs and everything that is made of them."""
    model.double()
    exact = ((placed(inputs, CPU, torch.float64), targets) for inputs, targets in batches)
    settings |= {"autocast": None, "moments": torch.float64}
    found = observe(model, blocks, exact, *arguments, **settings)
    model.float()
    return found


@pytest.mark.parametrize(
    "pruning",
    [
        {"calibration": {"samples": 128, "split": Split.TRAIN}},
        {"preset": "paper"},
        {"preset": "paper", "granularity": "ragged"},
        {"preset": "paper", "granularity": "ragged", "criterion": "energy"},
    ],
    ids=["best", "paper", "ragged", "energy"],
)
def test_half_precision_keeps_what_float64_keeps(described, data, pruning, monkeypatch):
    share = 0.5
    spec = EngineSpec.model_validate(
        {"pruning": {"target": {"attention_sparsity": share}, **pruning}, "finetune": None}
    )
    task, reporter = Classification(several=False), Reporter(lambda _: None, 1, {})
    way = cutting.Cutting(spec, described, data, task, CPU, reporter)
    monkeypatch.setattr(cutting, "native_half", lambda _device: torch.bfloat16)
    monkeypatch.setattr(cutting, "moment_dtype", lambda _device: torch.float32)
    found, scores = [], []
    for look in (observe_in_float64, observe):
        monkeypatch.setattr(cutting, "observe", look)
        scored = way.score(load_original(tiny_model()), 1)
        kept = selection_for(scored.scores, scored.loaded.widths, described.shape, spec.pruning, share=share)
        found.append(
            {
                (layer, head.head, side, channel)
                for layer, heads in enumerate(kept.heads)
                for head in heads
                for side, channels in (("qk", head.qk), ("vo", head.vo))
                for channel in channels
            }
        )
        scores.append(torch.cat([vector for layer in scored.scores for vector in (*layer.qk, *layer.vo)]))
    exact, rough = scores
    assert 1e-4 < (exact - rough).norm() / exact.norm() < 0.05, "it is the rough ones that are compared"
    of_all = 2 * sum(sum(layer.qk) for layer in described.widths.layers)
    assert len(found[0] - found[1]) <= MOST_OTHERS * of_all
    assert len(found[1] - found[0]) <= MOST_OTHERS * of_all


@pytest.mark.parametrize(
    ("capability", "moments"),
    [
        ((7, 5), torch.float32),
        ((8, 0), torch.float64),
        ((8, 6), torch.float32),
        ((9, 0), torch.float64),
        ((12, 0), torch.float32),
    ],
    ids=["T4", "A100", "RTX 3090", "H100", "RTX 5090"],
)
def test_a_gpu_is_asked_what_it_is_fast_at(capability, moments, monkeypatch):
    native = capability >= (8, 0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: capability)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native or including_emulation)
    assert precision.native_half(GPU) == (torch.bfloat16 if native else None)
    assert precision.moment_dtype(GPU) == moments


def test_a_cpu_computes_as_the_weights_are_and_sums_in_float64():
    assert precision.native_half(CPU) is None
    assert precision.moment_dtype(CPU) is torch.float64
