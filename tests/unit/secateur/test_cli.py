"""Arguments become a spec, and what is wrong with them is said before torch is loaded."""

import importlib
import json
import webbrowser
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from api_schemas.enums import ExportFormat
from api_schemas.spec.job import EngineSpec
from secateur import prune
from secateur.cli import app
from secateur.commands import overview
from secateur.commands.shared.outputs import OUTPUTS
from secateur.errors import InvalidRequest
from secateur.local_server import up
from secateur.terminal.metrics import count
from tests.support.jobs.records import step_metrics
from tests.support.outputs import checked


@pytest.fixture
def specs(monkeypatch: pytest.MonkeyPatch) -> list[EngineSpec]:
    """The specs that the engine would have been started with."""
    seen: list[EngineSpec] = []

    def remember(model: Path, data: Path, out: Path, spec: EngineSpec, *rest: Any) -> prune.Pruned:
        del model, data, rest
        seen.append(spec)
        return prune.Pruned(out, (step_metrics(0), step_metrics(1)), None)

    monkeypatch.setattr(prune, "prune", remember)
    return seen


def invoke(folder: Path, *options: str) -> Any:
    return CliRunner().invoke(
        app, ["prune", str(folder), "--data", str(folder), "--out", str(folder / "out"), *options]
    )


def test_without_options_half_of_the_attention_goes_by_the_papers_method(
    tmp_path: Path, specs: list[EngineSpec]
) -> None:
    assert invoke(tmp_path).exit_code == 0
    assert specs == [EngineSpec.model_validate({"pruning": {"target": {"attention_sparsity": 0.5}}})]


def test_options_win_over_the_file_and_leave_the_rest_of_it(tmp_path: Path, specs: list[EngineSpec]) -> None:
    given = {"pruning": {"target": {"attention_sparsity": 0.3}, "scope": "local"}, "finetune": {"epochs": 7}, "seed": 5}
    (tmp_path / "spec.json").write_text(json.dumps(given))
    options = ["--spec", str(tmp_path / "spec.json"), "--granularity", "per_head", "--steps", "2", "--epochs", "1"]
    assert invoke(tmp_path, *options).exit_code == 0
    (spec,) = specs
    assert spec.pruning.target.attention_sparsity == 0.3
    assert (spec.pruning.scope, spec.pruning.granularity, spec.pruning.steps, spec.seed) == ("local", "per_head", 2, 5)
    assert spec.finetune is not None
    assert spec.finetune.epochs == 1


def test_threads_are_the_options_else_the_environments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def remember(model: Path, data: Path, out: Path, spec: EngineSpec, device: str, threads: int, *_: Any) -> Any:
        del model, data, spec, device
        seen.append(threads)
        return prune.Pruned(out, (step_metrics(0), step_metrics(1)), None)

    monkeypatch.setattr(prune, "prune", remember)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert invoke(tmp_path).exit_code == 0
    monkeypatch.setenv("SECATEUR_ENGINE_THREADS", "4")
    assert invoke(tmp_path).exit_code == 0
    assert invoke(tmp_path, "--threads", "5").exit_code == 0
    assert seen == [3, 4, 5]


def test_settings_and_a_file_in_yaml_are_read_as_submit_reads_them(tmp_path: Path, specs: list[EngineSpec]) -> None:
    (tmp_path / "spec.yaml").write_text("finetune: {learning_rate: 1e-3}\nseed: 5\n")
    options = ["--spec", str(tmp_path / "spec.yaml"), "--set", "pruning.target.flops=0.25", "--set", "seed=6", "--json"]
    result = invoke(tmp_path, *options)
    assert result.exit_code == 0
    assert [step["step"] for step in checked(json.loads(result.stdout), ["prune"])["steps"]] == [0, 1]
    (spec,) = specs
    assert spec.finetune is not None
    assert (spec.finetune.learning_rate, spec.seed, spec.pruning.target.flops) == (0.001, 6, 0.25)
    refused = invoke(tmp_path, "--set", "granularity=ragged", "--json")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "did you mean pruning.granularity?" in json.loads(refused.stderr)["error"]["detail"]


def test_a_bound_on_the_drop(tmp_path: Path, specs: list[EngineSpec]) -> None:
    assert invoke(tmp_path, "--max-drop", "0.02").exit_code == 0
    assert specs[0].stop is not None
    assert specs[0].stop.max_drop == 0.02
    assert invoke(tmp_path, "--max-drop", "2").exit_code == 2


