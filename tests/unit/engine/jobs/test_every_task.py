"""A whole job, offline, for every kind of answer: data read, cut, recovered, written, loaded by a stranger, measured."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
import transformers

from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.spec.job import EngineSpec
from tests.support.checkpoints import preprocessors
from tests.support.checkpoints.clips import encoded, tone
from tests.support.checkpoints.rows import CLIP, TEXT, TEXTS, write_splits
from tests.support.gate import WHOLE
from tests.support.jobs.engine import run_job, steps_of
from worker.engine.run import Inputs, run

SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "initializer_range": 0.2,
}
SMALL_WHISPER = {
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "init_std": 0.2,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
}
REVIEWS = ("the good films", "bad film.", "Ada Lovelace sleeps in London", "a b", "the bad", "good films")
SPOKEN = ("GO UP", "GO DOWN", "LOOK ALL", "ONE TWO THREE")
TAGS = ("O", "PER", "LOC")


def said() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    clips = [encoded(tone(300.0 + 90 * n, seconds=1.0, seed=n)) for n, _ in enumerate(SPOKEN)]
    rows = [{"audio": clip, "text": text} for clip, text in zip(clips, SPOKEN, strict=True)]
    return {"audio": CLIP, "text": TEXT}, rows


def written() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    return {"text": TEXT}, [{"text": text} for text in REVIEWS]


def tagged() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    rows = [{"tokens": text.split(), "ner_tags": [n % 3 for n, _ in enumerate(text.split())]} for text in REVIEWS]
    return {"tokens": TEXTS, "ner_tags": datasets.List(datasets.ClassLabel(names=list(TAGS)))}, rows


@dataclass(frozen=True)
class Case:
    """A class of transformers, its preprocessors, its data, and what it is measured by."""

    name: str
    files: str
    config: dict[str, Any]
    data: Callable[[], tuple[dict[str, Any], list[dict[str, Any]]]]
    metric: str
    exported: bool = False


SMALL_HUBERT = {**SMALL, "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2}
SMALL_GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_inner": 48, "initializer_range": 0.2}
SMALL_LLAMA = {**SMALL, "num_key_value_heads": 2, "initializer_range": 0.2}
SMALL_CODES = {**SMALL_HUBERT, "num_codevectors_per_group": 4, "codevector_dim": 8, "proj_codevector_dim": 6}
CASES = (
    Case("BertForTokenClassification", "bert", {**SMALL, "id2label": dict(enumerate(TAGS))}, tagged, "token accuracy"),
    Case("HubertForCTC", "ctc", SMALL_HUBERT, said, "WER"),
    Case("WhisperForConditionalGeneration", "whisper", SMALL_WHISPER, said, "WER"),
    Case("BertModel", "bert", SMALL, written, "cosine similarity", exported=WHOLE),
    Case("BertForMaskedLM", "bert", SMALL, written, "masked token accuracy"),
    Case("Wav2Vec2ForPreTraining", "ctc", SMALL_CODES, said, "cosine similarity"),
    Case("GPT2LMHeadModel", "gpt2", SMALL_GPT2, written, "next token accuracy", exported=WHOLE),
    Case("LlamaForCausalLM", "llama", SMALL_LLAMA, written, "next token accuracy", exported=True),
)


IN_GATE = [case for case in CASES if case.name in ("WhisperForConditionalGeneration", "BertModel", "LlamaForCausalLM")]
"""tests/families/test_jobs.py has a job of every head, too."""


def checkpoint(case: Case, folder: Path) -> Path:
    """Random weights, with the files of its preprocessors."""
    preprocessors.write(case.files, folder)
    torch.manual_seed(0)
    stock = getattr(transformers, case.name)
    made = json.loads((folder / "config.json").read_text())
    made.pop("model_type")
    if case.files == "whisper":
        end = transformers.WhisperTokenizer.from_pretrained(folder).eos_token_id
        made |= {"eos_token_id": end, "pad_token_id": end, "bos_token_id": end}
    stock(stock.config_class(**{**made, **case.config})).save_pretrained(folder)
    return folder


def spec(case: Case, **changes: Any) -> EngineSpec:
    return EngineSpec.model_validate(
        {
            "pruning": {"target": {"attention_sparsity": 0.4}, "schedule": {"steps": 1}},
            "finetune": {"epochs": 1, "batch_size": 2, "distill": {"weight": 0.5, "attention": 0.1}},
            "evaluate": {"latency_batch_sizes": [1], "latency_runs": 5, "sensitivity_samples": 2},
            "exports": ["onnx"] if case.exported else [],
            "stop": {"max_drop": 0.99},
            **changes,
        }
    )


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES if WHOLE else IN_GATE, ids=lambda case: case.name)
def test_a_job(case: Case, tmp_path: Path) -> None:
    data = write_splits(tmp_path / "data", *case.data())
    model = checkpoint(case, tmp_path / "model")
    dense, cut = steps_of(run_job(tmp_path / "out", spec(case), model=model, data=data))
    assert cut.achieved_sparsity == pytest.approx(0.4, abs=0.05)
    assert cut.reload_max_abs_error is not None
    assert not cut.augmented
    for scores in (dense.validation, dense.test, cut.validation_before_recovery, cut.validation, cut.test):
        assert scores is not None
        assert scores.headline is not None
        assert scores.headline.name == case.metric
        assert scores.metric is not None
    assert (dense.validation.cross_entropy is None) is (case.metric == "cosine similarity")
    assert dense.sensitivity is not None
    card = (tmp_path / "out" / "step-1" / "README.md").read_text(encoding="utf-8")
    assert f"| {case.metric}, test" in card
    assert ("fisher_energy" if case.files == "whisper" else "fisher_gate") in card, "left to the model"
    assert f"{case.metric}, validation" in (tmp_path / "out" / "step-1" / "report.html").read_text(encoding="utf-8")
    if case.exported:
        (export,) = cut.exports
        assert export.inputs == ("input_ids",)
        assert export.agreement == pytest.approx(1.0, abs=1e-4)
        # What was packaged is what is scored, and the original is what it is compared with.
        assert export.scores.metric == pytest.approx(cut.validation.metric, abs=1e-4)
    if case.metric == "cosine similarity":
        assert dense.validation.cosine_similarity == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(
    ("case", "asked", "code"),
    [
        (CASES[5], {"pruning": {"preset": "paper", "target": {"attention_sparsity": 0.5}}}, ErrorCode.INVALID_REQUEST),
        (CASES[3], {"pruning": {"preset": "paper", "target": {"attention_sparsity": 0.5}}}, ErrorCode.INVALID_REQUEST),
        (CASES[2], {"exports": ["onnx"]}, ErrorCode.EXPORT_UNAVAILABLE),
    ],
)
def test_what_cannot_be_asked_is_refused_before_data_is_read(
    case: Case, asked: dict[str, Any], code: ErrorCode, tmp_path: Path
) -> None:
    inputs = Inputs(checkpoint(case, tmp_path / "model"), tmp_path / "nowhere", tmp_path / "out", tmp_path / "cache")
    with pytest.raises(SecateurError) as caught:
        run(inputs, spec(case, **asked), lambda _event: None)
    assert caught.value.code is code
