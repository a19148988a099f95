"""What users see of the client: light imports, two clients with the same calls, errors, notebooks, hostile answers."""

import inspect
import pickle
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import httpx
import pytest

import secateur
from api_schemas.errors import ErrorItem
from secateur import errors
from secateur.client.resources.administration import Keys, Webhooks
from secateur.client.resources.async_administration import AsyncKeys, AsyncWebhooks
from secateur.client.resources.async_uploads_and_jobs import AsyncDatasets, AsyncJobs, AsyncModels, AsyncSweeps
from secateur.client.resources.uploads_and_jobs import Datasets, Jobs, Models, Sweeps
from tests.support.jobs.records import step_metrics
from tests.unit.secateur.conftest import Connect
from tests.unit.secateur.test_client_streams import ID, STREAM, event, job, sent

HEAVY = {"torch", "transformers", "datasets", "pyarrow", "soundfile", "typer", "fastapi"}
PAIRS = [
    (secateur.Secateur, secateur.AsyncSecateur),
    (secateur.Job, secateur.AsyncJob),
    (secateur.Sweep, secateur.AsyncSweep),
    (secateur.Checkpoint, secateur.AsyncCheckpoint),
    (Webhooks, AsyncWebhooks),
    (Keys, AsyncKeys),
    (Jobs, AsyncJobs),
    (Models, AsyncModels),
    (Datasets, AsyncDatasets),
    (Sweeps, AsyncSweeps),
]


def loaded_by(code: str) -> set[str]:
    """Top-level modules of a fresh interpreter after `code`."""
    run = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3],
    )  # fmt: skip
    return set(run.stdout.split())


def test_importing_is_light() -> None:
    assert not loaded_by("import secateur") & (HEAVY | {"httpx", "pydantic", "api_schemas"})
    assert not loaded_by("from secateur import *; Secateur('http://127.0.0.1:1')") & HEAVY


def test_every_name_can_be_had() -> None:
    for name in secateur.__all__:
        assert getattr(secateur, name).__doc__, name
        assert name in dir(secateur)
    with pytest.raises(AttributeError):
        secateur.nothing  # noqa: B018


@pytest.mark.parametrize(("blocking", "awaited"), PAIRS)
def test_both_clients_have_the_same_calls(blocking: type, awaited: type) -> None:
    def surface(kind: type) -> dict[str, Any]:
        names = [name for name in dir(kind) if not name.startswith("_")]
        calls = {name: inspect.getattr_static(kind, name) for name in names}
        return {
            name: None if isinstance(found, property) else list(inspect.signature(found).parameters.items())
            for name, found in calls.items()
        }

    assert list(map(str, surface(blocking).items())) == list(map(str, surface(awaited).items()))


@pytest.mark.parametrize("kind", [blocking for blocking, _ in PAIRS])
def test_every_call_has_an_example(kind: type) -> None:
    for name, found in vars(kind).items():
        if inspect.isfunction(found) and not name.startswith("_"):
            assert ">>>" in (found.__doc__ or ""), f"{kind.__name__}.{name}"


NAMESPACES = {
    "jobs": {"create": "submit", "estimate": "estimate", "preview": "preview", "get": "job", "delete": "delete_job"},
    "models": {"upload": "upload_model", "get": "model", "delete": "delete_model"},
    "datasets": {"upload": "upload_dataset", "get": "dataset", "delete": "delete_dataset"},
    "sweeps": {"create": "submit_sweep", "get": "sweep", "delete": "delete_sweep"},
}
OWN = {"datasets": {"samples", "sample_media"}}
"""Calls that resources alone have."""


@pytest.mark.parametrize("kind", [secateur.Secateur, secateur.AsyncSecateur])
@pytest.mark.parametrize("name", NAMESPACES)
def test_resources_have_the_clients_own_calls(kind: type, name: str) -> None:
    client = kind("http://127.0.0.1:1")
    resource = getattr(client, name)
    calls = {call for call in dir(resource) if not call.startswith("_")}
    assert calls == {*NAMESPACES[name], *OWN.get(name, ()), "list"}
    for call, verb in NAMESPACES[name].items():
        assert getattr(resource, call) == getattr(client, verb), call


