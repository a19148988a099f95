"""Every command against a real service: what it prints for people and for programs, and how it ends."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from api_schemas.api.resources import JobError
from api_schemas.errors import ErrorCode
from secateur import Secateur
from secateur.cli import app
from store.settings import Settings
from tests.support.jobs.manual_worker import ManualWorker
from tests.support.outputs import checked
from tests.support.servers.databases import wait_for
from tests.support.servers.processes import service_process

FILES = {"config.json": b"{}", "model.safetensors": bytes(range(256)) * 100}


class Shell:
    """The command, on one service."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._environment = {"SECATEUR_URL": url, "COLUMNS": "100", "SECATEUR_API_KEY": ""}

    def __call__(self, *arguments: object, status: int | None = 0, **more: Any) -> Any:
        result = CliRunner().invoke(
            app, [*map(str, arguments)], env={**self._environment, **more.pop("env", {})}, **more
        )
        assert status in (None, result.exit_code), (result.output, result.exception)
        assert "Traceback" not in result.output
        return result

    def json(self, *arguments: object, status: int = 0) -> Any:
        """The one document on standard output, and nothing beside it."""
        result = self(*arguments, "--json", status=status)
        assert result.stderr == "" or status, result.stderr
        return checked(json.loads(result.stdout), arguments)

    def refusal(self, *arguments: object, status: int = 2) -> dict[str, Any]:
        """The document on standard error, which is alone."""
        result = self(*arguments, "--json", status=status)
        assert result.stdout == ""
        (error,) = checked(json.loads(result.stderr)).values()
        assert error["exit_status"] == status
        return error


@pytest.fixture(scope="module")
def shell(url: str) -> Shell:
    return Shell(url)


@pytest.fixture
def submitted(shell: Shell, pair: tuple[str, str]) -> Iterator[str]:
    """The id of a job that is the next in the queue."""
    model, data = pair
    job = shell("submit", "--model", model, "--data", data, "--sparsity", 0.5, "--priority", 10).stdout.strip()
    yield job
    if shell.json("show", job)["finished_at"] is None:
        shell("cancel", job)


def test_the_way_of_a_job(
    shell: Shell, worker: ManualWorker, model_folder: Path, data_folder: Path, tmp_path: Path
) -> None:
    model = shell("upload", "model", model_folder, "--name", "mine").stdout.strip()
    data = shell("upload", "dataset", data_folder, "--label-column", "label").stdout.strip()
    assert shell.json("show", model)["name"] == "mine"
    assert "ASTForAudioClassification" in shell("show", model).stdout
    assert shell.json("show", data)["contents"]["rows"]["train"] == 4
    assert model in {each["id"] for each in shell.json("models", "--limit", 1)}
    assert data in shell("datasets").stdout

    described = ["--model", model, "--data", data, "--preset", "paper", "--sparsity", 0.5, "--set", "finetune=null"]
    estimate = shell.json("estimate", *described)
    assert estimate["steps"][-1]["attention_parameters"] < estimate["steps"][0]["attention_parameters"]
    assert "no job" in shell("estimate", *described).stdout.lower()

    sent = shell("submit", *described, "--label", "team=speech", "--name", "mine", "--priority", 10)
    job = sent.stdout.strip()
    assert f"secateur wait {job}" in sent.stderr
    request = shell.json("show", job)["request"]
    assert (request["finetune"], request["labels"], request["pruning"]["preset"]) == (None, {"team": "speech"}, "paper")
    assert job in shell("jobs", "--label", "team=speech", "--state", "queued", "--model", model).stdout
    assert shell.json("jobs", "--label", "team=other") == []

    worker.claim(job)
    worker.log(0, "one\ntwo\x1b[2J\n")
    for step in range(3):
        worker.commit(step, FILES)
    assert shell.refusal("download", job, "--to", tmp_path / "early")["code"] == "no_result"
    assert shell.json("download", job, "--partial", "--to", tmp_path / "early")["step"] == 2
    worker.succeed(2)
    assert "✓ succeeded" in shell("wait", job).stdout
    (ended,) = shell.json("wait", job)
    assert (ended["state"], ended["result"]["step"]) == ("succeeded", 2)
    assert "Recommended: step 2." in shell("show", job).stdout
    assert shell("logs", job).stdout == "one\ntwo[2J\n"
    first = json.loads(shell("logs", job, "-f", "--json").stdout.splitlines()[0])
    assert checked(first, ["logs"]) == {"line": "one"}
    events = [checked(json.loads(line), ["events"]) for line in shell("events", job, "--json").stdout.splitlines()]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert "succeeded" in shell("events", job, "--follow", "--after", len(events) - 1).stdout

    got = shell.json("download", job, "--to", tmp_path / "pruned")
    assert (got["step"], got["folder"]) == (2, str(tmp_path / "pruned"))
    assert {path.name: path.read_bytes() for path in (tmp_path / "pruned").iterdir()} == FILES
    assert shell("download", job, "--step", 1, "--to", tmp_path / "first").stdout.strip() == str(tmp_path / "first")
    assert shell.refusal("download", job, "--step", 9)["code"] == "no_checkpoint"

    assert shell.json("delete", job) == [{"id": job, "deleted": True}]
    assert shell("delete", model, data).stdout == f"{model} is deleted.\n{data} is deleted.\n"
    assert shell.refusal("show", job)["code"] == "deleted"


