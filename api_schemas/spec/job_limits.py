"""Bounds that a user sets on a job of their own."""

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from api_schemas.base import StrictModel
from api_schemas.enums import DeviceKind

_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_DURATION = r"^(?=.)([0-9]{1,5}d)?([0-9]{1,6}h)?([0-9]{1,8}m)?([0-9]{1,9}s)?$"
LONGEST = 366 * 86400


def _seconds(value: Any) -> Any:
    """Whole seconds of `90s`, `45m`, `6h` or `1d12h`; a number is left as it came."""
    if not isinstance(value, str | bool):
        return value
    # `true` would otherwise be one second.
    if isinstance(value, bool) or not re.fullmatch(_DURATION, value):
        raise ValueError("a duration is a number of seconds, or text such as 90s, 45m, 6h or 1d12h")
    return sum(int(count) * _UNITS[unit] for count, unit in re.findall(r"(\d+)([dhms])", value))


Duration = Annotated[
    int,
    Field(ge=1, le=LONGEST),
    BeforeValidator(_seconds),
    WithJsonSchema(
        {"anyOf": [{"type": "integer", "minimum": 1, "maximum": LONGEST}, {"type": "string", "pattern": _DURATION}]}
    ),
]
"""Seconds; written as a number or as text such as `6h`, always answered as a number."""


class JobLimits(StrictModel):
    """Limits on a job's run time, and on where it runs."""

    max_runtime: Duration | None = Field(
        None,
        description="Maximum time that workers run the job, summed over all attempts, without time in the queue: seconds, or "
        "text such as `6h`. A job that exceeds it fails with `max_runtime_exceeded`; its finished steps are kept.",
    )
    device: DeviceKind | None = Field(
        None,
        description="Which workers may run the job: `cuda`, those with a GPU; `cpu`, those without. Default: any. If there is "
        "no such worker, the job waits, with a `waiting_reason`.",
    )
