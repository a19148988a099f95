"""Identifiers: a prefix that says what it names, and 128 random bits in base32 (lower case, no padding)."""

import base64
import secrets
from typing import Annotated

from pydantic import StringConstraints

MODEL, DATASET, RESUMABLE, JOB, EVENT = "mdl", "dst", "upl", "job", "evt"
KEY, AUDIT = "key", "aud"
WEBHOOK, MESSAGE, DELIVERY = "whk", "msg", "dlv"


def new_id(prefix: str) -> str:
    """A fresh identifier such as `job_3v…` (prefix, underscore, 26 characters)."""
    return f"{prefix}_{base64.b32encode(secrets.token_bytes(16)).decode().rstrip('=').lower()}"


ModelId = Annotated[str, StringConstraints(pattern=r"^mdl_[a-z2-7]{26}$")]
DatasetId = Annotated[str, StringConstraints(pattern=r"^dst_[a-z2-7]{26}$")]
ResumableId = Annotated[str, StringConstraints(pattern=r"^upl_[a-z2-7]{26}$")]
JobId = Annotated[str, StringConstraints(pattern=r"^job_[a-z2-7]{26}$")]
KeyId = Annotated[str, StringConstraints(pattern=r"^key_[a-z2-7]{26}$")]
WebhookId = Annotated[str, StringConstraints(pattern=r"^whk_[a-z2-7]{26}$")]
DeliveryId = Annotated[str, StringConstraints(pattern=r"^dlv_[a-z2-7]{26}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
# Text a stranger may choose as a name: no control characters (PostgreSQL refuses NUL; logs and terminals obey others).
Name = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]*$")]
# Whose something is; the operator chooses it.
TenantName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
# A file name a stranger may choose: one path segment, no leading dot, nothing a shell or a URL would read.
FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$")]
