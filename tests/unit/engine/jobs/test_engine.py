"""The engine from inputs to steps, in this process and as a program: events and step folders, the same bytes every time."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import accuracy_score

from api_schemas.results.events import ENGINE_EVENT
from tests.support.checkpoints.tiny import tiny_data, tiny_model
from tests.support.jobs.engine import failed_job, identity, run_job, steps_of
from worker.engine.checkpoint.load import load_original

TWO_STEPS = {
    "pruning": {
        "target": {"attention_sparsity": 0.5},
        "granularity": "per_head",
        "schedule": {"steps": 2},
        "calibration": {"samples": 64, "split": "train"},
    },
    "finetune": {"epochs": 1, "distill": {"weight": 0.5, "attention": 0.1}},
    "evaluate": {"latency_batch_sizes": [1], "latency_runs": 5},
    "exports": ["onnx", "onnx_int8"],
    "seed": 3,
}


def start(out: Path, spec: dict, *options: str):
    """The program."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "spec.json").write_text(json.dumps(spec))
    command = [
        sys.executable, "-m", "worker.engine", "--model", str(tiny_model()), "--data", str(tiny_data()),
        "--spec", str(out / "spec.json"), "--out", str(out), "--threads", "1", "--device", "cpu", *options,
    ]  # fmt: skip
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONHASHSEED": "0"}
    )


