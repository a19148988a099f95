"""Buckets that the operator has configured, from which models are read in place: listed, read by ranges, copied in the version
seen."""

import hashlib
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import obstore
from obstore.exceptions import BaseError
from obstore.store import ObjectStore, from_url
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from api_schemas.errors import ErrorCode, ErrorItem, SecateurError
from api_schemas.spec.inputs import BucketModel

log = logging.getLogger(__name__)

MOST_OBJECTS = 10_000
CHUNK = 2**20


class ModelBucket(BaseModel):
    """Where it is, and what gets one in: arguments of obstore's `from_url`."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    url: str = Field(pattern=r"^s3://")
    options: dict[str, str] = {}
    client_options: dict[str, str | bool] = {}

    def open(self) -> ObjectStore:
        """Nothing is asked of the bucket yet. Raises ValueError where the options are not usable."""
        retries: Any = {"max_retries": 3, "retry_timeout": timedelta(seconds=30)}
        client: Any = {"connect_timeout": "10s", "timeout": "60s", **self.client_options}
        try:
            return from_url(self.url, config=self.options, client_options=client, retry_config=retries)  # type: ignore[call-overload, no-any-return]
        except BaseException as error:
            # A Rust panic, which an unknown option is answered with, is no Exception.
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            raise ValueError("options of a model bucket are not obstore's; names begin with `aws_`") from None


_BUCKETS: TypeAdapter[dict[str, ModelBucket]] = TypeAdapter(dict[str, ModelBucket])


def parse_buckets(text: str) -> Mapping[str, ModelBucket]:
    """The setting `model_buckets`. Raises ValueError, also where one of them cannot be opened."""
    try:
        buckets = _BUCKETS.validate_json(text)
    except ValidationError as error:
        # Not its text, which quotes what it was given: credentials, for one.
        wrong = "; ".join(
            f"{'.'.join(map(str, item['loc']))}: {item['type']}" for item in error.errors(include_input=False)
        )
        raise ValueError(f"model_buckets is not a JSON object of model buckets: {wrong}") from None
    for bucket in buckets.values():
        bucket.open()
    return buckets


@dataclass(frozen=True)
class Object:
    """As it was when it was listed."""

    key: str
    size: int
    etag: str


class BucketFolder:
    """The files below a prefix of a named bucket, at one moment: what has changed since is not read."""

    def __init__(self, buckets: Mapping[str, ModelBucket], reference: BucketModel) -> None:
        """Raises NOT_FOUND where there is no such bucket or nothing in the folder, MODEL_FETCH_FAILED, STORAGE_UNAVAILABLE."""
        bucket = buckets.get(reference.bucket)
        if bucket is None:
            known = ", ".join(sorted(buckets)) or "none"
            detail = f"This server has no bucket {reference.bucket!r}; its buckets: {known}."
            item = ErrorItem(pointer="/model/bucket", code=ErrorCode.NOT_FOUND, detail="unknown")
            raise SecateurError(ErrorCode.NOT_FOUND, detail, (item,))
        self._said = f"{reference.bucket}/{reference.prefix}"
        with self._said_plainly():
            self._store = bucket.open()
            self.objects = self._list(reference.prefix)
        if all("/" in name for name in self.objects):
            item = ErrorItem(pointer="/model/prefix", code=ErrorCode.NOT_FOUND, detail="nothing there")
            raise SecateurError(ErrorCode.NOT_FOUND, f"There is nothing in {self._said}.", (item,))

    @property
    def sizes(self) -> Mapping[str, int]:
        """Bytes by name."""
        return {name: found.size for name, found in self.objects.items()}

    def narrowed(self, names: list[str]) -> "BucketFolder":
        """The same with these files alone."""
        self.objects = {name: self.objects[name] for name in names}
        return self

    def read(self, name: str, start: int, end: int) -> bytes:
        """Bytes start … end-1."""
        if end <= start:
            return b""
        found = self.objects[name]
        with self._said_plainly():
            asked: Any = {"range": (start, end), "if_match": found.etag}
            return bytes(obstore.get(self._store, found.key, options=asked).bytes())

    def chunks(self, name: str, start: int = 0) -> Iterator[bytes]:
        """The file from byte `start` on."""
        found = self.objects[name]
        asked: Any = {"if_match": found.etag, **({"range": {"offset": start}} if start else {})}
        with self._said_plainly():
            for chunk in obstore.get(self._store, found.key, options=asked).stream(CHUNK):
                yield bytes(chunk)

    @property
    def state(self) -> str:
        """Of all files together: another one once any of them has changed (hex)."""
        lines = sorted(f"{name} {found.size} {found.etag}" for name, found in self.objects.items())
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def _list(self, prefix: str) -> dict[str, Object]:
        found: dict[str, Object] = {}
        seen = 0
        for batch in obstore.list(self._store, f"{prefix}/"):
            for item in batch:
                seen += 1
                if seen > MOST_OBJECTS:
                    detail = f"{self._said} has more than {MOST_OBJECTS} objects; put the model into a separate folder."
                    raise SecateurError(ErrorCode.MODEL_FETCH_FAILED, detail)
                name = str(item["path"]).removeprefix(f"{prefix}/")
                found[name] = Object(str(item["path"]), int(item["size"]), str(item["e_tag"] or ""))
        return found

    @contextmanager
    def _said_plainly(self) -> Iterator[None]:
        try:
            yield
        except (BaseError, OSError) as error:
            log.error("the bucket of %s failed: %s", self._said, error)
            changed = type(error).__name__ in ("PreconditionError", "NotFoundError") or isinstance(
                error, FileNotFoundError
            )
            if changed:
                detail = f"A file in {self._said} was removed or changed while it was read. Submit again when nothing changes it."
                raise SecateurError(ErrorCode.INPUT_LOST, detail) from error
            detail = f"The bucket of {self._said} does not respond, or refused the request; the operator's log has its response."
            raise SecateurError(ErrorCode.STORAGE_UNAVAILABLE, detail) from error
