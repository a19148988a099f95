"""A whole job of every class: analysed, cut twice, recovered, exported, loaded by a fresh process, measured by its own metric.

The gate has a class of every head of every modality; what the others add is their attention and shapes, which the matrix has.
"""

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from api_schemas.enums import Head, Modality
from api_schemas.results.events import DataReady, EngineEvent, Finished, Started
from api_schemas.results.metrics import Scores
from api_schemas.spec.job import EngineSpec
from checkpoints.families import FAMILIES
from tests.families.folders import ARCHITECTURES, data_folder, model_folder
from tests.families.fresh_process import PIPELINES, check_pipeline
from tests.support.families import HEADS
from tests.support.gate import WHOLE
from tests.support.jobs.engine import run_job, steps_of
from worker.engine.checkpoint.load import load_step

METRICS: Mapping[Head, str] = {
    Head.CLASSIFICATION: "accuracy",
    Head.TOKEN_CLASSIFICATION: "token_accuracy",
    Head.CTC: "word_error_rate",
    Head.SEQUENCE_TO_SEQUENCE: "word_error_rate",
    Head.EMBEDDING: "cosine_similarity",
    Head.MASKED_LM: "masked_accuracy",
    Head.CAUSAL_LM: "next_token_accuracy",
    Head.HIDDEN_STATES: "cosine_similarity",
    Head.QUESTION_ANSWERING: "f1",
}
SHARE = 0.4
STOCK = (
    "ViTForImageClassification", "DeiTForImageClassification", "DeiTForImageClassificationWithTeacher", "ViTModel", "DeiTModel",
)  # fmt: skip
"""These are asked for the layout that needs no code."""
RESUMED = ("BertForSequenceClassification", "WhisperForConditionalGeneration")
AGAIN = "BertForSequenceClassification"
"""Its result is pruned further."""
EXPORTED = ("WavLMForSequenceClassification", "GPT2LMHeadModel", "BertForQuestionAnswering")
"""Cut models of these the gate exports here: attention with a bias of its own, a model that writes, and one with two answers. The
exporter takes as long as all the rest of a job; the pages of the cookbook have five more, and tests/unit/engine/families the same
function before the exporter sees it, of every class.
"""
FAMILY_OF = {name: family for family in FAMILIES for name in family.architectures}


def exports_of(name: str) -> list[str]:
    writes = FAMILY_OF[name].architectures[name].head is Head.SEQUENCE_TO_SEQUENCE
    return ["onnx"] if not writes and not name.startswith("SEW") and (WHOLE or name in EXPORTED) else []


def spec_for(name: str) -> EngineSpec:
    stock = {"granularity": "per_head", "layout": "stock"} if name in STOCK else {}
    return EngineSpec.model_validate({
        "pruning": {
            "target": {"attention_sparsity": SHARE}, "schedule": {"steps": 2}, **stock,
            "calibration": {"split": "train", "samples": 32, "labels": "model", "draws": 1},
        },
        "finetune": {"epochs": 1, "distill": {"weight": 0.5}, "only_if_better": False},
        "evaluate": {"latency_batch_sizes": [], "sensitivity_samples": 8},
        "exports": exports_of(name),
        "seed": 5,
    })  # fmt: skip


def job(name: str, out: Path, resume: int | None = None) -> list[EngineEvent]:
    return run_job(out, spec_for(name), model=model_folder(name), data=data_folder(name), resume=resume)


def measured(scores: Scores) -> set[str]:
    """Which of the tasks' metrics are set."""
    return {field for field in METRICS.values() if getattr(scores, field) is not None}


def test_every_head_of_every_modality_is_in_the_gate() -> None:
    def heads(names: Iterable[str]) -> set[tuple[Modality, Head]]:
        return {(FAMILY_OF[name].modality, FAMILY_OF[name].architectures[name].head) for name in names}

    assert heads(HEADS) == heads(ARCHITECTURES)


@pytest.mark.parametrize("name", ARCHITECTURES if WHOLE else HEADS)
def test_a_whole_job(name: str, tmp_path: Path) -> None:
    head = FAMILY_OF[name].architectures[name].head
    said = job(name, tmp_path)
    assert isinstance(said[-1], Finished)
    assert sum(isinstance(event, DataReady) for event in said) == 1
    dense, *cut = steps = steps_of(said)
    assert [step.step for step in steps] == [0, 1, 2]
    assert [step.test is not None for step in steps] == [True, False, True]
    assert dense.sensitivity is not None
    assert len(dense.sensitivity.layers) == len(dense.widths.layers)
    for step in steps:
        assert measured(step.validation) == {METRICS[head]}
        assert step.validation.metric is not None
    for step in cut:
        assert step.target is not None
        assert abs(step.target.achieved - SHARE * step.step / 2) < 0.06  # a head is a sixteenth at most
        assert step.validation_before_recovery is not None
        assert len(step.losses) == 1
        assert step.lora_ranks
        assert step.reload_max_abs_error is not None
        assert step.stock_layout == (name in STOCK)
        # The gate's bound is a share of the largest answer, and none of these is above a hundred.
        assert step.reload_max_abs_error <= 1e-3
        assert bool(list((tmp_path / f"step-{step.step}").glob("*.py"))) == (name not in STOCK)
    assert cut[-1].size.file_bytes < dense.size.file_bytes
    assert [each.format for each in cut[-1].exports] == exports_of(name)
    for each in cut[-1].exports:
        assert measured(each.scores) == {METRICS[head]}
        assert each.agreement > 0.99
    if name in PIPELINES:
        check_pipeline(name, tmp_path / "step-2", tmp_path)
    if name in RESUMED:
        _check_resumed(name, tmp_path)
    if name == AGAIN:
        _check_pruned_again(name, tmp_path)


def _check_pruned_again(name: str, whole: Path) -> None:
    """What the job left is the model of another, as it lies there: with what it has, half of that goes."""
    spec = spec_for(name).model_copy(update={"exports": ()})
    said = run_job(whole / "further", spec, model=whole / "step-2", data=data_folder(name))
    dense, _, cut = steps_of(said)
    assert dense.widths == load_step(whole / "step-2").widths
    assert dense.size.total_parameters == sum(
        tensor.numel() for tensor in load_file(whole / "step-2" / "model.safetensors").values()
    )
    assert (dense.achieved_sparsity, dense.stock_layout) == (0, False)
    assert cut.target is not None
    assert abs(cut.target.achieved - SHARE) < 0.06
    assert cut.size.total_parameters < dense.size.total_parameters
    assert cut.test is not None
    (started,) = [event for event in said if isinstance(event, Started)]
    assert started.family == FAMILY_OF[name].name


def _check_resumed(name: str, whole: Path) -> None:
    """Gone on with after the first step, elsewhere: no bit is different."""
    out = whole / "again"
    shutil.copytree(whole / "step-1", out / "step-1")
    said = job(name, out, resume=1)
    assert [step.step for step in steps_of(said)] == [2]
    for file in ("model.safetensors", "config.json", "pruning.json", "modeling_pruned.py"):
        assert (out / "step-2" / file).read_bytes() == (whole / "step-2" / file).read_bytes(), file
    first, second = (load_file(whole / f"step-{step}" / "model.safetensors") for step in (1, 2))
    assert any(first[key].shape != second[key].shape or not torch.equal(first[key], second[key]) for key in first)
