"""A job as the command line describes it: a spec file, overridden by options, overridden by `--set`; validated, then sent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from api_schemas.enums import TargetKind
from api_schemas.spec.job import JobRequest
from secateur.errors import InvalidRequest
from secateur.specs.overrides import overridden, placed
from secateur.specs.references import FORMS, What, placeholder, reference, short_id
from secateur.specs.spec_file import read_spec
from secateur.specs.validation import validated


@dataclass(frozen=True)
class Options:
    """What was given beside the spec file."""

    model: str | None = None
    data: str | None = None
    name: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    priority: int | None = None
    target: Mapping[str, Any] | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Other fields of a job's spec, by path."""


@dataclass(frozen=True)
class DraftRequest:
    """The body of a request. `uploads`: what in it only stands for a folder of this machine; `short`: for a part of an id."""

    body: dict[str, Any]
    uploads: Mapping[What, Path]
    short: Mapping[What, str] = field(default_factory=dict)

    def with_ids(self, ids: Mapping[What, str]) -> dict[str, Any]:
        """The body, with what was uploaded meanwhile."""
        return {**self.body, **{what: {**self.body[what], "id": found} for what, found in ids.items()}}


def draft_request(spec: Path | None, options: Options, settings: Sequence[str]) -> DraftRequest:
    """The request, held against the contract. Raises InvalidRequest."""
    body = read_spec(spec) if spec else {}
    given = {"pruning.target": options.target, "name": options.name, "priority": options.priority}
    given = {path: value for path, value in given.items() if value is not None}
    body = placed(body, {**options.fields, **given})
    # Keys of labels may have dots.
    body |= {"labels": {**(body.get("labels") or {}), **options.labels}} if options.labels else {}
    uploads, short = inputs_named(body, options)
    body = overridden(body, settings)
    _complete(body)
    validated(JobRequest, body, spec)
    return DraftRequest(body, uploads, short)


def target_of(sparsity: float | None, of: TargetKind | None, within: float | None) -> dict[str, Any] | None:
    """The target that options ask for; None where none does. Raises InvalidRequest for two, or for none of how much."""
    if within is not None:
        if sparsity is not None:
            raise InvalidRequest("--sparsity and --within both set the target: give only one of them.", code="usage")
        return {"max_drop": within} if of is None else {"max_drop": within, "of": of}
    if sparsity is None:
        if of is not None:
            raise InvalidRequest(f"--of {of.value}: how much of it? Give --sparsity or --within.", code="usage")
        return None
    return {(of or TargetKind.ATTENTION_SPARSITY).value: sparsity}


def labels_of(pairs: Sequence[str]) -> dict[str, str]:
    """`["team=speech"]` as an object. Raises InvalidRequest."""
    found = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign or not key:
            raise InvalidRequest(f"--label {pair}: write it as key=value.", code="usage")
        found[key] = value
    return found


def inputs_named(body: dict[str, Any], options: Options) -> tuple[dict[What, Path], dict[What, str]]:
    """Put model and dataset into the body; returns those that are to be uploaded, and those named by a part of an id."""
    uploads: dict[What, Path] = {}
    short: dict[What, str] = {}
    given: tuple[tuple[What, str | None], ...] = (("model", options.model), ("dataset", options.data))
    for what, text in given:
        if text is None:
            continue
        found: dict[str, Any] | Path = {}
        if short_id(text, what):
            short[what], found = text, placeholder(what)
        elif isinstance(found := reference(text, what), Path):
            uploads[what], found = found, placeholder(what)
        # The columns and splits that a spec names are of whatever data the job has.
        before = body.get(what)
        kept = (
            {name: before[name] for name in ("columns", "splits") if name in before} if isinstance(before, dict) else {}
        )
        body[what] = {**kept, **found}
    return uploads, short


def require_inputs(body: Mapping[str, Any]) -> None:
    """Raises InvalidRequest, in the words of the command line, where model or dataset is simply not there yet."""
    asked: tuple[tuple[What, str], ...] = (("model", "--model"), ("dataset", "--data"))
    for what, option in asked:
        if what not in body:
            raise InvalidRequest(f"Which {what}? Give {option}: {FORMS[what]}.", code="usage")


def _complete(body: Mapping[str, Any]) -> None:
    """The same, and how much is to be removed."""
    require_inputs(body)
    pruning = body.get("pruning", {})
    if isinstance(pruning, dict) and "target" not in pruning:
        detail = (
            "How much is to be removed? Give --sparsity 0.5 (of the attention; with --of flops of all FLOPs), or --within "
            "0.01 (the smallest model that loses no more than a point)."
        )
        raise InvalidRequest(detail, code="usage")
