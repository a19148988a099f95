"""Every piece of code in README and docs is run as it stands there, against real services, or says why it cannot be."""

import importlib
import json
import re
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from jsonschema import Draft202012Validator

from store.settings import Settings
from tests.docs.test_cookbook import COOKBOOK, RECIPES
from tests.support.checkpoints.tiny import some_data, tiny_model
from tests.support.jobs.bench import fake_engine
from tests.support.servers.certificates import certificate_for
from tests.support.servers.processes import service_process
from tests.support.servers.up import stack_up, upload, wait
from tests.support.snippets import PAGES, ROOT, RUN, SHOWN, Block, blocks, run_page
from tests.support.uploads import picture, tone

ALL = [block for page in PAGES for block in blocks(page)]
ADDRESS = "http://127.0.0.1:8000"
"""Of the service, in every page."""
SCHEMA = json.loads((ROOT / "docs" / "reference" / "spec.schema.json").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Fake:
    """A stack whose engine computes nothing, and waits after step 0 until `go` is there."""

    url: str
    go: Path
    hook_port: int
    """The one address of this machine that webhooks may be sent to."""


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fake]:
    folder = tmp_path_factory.mktemp("fake")
    go = folder / "go"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    settings = {
        "SECATEUR_ENGINE_COMMAND": json.dumps(fake_engine("tour", marker=go)),
        "SECATEUR_ENGINE_FOLDERS": json.dumps([str(folder)]),
        "SECATEUR_OUTBOUND_TEST_TARGET": f"127.0.0.1:{port}",
        "SECATEUR_WEBHOOK_SECONDS": "0.5",
    }
    with stack_up(folder, **settings) as url:
        yield Fake(url, go, port)


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    return lay_out(tmp_path)


def lay_out(folder: Path) -> Path:
    """The model and the data that the pages speak of."""
    shutil.copytree(tiny_model(), folder / "my-model")
    (folder / "my-ast").symlink_to("my-model")
    shutil.copytree(some_data(), folder / "my-data")
    return folder


Test = Callable[..., None]
TESTED: dict[Path, str] = {}


def of(page: str) -> Callable[[Test], Test]:
    """The test below runs this page."""

    def noted(test: Test) -> Test:
        TESTED[ROOT / page] = test.__name__
        return test

    return noted


@of("README.md")
def test_readme(fake: Fake, inputs: Path) -> None:
    """What it has for identifiers is of a job that has ended."""
    with httpx.Client(base_url=f"{fake.url}/v1", timeout=60) as client:
        model, data = (
            upload(client, *each) for each in (("models", inputs / "my-model"), ("datasets", inputs / "my-data"))
        )
        request = {
            "model": {"type": "upload", "id": model},
            "dataset": {"type": "upload", "id": data},
            "pruning": {"target": {"attention_sparsity": 0.5}},
        }
        fake.go.touch()
        job, _ = wait(client, client.post("/jobs", json=request).json()["id"])
    said = {"mdl_…": model, "dst_…": data, "job_…": job["id"], "checkpoints/5": "checkpoints/2"}
    # A step and an epoch show as much as three of each.
    said |= {
        "--sparsity 0.75": "--sparsity 0.75 --set pruning.schedule.steps=1 --epochs 1 --threads 1",
        "step-3": "step-1",
    }
    run_page(ROOT / "README.md", inputs, {"SECATEUR_URL": fake.url}, {ADDRESS: fake.url, **said})
    assert list(inputs.glob("*.tar"))


@of("docs/tutorial.md")
def test_tutorial(service: str, inputs: Path) -> None:
    """The one with the real engine."""
    said = run_page(ROOT / "docs/tutorial.md", inputs, {"SECATEUR_URL": service}, {ADDRESS: service}, session=True)
    assert "succeeded" in said
    assert "report.html" in said


