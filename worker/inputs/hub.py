"""Files of the Hugging Face hub at a commit: listed, then fetched one by one, each checked against the hash that the hub lists.

The operator's token is sent only to the hub itself, and only for the repositories that the operator listed; others must be
public. An interrupted download continues where it stopped.
"""

import hashlib
import re
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import httpx
from pydantic import BaseModel, Field, ValidationError

from api_schemas.errors import ErrorCode, SecateurError
from store.outbound.client import OutboundClient, Unreachable, body
from store.outbound.url_rules import UrlRules
from store.settings import Settings
from worker.inputs.kept_inputs import KeptInputs

Kind = Literal["models", "datasets"]
REDIRECTS = 5
LISTING_BYTES = 64 * 2**20
LISTING_SECONDS = 120.0
TRIES = 5
"""Without a byte of progress."""
FIRST_WAIT = 0.5
CHUNK = 2**20
AT_ONCE = 4
RETRY_STATUSES = frozenset({408, 425, 429})
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")


class Refused(Exception):
    """The repository is not what is taken, or not there; trying again does not help."""


class Away(Exception):
    """The hub does not answer as it should right now."""


class _Lfs(BaseModel):
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(ge=0)


class HubFile(BaseModel):
    """A file as the hub lists it: large ones have a SHA-256, the others git's hash of a blob."""

    name: str = Field(alias="rfilename", min_length=1, max_length=1024)
    size: int = Field(ge=0)
    blob: str = Field(alias="blobId", pattern=r"^[0-9a-f]{40}$")
    lfs: _Lfs | None = None


class _Repository(BaseModel):
    sha: str
    siblings: list[dict[str, Any]]


class Hub:
    """One hub, for as long as one fetch may take. `check` is called all the time, and ends the fetch by raising."""

    def __init__(
        self,
        settings: Settings,
        check: Callable[[], None],
        kept: KeptInputs,
        outbound: OutboundClient | None = None,
    ) -> None:
        self._url = settings.hub_url.rstrip("/")
        self._token, self._private = settings.hub_token, settings.hub_token_repositories
        self._hosts = (*settings.hub_hosts, httpx.URL(self._url).host)
        self._outbound = outbound or OutboundClient(UrlRules.of(settings))
        self._check, self._kept = check, kept
        self._deadline = time.monotonic() + settings.fetch_timeout_seconds

    def files(self, kind: Kind, repo: str, revision: str) -> list[HubFile]:
        """Every file of the commit. Raises Refused or Away."""
        url = f"{self._url}/api/{kind}/{repo}/revision/{revision}?blobs=true"
        with self._stream(url, repo, {}, LISTING_SECONDS) as response:
            text = b"".join(body(response, LISTING_BYTES))
        try:
            listed = _Repository.model_validate_json(text)
            found = [HubFile.model_validate(entry) for entry in listed.siblings]
        except ValidationError as error:
            raise Away("the hub's list of files does not have the expected format.") from error
        if listed.sha != revision:
            raise Refused(f"the hub returned revision {listed.sha[:64]!r}")
        return found

    def fetch_all(self, kind: Kind, repo: str, revision: str, files: Iterable[HubFile], folder: Path) -> None:
        """Bring files below `folder`, some at once. Raises as `fetch` does, whatever was first."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            try:
                list(pool.map(lambda file: self.fetch(kind, repo, revision, file, folder / file.name), files))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def fetch(self, kind: Kind, repo: str, revision: str, file: HubFile, path: Path) -> None:
        """Bring a file to `path`. Raises Refused, Away, OSError, or SCRATCH_FULL."""
        if file.lfs is None:
            self._download(kind, repo, revision, file, path)
            return
        # Only who was just shown the list of this repository asks, and the list names the bytes.
        key = f"hub {kind} {repo} {file.lfs.sha256}"
        self._kept.bring(key, path, lambda: self._download(kind, repo, revision, file, path))

    def _download(self, kind: Kind, repo: str, revision: str, file: HubFile, path: Path) -> None:
        folder = "" if kind == "models" else f"{kind}/"
        url = f"{self._url}/{folder}{repo}/resolve/{revision}/{quote(file.name)}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        failures = 0
        while (have := path.stat().st_size) < file.size:
            try:
                self._go_on(url, repo, path, have, file.size)
            except Away as error:
                failures = failures + 1 if path.stat().st_size == have else 1
                if failures >= TRIES:
                    raise Away(f"{file.name}: {error}") from error
                self._wait(FIRST_WAIT * 2**failures)
        if not _is(file, path):
            path.unlink()
            raise Away(f"the contents of {file.name} do not match the hub's checksum")

    def _access(self, repo: str) -> dict[str, str]:
        """The headers that let one in, where the token is for this repository: by whole names, as the hub reads them."""
        owner = repo.partition("/")[0]
        mine = {name.lower() for name in self._private} & {repo.lower(), f"{owner}/*".lower()}
        return {"Authorization": f"Bearer {self._token.get_secret_value()}"} if mine and self._token else {}

    def _go_on(self, url: str, repo: str, path: Path, have: int, size: int) -> None:
        """From byte `have` on, until the answer ends."""
        headers = {"Range": f"bytes={have}-"} if have else {}
        with self._stream(url, repo, headers, self._left()) as response:
            starts = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
            goes_on = response.status_code == 206 and starts is not None and int(starts[1]) == have
            with path.open("ab" if goes_on else "wb") as out:
                for chunk in body(response, size - have if goes_on else size):
                    self._check()
                    out.write(chunk)

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + min(seconds, self._left())
        while time.monotonic() < until:
            self._check()
            time.sleep(0.05)

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise Refused("the download exceeded this server's time limit")
        return left

    @contextmanager
    def _stream(self, url: str, repo: str, headers: dict[str, str], seconds: float) -> Iterator[httpx.Response]:
        self._check()
        rules: dict[str, Any] = {"redirects": REDIRECTS, "hosts": self._hosts}
        access = self._access(repo)
        try:
            with self._outbound.stream("GET", url, seconds=seconds, headers={**headers, **access}, **rules) as response:
                if (
                    access
                    and response.url.host == httpx.URL(url).host
                    and f"/{repo}/".lower() not in response.url.path.lower()
                ):
                    # Renamed since, perhaps to an owner for whom the token is not meant.
                    raise Refused(
                        "the hub redirected to another repository, which this server's token must not be sent to."
                    )
                _judge(response)
                yield response
        except SecateurError as error:
            if error.code is not ErrorCode.TARGET_REFUSED:
                raise
            raise Refused(f"the hub redirected to an address that is not allowed. {error.detail}") from error
        except Unreachable as error:
            raise Away(str(error)) from error


def _judge(response: httpx.Response) -> None:
    status, code = response.status_code, response.headers.get("x-error-code", "")
    if status in (200, 206):
        return
    if status >= 500 or status in RETRY_STATUSES:
        raise Away(f"the hub responded with status {status}.")
    if code == "RevisionNotFound":
        raise Refused("it has no such revision.")
    if code == "GatedRepo":
        raise Refused("it is gated, and this server has no access to it.")
    if code == "RepoNotFound" or status in (401, 404):
        raise Refused("the hub has no repository of that name, or it is private.")
    raise Refused(f"the hub responded with status {status}.")


def _is(file: HubFile, path: Path) -> bool:
    """Whether the bytes are those that the hub lists."""
    digest = hashlib.sha256() if file.lfs else hashlib.sha1(f"blob {file.size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as content:
        while chunk := content.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest() == (file.lfs.sha256 if file.lfs else file.blob)
