"""Specs as users write them: files, --set, names of models and data; what is wrong with them, and what was meant."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from api_schemas.enums import Criterion
from api_schemas.spec.job import EngineSpec, JobRequest
from secateur.commands.shared.pruning_options import PruningOptions, options_of
from secateur.errors import InvalidRequest
from secateur.specs.job_request import Options, draft_request, labels_of
from secateur.specs.other_preset import without_preset
from secateur.specs.overrides import overridden, read_value
from secateur.specs.references import placeholder, reference
from secateur.specs.spec_file import read_spec
from secateur.specs.validation import validated
from secateur.specs.yaml_values import read_yaml

MODEL, DATA = placeholder("model"), placeholder("dataset")
HALF = {"attention_sparsity": 0.5}
SPEC: dict[str, Any] = {
    "pruning": {"preset": "paper", "target": {"attention_sparsity": 0.25}, "exclude_layers": [0, 1]},
    "finetune": {"learning_rate": 1e-3, "lora": {"rank": 8}},
    "stop": None,
    "deterministic": False,
    "labels": {"country": "no", "day": "2026-01-05"},
}
AS_YAML = """
# a comment
pruning:
  preset: paper
  target: {attention_sparsity: 0.25}
  exclude_layers: [0, 1]
finetune:
  learning_rate: 1e-3
  lora:
    rank: 8
