"""Identifiers: a prefix that says what it names, and 128 random bits in base32 (lower case, no padding)."""

import base64
import secrets
from typing import Annotated

from pydantic import StringConstraints

from api_schemas.validation_messages import worded

MODEL, DATASET, RESUMABLE, JOB, EVENT = "mdl", "dst", "upl", "job", "evt"
KEY, AUDIT = "key", "aud"
WEBHOOK, MESSAGE, DELIVERY = "whk", "msg", "dlv"
SWEEP = "swp"


def new_id(prefix: str) -> str:
    """A fresh identifier such as `job_3v…` (prefix, underscore, 26 characters)."""
    return f"{prefix}_{base64.b32encode(secrets.token_bytes(16)).decode().rstrip('=').lower()}"


def _identifier(prefix: str) -> StringConstraints:
    words = f"an identifier is needed: `{prefix}_` and 26 of a-z and 2-7, as the service gave it"
    return StringConstraints(pattern=worded(rf"^{prefix}_[a-z2-7]{{26}}$", words))


ModelId = Annotated[str, _identifier(MODEL)]
DatasetId = Annotated[str, _identifier(DATASET)]
ResumableId = Annotated[str, _identifier(RESUMABLE)]
JobId = Annotated[str, _identifier(JOB)]
SweepId = Annotated[str, _identifier(SWEEP)]
KeyId = Annotated[str, _identifier(KEY)]
WebhookId = Annotated[str, _identifier(WEBHOOK)]
DeliveryId = Annotated[str, _identifier(DELIVERY)]
Sha256 = Annotated[
    str,
    StringConstraints(pattern=worded(r"^[0-9a-f]{64}$", "a SHA-256 is needed, in hexadecimal: 64 of 0-9 and a-f")),
]
# Text a stranger may choose as a name: no control characters (PostgreSQL refuses NUL; logs and terminals obey others).
Name = Annotated[
    str,
    StringConstraints(
        min_length=1,
        max_length=128,
        pattern=worded(r"^[^\x00-\x1f\x7f]*$", "it must hold no control characters, such as NUL or a line's end"),
    ),
]
# Whose something is; the operator chooses it.
TenantName = Annotated[
    str,
    StringConstraints(
        pattern=worded(
            r"^[a-z0-9][a-z0-9._-]{0,63}$", "1 to 64 of a-z, 0-9, `.`, `_` and `-` are needed, a letter or digit first"
        )
    ),
]
# A file name a stranger may choose: one path segment, no leading dot, nothing a shell or a URL would read.
FileName = Annotated[
    str,
    StringConstraints(
        pattern=worded(
            r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$",
            "a file name is 1 to 128 letters a-z or A-Z, digits, `.`, `_`, `-`; no path, and no `.` or `-` at its beginning",
        )
    ),
]
# The path of a file below a model's folder. No deep and no hidden one is kept; since they lie there, they may be named.
FolderFileName = Annotated[
    str,
    StringConstraints(
        max_length=255,
        pattern=worded(
            r"^(\.?[A-Za-z0-9_][A-Za-z0-9._-]{0,127}/){0,7}\.?[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$",
            "a file name is 1 to 128 letters a-z or A-Z, digits, `.`, `_`, `-`, and names of at most seven folders may stand "
            "before it, `/` between them; no `..`, and no `/` or `-` at the beginning",
        ),
    ),
]