def test_the_smallest_within_a_bound(tmp_path: Path, specs: list[EngineSpec]) -> None:
    assert invoke(tmp_path, "--within", "0.02").exit_code == 0
    assert invoke(tmp_path, "--within", "0.005", "--of", "latency").exit_code == 0
    assert [(spec.pruning.target.max_drop, spec.pruning.target.of) for spec in specs] == [
        (0.02, "flops"),
        (0.005, "latency"),
    ]
    wrong = invoke(tmp_path, "--within", "1", "--json")
    assert wrong.exit_code == 2
    error = json.loads(wrong.stderr)["error"]
    assert error["errors"][0]["pointer"] == "/pruning/target/max_drop"
    assert "write 0.01 for 1 point" in error["detail"]
    for other in (("--sparsity", "0.5"), ("--max-drop", "0.01")):
        assert invoke(tmp_path, "--within", "0.02", *other).exit_code == 2


def test_formats_of_export(tmp_path: Path, specs: list[EngineSpec]) -> None:
    assert invoke(tmp_path, "--export", "onnx", "--export", "onnx_int8").exit_code == 0
    assert specs[0].exports == (ExportFormat.ONNX, ExportFormat.ONNX_INT8)
    assert invoke(tmp_path, "--export", "torchao_int8", "--export", "torchao_int8_weights").exit_code == 0
    assert specs[1].exports == (ExportFormat.TORCHAO_INT8, ExportFormat.TORCHAO_INT8_WEIGHTS)
    assert invoke(tmp_path, "--export", "tflite").exit_code == 2


def test_the_share_may_be_of_something_else_than_attention(tmp_path: Path, specs: list[EngineSpec]) -> None:
    options = [
        "--sparsity",
        "0.2",
        "--of",
        "flops",
        "--granularity",
        "ragged",
        "--align",
        "8",
        "--normalization",
        "layer",
    ]
    assert invoke(tmp_path, *options).exit_code == 0
    pruning = specs[0].pruning
    assert (pruning.target.kind, pruning.target.share) == ("flops", 0.2)
    assert (pruning.granularity, pruning.align, pruning.normalization) == ("ragged", 8, "layer")