stop: null
deterministic: false
labels: {country: no, day: 2026-01-05}
"""


def test_yaml_and_json_say_the_same(tmp_path: Path) -> None:
    for name, text in (("a.yaml", AS_YAML), ("b.yml", json.dumps(SPEC)), ("c.json", json.dumps(SPEC, indent="\t"))):
        (tmp_path / name).write_text(text)
        assert read_spec(tmp_path / name) == SPEC


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.json", '{"a": 1,}', "line 1, column"),
        ("a.yaml", "a: [1, 2", "line 1"),
        ("a.yaml", "a: 1\nb: 2\na: 3", "'a' occurs twice"),
        ("a.yaml", "- 1", "does not contain an object"),
        ("a.yaml", "", "does not contain an object"),
        ("a.yaml", "a: !!python/object/apply:os.system [ls]", "python/object"),
    ],
)
def test_a_file_that_is_no_spec_is_refused_with_the_place(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InvalidRequest, match=said):
        read_spec(tmp_path / name)


@pytest.mark.parametrize(
    "value", [0, -3, 0.5, 1e-3, 1e10, True, False, None, "", "no", "on", "0x1f", "12:30", [1, "a"], {"b": [None]}]
)
def test_whatever_json_can_say_is_read_as_json_reads_it(value: Any) -> None:
    assert read_yaml(json.dumps(value)) == value
    assert type(read_yaml(json.dumps(value))) is type(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001), ("5", 5), ("+.5", 0.5), ("ragged", "ragged"), ("none", "none"), ("no", "no"),
        ("2026-01-05", "2026-01-05"),
        ("null", None), ("", None), ("true", True), ("[onnx, onnx_int8]", ["onnx", "onnx_int8"]), ("{a: 1}", {"a": 1}),
        ("a: b: c", "a: b: c"), ("[", "["), ("1.5h", "1.5h"),
    ],
)  # fmt: skip
def test_values_of_settings(text: str, value: Any) -> None:
    assert read_value(text) == value


def test_settings_go_to_their_paths_and_leave_the_rest() -> None:
    spec = {"pruning": {"scope": "local"}, "finetune": None, "seed": 1}
    found = overridden(
        spec, ["pruning.target.flops=0.5", "finetune.lora.rank=4", "finetune.lora.alpha=8", "seed=2", "name=a=b"]
    )
    assert found == {
        "pruning": {"scope": "local", "target": {"flops": 0.5}},
        "finetune": {"lora": {"rank": 4, "alpha": 8}},
        "seed": 2,
        "name": "a=b",
    }
    assert spec == {"pruning": {"scope": "local"}, "finetune": None, "seed": 1}, (
        "the file's own values stay as they are"
    )


def test_a_path_through_something_else_than_an_object_is_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"/seed: must be an object to contain x, but it is 3"):
        overridden({"seed": 3}, ["seed.x=1"])


@pytest.mark.parametrize("setting", ["pruning", "=1", "a..b=1", ".a=1", ""])
def test_a_setting_without_path_or_value_is_refused(setting: str) -> None:
    with pytest.raises(InvalidRequest, match="path=value"):
        overridden({}, [setting])


@pytest.mark.parametrize(
    ("setting", "pointer", "meant"),
    [
        ("prunning.granularity=ragged", "/prunning", "did you mean pruning?"),
        ("pruning.granularty=ragged", "/pruning/granularty", "did you mean pruning.granularity?"),
        ("granularity=ragged", "/granularity", "did you mean pruning.granularity?"),
        ("finetune.rank=8", "/finetune/rank", "did you mean finetune.lora.rank?"),
        ("dataset.column.label=x", "/dataset/column", "did you mean dataset.columns?"),
        ("stop.zzz=1", "/stop/zzz", "there are max_drop"),
    ],
)
def test_an_unknown_path_is_refused_with_the_near_match(setting: str, pointer: str, meant: str) -> None:
    body = {"model": MODEL, "dataset": DATA, "pruning": {"target": {"flops": 0.5}}, "stop": {"max_drop": 0.1}}
    with pytest.raises(InvalidRequest) as caught:
        validated(JobRequest, overridden(body, [setting]), None)
    assert caught.value.pointers == (pointer,)
    assert meant in str(caught.value)


def test_everything_that_is_wrong_is_said_by_its_place() -> None:
    body = {
        "model": {"type": "step", "job": "job_1", "step": 1},
        "dataset": DATA,
        "pruning": {"target": {"flops": 2}},
        "seed": math.nan,
    }
    with pytest.raises(InvalidRequest) as caught:
        validated(JobRequest, body, None)
    assert set(caught.value.pointers) == {"/model/job", "/pruning/target/flops", "/seed"}


def test_a_spec_of_the_engine_is_checked_by_its_own_fields() -> None:
    with pytest.raises(InvalidRequest, match="/model: there is no such field"):
        validated(EngineSpec, {"pruning": {"target": {"flops": 0.5}}, "model": MODEL}, None)
    spec = validated(EngineSpec, {k: v for k, v in SPEC.items() if k != "labels"}, None)
    assert spec.finetune is not None
    assert (spec.finetune.learning_rate, spec.pruning.exclude_layers) == (0.001, (0, 1))


def test_models_and_data_by_their_names(tmp_path: Path) -> None:
    commit, job = "a" * 40, f"job_{'a' * 26}"
    assert reference(MODEL["id"], "model") == MODEL
    assert reference(f"hf:owner/name@{commit}", "dataset") == {"type": "hf", "id": "owner/name", "revision": commit}
    assert reference(f"{job}/3", "model") == reference(f"{job}:3", "model") == {"type": "step", "job": job, "step": 3}
    assert reference("s3:bucket/a/b/", "model") == {"type": "s3", "bucket": "bucket", "prefix": "a/b"}
    assert reference(str(tmp_path), "dataset") == tmp_path
    for text, what in (
        (MODEL["id"], "dataset"),
        (f"{job}/3", "dataset"),
        ("hf:owner/name", "model"),
        ("nowhere", "model"),
    ):
        with pytest.raises(InvalidRequest, match="no such file or folder"):
            reference(text, what)  # type: ignore[arg-type]


def test_options_win_over_the_file_and_settings_over_options(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(
        AS_YAML + f"dataset: {{columns: {{label: word}}, type: upload, id: {DATA['id']}}}\n"
    )
    options = options_of(
        PruningOptions(preset="best", sparsity=0.5), MODEL["id"], str(tmp_path), "mine", {"team": "speech"}, 3
    )
    found = draft_request(tmp_path / "spec.yaml", options, ["pruning.target.attention_sparsity=0.75", "priority=4"])
    assert found.body["pruning"] == {"preset": "best", "target": {"attention_sparsity": 0.75}, "exclude_layers": [0, 1]}
    assert (found.body["name"], found.body["priority"]) == ("mine", 4)
    assert found.body["labels"] == {**SPEC["labels"], "team": "speech"}
    assert found.uploads == {"dataset": tmp_path}
    sent = found.with_ids({"dataset": "dst_" + "b" * 26})
    assert sent["dataset"] == {"columns": {"label": "word"}, "type": "upload", "id": "dst_" + "b" * 26}
    assert sent["model"] == MODEL


def test_what_is_not_there_yet_is_asked_for() -> None:
    for options, said in (
        (Options(data=DATA["id"], target=HALF), "Give --model"),
        (Options(model=MODEL["id"], target=HALF), "Give --data"),
        (Options(model=MODEL["id"], data=DATA["id"]), "Give --sparsity"),
    ):
        with pytest.raises(InvalidRequest, match=said):
            draft_request(None, options, ())


def test_a_bound_on_the_drop_takes_the_place_of_the_files_target(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text("pruning: {target: {flops: 0.25}, parts: [feed_forward]}\n")
    options = options_of(PruningOptions(within=0.01), MODEL["id"], DATA["id"])
    found = draft_request(tmp_path / "spec.yaml", options, ["pruning.target.of=parameters"])
    assert found.body["pruning"] == {"target": {"max_drop": 0.01, "of": "parameters"}, "parts": ["feed_forward"]}
    with pytest.raises(InvalidRequest, match="give only one of them"):
        options_of(PruningOptions(sparsity=0.5, within=0.01), MODEL["id"], DATA["id"])


def test_labels() -> None:
    assert labels_of(["team=speech", "a.b/c=x=y", "empty="]) == {"team": "speech", "a.b/c": "x=y", "empty": ""}
    with pytest.raises(InvalidRequest, match="key=value"):
        labels_of(["team"])


def test_texts_that_are_no_yaml_say_so() -> None:
    with pytest.raises(yaml.YAMLError):
        read_yaml("a: [")


@pytest.mark.parametrize(("old", "new"), [("best", "paper"), ("paper", "best")])
def test_another_preset_fills_what_the_first_one_did(old: str, new: str) -> None:
    def request(preset: str, **more: Any) -> JobRequest:
        pruning = {"preset": preset, "target": HALF, "exclude_layers": [1], "schedule": {"steps": 3}}
        return JobRequest.model_validate(
            {"model": MODEL, "dataset": DATA, "pruning": pruning | more, "finetune": {"epochs": 7}}
        )

    stored = request(old)
    if old == "best":
        # As a service keeps it: what was left to the model is settled.
        settled = stored.pruning.model_copy(update={"criterion": Criterion.FISHER_GATE, "align": 8})
        stored = JobRequest.model_validate_json(stored.model_copy(update={"pruning": settled}).model_dump_json())
    changed = overridden(without_preset(stored), [f"pruning.preset={new}"])
    assert JobRequest.model_validate(changed) == request(new)
    own = request(old, min_channels=2, basis="native" if old == "best" else "principal")
    kept = overridden(without_preset(own), [f"pruning.preset={new}"])["pruning"]
    assert (kept["min_channels"], kept["basis"]) == (2, own.pruning.basis.value)