@of("docs/python.md")
def test_the_python_client(fake: Fake, inputs: Path) -> None:
    """In one session, as in a notebook. What is paused, resumed and cancelled waits behind a job that waits itself."""
    with httpx.Client(base_url=f"{fake.url}/v1", timeout=60) as client:
        model, data = (
            upload(client, *each) for each in (("models", inputs / "my-model"), ("datasets", inputs / "my-data"))
        )
    shutil.copy(inputs / "my-data" / "train.parquet", inputs)
    certificate_for(inputs, "our-ca")
    for label in ("left", "right"):
        (inputs / "pictures" / "train" / label).mkdir(parents=True)
        (inputs / "pictures" / "train" / label / "a.png").write_bytes(picture())
    request = {
        "model": {"type": "upload", "id": model},
        "dataset": {"type": "upload", "id": data},
        "pruning": {"target": {"attention_sparsity": 0.5}},
    }
    (inputs / "job.json").write_text(json.dumps(request))
    fake.go.touch()
    waiting = (
        f"go = Path({str(fake.go)!r})\ngo.unlink()\n"
        "others = [client.submit(model, data, sparsity=0.5), client.submit(model, data, sparsity=0.5)]\njob = others[1]"
    )
    said = run_page(
        ROOT / "docs/python.md",
        inputs,
        {"SECATEUR_URL": fake.url, "HF_HOME": str(inputs / "cache")},
        {
            ADDRESS: fake.url,
            "sk_…": "sk_id_secret",
            '"mdl_…"': repr(model),
            '"dst_…"': repr(data),
            "https://hooks.example.com/secateur": f"http://127.0.0.1:{fake.hook_port}/",
        },
        before={"job.pause()": waiting, 'state=["queued"': "go.touch()"},
        session=True,
    )
    assert "ASTForAudioClassification" in said
    assert "sparsity_out_of_reach" in said


@of("docs/api.md")
def test_calling_the_api(fake: Fake, inputs: Path) -> None:
    """The engine waits while the job is paused, resumed and looked at, and goes on when its events are followed."""
    fake.go.unlink(missing_ok=True)
    environment = {"SECATEUR_URL": fake.url}
    go = {"text/event-stream": f"touch '{fake.go}'"}
    said = run_page(ROOT / "docs/api.md", inputs, environment, {ADDRESS: fake.url}, before=go)
    assert '"state":"succeeded"' in said
    assert all((inputs / name).stat().st_size for name in ("pruned.tar", "model.safetensors", "report.html", "out.tar"))


@of("docs/cli.md")
def test_the_command_line(fake: Fake, inputs: Path) -> None:
    """The engine waits while the job is paused and resumed, and goes on when it is waited for."""
    fake.go.unlink(missing_ok=True)
    go = {"secateur wait $JOB ": f"touch '{fake.go}'"}
    said = run_page(ROOT / "docs/cli.md", inputs, {}, {ADDRESS: fake.url}, before=go)
    assert "Recommended: step 2." in said
    for folder in ("pruned", "nightly"):
        assert (inputs / folder / "model.safetensors").is_file()


