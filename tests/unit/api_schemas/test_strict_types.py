"""What is a number and a truth in a request, and what only looks like one."""

from typing import Any, Literal

import pytest
from pydantic import Field, ValidationError

from api_schemas.base import StrictModel
from api_schemas.enums import Granularity


class Inner(StrictModel):
    share: float | None = None


class Outer(StrictModel):
    count: int = 1
    counts: tuple[int, ...] = ()
    named: dict[str, float] = Field(default_factory=dict)
    yes: bool = True
    inner: Inner = Inner()
    kind: Granularity = Granularity.RAGGED
    auto: int | Literal["auto"] = 1
    some: Literal[1, 8] = 1


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("count", 5),
        ("count", 5.0),
        ("counts", [1, 2]),
        ("named", {"a": 1, "b": 0.5}),
        ("yes", False),
        ("inner", {"share": 1}),
        ("inner", {"share": None}),
        ("kind", "per_head"),
        ("auto", "auto"),
        ("some", 8),
    ],
)
def test_what_is_taken(field: str, given: Any) -> None:
    assert Outer.model_validate({field: given}).model_dump(mode="json")[field] == given


@pytest.mark.parametrize(
    ("field", "given", "says"),
    [
        ("count", "5", "valid integer"),
        ("count", False, "valid integer"),
        ("count", 5.5, "valid integer"),
        ("counts", [1, "2"], "valid integer"),
        ("named", {"a": True}, "valid number"),
        ("yes", "yes", "valid boolean"),
        ("yes", 1, "valid boolean"),
        ("inner", {"share": "0.5"}, "valid number"),
        ("auto", True, "valid integer"),
        ("some", True, "valid integer"),
        ("some", 4, "should be 1 or 8"),
    ],
)
def test_what_is_refused(field: str, given: Any, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Outer.model_validate({field: given})
