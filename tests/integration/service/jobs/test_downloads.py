"""Downloads of a committed step: whole, in ranges, conditional, as an archive; and of what is not there."""

import hashlib
import io
import tarfile
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from service.services import Services
from tests.integration.service.conftest import claim, commit, problem

WEIGHTS = bytes(range(256)) * 9000  # More than two of the chunks in which artifacts are read.
FILES = {
    "model.safetensors": WEIGHTS,
    "model.int8.onnx": b"\x08\x0a",
    "config.json": b"{}",
    "report.html": b"<!doctype html><script>alert(1)</script>",
    "figures/trade-off.svg": b"<svg/>",
}


@pytest.fixture
def data_dir(stocked: Path) -> Path:
    return stocked


@pytest.fixture
def checkpoint(services: Services, job_id: str, tmp_path: Path) -> str:
    """Address of step 1 of a job that has steps 0 and 1."""
    lease = claim(services)
    commit(services, lease, 0, {"pruning.json": b"{}"}, tmp_path)
    commit(services, lease, 1, FILES, tmp_path)
    return f"/v1/jobs/{job_id}/checkpoints/1"


def test_the_list_has_steps_with_a_model_and_says_where_files_are(client: TestClient, checkpoint: str) -> None:
    (item,) = client.get(checkpoint.rsplit("/", 1)[0]).json()["items"]
    assert item == client.get(checkpoint).json()
    assert (item["step"], item["metrics"]["step"]) == (1, 1)
    assert [file["name"] for file in item["files"]] == sorted(FILES)
    for file in item["files"]:
        data = client.get(file["url"]).content
        assert data == FILES[file["name"]]
        assert (len(data), hashlib.sha256(data).hexdigest()) == (file["size"], file["sha256"])
    assert client.get(item["archive_url"]).status_code == 200


def test_whole_files(client: TestClient, checkpoint: str) -> None:
    answer = client.get(f"{checkpoint}/files/model.safetensors")
    assert answer.content == WEIGHTS
    assert answer.headers["content-length"] == str(len(WEIGHTS))
    assert answer.headers["etag"] == f'"{hashlib.sha256(WEIGHTS).hexdigest()}"'
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["content-disposition"] == 'attachment; filename="model.safetensors"'
    head = client.head(f"{checkpoint}/files/model.safetensors")
    assert (head.status_code, head.content) == (200, b"")
    for name in ("content-length", "etag", "content-type", "accept-ranges"):
        assert head.headers[name] == answer.headers[name]


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=100-199", 100, 200),
        ("bytes=2000000-", 2000000, len(WEIGHTS)),
        ("bytes=-10", len(WEIGHTS) - 10, len(WEIGHTS)),
        ("bytes=5-99999999999", 5, len(WEIGHTS)),
        ("bytes=-99999999999", 0, len(WEIGHTS)),
        ("Bytes = 1 - 2", 1, 3),
    ],
)
def test_ranges(client: TestClient, checkpoint: str, asked: str, start: int, end: int) -> None:
    answer = client.get(f"{checkpoint}/files/model.safetensors", headers={"range": asked})
    assert answer.status_code == 206
    assert answer.content == WEIGHTS[start:end]
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{len(WEIGHTS)}"
    assert answer.headers["content-length"] == str(end - start)


@pytest.mark.parametrize(
    "asked", ["bytes=0-1,5-6", "bytes=5-2", "bytes=-", "bytes=x", "lines=1-2", "bytes=" + "9" * 30]
)
def test_ranges_that_are_not_understood_mean_the_whole(client: TestClient, checkpoint: str, asked: str) -> None:
    answer = client.get(f"{checkpoint}/files/config.json", headers={"range": asked})
    assert (answer.status_code, answer.content) == (200, b"{}")


@pytest.mark.parametrize("asked", ["bytes=2-", "bytes=10-20", "bytes=-0"])
def test_ranges_outside_the_file(client: TestClient, checkpoint: str, asked: str) -> None:
    answer = client.get(f"{checkpoint}/files/config.json", headers={"range": asked})
    problem(answer, 416, "range_not_satisfiable")
    assert answer.headers["content-range"] == "bytes */2"