@of("docs/howto/keys.md")
def test_keys(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data", auth="keys", broker_url="redis://127.0.0.1:1/0")
    with service_process(settings, tmp_path / "log") as client:
        url = str(client.base_url)
        environment = {"SECATEUR_DATABASE_URL": settings.database_url}
        said = run_page(ROOT / "docs/howto/keys.md", tmp_path, environment, {ADDRESS: url})
    assert "create_key" in said
    assert "revoke_key" in said


@of("docs/howto/webhooks.md")
def test_webhooks(fake: Fake, tmp_path: Path) -> None:
    """The receiver of the page gets the ping of the page; it lives as long as the page's shell."""
    port = str(fake.hook_port)
    replaced = {ADDRESS: fake.url, "https://hooks.example.com/secateur": f"http://127.0.0.1:{port}/", "9000": port}
    listening = f"until (exec 3<>/dev/tcp/127.0.0.1/{port}) 2> /dev/null; do sleep 0.1; done"
    run_page(
        ROOT / "docs/howto/webhooks.md",
        tmp_path,
        {},
        replaced,
        before={"/ping": listening},
        last="until grep -q webhook.ping received.txt; do sleep 0.1; done",
    )
    assert "webhook.ping" in (tmp_path / "received.txt").read_text()


@of("docs/howto/resumable-uploads.md")
def test_resumable_uploads(fake: Fake, inputs: Path) -> None:
    assert run_page(ROOT / "docs/howto/resumable-uploads.md", inputs, {}, {ADDRESS: fake.url}).strip() == "ready"


@pytest.fixture(scope="module")
def pruned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the page on pruning offline was run: one page makes what another is about."""
    folder = lay_out(tmp_path_factory.mktemp("offline"))
    run_page(ROOT / "docs/howto/prune-offline.md", folder, {}, {})
    return folder


@of("docs/howto/prune-offline.md")
def test_pruning_offline(pruned: Path) -> None:
    assert {path.name for path in (pruned / "stock").iterdir()} >= {"step-0", "step-1", "engine.log"}


@of("docs/checkpoint.md")
def test_loading_checkpoints(pruned: Path, tmp_path: Path) -> None:
    (tmp_path / "step-5").symlink_to(pruned / "stock" / "step-1")
    (tmp_path / "clip.wav").write_bytes(tone(seconds=1))
    run_page(ROOT / "docs/checkpoint.md", tmp_path, {}, {}, session=True)


@of("docs/howto/fewer-tokens.md")
def test_fewer_tokens(pruned: Path, tmp_path: Path) -> None:
    page = ROOT / "docs/howto/fewer-tokens.md"
    (tmp_path / "pruned").symlink_to(pruned / "stock")
    printed = [line for line in run_page(page, tmp_path, {}, {}, session=True).splitlines() if line.startswith("| ")]
    assert len(printed) == 3
    assert "\n".join(printed) in page.read_text(encoding="utf-8")


@of("docs/howto/own-data.md")
def test_own_data(fake: Fake, tmp_path: Path) -> None:
    for split in ("train", "validation", "test"):
        for label in ("no", "yes"):
            folder = tmp_path / "recordings" / split / label
            folder.mkdir(parents=True)
            (folder / "a.wav").write_bytes(tone())
    said = run_page(ROOT / "docs/howto/own-data.md", tmp_path, {}, {ADDRESS: fake.url})
    assert "('no', 'yes')" in said


def test_every_page_with_programs_is_run() -> None:
    programs = {block.page for block in ALL if block.runs and block.module is None}
    assert programs == {*TESTED, *(COOKBOOK / page for page in RECIPES)}


def test_every_block_is_run_or_shown_or_says_why_not() -> None:
    """A language that is neither run nor known to be shown, a reason without words, a mark that is on nothing."""
    for block in ALL:
        assert block.language in RUN + SHOWN, block.name
        assert block.mark is None or len(block.mark[1]) > 3, block.name
    for page in PAGES:
        marks = len(re.findall(r"^<!-- (?:not run|run with|run in):", page.read_text(encoding="utf-8"), re.MULTILINE))
        assert marks == sum(block.mark is not None for block in blocks(page)), page


@pytest.mark.parametrize("block", [block for block in ALL if block.language == "json"], ids=lambda block: block.name)
def test_json_is_json_and_jobs_are_jobs(block: Block) -> None:
    content = json.loads(block.text)
    if "pruning" in content:
        Draft202012Validator(SCHEMA).validate(content)


@pytest.mark.parametrize("block", [block for block in ALL if block.module], ids=lambda block: block.name)
def test_fragments_work_in_the_module_that_they_are_of(block: Block) -> None:
    assert block.module is not None
    names: Mapping[str, object] = vars(importlib.import_module(block.module))
    exec(compile(block.text, block.name, "exec"), dict(names))
