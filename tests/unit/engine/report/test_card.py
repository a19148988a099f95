"""The model card: valid front matter, the right way to load, the measurements, and no markup of a stranger's."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token

from api_schemas.enums import Granularity, Head, Modality, TargetKind
from api_schemas.results.metrics import JobWarning, TargetMet
from api_schemas.spec.pruning import Pruning
from checkpoints.families import Architecture
from checkpoints.families.audio.ast import AST
from worker.engine.report import write_model_card

from .conftest import ARCHITECTURE, HOSTILE, Job, cutting_both, make_job, measured_by


def _write(folder: Path, job: Job, *, stock: bool = False) -> tuple[dict[str, object], str]:
    write_model_card(
        folder,
        job.steps,
        spec=job.spec,
        data=job.data,
        family=AST,
        architecture=ARCHITECTURE,
        labels=job.data.labels,
        stock=stock,
        result=job.result,
    )
    _, front, body = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(front), body


def _tokens(body: str) -> list[Token]:
    """All tokens, inline ones too, read as GitHub and model hubs read them: tables, raw HTML and links allowed."""
    parsed = MarkdownIt("gfm-like", {"linkify": False}).parse(body)
    return [inner for token in parsed for inner in (token, *(token.children or ()))]


def test_the_front_matter_is_what_hubs_expect(tmp_path: Path, job: Job) -> None:
    front, _ = _write(tmp_path, job)
    assert front["library_name"] == "transformers"
    assert front["pipeline_tag"] == "audio-classification"
    assert front["metrics"] == ["accuracy"]
    assert isinstance(front["tags"], list)
    assert "audio-spectrogram-transformer" in front["tags"]


def test_custom_code_is_asked_for_only_where_needed(tmp_path: Path, job: Job) -> None:
    _, custom = _write(tmp_path, job)
    assert 'from_pretrained("path/to/this/folder", trust_remote_code=True)' in custom
    _, stock = _write(tmp_path, job, stock=True)
    assert "trust_remote_code" not in stock
    assert 'from_pretrained("path/to/this/folder")' in stock
    assert "transformers>=5.10" in stock


def test_the_snippet_is_two_lines_of_python(tmp_path: Path, job: Job) -> None:
    _, body = _write(tmp_path, job)
    (fence,) = [token for token in _tokens(body) if token.type == "fence"]
    assert len(fence.content.strip().splitlines()) == 2
    compile(fence.content, "card", "exec")


def test_the_table_compares_original_and_cut(tmp_path: Path, job: Job) -> None:
    _, body = _write(tmp_path, job)
    last = job.steps[-1]
    assert last.test is not None
    assert last.test.accuracy is not None
    assert f"| accuracy, test (380 samples) | 92.0% | {100 * last.test.accuracy:.1f}% |" in body
    assert f"| speed-up at batch 1 | – | {last.latency[0].speedup:.2f}× |" in body
    assert "| weights file | 7.34 MB |" in body
    assert "held out of train by seed: validation" in body


def test_what_is_to_be_known_of_the_data_is_said(tmp_path: Path, job: Job) -> None:
    found = JobWarning(code="shared_rows", pointer="/dataset/splits/test", detail="7 rows *are* in <train>, too.")
    data = job.data.model_copy(update={"warnings": (found,)})
    _, body = _write(tmp_path, replace(job, data=data))
    said = [token.content for token in _tokens(body) if token.type == "inline" and "warning" in token.content]
    assert [text.replace("\\", "") for text in said] == [f"warning: {found.detail}"]


def test_exports_are_shown_with_how_to_run_them(tmp_path: Path, job: Job, exported_job: Job) -> None:
    _, body = _write(tmp_path, job)
    assert "onnx" not in body
    _, body = _write(tmp_path, exported_job)
    *_, graph, folder = [token for token in _tokens(body) if token.type == "fence"]
    for fence in (graph, folder):
        compile(fence.content, "card", "exec")
    assert "model.onnx" in graph.content
    assert '.from_pretrained("path/to/this/folder/torchao_int8"' in folder.content
    rounded = "| `torchao_int8_weights/model.safetensors` | torchao, weights of linear layers in eight bits | 1.93 MB | 99.2% |"
    assert rounded in body
    assert (
        "| `model.int8.onnx` | ONNX, linear layers in eight bits | 1.91 MB | 98.8% | 81.1% | 5.41 ms, 1.48× |" in body
    )
    assert sum(token.type == "table_open" for token in _tokens(body)) == 3


def test_a_step_beyond_the_bound_says_so(tmp_path: Path, stopped_job: Job, job: Job) -> None:
    assert stopped_job.result is not None
    _, body = _write(tmp_path, stopped_job)
    assert "This step is beyond the job's bound" in body
    assert stopped_job.result.detail in body
    _, free = _write(tmp_path, job)
    assert "bound" not in free
    # The step that is the result says nothing of the kind, whatever ended the job.
    at_last = stopped_job.result.model_copy(update={"step": 3, "stopped": None})
    _, reached = _write(tmp_path, replace(stopped_job, result=at_last))
    assert "beyond" not in reached


def test_map_for_several_labels_a_clip(tmp_path: Path, multi_label_job: Job) -> None:
    front, body = _write(tmp_path, multi_label_job)
    assert front["metrics"] == ["mAP"]
    assert "| mAP, test" in body
    assert "accuracy, " not in body


def test_strangers_words_make_no_markup(tmp_path: Path, job: Job, hostile_job: Job) -> None:
    front, body = _write(tmp_path, hostile_job)
    assert front["library_name"] == "transformers"
    tokens = _tokens(body)
    kinds = {token.type for token in tokens}
    assert not kinds & {"html_block", "html_inline", "link_open", "image"}
    shape = [token.type for token in tokens if token.nesting and token.type != "inline"]
    _, harmless = _write(tmp_path, job)
    assert shape == [token.type for token in _tokens(harmless) if token.nesting and token.type != "inline"]
    shown = "".join(token.content for token in tokens if token.type in {"text", "text_special"})
    assert HOSTILE[0] in shown
    assert "[click](javascript:alert(1))" in shown


def test_a_bare_address_is_no_link_either(tmp_path: Path, hostile_job: Job) -> None:
    _, body = _write(tmp_path, hostile_job)
    # Autolinking needs the scheme's colon unescaped.
    assert "https:" not in body
    assert "javascript:" not in body


def test_same_input_same_bytes(tmp_path: Path, job: Job) -> None:
    _write(tmp_path, job)
    first = (tmp_path / "README.md").read_bytes()
    _write(tmp_path, job)
    assert (tmp_path / "README.md").read_bytes() == first


@pytest.mark.parametrize("granularity", Granularity)
def test_the_card_says_what_was_cut_and_of_what_the_share_is(tmp_path: Path, granularity: Granularity) -> None:
    job = make_job()
    met = TargetMet(kind=TargetKind.FLOPS, requested=0.2, achieved=0.1987)
    steps = (*job.steps[:-1], job.steps[-1].model_copy(update={"target": met}))
    pruning = Pruning.model_validate({"target": {"flops": 0.3}, "granularity": granularity})
    spec = job.spec.model_copy(update={"pruning": pruning})
    _, body = _write(tmp_path, replace(job, steps=steps, spec=spec))
    assert f"(`{granularity.value}`)" in body
    assert "towards the target: 30.0% of the original FLOPs" in body
    assert "of the original FLOPs: target at this step 20.00%, saved 19.87%" in body


def test_a_job_that_cuts_both_shows_both(tmp_path: Path, job: Job) -> None:
    both = cutting_both(job, {"attention_sparsity": 0.5, "ffn_sparsity": 0.5})
    front, body = _write(tmp_path, both)
    last = both.steps[-1]
    assert isinstance(front["tags"], list)
    assert {"attention-pruning", "feed-forward-pruning"} <= set(front["tags"])
    assert f"with {100 * last.achieved_sparsity:.1f}% of its attention and 30.0% of its feed-forward parameters" in body
    assert "structures of its attention and neurons of its feed-forward blocks were" in body
    assert "| feed-forward parameters | 880 k | 616 k |" in body
    assert "target at this step 33.33% of the original feed-forward parameters, removed 30.00%" in body
    front, body = _write(tmp_path, cutting_both(job, {"ffn_sparsity": 0.5}))
    assert "attention-pruning" not in front["tags"]
    assert "classifier with 30.0% of its feed-forward parameters removed" in body
    assert "attention parameters" not in body


def test_what_stands_beside_the_metric_is_shown(tmp_path: Path, job: Job) -> None:
    spoken = measured_by(job, cross_entropy=1.234, word_error_rate=0.123, character_error_rate=0.05)
    front, body = _write(tmp_path, spoken)
    assert front["metrics"] == ["WER"]
    assert "| WER, test (380 samples) | 12.3% | 12.3% |" in body
    assert "| character error rate, test | 0.0500 | 0.0500 |" in body
    assert "| cross entropy, test | 1.2340 | 1.2340 |" in body


@pytest.mark.parametrize(
    ("modality", "head", "auto_class", "expected"),
    [
        (Modality.AUDIO, Head.CTC, "AutoModelForCTC", ("# Speech recogniser with", "AutoProcessor.from_pretrained")),
        (Modality.IMAGE, Head.CLASSIFICATION, "AutoModelForImageClassification", ("# Image classifier", "AutoImageProcessor")),
        (Modality.TEXT, Head.TOKEN_CLASSIFICATION, "AutoModelForTokenClassification", ("one per token", "AutoTokenizer")),
        (Modality.TEXT, Head.EMBEDDING, "AutoModel", ("# Text encoder with", "mean of `last_hidden_state`")),
    ],
)  # fmt: skip
def test_the_card_is_of_the_models_kind(
    tmp_path: Path, job: Job, modality: Modality, head: Head, auto_class: str, expected: tuple[str, str]
) -> None:
    architecture = Architecture(task="some-task", head=head, auto_class=auto_class)
    write_model_card(
        tmp_path,
        job.steps,
        spec=job.spec,
        data=job.data,
        family=replace(AST, modality=modality),
        architecture=architecture,
        labels=job.data.labels,
        stock=True,
    )
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    for text in (*expected, f"import {auto_class}\n", "pipeline_tag: some-task"):
        assert text in card
    assert ("It knows 3 labels" in card) is (head in (Head.CLASSIFICATION, Head.TOKEN_CLASSIFICATION))