def test_resources_list_page_by_page_and_by_their_old_calls(connect: Connect) -> None:
    asked: list[str] = []

    def answers(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        last = "cursor" in request.url.params
        page = {"items": [job().json()], "next_cursor": None if last else "next"}
        return httpx.Response(200, json=page)

    client = connect(answers)
    found = client.jobs.list(state="running", labels={"team": "speech"}, model="mdl_x")
    assert next(found).id == ID
    assert len(asked) == 1, "the second page was fetched before it was asked for"
    assert [each.id for each in found] == [ID]
    query = httpx.URL(asked[0]).params
    assert (query["state"], query["label"], query["model"]) == ("running", "team=speech", "mdl_x")
    assert [each.id for each in client.jobs(state=["running"])] == [ID, ID]


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "a\\b", "C:x", "a\0b", ".", "", "a\nb"])
def test_file_names_that_lead_out_of_the_folder_are_refused(connect: Connect, tmp_path: Path, name: str) -> None:
    file = {"name": name, "size": 1, "sha256": "ab" * 32, "url": "http://elsewhere.example/x"}
    metrics = step_metrics(1).model_dump(mode="json")
    found = {"step": 1, "created_at": "2026-01-01T00:00:00Z", "metrics": metrics, "files": [file], "archive_url": ""}

    def answers(request: httpx.Request) -> httpx.Response:
        assert not request.url.path.endswith("x"), "it was fetched"
        return job() if request.url.path.endswith(ID) else httpx.Response(200, json=found)

    folder = tmp_path / "inside" / "folder"
    with pytest.raises(errors.UnexpectedAnswer, match="outside the output folder"):
        connect(answers).job(ID).download(folder, step=1)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_links_that_lead_out_of_the_folder_are_not_followed(connect: Connect, tmp_path: Path) -> None:
    file = {"name": "sub/x", "size": 1, "sha256": "ab" * 32, "url": ""}
    metrics = step_metrics(1).model_dump(mode="json")
    found = {"step": 1, "created_at": "2026-01-01T00:00:00Z", "metrics": metrics, "files": [file], "archive_url": ""}
    (tmp_path / "folder").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "folder" / "sub").symlink_to(tmp_path / "elsewhere")

    def answers(request: httpx.Request) -> httpx.Response:
        return job() if request.url.path.endswith(ID) else httpx.Response(200, json=found)

    with pytest.raises(errors.UnexpectedAnswer, match="is a link that leads out"):
        connect(answers).job(ID).download(tmp_path / "folder", step=1)


