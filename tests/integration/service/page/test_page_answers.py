"""What every page has, whoever named what is on it: headers, escaping, errors that are pages."""

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from starlette.testclient import TestClient

from api_schemas.api.resources import JobError
from api_schemas.enums import JobState
from api_schemas.errors import ErrorCode
from service.page import answers, static_files
from service.services import Services
from store.database.tables import Job
from store.jobs import logs
from tests.integration.service.conftest import claim, problem
from tests.support.pages import BROWSER, Page
from tests.support.uploads import checkpoint_files, declared
from tests.unit.docs.test_docs import load_script

HOSTILE = "</title><script>alert(1)</script>\u202egnp.exe\"'><img src=x onerror=alert(2)>{{7*7}}"
TABS = ("results", "layers", "training", "files", "log", "events", "request")


@pytest.fixture
def data_dir(stocked: Path) -> Path:
    return stocked


def test_every_page_lets_a_browser_do_little(client: TestClient, job_id: str) -> None:
    addresses = [
        "/",
        "/new",
        "/compare",
        "/sweeps",
        "/models",
        "/datasets",
        "/workers",
        "/keys",
        "/webhooks",
        "/audit",
        "/limits",
        f"/lineage/{job_id}",
        "/nothing",
        f"/jobs/{job_id}",
        *(f"/jobs/{job_id}?tab={tab}" for tab in TABS),
    ]
    for address in addresses:
        answer = client.get(address, headers=BROWSER)
        assert answer.status_code == (404 if address == "/nothing" else 200), address
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        for name, value in answers.SECURITY_HEADERS.items():
            assert answer.headers[name] == value, (address, name)
        page = Page(answer)
        assert [element for element, _ in page.elements].count("h1") == 1
        assert page.all("main", id="main")
        for loaded in {src for src in page.addresses() if src.startswith("/static/")}:
            assert client.get(loaded).status_code == 200, loaded


def test_what_is_drawn_anew_hears_at_once(client: TestClient, job_id: str) -> None:
    """htmx listens to new elements once they have settled: a button pressed within that time would do nothing."""
    (settings,) = Page(client.get(f"/jobs/{job_id}", headers=BROWSER)).all("meta", name="htmx-config")
    assert json.loads(settings["content"])["defaultSettleDelay"] == 0


