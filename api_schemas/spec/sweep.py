"""What a user asks for with a sweep: one model, one dataset, and what its jobs differ in."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from api_schemas.base import StrictModel
from api_schemas.enums import Criterion, Granularity, Scope
from api_schemas.ids import Name
from api_schemas.spec.inputs import HubDataset, ModelReference, UploadedDataset

MOST_JOBS = 64
"""Of one sweep."""
MOST_LEVELS = 16
"""Of objects and lists inside of each other, many more than a job has."""
Methods = Literal["paper"]


def _shallow(value: Any) -> Any:
    level: list[Any] = [value]
    for _ in range(MOST_LEVELS):
        inner = ((each.values() if isinstance(each, dict) else each) for each in level)
        level = [each for held in inner for each in held if isinstance(each, dict | list | tuple)]
        if not level:
            return value
    raise ValueError(f"it is nested more than {MOST_LEVELS} levels deep; no job needs that")


Fields = Annotated[dict[str, Any], AfterValidator(_shallow)]
"""Some of the fields of a job, as `POST /v1/jobs` has them. They are checked once they are put together."""

Values = Annotated[tuple[Any, ...], Field(min_length=1, max_length=MOST_JOBS), AfterValidator(_shallow)]

METHODS: dict[Methods, tuple[tuple[str, Fields], ...]] = {
    # arXiv 2509.26207, table 1: what is removed, how it is scored, and over what it is ranked.
    "paper": tuple(
        (
            f"{granularity.value}/{criterion.value}/{scope.value}",
            {"preset": "paper", "granularity": granularity.value, "criterion": criterion.value, "scope": scope.value},
        )
        for granularity in (Granularity.ENTIRE_HEAD, Granularity.SAME_CHANNEL, Granularity.PER_HEAD)
        for criterion in (Criterion.MAGNITUDE, Criterion.FISHER)
        for scope in Scope
    )
}
"""By name, what each of its jobs is called and what it has in `pruning`."""


class SweepRequest(StrictModel):
    """`POST /v1/sweeps`. One job for each of `specs`, or for each combination of `methods` and the values of `grid`."""

    name: Name | None = None
    """A label for people."""
    model: ModelReference
    """The checkpoint of all jobs."""
    dataset: Annotated[UploadedDataset | HubDataset, Field(discriminator="type")]
    """The data of all jobs."""
    base: Fields = Field(
        {},
        description="Fields shared by all jobs: those of `POST /v1/jobs` except `model` and `dataset`. Values of a spec, a "
        "method or the grid override them field by field; a target is replaced as a whole.",
    )
    methods: Methods | None = Field(
        None,
        description="Named methods, one job each: `paper`, the twelve of arXiv 2509.26207 (three granularities, two criteria, "
        "two scopes), with the preset `paper`.",
    )
    grid: dict[Annotated[str, Field(max_length=128)], Values] = Field(
        {},
        max_length=8,
        description="Values to try, by path of the field, such as `pruning.granularity`. The jobs are all combinations of "
        f"values, and of methods; at most {MOST_JOBS} jobs.",
    )
    specs: tuple[Fields, ...] = Field(
        (),
        max_length=MOST_JOBS,
        description="Instead of `methods` and `grid`: one entry per job, with its fields in addition to `base`.",
    )
    max_parallel: int | None = Field(
        4, ge=1, le=MOST_JOBS, description="Maximum number of its jobs that run at once; null: no limit."
    )