@pytest.mark.parametrize("command", ["submit", "estimate", "sweep"])
def test_the_options_of_prune_are_those_of_every_command_that_describes_a_job(
    tmp_path: Path, specs: list[EngineSpec], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    options = [
        "--sparsity",
        "0.25",
        "--of",
        "flops",
        "--preset",
        "paper",
        "--granularity",
        "per_head",
        "--criterion",
        "fisher",
    ]
    options += [
        "--basis",
        "native",
        "--compensation",
        "none",
        "--neuron-selection",
        "ranked",
        "--normalization",
        "layer",
    ]
    options += [
        "--scope",
        "local",
        "--balance",
        "equal",
        "--layout",
        "stock",
        "--only",
        "encoder",
        "--align",
        "4",
        "--steps",
        "5",
        "--epochs",
        "1",
    ]
    options += ["--max-drop", "0.02", "--export", "onnx", "--seed", "3"]
    assert invoke(tmp_path, *options).exit_code == 0
    drafts: list[Any] = []

    def remember(session: Any, draft: Any) -> Any:
        del session
        drafts.append(draft)
        raise InvalidRequest("That is enough.")

    monkeypatch.setattr(
        importlib.import_module(f"secateur.commands.{command.replace('estimate', 'submit')}"), "uploaded", remember
    )
    model, data = f"mdl_{'a' * 26}", f"dst_{'a' * 26}"
    named = [model] if command == "sweep" else ["--model", model]
    grid = ["--grid", "seed=3"] if command == "sweep" else []
    result = CliRunner().invoke(app, [command, *named, "--data", data, *grid, *options])
    assert "That is enough." in result.output
    body = drafts[0].body["base"] if command == "sweep" else drafts[0].body
    given = {name: value for name, value in body.items() if name not in ("model", "dataset")}
    assert EngineSpec.model_validate_json(json.dumps(given)) == specs[0]
    assert given == {
        "pruning": {
            **{
                "target": {"flops": 0.25},
                "preset": "paper",
                "granularity": "per_head",
                "criterion": "fisher",
                "basis": "native",
            },
            **{"compensation": "none", "neuron_selection": "ranked", "normalization": "layer", "scope": "local"},
            **{"balance": "equal", "only": "encoder", "layout": "stock", "align": 4, "schedule": {"steps": 5}},
        },
        "finetune": {"epochs": 1},
        "stop": {"max_drop": 0.02},
        "exports": ["onnx"],
        "seed": 3,
    }


def test_of_without_a_share_asks_for_one(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["submit", "--model", str(tmp_path), "--data", str(tmp_path), "--of", "flops"])
    assert result.exit_code == 2
    assert "--of flops: how much of it? Give --sparsity or --within." in " ".join(result.output.split())


def test_no_epochs_means_no_recovery(tmp_path: Path, specs: list[EngineSpec]) -> None:
    assert invoke(tmp_path, "--epochs", "0").exit_code == 0
    assert specs[0].finetune is None


@pytest.mark.parametrize(
    "options", [["--sparsity", "1.5"], ["--criterion", "guess"], ["--of", "money"], ["--align", "3"], ["--steps", "0"]]
)
def test_impossible_values_are_refused_with_status_2(
    tmp_path: Path, specs: list[EngineSpec], options: list[str]
) -> None:
    assert invoke(tmp_path, *options).exit_code == 2
    assert not specs


@pytest.mark.parametrize("text", ["[1]", "{", '{"surprise": 1}', '{"pruning": 3}'])
def test_a_file_that_is_no_spec_is_refused_and_named(tmp_path: Path, specs: list[EngineSpec], text: str) -> None:
    (tmp_path / "spec.json").write_text(text)
    result = invoke(tmp_path, "--spec", str(tmp_path / "spec.json"))
    assert result.exit_code == 2
    assert "spec.json" in result.output.replace("\n", "")
    assert not specs


def test_an_output_folder_with_steps_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out" / "step-0").mkdir(parents=True)
    result = invoke(tmp_path)
    assert result.exit_code == 2
    assert "already contains steps" in result.output


def test_up_refuses_a_port_in_use_and_a_data_folder_in_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert up.up(tmp_path, listener.getsockname()[1], Console(width=200)) == 1
    assert "is in use" in capsys.readouterr().out
    with up._only_one(tmp_path):
        assert up.up(tmp_path, 0, Console(width=200)) == 1
    assert "Another `secateur up` runs" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("number", "text"), [(9_999, "9,999"), (132_480, "132 k"), (2_712_345, "2.71 M"), (3.5e9, "3.5 G")]
)
def test_counts_are_short(number: float, text: str) -> None:
    assert count(number) == text


@pytest.mark.parametrize(
    ("browser", "opened"),
    [(webbrowser.BackgroundBrowser("xdg-open"), True), (webbrowser.GenericBrowser("lynx"), False)],
)
def test_a_page_opens_in_what_a_desktop_has_and_not_in_the_terminal(
    browser: webbrowser.BaseBrowser, opened: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    addresses: list[str] = []

    def remember(_: object, url: str) -> bool:
        addresses.append(url)
        return True

    monkeypatch.setattr(type(browser), "open", remember)
    monkeypatch.setattr(webbrowser, "get", lambda: browser)
    assert overview.opens("http://127.0.0.1:8000/") is opened
    assert addresses == ["http://127.0.0.1:8000/"] * opened


def commands_with_json(group: Any, before: str = "") -> set[str]:
    found: set[str] = set()
    for name, command in group.commands.items():
        path = f"{before}{name}"
        if hasattr(command, "commands"):
            found |= commands_with_json(command, f"{path} ")
        elif any("--json" in option.opts for option in command.params):
            found.add(path)
    return found


def test_every_command_with_json_says_what_it_prints() -> None:
    """In `secateur schema COMMAND`, and on the page that is made of the same table."""
    assert commands_with_json(typer.main.get_command(app)) == set(OUTPUTS)
    shown = CliRunner().invoke(app, ["schema", "keys", "list"])
    assert json.loads(shown.stdout)["items"] == {"$ref": "#/$defs/KeyResource"}
    unknown = CliRunner().invoke(app, ["schema", "job"])
    assert (unknown.exit_code, "did you mean jobs?" in unknown.stderr) == (2, True)