def test_the_policy_allows_nothing_inline_and_nobody_else() -> None:
    policy = answers.SECURITY_HEADERS["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert "*" not in policy


def test_files_are_kept_for_ever_and_change_their_address(client: TestClient) -> None:
    address = static_files.address("page.css")
    answer = client.get(address)
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["content-type"].startswith("text/css")
    assert client.get(static_files.address("page.js")).headers["content-type"].startswith("text/javascript")
    assert client.get(address.replace(static_files.VERSION, "0" * 16)).status_code == 404
    for name in ("../answers.py", "..%2fanswers.py", "%2e%2e/answers.py", "nothing.js"):
        assert client.get(f"/static/{static_files.VERSION}/{name}").status_code == 404


def test_what_others_wrote_is_as_they_wrote_it() -> None:
    script = load_script("vendor_page")
    folder = static_files.FOLDER / "vendor"
    assert {path.name for path in folder.iterdir()} == set(script.SHA256)
    assert {name for files in script.PACKAGES.values() for name in files.values()} == set(script.SHA256)
    for name, sha256 in script.SHA256.items():
        assert script.sha256_of(folder / name) == sha256, name


def test_scripts_and_styles_bring_in_nothing_from_elsewhere() -> None:
    for path in static_files.FOLDER.rglob("*"):
        if path.suffix in (".js", ".css") and path.parent.name != "vendor":
            text = path.read_text(encoding="utf-8")
            assert "http://" not in text, path
            assert "@import" not in text, path
            assert "innerHTML" not in text, path
            assert "eval(" not in text, path


@pytest.fixture
def hostile(client: TestClient, services: Services, job_body: dict[str, Any]) -> str:
    """A job whose every word is a stranger's."""
    made = client.post("/v1/jobs", json=job_body | {"name": HOSTILE, "labels": {"team": HOSTILE[:128]}})
    assert made.status_code == 202, made.text
    lease = claim(services)
    with services.database.write() as session:
        logs.append(session, lease, 0, f"{HOSTILE}\n\x1b[31m{HOSTILE}\n", 10**6)
        error = JobError(code=ErrorCode.ENGINE_ERROR, detail=HOSTILE)
        session.execute(update(Job).values(state=JobState.FAILED, error=error))
    return str(made.json()["id"])


def test_strangers_words_are_words(client: TestClient, hostile: str) -> None:
    files = checkpoint_files()
    for kind in ("models", "datasets"):
        wanted = declared(files) if kind == "models" else [{"name": "train.parquet", "size": 1, "sha256": "ab" * 32}]
        assert client.post(f"/v1/{kind}", json={"name": HOSTILE, "files": wanted}).status_code == 201
    addresses = [
        "/",
        "/new",
        "/compare",
        f"/compare?job={hostile}",
        f"/?label={HOSTILE}",
        f"/new?name={HOSTILE}&model={HOSTILE}",
    ]
    addresses += [f"/jobs/{hostile}?tab={tab}" for tab in TABS] + [f"/jobs/{hostile}?tab={HOSTILE}"]
    for address in addresses:
        answer = client.get(address, headers=BROWSER)
        page = Page(answer)
        assert "\u202e" not in answer.text, address
        assert "\x1b" not in answer.text
        assert "<script>alert" not in answer.text, address
        assert "<img" not in answer.text, address
        assert "49" not in page.all("h1"), address
    shown = Page(client.get(f"/jobs/{hostile}", headers=BROWSER)).text
    assert "</title><script>alert(1)</script>" in shown
    assert "{{7*7}}" in shown


def test_what_is_not_there_is_said_on_a_page(client: TestClient, job_id: str) -> None:
    other = f"job_{'a' * 26}"
    for address in ("/nothing", f"/jobs/{other}", "/jobs/x", f"/compare?job={other}&job={job_id}", f"/jobs/{job_id}/x"):
        page = Page(client.get(address, headers=BROWSER))
        assert page.status == 404, address
        assert "not_found" in page.text
    assert Page(client.get(f"/jobs/{job_id}?step=-1", headers=BROWSER)).status == 422
    assert Page(client.get("/?cursor=nonsense", headers=BROWSER)).status == 422
    client.post(f"/v1/jobs/{job_id}/cancel")
    assert client.delete(f"/v1/jobs/{job_id}").status_code == 204
    gone = Page(client.get(f"/jobs/{job_id}", headers=BROWSER))
    assert gone.status == 410
    assert "deleted" in gone.text


def test_programs_are_answered_as_ever(client: TestClient) -> None:
    problem(client.get("/nothing"), 404, "not_found")
    problem(client.get("/v1/nothing", headers=BROWSER), 404, "not_found")
    problem(client.get(f"/v1/jobs/job_{'a' * 26}", headers=BROWSER), 404, "not_found")
    assert "content-security-policy" not in client.get("/v1/jobs").headers


def test_a_failure_nobody_foresaw_is_a_page(
    client: TestClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise RuntimeError("the secret of the house")

    monkeypatch.setattr(services.database, "read", fail)
    page = Page(client.get("/", headers=BROWSER))
    assert page.status == 500
    assert "internal_error" in page.text
    assert "secret" not in page.text


def test_who_has_the_page_already_gets_nothing(client: TestClient, job_id: str) -> None:
    for address in ("/", f"/jobs/{job_id}"):
        first = client.get(address, headers=BROWSER)
        again = client.get(address, headers=BROWSER | {"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["content-security-policy"] == answers.SECURITY_HEADERS["Content-Security-Policy"]
