"""Sensitivity: each layer cut alone, compared with masking by hand, and a job that does not come out different for it."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from api_schemas.enums import Criterion, TargetKind
from api_schemas.results.events import EngineEvent, PhaseChanged, StepDone
from api_schemas.results.metrics import Scores, Sensitivity
from api_schemas.spec.job import EngineSpec
from api_schemas.spec.pruning import Pruning
from checkpoints.sizes.cost_model import SENSITIVITY_SHARES
from tests.support.jobs.engine import identity, run_job
from tests.unit.engine.small import CLASSES, HEAD_DIM, HEADS, LAYERS, inputs, small_model, small_shape
from worker.engine.checkpoint.load import LoadedModel
from worker.engine.data.split import FeatureSplit
from worker.engine.evaluate import evaluate
from worker.engine.models.attention import attention_blocks
from worker.engine.pruning.cutting import ScoredModel
from worker.engine.pruning.selection import KeptHeads, widths_of
from worker.engine.pruning.sensitivity import analyse
from worker.engine.pruning.surgery import cut
from worker.engine.scoring import score
from worker.engine.tasks import Classification

CPU = torch.device("cpu")
SAMPLES = 12


@pytest.fixture(scope="module")
def dense() -> LoadedModel:
    return small_model()


@pytest.fixture(scope="module")
def split() -> FeatureSplit:
    return FeatureSplit({"input_values": inputs(SAMPLES).numpy()}, torch.arange(SAMPLES) % CLASSES)


def analysed(dense: LoadedModel, split: FeatureSplit, **pruning: object) -> tuple[Sensitivity, list[KeptHeads]]:
    """The analysis by magnitude, and every cut that was made for it."""
    given = {"preset": "paper", "target": {"attention_sparsity": 0.5}, "criterion": "magnitude", **pruning}
    spec = Pruning.model_validate(given)
    blocks = attention_blocks(dense.model, dense.model_spec, dense.widths)
    scored = ScoredModel(dense, score(Criterion.MAGNITUDE, blocks, observed=None, seed=0), (), None, None, None)
    made: list[KeptHeads] = []

    def apply(keep: KeptHeads) -> LoadedModel:
        made.append(keep)
        model = cut(dense.model, dense.model_spec, dense.widths, keep)
        return LoadedModel(model, dense.model_spec, widths_of(keep, dense.widths), dense.dtype)

    def measure(loaded: LoadedModel) -> Scores:
        return evaluate(loaded.model, split, Classification(several=False), batch_size=8, device=CPU)

    return analyse(scored, small_shape(), spec, apply=apply, evaluate=measure, progress=lambda *_: None), made


def masked(dense: LoadedModel, split: FeatureSplit, layer: int, heads: list[int]) -> tuple[float, float]:
    """(accuracy, cross entropy) with these heads' columns of W_o set to zero, by hand."""
    model = copy.deepcopy(dense.model)
    output = model.get_submodule(f"audio_spectrogram_transformer.layers.{layer}.attention.o_proj")
    with torch.no_grad():
        for head in heads:
            output.weight[:, head * HEAD_DIM : (head + 1) * HEAD_DIM] = 0
        logits = model(torch.from_numpy(split.inputs["input_values"])).logits
    accuracy = (logits.argmax(1) == split.targets).double().mean()
    return float(accuracy), float(F.cross_entropy(logits.double(), split.targets))


def test_heads_removed_from_one_layer_are_those_heads_masked(dense: LoadedModel, split: FeatureSplit) -> None:
    found, _ = analysed(dense, split, granularity="entire_head")
    assert (found.samples, found.shares) == (SAMPLES, SENSITIVITY_SHARES)
    assert [layer.layer for layer in found.layers] == list(range(LAYERS))
    accuracy, cross_entropy = masked(dense, split, 0, [])
    assert found.dense_metric == pytest.approx(accuracy)
    assert found.dense_cross_entropy == pytest.approx(cross_entropy, rel=1e-5)
    for row, block in zip(found.layers, attention_blocks(dense.model, dense.model_spec, dense.widths), strict=True):
        weights = [
            np.concatenate([
                (part.T if side == "o" else part).detach().numpy().reshape(HEADS, -1)
                for side in "qkvo"
                for part in (
                    [block.projections[side].weight]
                    + ([block.projections[side].bias[:, None]] if side != "o" else [])
                )
            ], axis=1)
        ][0]  # fmt: skip
        order = np.argsort(np.linalg.norm(weights, axis=1))
        for column, count in enumerate((1, 2, 3)):
            accuracy, cross_entropy = masked(dense, split, row.layer, list(order[:count]))
            assert row.metric[column] == pytest.approx(accuracy)
            assert row.cross_entropy[column] == pytest.approx(cross_entropy, rel=1e-4)
            # The output bias stays: a little less than the share that was asked for.
            assert row.removed[column] == pytest.approx(SENSITIVITY_SHARES[column], abs=0.01)


