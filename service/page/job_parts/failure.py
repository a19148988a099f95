"""The head of a failed job: what its error means, what to do and, if known, the form filled in with values that would work."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import floor
from urllib.parse import urlencode

from api_schemas.api.error_titles import ERROR_TEXTS
from api_schemas.api.resources import JobError, JobResource
from api_schemas.errors import ErrorCode
from service.page.form_fields import MOST_SHARE

MAXIMUM = "maximum "
"""How the error of a target out of reach begins its number (checkpoints/planning/feasibility.py)."""


@dataclass(frozen=True)
class Retry:
    """A link to the form: `Try again with 83%`."""

    words: str
    address: str


@dataclass(frozen=True)
class Failure:
    """`meaning` and `remedy` are those of docs/errors.md."""

    meaning: str
    remedy: str
    retry: Retry | None


def explained(job: JobResource) -> Failure | None:
    """None of a job without an error."""
    if job.error is None:
        return None
    text = ERROR_TEXTS[job.error.code]
    return Failure(text.title, text.remedy, _retry(job, job.error))


def _retry(job: JobResource, error: JobError) -> Retry | None:
    """None where nothing that the form has would help."""
    propose = _PROPOSALS.get(error.code)
    proposal = None if propose is None else propose(job, error)
    if proposal is None:
        return None
    words, changes = proposal
    return Retry(words, f"/new?{urlencode({'like': job.id, **changes})}")


Proposal = tuple[str, dict[str, str]]


def _reachable(job: JobResource, error: JobError) -> Proposal | None:
    target = job.request.pruning.target
    # Of a target for each part the form has the first alone, and of a bound on the drop no share.
    if target.max_drop is not None or len(target.goals) != 1:
        return None
    for item in error.errors:
        if item.pointer == f"/pruning/target/{target.kind}" and item.detail.startswith(MAXIMUM):
            # Whole percents, which is all that the form's slider takes, and never more than can be reached.
            share = min(MOST_SHARE, floor(100 * float(item.detail.removeprefix(MAXIMUM))))
            return (f"Try again with {share}%", {"share": str(share)}) if share > 0 else None
    return None


def _shorter(job: JobResource, _: JobError) -> Proposal | None:
    finetune = job.request.finetune
    if finetune is None or finetune.epochs < 2:
        return None
    epochs = str(finetune.epochs // 2)
    return f"Try again with {epochs} epoch{'s' if epochs != '1' else ''} per step", {"epochs": epochs}


def _without_exports(*_: object) -> Proposal:
    return "Try again without exports", {"exports": ""}


def _unchanged(*_: object) -> Proposal:
    return "Try again", {}


_PROPOSALS: Mapping[ErrorCode, Callable[[JobResource, JobError], Proposal | None]] = {
    ErrorCode.SPARSITY_OUT_OF_REACH: _reachable,
    ErrorCode.MAX_RUNTIME: _shorter,
    ErrorCode.EXPORT_UNAVAILABLE: _without_exports,
    ErrorCode.EXPORT_FAILED: _without_exports,
    **dict.fromkeys(
        (
            ErrorCode.STALLED, ErrorCode.ENGINE_CRASHED, ErrorCode.ENGINE_ERROR, ErrorCode.SCRATCH_FULL, ErrorCode.INTERNAL,
            ErrorCode.STORAGE_UNAVAILABLE, ErrorCode.STORAGE_FULL,
        ),
        _unchanged,
    ),
}  # fmt: skip