def test_conditions(client: TestClient, checkpoint: str) -> None:
    address = f"{checkpoint}/files/config.json"
    tag = client.get(address).headers["etag"]
    for given in (tag, f'"other", W/{tag}', "*"):
        answer = client.get(address, headers={"if-none-match": given})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag)
    assert client.get(address, headers={"if-none-match": '"other"'}).status_code == 200
    assert client.get(address, headers={"range": "bytes=0-0", "if-range": tag}).status_code == 206
    assert client.get(address, headers={"range": "bytes=0-0", "if-range": '"other"'}).status_code == 200


def test_the_archive_holds_every_file_and_is_the_same_every_time(client: TestClient, checkpoint: str) -> None:
    answer = client.get(f"{checkpoint}/archive")
    assert answer.headers["content-length"] == str(len(answer.content))
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as archive:
        members = archive.getmembers()
        names = [member.name.split("/", 1) for member in members]
        assert {folder for folder, _ in names} == {f"{checkpoint.split('/')[3]}-step-1"}
        assert [name for _, name in names] == sorted(FILES)
        assert {(member.mode, member.mtime, member.uid, member.uname) for member in members} == {(0o644, 0, 0, "")}
        for member, (_, name) in zip(members, names, strict=True):
            file = archive.extractfile(member)
            assert file is not None
            assert file.read() == FILES[name]
    again = client.get(f"{checkpoint}/archive")
    assert again.content == answer.content
    assert again.headers["etag"] == answer.headers["etag"]
    assert client.get(f"{checkpoint}/archive", headers={"if-none-match": again.headers["etag"]}).status_code == 304
    assert client.head(f"{checkpoint}/archive").headers["content-length"] == str(len(answer.content))


@pytest.mark.parametrize("first", [0, 1, 511, 512, 513, 700, 1100])
def test_a_part_of_an_archive_is_that_of_the_whole(client: TestClient, checkpoint: str, first: int) -> None:
    whole = client.get(f"{checkpoint}/archive")
    size, tag = len(whole.content), whole.headers["etag"]
    assert whole.headers["accept-ranges"] == "bytes"
    for last in {first, first + 1, first + 600, size - 1}:
        answer = client.get(f"{checkpoint}/archive", headers={"range": f"bytes={first}-{last}", "if-range": tag})
        assert (answer.status_code, answer.content) == (206, whole.content[first : last + 1])
        assert answer.headers["content-range"] == f"bytes {first}-{last}/{size}"
    rest = client.get(f"{checkpoint}/archive", headers={"range": f"bytes=-{first + 1}"})
    assert rest.content == whole.content[-first - 1 :]
    assert client.get(f"{checkpoint}/archive", headers={"range": "bytes=0-0", "if-range": '"other"'}).status_code == 200
    problem(client.get(f"{checkpoint}/archive", headers={"range": f"bytes={size}-"}), 416, "range_not_satisfiable")


def test_the_report_is_shown_but_may_not_do_anything(client: TestClient, checkpoint: str, job_id: str) -> None:
    answer = client.get(f"/v1/jobs/{job_id}/report")
    assert answer.content == FILES["report.html"]
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-disposition"].startswith("inline")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "sandbox" in policy
    assert "script-src" not in policy
    as_file = client.get(f"{checkpoint}/files/report.html").headers
    assert as_file["content-disposition"].startswith("attachment")
    assert as_file["x-content-type-options"] == "nosniff"


def test_downloads_of_what_is_not_there(client: TestClient, checkpoint: str, job_id: str) -> None:
    for step in (0, 2, 10_000):
        for rest in ("", "/archive", "/files/model.safetensors"):
            problem(client.get(f"/v1/jobs/{job_id}/checkpoints/{step}{rest}"), 404, "no_checkpoint")
    for name in ("pytorch_model.bin", "../0/pruning.json", "%2e%2e/0/pruning.json", "figures", ""):
        assert client.get(f"{checkpoint}/files/{name}").status_code in (404, 422)
    problem(client.get(f"{checkpoint}/files/%2e%2e%2f0%2fpruning.json"), 404, "not_found")
    problem(client.get(f"/v1/jobs/{job_id}/checkpoints/-1"), 404, "not_found")


def test_a_job_without_steps_has_no_checkpoint_and_no_report(client: TestClient, job_id: str) -> None:
    assert client.get(f"/v1/jobs/{job_id}/checkpoints").json() == {"items": [], "next_cursor": None}
    problem(client.get(f"/v1/jobs/{job_id}/checkpoints/1/archive"), 404, "no_checkpoint")
    problem(client.get(f"/v1/jobs/{job_id}/report"), 404, "no_checkpoint")