def test_local_folders_are_uploaded_once_the_rest_is_right(shell: Shell, model_folder: Path, data_folder: Path) -> None:
    before = len(shell.json("models", "--limit", 1000))
    described = ["--model", model_folder, "--data", data_folder, "--sparsity", 0.5]
    error = shell.refusal("submit", *described, "--set", "prunning.layout=stock")
    assert (error["pointers"], "did you mean pruning?" in error["detail"]) == (["/prunning"], True)
    assert len(shell.json("models", "--limit", 1000)) == before
    job = shell.json("submit", *described, "--set", "dataset.columns.label=label", "--idempotency-key", "n1")
    assert job["request"]["dataset"]["columns"]["label"] == "label"
    shell("cancel", job["id"])


def test_a_key_of_the_users_makes_one_job(shell: Shell, pair: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(
        "pruning: {target: {attention_sparsity: 0.5}}\nfinetune: {learning_rate: 1e-3}\n"
    )
    described = [
        "submit",
        "--model",
        pair[0],
        "--data",
        pair[1],
        "--spec",
        tmp_path / "job.yaml",
        "--idempotency-key",
        "night 7",
    ]
    first, second = (shell(*described).stdout for _ in range(2))
    assert first == second
    assert shell.json("show", first.strip())["request"]["finetune"]["learning_rate"] == 0.001
    assert shell.refusal(*described, "--sparsity", 0.25)["code"] == "idempotency_mismatch"
    shell("cancel", first.strip())


def test_what_the_server_refuses_is_said_with_its_place(shell: Shell, pair: tuple[str, str]) -> None:
    described = ["submit", "--model", pair[0], "--data", pair[1], "--preset", "paper", "--sparsity", 0.99]
    error = shell.refusal(*described)
    assert (error["code"], error["status"]) == ("sparsity_out_of_reach", 422)
    assert error["request_id"]
    text = shell(*described, status=2)
    assert text.stdout == ""
    assert text.stderr.startswith("error: ")


def test_a_part_of_an_id_is_enough(shell: Shell, pair: tuple[str, str]) -> None:
    model, data = pair
    short = [model[:12], data[:12]]
    job = shell.json("submit", "--model", short[0], "--data", short[1], "--sparsity", 0.5, "--steps", 1)
    assert (job["request"]["model"]["id"], job["request"]["dataset"]["id"]) == pair
    again = shell("rerun", job["id"][:14], "--set", "seed=7", "--name", "once more").stdout.strip()
    found = shell.json("show", again[-9:])
    assert (found["id"], found["name"], found["request"]["seed"]) == (again, "once more", 7)
    for field in ("pruning", "finetune", "evaluate", "model", "dataset"):
        assert found["request"][field] == job["request"][field]
    assert shell("open", again[:12]).stdout.strip().endswith(f"/jobs/{again}")
    assert shell.json("open")["url"].endswith("/")
    alone = shell().stdout
    assert "reachable" in alone
    assert f"secateur wait {again[:12]}" in alone
    shell("cancel", again[4:14], job["id"][-10:])
    unknown = shell.refusal("show", "job_22222")
    assert (unknown["code"], "begins or ends with 'job_22222'" in unknown["detail"]) == ("not_found", True)


def test_what_several_ids_begin_with_lists_them(shell: Shell, pair: tuple[str, str]) -> None:
    described = ("submit", "--model", pair[0], "--data", pair[1], "--sparsity", 0.5)
    jobs = [shell(*described, "--name", f"n{number}").stdout.strip() for number in range(2)]
    with Secateur(shell.url) as client:
        first: dict[str, list[str]] = {}
        for each in client.jobs():
            first.setdefault(each.id[4], []).append(each.id)
    shell("cancel", *jobs)
    # Ids are random: where no two begin alike, every letter is enough.
    for letter, ids in first.items():
        answer = shell("show", f"job_{letter}", "--json", status=None)
        if answer.exit_code:
            error = json.loads(answer.stderr)["error"]
            assert error["code"] == "ambiguous_id"
            assert error["detail"].count("job_") >= min(len(ids), 6)
        else:
            assert json.loads(answer.stdout)["id"] in ids


def test_steering(shell: Shell, submitted: str) -> None:
    assert [each["state"] for each in shell.json("pause", submitted)] == ["paused"]
    assert "‖ paused" in shell("pause", submitted).stdout
    assert "○ queued" in shell("resume", submitted).stdout
    assert shell.refusal("delete", submitted)["code"] == "conflict"
    assert "– cancelled" in shell("cancel", submitted).stdout
    refused = shell("pause", submitted, status=2)
    assert "error:" in refused.stderr


def test_a_wait_ends_as_the_worst_of_the_jobs(shell: Shell, worker: ManualWorker, pair: tuple[str, str]) -> None:
    submit = ("submit", "--model", pair[0], "--data", pair[1], "--sparsity", 0.5, "--priority", 10)
    failed, cancelled = (shell(*submit).stdout.strip() for _ in range(2))
    (open_,) = shell.json("wait", failed, "--timeout", 0.1, status=5)
    assert open_["state"] == "queued"
    shell("cancel", cancelled)
    result = shell("wait", cancelled, "--json", status=4)
    assert json.loads(result.stderr)["error"]["job"] == cancelled
    worker.claim(failed)
    worker.fail(JobError(code=ErrorCode.NUMERICAL, detail="A loss became infinite."))
    assert "A loss became infinite." in shell("wait", failed, status=3).stdout
    both = shell("wait", cancelled, failed, cancelled, status=3)
    assert (both.stderr.count("was cancelled"), both.stderr.count("failed")) == (1, 1)
    assert [each["id"] for each in shell.json("wait", cancelled, failed, status=3)] == [cancelled, failed]


def test_submit_waits_and_gives_the_job(shell: Shell, url: str, worker: ManualWorker, pair: tuple[str, str]) -> None:
    def work() -> None:
        with Secateur(url) as client:
            wait_for(lambda: next(client.jobs(labels=["test=waits"]), None), 30, "the job")
            worker.claim(next(client.jobs(labels=["test=waits"])).id)
        worker.commit(0, {})
        worker.commit(1, FILES)
        worker.succeed(1)

    thread = threading.Thread(target=work)
    thread.start()
    job = shell.json(
        "submit",
        "--model",
        pair[0],
        "--data",
        pair[1],
        "--sparsity",
        0.5,
        "--wait",
        "--priority",
        10,
        "--label",
        "test=waits",
    )
    thread.join()
    assert (job["state"], job["result"]["step"]) == ("succeeded", 1)
    assert shell("wait", job["id"]).stdout.count("Recommended: step 1.") == 1


def test_jobs_side_by_side(shell: Shell, worker: ManualWorker, pair: tuple[str, str]) -> None:
    jobs = []
    for name, last in (("short", 1), ("long", 2)):
        job = shell(
            *("submit", "--model", pair[0], "--data", pair[1], "--sparsity", 0.5, "--priority", 10, "--name", name)
        ).stdout.strip()
        worker.claim(job)
        for step in range(last + 1):
            worker.commit(step, {} if step == 0 else FILES)
        worker.succeed(last)
        jobs.append(job)
    rows = [line.split() for line in shell("compare", *jobs).stdout.splitlines()[2:]]
    assert [row[:2] for row in rows] == [["0", "short"], ["0", "long"], ["1*", "short"], ["1", "long"], ["2*", "long"]]
    document = shell.json("compare", *jobs)
    assert [(each["job"], each["result_step"], len(each["steps"])) for each in document] == [
        (jobs[0], 1, 2),
        (jobs[1], 2, 3),
    ]


def test_limits_schema_and_version(shell: Shell) -> None:
    assert "ast" in shell.json("limits")["families"]
    assert "largest file" in shell("limits").stdout
    assert shell.json("workers") == []
    assert "No worker" in shell("workers").stdout
    schema = json.loads(shell("schema").stdout)
    committed = Path(__file__).parents[3] / "docs" / "reference" / "spec.schema.json"
    assert schema == json.loads(committed.read_text())
    assert shell("version").stdout.strip() == shell.json("version")["version"] == shell("--version").stdout.strip()
    for command in ((), ("jobs",), ("keys",), ("keys", "list"), ("submit",)):
        assert "Usage:" in shell(*command, "-h").stdout


@pytest.mark.parametrize("given", ["show", "delete", "wait", "download", "logs"])
def test_what_is_no_identifier_is_refused(shell: Shell, given: str) -> None:
    assert shell.refusal(given, "nothing/../../x")["exit_status"] == 2
    assert shell.refusal(given, f"job_{'a' * 26}")["code"] == "not_found"


def test_wrong_usage_is_said_as_json_where_json_is_wanted(shell: Shell) -> None:
    for arguments in (
        ("submit", "--sparsity", "x"),
        ("sbumit",),
        ("wait",),
        ("jobs", "--state", "lost"),
        ("jobs", "--limit", "0"),
    ):
        assert shell.refusal(*arguments)["code"] == "usage"
        plain = shell(*arguments, status=2)
        assert plain.stdout == ""
        assert "Usage:" in plain.stderr


def test_nobody_there_is_status_1(tmp_path: Path) -> None:
    nowhere = Shell("http://127.0.0.1:1")
    assert nowhere.refusal("limits", status=1)["code"] == "connection_failed"
    for command in (("limits",), ("wait", f"job_{'a' * 26}")):
        said = nowhere(*command, status=1).stderr
        assert said.count("Nothing answers at http://127.0.0.1:1 (") == 3
        assert said.count("Trying again in") == 2
        assert "SECATEUR_URL or `secateur login`" in said
    alone = nowhere().stdout
    assert "http://127.0.0.1:1: no answer" in alone
    assert "secateur up" in alone
    assert nowhere.refusal("limits", "--url", "ftp://x")["code"] == "invalid_request"
    (tmp_path / "empty").touch()
    assert "is empty" in nowhere.refusal("limits", "--api-key-file", tmp_path / "empty")["detail"]


def test_keys_of_a_tenant(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data", broker_url="redis://127.0.0.1:1/0", auth="keys")
    command = [
        sys.executable,
        "-m",
        "secateur",
        "keys",
        "create",
        "--bootstrap",
        "--json",
        "--data-dir",
        settings.data_dir,
    ]
    narrowed = subprocess.run([*command, "--scope", "jobs:read"], capture_output=True, text=True, check=False)
    assert (narrowed.returncode, "every scope" in narrowed.stderr) == (2, True)
    first = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert set(first["scopes"]) >= {"admin", "jobs:write"}
    admin = first["token"]
    with service_process(settings, tmp_path / "log") as client:
        shell = Shell(str(client.base_url))
        assert shell.refusal("keys", "list")["status"] == 401
        (tmp_path / "key").write_text(f"{admin}\n")
        with_key = ("--api-key-file", tmp_path / "key")
        new = shell("keys", "create", "--name", "ci", "--scope", "jobs:read", "--days", 2, *with_key)
        token = new.stdout.strip()
        assert token not in new.stderr
        assert shell.json("limits", "--api-key", token)["scopes"] == ["jobs:read"]
        assert shell.refusal("keys", "list", "--api-key", token)["status"] == 403
        listed = shell.json("keys", "list", *with_key)
        (found,) = [each for each in listed if each["name"] == "ci"]
        assert token not in json.dumps(listed)
        assert "ci" in shell("keys", "list", *with_key).stdout
        assert shell.json("audit", "--limit", 1, *with_key)[0]["action"] == "create_key"
        assert "create_key" in shell("audit", *with_key).stdout
        config = {"XDG_CONFIG_HOME": str(tmp_path / "config")}
        wrong = shell("login", "--profile", "work", input=f"{token[:-1]}x\n", env=config, status=2)
        assert "secateur login" in wrong.stderr
        assert "api_key=" not in wrong.stderr
        assert not (tmp_path / "config").exists()
        shell("login", "--profile", "work", input=f"{admin}\n", env=config)
        (file,) = (tmp_path / "config" / "secateur").iterdir()
        assert file.stat().st_mode & 0o777 == 0o600
        assert "ci" in shell("keys", "list", "--profile", "work", env=config).stdout
        assert admin not in shell("profiles", env=config).stdout
        shell("logout", "--profile", "work", env=config)
        assert "no profile 'work'" in shell("limits", "--profile", "work", env=config, status=2).stderr
        shell("keys", "revoke", found["id"], *with_key)
        assert shell.refusal("limits", "--api-key", token)["status"] == 401
        assert "not both" in shell.refusal("limits", "--api-key", token, *with_key)["detail"]