def events(run):
    return [ENGINE_EVENT.validate_json(line) for line in run.stdout.splitlines()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    return out, run_job(out, TWO_STEPS, figures=True)


def test_says_what_it_does_in_order(finished):
    _, said = finished
    kinds = [event.type for event in said if event.type != "progress"]
    assert kinds[0] == "started"
    assert kinds[-1] == "finished"
    assert [event.folder for event in said if event.type == "step"] == ["step-0", "step-1", "step-2"]
    assert [event.epoch for event in said if event.type == "loss"] == [1, 1]
    phases = [[event.phase for event in said if event.type == "phase" and event.step == step] for step in (0, 1, 2)]
    # The first step's scores are made before it: every layer's sensitivity rests on them.
    assert phases[0] == ["preparing", "evaluating", "scoring", "analysing"]
    assert phases[1] == ["pruning", "evaluating", "finetuning", "packaging", "evaluating", "packaging"]
    assert phases[2] == ["scoring", *phases[1]]
    fractions = [event.fraction for event in said if event.type == "progress"]
    assert all(0 <= fraction <= 1 for fraction in fractions)
    assert fractions[0] < 0.3
    assert fractions[-1] > 0.9


def test_every_step_is_a_whole_checkpoint(finished):
    out, said = finished
    for number in (1, 2):
        names = {path.name for path in (out / f"step-{number}").iterdir()}
        assert {
            "config.json", "model.safetensors", "preprocessor_config.json", "modeling_pruned.py",
            "configuration_pruned.py", "pruning.json", "metrics.json", "README.md", "report.html",
        } <= names  # fmt: skip
    last = [event.metrics for event in said if event.type == "step"][-1]
    record = json.loads((out / "step-2" / "pruning.json").read_text())
    assert record["spec"]["seed"] == 3
    assert record["widths"] == last.widths.model_dump(mode="json")
    assert [len(layer) for layer in record["kept"]] == [layer.heads for layer in last.widths.layers]
    assert record["versions"]["transformers"]


def test_numbers_of_a_step(finished):
    _, said = finished
    dense, first, last = (event.metrics for event in said if event.type == "step")
    assert first.requested_sparsity == 0.25
    # One structure is one channel of each of four heads: 4 · 66 of 12672 parameters.
    assert abs(first.achieved_sparsity - 0.25) < 4 * 66 / 12672
    assert abs(last.achieved_sparsity - 0.5) < 4 * 66 / 12672
    assert last.size.attention_parameters < first.size.attention_parameters < dense.size.attention_parameters
    assert last.size.file_bytes < dense.size.file_bytes
    assert last.size.flops < dense.size.flops
    assert dense.test is not None
    assert first.test is None
    assert last.test is not None
    assert last.validation_before_recovery is not None
    assert last.validation.accuracy > 1 / 8
    assert last.reload_max_abs_error < 1e-4
    assert last.latency[0].p50_ms > 0
    assert last.calibration_samples == 64
    assert max(last.lora_ranks.values()) <= 16


def test_the_last_step_is_exported(finished):
    out, said = finished
    *_, first, last = (event.metrics for event in said if event.type == "step")
    assert first.exports == ()
    assert not list((out / "step-1").glob("*.onnx"))
    assert [row.file for row in last.exports] == ["model.onnx", "model.int8.onnx"]
    whole, eight_bits = last.exports
    assert whole.samples == last.validation.samples
    assert whole.agreement == 1
    assert whole.scores.accuracy == last.validation.accuracy
    assert eight_bits.agreement > 0.9
    record = json.loads((out / "step-2" / "pruning.json").read_text())
    assert {"model.onnx", "model.int8.onnx"} <= record["sha256"].keys()
    assert record["versions"]["onnxruntime"]
    assert "model.int8.onnx" in (out / "step-2" / "README.md").read_text()


def test_the_accuracy_in_the_record_is_that_of_the_downloaded_file(finished):
    """An independent reader: stock transformers on the folder, scikit-learn on the labels."""
    from transformers import AutoModelForAudioClassification

    from api_schemas.spec.inputs import Columns, Splits
    from checkpoints.describe import describe_folder
    from worker.engine.data import prepare

    out, said = finished
    described = describe_folder(tiny_model())
    data = prepare(
        tiny_data(), tiny_model(), labels=described.labels, multi_label=False, columns=Columns(), splits=Splits(),
        seed=3, cache_dir=out / "cache", progress=lambda _done, _total: None,
    )  # fmt: skip
    model = AutoModelForAudioClassification.from_pretrained(out / "step-2", trust_remote_code=True).eval()
    split = data.splits["test"]
    inputs, targets = split.batch(range(len(split)))
    with torch.inference_mode():
        predicted = model(**inputs).logits.argmax(-1)
    last = [event.metrics for event in said if event.type == "step"][-1]
    assert last.test.accuracy == pytest.approx(accuracy_score(targets, predicted))


def test_same_inputs_same_bytes_and_resume_changes_nothing(finished, tmp_path):
    """Taken up after step 1 by the program, in another folder, step 2 comes out bit for bit as in one go here."""
    out, _ = finished
    (tmp_path / "step-1").mkdir()
    for path in (out / "step-1").iterdir():
        (tmp_path / "step-1" / path.name).write_bytes(path.read_bytes())
    run = start(tmp_path, TWO_STEPS, "--resume", "1")
    assert run.returncode == 0, run.stderr
    said = events(run)
    assert said[0].resumed_from == 1
    assert [event.folder for event in said if event.type == "step"] == ["step-2"]
    assert identity(tmp_path / "step-2") == identity(out / "step-2")


def test_another_seed_is_another_result(finished, tmp_path):
    out, _ = finished
    spec = {**TWO_STEPS, "seed": 4, "exports": []}
    spec["pruning"] = {**TWO_STEPS["pruning"], "target": {"attention_sparsity": 0.25}, "schedule": {"steps": 1}}
    run_job(tmp_path, spec)
    assert identity(tmp_path / "step-1")["model.safetensors"] != identity(out / "step-1")["model.safetensors"]


@pytest.mark.parametrize("granularity", ["per_head", "entire_head"])
def test_one_shot_without_recovery_in_a_stock_layout(tmp_path, granularity):
    spec = {
        "pruning": {
            "preset": "paper", "target": {"attention_sparsity": 0.5}, "granularity": granularity, "criterion": "magnitude",
            "layout": "stock", "schedule": {"steps": 1},
        },
        "finetune": None,
        "evaluate": {"latency_batch_sizes": [], "latency_runs": 5},
    }  # fmt: skip
    last = steps_of(run_job(tmp_path, spec))[-1]
    assert not list((tmp_path / "step-1").glob("*.py"))
    assert last.stock_layout
    # Which heads of the original are left, a stock configuration does not say, and the metrics do.
    kept = json.loads((tmp_path / "step-1" / "pruning.json").read_text())["kept"]
    named = [[head["head"] for head in layer] for layer in kept]
    assert [list(layer.numbers) for layer in last.widths.layers] == named
    assert last.losses == ()
    assert last.validation.accuracy == last.validation_before_recovery.accuracy


def test_kept_channels_are_counted_in_the_original_model(tmp_path):
    """Two cuts without recovery: every row of the last file is the row of the original that `kept` names."""
    spec = {
        "pruning": {
            "preset": "paper", "target": {"attention_sparsity": 0.5}, "granularity": "per_head", "criterion": "magnitude",
            "schedule": {"steps": 2},
        },
        "finetune": None,
        "evaluate": {"latency_batch_sizes": [], "latency_runs": 5},
    }  # fmt: skip
    run_job(tmp_path, spec)
    before = load_original(tiny_model()).model.state_dict()
    after = load_file(tmp_path / "step-2" / "model.safetensors")
    kept = json.loads((tmp_path / "step-2" / "pruning.json").read_text())["kept"]
    for number, layer in enumerate(kept):
        name = f"audio_spectrogram_transformer.layers.{number}.attention"
        for side, pair in (("q", "qk"), ("k", "qk"), ("v", "vo")):
            rows = [head["head"] * 8 + channel for head in layer for channel in head[pair]]
            assert torch.equal(after[f"{name}.{side}_proj.weight"], before[f"{name}.{side}_proj.weight"][rows])


def test_out_of_reach_fails_with_the_maximum(tmp_path):
    failed = failed_job(tmp_path, {"pruning": {"preset": "paper", "target": {"attention_sparsity": 0.9}}})
    assert failed.code == "sparsity_out_of_reach"
    assert "0.7" in failed.detail


def test_labels_the_checkpoint_does_not_know_fail_with_both_lists(tmp_path):
    import shutil

    model = tmp_path / "model"
    shutil.copytree(tiny_model(), model)
    config = json.loads((model / "config.json").read_text())
    config["id2label"] = {key: f"word{key}" for key in config["id2label"]}
    config["label2id"] = {name: int(key) for key, name in config["id2label"].items()}
    (model / "config.json").write_text(json.dumps(config))
    failed = failed_job(tmp_path / "out", TWO_STEPS, model=model)
    assert failed.code == "labels_mismatch"
    assert "word0" in failed.model_dump_json()
    assert "faro" in failed.model_dump_json()


def test_a_spec_that_is_wrong_fails_before_torch_is_loaded(tmp_path):
    run = start(tmp_path, {"pruning": {"target": {"attention_sparsity": 2}}})
    assert run.returncode == 1
    failed = events(run)[-1]
    assert failed.type == "failed"
    assert failed.code == "invalid_request"
    assert failed.errors[0].pointer == "/pruning/target/attention_sparsity"


def test_an_empty_dataset_fails(tmp_path):
    (tmp_path / "data").mkdir()
    failed = failed_job(tmp_path / "out", TWO_STEPS, data=tmp_path / "data")
    assert failed.code == "dataset_empty"


def test_ends_with_its_parent(tmp_path):
    """stdin at its end means that whoever started the engine is gone."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "spec.json").write_text(json.dumps(TWO_STEPS))
    command = [
        sys.executable, "-m", "worker.engine", "--model", str(tiny_model()), "--data", str(tiny_data()),
        "--spec", str(out / "spec.json"), "--out", str(out), "--watch-stdin",
    ]  # fmt: skip
    engine = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert engine.stdin is not None
    assert engine.stdout is not None
    assert ENGINE_EVENT.validate_json(engine.stdout.readline()).type == "started"
    engine.stdin.close()
    assert engine.wait(timeout=30) == 1
    assert not (out / "step-2").exists()
