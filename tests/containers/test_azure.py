"""Artifacts in Azure's blob storage, by Azurite, its emulator, which npm brings: what a local folder and S3 do as well."""

import asyncio
import base64
import hashlib
import hmac
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from api_schemas.api.checkup import Verdict
from api_schemas.errors import ErrorCode, SecateurError
from store.checkup.storage import artifacts as checked
from store.files.artifacts import PART, Artifacts
from store.settings import Settings
from tests.support.servers.databases import wait_for

AZURITE = "azurite@3.35.0"
NAME = "devstoreaccount1"
# Of the emulator, the same everywhere: https://learn.microsoft.com/azure/storage/common/storage-use-azurite
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
DATA = os.urandom(2 * PART + 7)
"""Three blocks."""
SHA256 = hashlib.sha256(DATA).hexdigest()


def make_container(endpoint: str, name: str) -> None:
    """By a request that is signed with the account's key."""
    headers = {"x-ms-date": datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT"), "x-ms-version": "2021-08-06"}
    told = "".join(f"{header}:{value}\n" for header, value in headers.items())
    empty = "\n" * 12
    signed = f"PUT{empty}{told}/{NAME}/{NAME}/{name}\nrestype:container"
    signature = base64.b64encode(hmac.new(base64.b64decode(KEY), signed.encode(), hashlib.sha256).digest()).decode()
    headers["Authorization"] = f"SharedKey {NAME}:{signature}"
    httpx.put(f"{endpoint}/{NAME}/{name}?restype=container", headers=headers).raise_for_status()


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where blobs are asked for. Skipped where npm reaches no registry."""
    folder, programs = tmp_path_factory.mktemp("azurite"), Path(sys.executable).parent
    npm = [programs / "npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", folder, AZURITE]
    made = subprocess.run(npm, capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"npm brings no Azurite: {made.stderr.strip()[-300:]}")
    script = folder / "node_modules/azurite/dist/src/blob/main.js"
    log = folder / "log"
    command = [
        programs / "node",
        script,
        "--blobPort",
        "0",
        "--location",
        folder / "data",
        "--skipApiVersionCheck",
        "--disableTelemetry",
    ]
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True) as process:
        try:
            said = re.compile(r"listens on (http://[\d.:]+)")
            wait_for(lambda: said.search(log.read_text()), seconds=60, what="Azurite")
            found = said.search(log.read_text())
            assert found is not None
            yield found[1]
        finally:
            os.killpg(process.pid, signal.SIGTERM)  # `node` is a program that starts node.


@pytest.fixture
def store(endpoint: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """The URL of an empty container."""
    for key, value in {
        "AZURE_STORAGE_ACCOUNT_NAME": NAME, "AZURE_STORAGE_ACCOUNT_KEY": KEY, "AZURE_ALLOW_HTTP": "true",
        "AZURE_STORAGE_USE_EMULATOR": "true", "AZURITE_BLOB_STORAGE_URL": endpoint,
    }.items():  # fmt: skip
        monkeypatch.setenv(key, value)
    name = f"of-{hashlib.sha256(request.node.name.encode()).hexdigest()[:12]}"
    make_container(endpoint, name)
    return f"az://{name}/prefix"


async def chunks(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 1_000_003):
        yield data[start : start + 1_000_003]


def upload(artifacts: Artifacts, key: str, sha256: str = SHA256) -> None:
    asyncio.run(artifacts.put_stream(key, chunks(DATA), size=len(DATA), sha256=sha256))


def test_what_is_stored_comes_back_whole_and_by_ranges(store: str, tmp_path: Path) -> None:
    artifacts, small = Artifacts(store), tmp_path / "small"
    upload(artifacts, "jobs/a/big.bin")
    small.write_bytes(b"small")
    artifacts.put_file("jobs/a/small.txt", small)
    assert b"".join(artifacts.read("jobs/a/big.bin")) == DATA
    assert b"".join(artifacts.read("jobs/a/big.bin", 5, PART + 9)) == DATA[5 : PART + 9]
    assert artifacts.size("jobs/a/small.txt") == 5
    assert sorted((each.key, each.size) for each in artifacts.list("jobs/a")) == [
        ("jobs/a/big.bin", len(DATA)), ("jobs/a/small.txt", 5)
    ]  # fmt: skip
    assert artifacts.delete_prefix("jobs/a") == 2
    assert not list(artifacts.list("jobs"))


def test_an_upload_that_is_not_what_was_declared_leaves_nothing(store: str) -> None:
    artifacts = Artifacts(store)
    with pytest.raises(SecateurError) as refused:
        upload(artifacts, "uploads/a/one.bin", "0" * 64)
    assert refused.value.code is ErrorCode.CHECKSUM_MISMATCH
    assert not artifacts.exists("uploads/a/one.bin")
    assert not list(artifacts.list("uploads"))


def test_the_check_before_it_starts(store: str, tmp_path: Path) -> None:
    (finding,) = checked(Settings(data_dir=tmp_path, artifacts_url=store))
    assert (finding.check, finding.verdict) == ("artifacts", Verdict.OK), finding
    (missing,) = checked(Settings(data_dir=tmp_path, artifacts_url="az://nowhere/prefix"))
    assert missing.verdict is Verdict.WRONG
