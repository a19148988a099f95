"""How models and data are named on the command line: an id, a reference, or a local folder that is uploaded first."""

import re
from pathlib import Path
from typing import Any, Literal

from secateur.errors import InvalidRequest

What = Literal["model", "dataset"]
_PREFIX: dict[What, str] = {"model": "mdl", "dataset": "dst"}
_STEP = re.compile(r"(job_[a-z2-7]{26})[/:](\d{1,5})")
_HUB = re.compile(r"hf:([^@\s]+)@([0-9a-f]{40})")
_BUCKET = re.compile(r"s3:/{0,2}([^/\s]+)/(\S+?)/?")
FORMS = {
    "model": "an id (mdl_…), a local folder, a step of a job (job_…/3), hf:owner/name@<commit>, or s3:bucket/folder",
    "dataset": "an id (dst_…), a local folder or file (parquet, csv, jsonl), or hf:owner/name@<commit>",
}


def reference(text: str, what: What) -> dict[str, Any] | Path:
    """As a request has it, or the path of what is to be uploaded. Raises InvalidRequest."""
    if re.fullmatch(rf"{_PREFIX[what]}_[a-z2-7]{{26}}", text):
        return {"type": "upload", "id": text}
    if match := _HUB.fullmatch(text):
        return {"type": "hf", "id": match[1], "revision": match[2]}
    if what == "model" and (match := _STEP.fullmatch(text)):
        return {"type": "step", "job": match[1], "step": int(match[2])}
    if what == "model" and (match := _BUCKET.fullmatch(text)):
        return {"type": "s3", "bucket": match[1], "prefix": match[2]}
    if (path := Path(text).expanduser()).exists():
        return path
    raise InvalidRequest(
        f"{text!r} is not a {what}: there is no such file or folder here. Give {FORMS[what]}.", code="invalid_request"
    )


def short_id(text: str, what: What) -> bool:
    """Whether it is a part of an id, `mdl_3v`, or of a step's job, `job_3v/2`, and not a path of this machine."""
    pattern = rf"{_PREFIX[what]}_[a-z2-7]{{1,25}}" + (r"|job_[a-z2-7]{1,25}[/:]\d{1,5}" if what == "model" else "")
    return re.fullmatch(pattern, text) is not None and not Path(text).exists()


def placeholder(what: What) -> dict[str, Any]:
    """Stands for what is not uploaded yet, while the rest of a request is checked."""
    return {"type": "upload", "id": f"{_PREFIX[what]}_{'a' * 26}"}
