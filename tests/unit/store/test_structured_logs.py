"""Lines of log: one JSON object each, with what is bound, and never a secret."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import structlog

from store import structured_logs
from store.settings import Settings

TOKEN = f"sk_{'a' * 26}_{'b' * 52}"


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)
    logging.getLogger("httpx").setLevel(logging.NOTSET)


def lines(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def configure(tmp_path: Path, **settings: str) -> None:
    structured_logs.configure(Settings(data_dir=tmp_path, **settings))  # type: ignore[arg-type]


def test_our_lines_and_those_of_libraries_have_one_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    configure(tmp_path, log_format="json")
    configure(tmp_path, log_format="json")  # again: still one line each
    with structlog.contextvars.bound_contextvars(job_id="job_1"):
        structlog.get_logger("ours").warning("step committed", step=2)
        logging.getLogger("theirs").warning("%d retries", 3)
    ours, theirs = lines(capsys.readouterr().err)
    assert (ours["event"], ours["step"], ours["job_id"]) == ("step committed", 2, "job_1")
    assert (theirs["event"], theirs["job_id"], theirs["logger"], theirs["level"]) == (
        *("3 retries", "job_1"),
        *("theirs", "warning"),
    )
    assert str(theirs["timestamp"]).endswith("Z")


def test_no_secret_is_written_whichever_way_it_comes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    configure(tmp_path, log_format="json")
    structlog.get_logger().warning(
        f"called with {TOKEN}",
        authorization="Basic abcdef",
        headers={"Authorization": f"Bearer {TOKEN}", "X-Api-Key": "hunter2", "accept": "text/html"},
        raw=[(b"cookie", b"hunter2"), f"Bearer {TOKEN}".encode()],
        webhook="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        url="postgresql://secateur:hunter2@db/x",
        said="GET https://hunter2@host/x?mail=a@b",
        unescaped="s3://key:a/hunter2@bucket http://h:80/@a http://[::1]:80/a@b",
        asked="postgresql://db/x?user=me&password=hunter2&sslmode=require https://b/o?X-Amz-Signature=hunter2#part",
        nested={"webhook_secret": "hunter2", "list": ["bearer abc.def"]},
    )
    try:
        raise ValueError(f"bad token {TOKEN}")
    except ValueError:
        logging.getLogger("theirs").exception("failed for %s", f"redis://:hunter2@broker/0 {TOKEN}")
    written = capsys.readouterr().err
    for secret in ("b" * 20, "hunter2", "MfKQ9", "abc.def", "abcdef"):
        assert secret not in written
    first, second = lines(written)
    assert "sk_" + "a" * 26 in str(first["event"]), "which key it was may be known"
    assert first["headers"] == {"Authorization": "[hidden]", "X-Api-Key": "[hidden]", "accept": "text/html"}
    # A password is hidden by its name, a URL's user by its place; what else there is of a URL stays.
    assert (first["url"], first["said"]) == ("postgresql://***@db/x", "GET https://***@host/x?mail=a@b")
    assert first["unescaped"] == "s3://***@bucket http://h:80/@a http://[::1]:80/a@b"
    assert (
        first["asked"] == "postgresql://db/x?user=me&password=***&sslmode=require https://b/o?X-Amz-Signature=***#part"
    )
    assert "ValueError" in str(second["exception"])


def test_addresses_that_are_called_are_not_logged_by_the_library_that_calls_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those of webhooks and of signed downloads are secrets."""
    configure(tmp_path, log_level="info")
    transport = httpx.MockTransport(lambda _: httpx.Response(204))
    with httpx.Client(transport=transport) as client:
        client.post("https://hooks.example/services/T0/hunter2")
    assert "hunter2" not in capsys.readouterr().err


def test_lines_for_people_hide_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    configure(tmp_path)
    logging.getLogger("x").warning("token %s", TOKEN)
    written = capsys.readouterr().err
    assert "[hidden]" in written
    assert "bbbb" not in written


def test_what_is_less_urgent_than_the_level_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    configure(tmp_path, log_level="error")
    logging.getLogger("x").warning("quiet")
    structlog.get_logger("x").info("quiet")
    logging.getLogger("x").error("loud")
    assert "quiet" not in (written := capsys.readouterr().err)
    assert "loud" in written
