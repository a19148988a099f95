"""Labels: what a user calls a job by, key and value, and selects jobs by."""

from typing import Annotated

from pydantic import Field, StringConstraints

from api_schemas.validation_messages import worded

MOST_LABELS = 16
LABEL_KEY_LENGTH = 63
LABEL_VALUE_LENGTH = 128

_KEY = r"[a-z0-9._/-]{1,63}"
# No control characters: logs and terminals obey some of them, PostgreSQL refuses NUL.
_VALUE = r"[^\x00-\x1f\x7f]{0,128}"

_KEY_WORDS = "a label's key is 1 to 63 of a-z, 0-9, `.`, `_`, `-` and `/`"
_VALUE_WORDS = "a label's value is up to 128 characters, none of them a control character"

LabelKey = Annotated[str, StringConstraints(pattern=worded(f"^{_KEY}$", _KEY_WORDS))]
LabelValue = Annotated[str, StringConstraints(pattern=worded(f"^{_VALUE}$", _VALUE_WORDS))]
Labels = Annotated[dict[LabelKey, LabelValue], Field(max_length=MOST_LABELS)]
LabelSelector = Annotated[
    str,
    StringConstraints(
        pattern=worded(f"^{_KEY}(={_VALUE})?$", f"`key` or `key=value` is needed; {_KEY_WORDS}, {_VALUE_WORDS}")
    ),
]
"""`team=speech`: the label has this value. `team`: there is such a label."""


def parse_selector(selector: str) -> tuple[str, str | None]:
    """Key and value of a LabelSelector; None where any value will do."""
    key, equals, value = selector.partition("=")
    return key, value if equals else None