def test_a_file_that_never_gets_whole_is_an_error_and_no_endless_loop(connect: Connect, tmp_path: Path) -> None:
    file = {"name": "x", "size": 10, "sha256": "ab" * 32, "url": ""}
    metrics = step_metrics(1).model_dump(mode="json")
    found = {"step": 1, "created_at": "2026-01-01T00:00:00Z", "metrics": metrics, "files": [file], "archive_url": ""}

    def answers(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/files/x"):
            return httpx.Response(200, content=b"short")
        return job() if request.url.path.endswith(ID) else httpx.Response(200, json=found)

    with pytest.raises(errors.ChecksumMismatch):
        connect(answers).job(ID).download(tmp_path, step=1)


@pytest.mark.parametrize("url", ["ftp://x", "127.0.0.1:8000", "http://", "http://x/?a=b", "http://[::1"])
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(errors.InvalidRequest, match="not the URL"):
        secateur.Secateur(url)


def test_url_and_key_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert secateur.Secateur().url == "http://127.0.0.1:8000"
    monkeypatch.setenv("SECATEUR_URL", "https://prune.example/v1/")
    monkeypatch.setenv("SECATEUR_API_KEY", "sk_of_the_environment\n")
    asked: list[httpx.Request] = []

    def answers(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(404, json={"code": "not_found", "detail": "Nothing."})

    with (
        httpx.Client(transport=httpx.MockTransport(answers)) as http,
        secateur.Secateur(http_client=http) as client,
        pytest.raises(errors.NotFound),
    ):
        client.limits()
    assert str(asked[0].url) == "https://prune.example/v1/limits"
    assert asked[0].headers["authorization"] == "Bearer sk_of_the_environment"
    with pytest.raises(errors.InvalidRequest, match="API key"):
        secateur.Secateur(api_key="sk_\r\nX-Evil: 1")


def test_errors_name_fields_and_survive_a_process_pool() -> None:
    items = (
        ErrorItem(pointer="/pruning/target", code="x", detail="too much"),
        ErrorItem(pointer="/seed", code="x", detail="no"),
    )
    error = errors.InvalidRequest(
        "/pruning/target: too much (1 more in `errors`).", code="invalid_request", items=items
    )
    assert str(error) == "/pruning/target: too much (1 more in `errors`).\n  /seed: no"
    assert error.pointers == ("/pruning/target", "/seed")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.code, again.items) == (type(error), str(error), error.code, error.items)


@pytest.mark.parametrize(
    ("given", "pointer"),
    [
        ({"model": "my-model", "data": "dst_" + "a" * 26, "sparsity": 0.5}, "/model"),
        ({"model": "dst_" + "a" * 26, "data": "dst_" + "a" * 26, "sparsity": 0.5}, "/model"),
        ({"model": "mdl_" + "a" * 26, "sparsity": 0.5}, "/dataset"),
        ({"model": "mdl_" + "a" * 26, "data": "dst_" + "a" * 26}, "/pruning/target"),
        ({"model": "m", "data": "d", "sparsity": 0.5, "pruning": {"target": {"flops": 0.5}}}, "/pruning/target"),
    ],
)
def test_what_is_missing_is_said_before_anything_is_sent(connect: Connect, given: Any, pointer: str) -> None:
    def answers(request: httpx.Request) -> httpx.Response:
        raise AssertionError(request)

    with pytest.raises(errors.InvalidRequest) as caught:
        connect(answers).submit(**given)
    assert caught.value.pointers == (pointer,)


def test_a_job_in_a_notebook_is_a_table_and_waiting_shows_it_in_place(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "<script>alert(1)</script>"
    metrics = [step_metrics(0).model_dump(mode="json"), step_metrics(1).model_dump(mode="json")]
    stream = httpx.Response(200, headers=STREAM, content=sent([event(1, "succeeded")]))
    streams = [stream]

    def answers(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/events"):
            return streams.pop() if streams else httpx.Response(204)
        return job("succeeded", name=name, metrics=metrics)

    shown: list[str] = []

    class Handle:
        def update(self, html: str) -> None:
            shown.append(html)

    def display(html: str, display_id: bool) -> Handle:
        assert display_id
        shown.append(html)
        return Handle()

    shell = types.SimpleNamespace(kernel=object(), execution_count=1)
    package, module = types.ModuleType("IPython"), types.ModuleType("IPython.display")
    package.get_ipython = lambda: shell  # type: ignore[attr-defined]
    module.HTML, module.display = str, display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", package)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    waited = connect(answers).job(ID).wait()
    assert len(shown) >= 2
    assert all("<script>" not in each and "&lt;script&gt;" in each for each in shown)
    assert shown[-1] == waited._repr_html_()
    assert "<td>90.0%</td>" in shown[-1]
    waited._ipython_display_()
    with pytest.raises(NotImplementedError):
        connect(lambda _: job("queued")).job(ID)._ipython_display_()
    shell.execution_count = 2
    with pytest.raises(NotImplementedError):
        waited._ipython_display_()
    del shell.kernel
    before = len(shown)
    connect(answers).job(ID).wait()
    assert len(shown) == before, "a terminal shows no HTML"