@pytest.mark.parametrize("granularity", ["same_channel", "per_head", "ragged", "head_and_channel", "head_and_width"])
def test_every_granularity_cuts_one_layer_alone(dense: LoadedModel, split: FeatureSplit, granularity: str) -> None:
    found, made = analysed(dense, split, granularity=granularity)
    assert len(made) == LAYERS * len(SENSITIVITY_SHARES)
    for number, keep in enumerate(made):
        whole = [layer for layer, heads in enumerate(keep) if sum(len(h.qk) + len(h.vo) for h in heads) == 2 * 32]
        assert whole == [layer for layer in range(LAYERS) if layer != number // len(SENSITIVITY_SHARES)]
    for row in found.layers:
        assert row.removed == pytest.approx(SENSITIVITY_SHARES, abs=0.07)


def test_what_comes_to_the_same_cut_is_measured_once(dense: LoadedModel, split: FeatureSplit) -> None:
    """With three heads of four kept, every share comes to one head."""
    found, made = analysed(dense, split, granularity="entire_head", min_heads=3)
    assert len(made) == LAYERS
    for row in found.layers:
        assert row.removed == pytest.approx([0.25] * 3, abs=0.01)
        assert len(set(row.cross_entropy)) == 1


def test_layers_that_the_job_leaves_out_are_analysed_too(dense: LoadedModel, split: FeatureSplit) -> None:
    found, _ = analysed(dense, split, granularity="per_head", exclude_layers=[0, 2])
    assert found == analysed(dense, split, granularity="per_head")[0]
    assert all(removed > 0.2 for row in found.layers for removed in row.removed)


@pytest.mark.parametrize("changes", [{"layout": "stock"}, {"scope": "local"}, {"balance": "equal"}, {"align": 8}])
def test_the_jobs_own_settings_hold(dense: LoadedModel, split: FeatureSplit, changes: dict[str, str]) -> None:
    _, made = analysed(dense, split, granularity="per_head", **changes)
    for number, keep in enumerate(made):
        heads = keep[number // len(SENSITIVITY_SHARES)]
        if changes.get("layout") == "stock" or changes.get("balance") == "equal":
            assert {len(head.qk) for head in heads} == {len(head.vo) for head in heads}
        if "align" in changes:
            assert all(len(head.qk) % 8 == len(head.vo) % 8 == 0 for head in heads)


def test_targets_of_other_kinds_are_analysed_by_attention_sparsity(dense: LoadedModel, split: FeatureSplit) -> None:
    plain, _ = analysed(dense, split, granularity="per_head")
    for kind in (TargetKind.PARAMETERS, TargetKind.FLOPS, TargetKind.LATENCY):
        assert analysed(dense, split, granularity="per_head", target={kind: 0.2})[0] == plain


def test_the_samples_are_drawn_by_seed(split: FeatureSplit) -> None:
    drawn = split.random_subset(5, seed=1)
    assert len(drawn) == 5
    assert np.array_equal(drawn.inputs["input_values"], split.random_subset(5, seed=1).inputs["input_values"])
    assert not np.array_equal(drawn.inputs["input_values"], split.random_subset(5, seed=2).inputs["input_values"])
    assert split.random_subset(SAMPLES, seed=1) is split


def prune(out: Path, samples: int | None, resume: int | None = None) -> list[EngineEvent]:
    spec = EngineSpec.model_validate({
        "pruning": {
            "preset": "paper", "target": {"attention_sparsity": 0.5}, "granularity": "per_head", "schedule": {"steps": 1},
            "calibration": {"samples": 40},
        },
        "finetune": None,
        "evaluate": {"latency_batch_sizes": [], "sensitivity_samples": samples},
        "deterministic": False,
    })  # fmt: skip
    return run_job(out, spec, fresh_process=False, resume=resume)


def test_a_job_says_it_and_comes_out_the_same(tmp_path: Path) -> None:
    """With the analysis, without it, and taken up after it: step 1's weights are the same bits."""
    said = prune(tmp_path / "with", 30)
    plain = prune(tmp_path / "without", None)
    first, last = (event.metrics for event in said if isinstance(event, StepDone))
    assert first.sensitivity is not None
    assert first.sensitivity.samples == 30
    assert last.sensitivity is None
    assert all(len(row.metric) == 3 for row in first.sensitivity.layers)
    assert next(event.metrics for event in plain if isinstance(event, StepDone)).sensitivity is None
    phases = [(event.step, event.phase) for event in said if isinstance(event, PhaseChanged)]
    assert phases[:6] == [
        (0, "preparing"), (0, "evaluating"), (0, "scoring"), (0, "analysing"), (1, "pruning"), (1, "finetuning"),
    ]  # fmt: skip
    recorded = json.loads((tmp_path / "with" / "step-1" / "pruning.json").read_text())["results"][0]["sensitivity"]
    assert Sensitivity.model_validate(recorded) == first.sensitivity

    again = tmp_path / "again"
    (again / "step-0").mkdir(parents=True)
    for path in (tmp_path / "with" / "step-0").iterdir():
        (again / "step-0" / path.name).write_bytes(path.read_bytes())
    prune(again, 30, resume=0)
    assert identity(again / "step-1") == identity(tmp_path / "with" / "step-1")
    weights = [folder / "step-1" / "model.safetensors" for folder in (tmp_path / "with", tmp_path / "without")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
