"""One thing in full: a job, a model, a dataset, and the estimate of a job."""

from collections.abc import Iterable, Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from api_schemas.api.resources import DatasetContents, DatasetResource, JobResource, ModelResource
from api_schemas.enums import DeviceKind
from api_schemas.formatting import time_range
from api_schemas.results import answer, parts, speed
from api_schemas.results.estimate import FirstEstimate, JobEstimate
from api_schemas.results.metrics import JobWarning
from api_schemas.spec.inputs import BucketModel, HubDataset, HubModel, StepModel, UploadedDataset, UploadedModel
from secateur.terminal.comparison import comparison
from secateur.terminal.consoles import clean
from secateur.terminal.formatting import job_state, moment, size, target, upload_state
from secateur.terminal.job_bar import duration
from secateur.terminal.metrics import count, exports_table, percent
from secateur.terminal.progress_bars import where

Row = tuple[str, RenderableType]
MOST_CLASSES = 50


def job_page(job: JobResource, width: int) -> Group:
    """Its state, its request, its steps and its result."""
    rows: list[Row] = [("job", job.id), ("name", clean(job.name or "")), ("state", job_state(job))]
    if not job.finished_at:
        rows.append(("", where(job)))
    asked = job.request.pruning
    criterion = asked.criterion.value if asked.criterion else "criterion by the model"
    method = f"{asked.preset}: {asked.granularity.value}, {criterion}, {asked.basis.value}"
    rows += [
        ("model", _source(job.request.model)),
        ("data", _source(job.request.dataset)),
        ("target", target(asked.target)),
        ("method", method),
        ("labels", ", ".join(f"{name}={value}" for name, value in job.request.labels.items())),
        ("created", moment(job.created_at)),
        ("started", moment(job.started_at)),
        ("finished", moment(job.finished_at)),
        ("deleted on", moment(job.expires_at)),
    ]
    return Group(_facts(rows), *warning_lines(job.warnings), *_job_end(job, width))


def warning_lines(warnings: Iterable[JobWarning]) -> Iterator[RenderableType]:
    """A line for each, with what it is about."""
    for found in warnings:
        yield Text.assemble(("warning", "yellow"), f": {clean(found.detail)} ({clean(found.pointer)})")


def _job_end(job: JobResource, width: int) -> Iterator[RenderableType]:
    if job.metrics:
        yield ""
        yield comparison([job], width)
        if exports := job.metrics[-1].exports:
            yield exports_table(exports)
        if job.metrics[0].search is not None:
            yield Text(parts.found_in_words(job.metrics[0].search))
        yield from (Text(said) for step in job.metrics if (said := speed.slower(step, job.request.pruning)))
    if job.error is not None:
        yield ""
        yield Text.assemble((job.error.code.value, "red"), f": {clean(job.error.detail)}")
        for item in job.error.errors:
            yield Text(f"  {clean(item.pointer)}: {clean(item.detail)}")
    if job.result is not None:
        yield ""
        colour = "green" if job.result.step else "yellow"
        if found := answer.answer(job.metrics, job.result, job.request):
            yield Text(found.sentence, colour)
        yield Text(clean(answer.recommendation(job.result)))


def model_page(model: ModelResource) -> Group:
    """What was found in the checkpoint, and how far it can be cut."""
    rows: list[Row] = [
        ("model", model.id),
        ("name", clean(model.name or "")),
        ("state", upload_state(model.state)),
        ("created", moment(model.created_at)),
        ("deleted on", moment(model.expires_at)),
    ]
    if (found := model.layout) is not None:
        most = ", ".join(f"{name.value} {percent(share)}" for name, share in found.max_sparsity.items())
        rows += [
            ("class", f"{found.architecture} ({found.task})"),
            ("labels", str(len(found.labels)) if found.labels else ""),
            ("layers", str(len(found.widths.layers))),
            ("parameters", count(found.total_parameters)),
            ("in attention", count(found.attention_parameters)),
            ("in feed-forward", count(found.feed_forward_parameters)),
            ("FLOPs per input", count(found.flops)),
            ("weights", size(found.weight_bytes)),
            ("max. sparsity", most),
        ]
    return Group(_facts(rows), *warning_lines(model.warnings), "", _files(model))


def dataset_page(dataset: DatasetResource) -> Group:
    """What was found in the shards."""
    rows: list[Row] = [
        ("dataset", dataset.id),
        ("name", clean(dataset.name or "")),
        ("state", upload_state(dataset.state)),
        ("created", moment(dataset.created_at)),
        ("deleted on", moment(dataset.expires_at)),
    ]
    if (found := dataset.contents) is not None:
        names = ", ".join(map(clean, found.labels[:20])) + (", …" if len(found.labels) > 20 else "")
        rows += [
            ("kind", found.modality.value),
            ("rows", ", ".join(f"{number:,} {clean(split)}" for split, number in found.rows.items())),
            ("columns", ", ".join(map(clean, found.columns))),
            ("input", clean(found.input_column)),
            ("target", clean(found.label_column or "")),
            ("labels", f"{len(found.labels)}: {names}" if found.labels else ""),
        ]
    classes = () if found is None or not found.label_counts else ("", _classes(found))
    return Group(_facts(rows), *warning_lines(dataset.warnings), *classes, "", _files(dataset))


def _classes(found: DatasetContents) -> Table:
    """Rows of every class by split, of the most frequent first."""
    counts = found.label_counts or {}
    total = {name: sum(of.get(name, 0) for of in counts.values()) for name in found.labels}
    shown = sorted((name for name in total if total[name]), key=lambda name: -total[name])[:MOST_CLASSES]
    table = Table("class", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for split in found.rows:
        table.add_column(clean(split), justify="right")
    for name in shown:
        table.add_row(clean(name), *(f"{counts.get(split, {}).get(name, 0):,}" for split in found.rows))
    if len(shown) < len(found.labels):
        table.add_row(f"and {len(found.labels) - len(shown)} more")
    return table


def _facts(rows: list[Row]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        if value:
            table.add_row(name, value)
    return table


def _files(upload: ModelResource | DatasetResource) -> Table:
    table = Table("file", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("bytes", justify="right")
    table.add_column("")
    for file in upload.files:
        table.add_row(clean(file.name), size(file.size), "" if file.uploaded else "not uploaded yet")
    return table


def _source(given: UploadedModel | StepModel | HubModel | BucketModel | UploadedDataset | HubDataset) -> str:
    match given:
        case StepModel():
            return f"{given.job}/{given.step}"
        case BucketModel():
            return f"s3:{given.bucket}/{given.prefix}"
        case HubModel() | HubDataset():
            return f"hf:{given.id}@{given.revision}"
        case _:
            return given.id


def _span(found: JobEstimate) -> str:
    return "" if found.seconds_range is None else f" ({' to '.join(map(duration, found.seconds_range))})"


def first_line(first: FirstEstimate) -> str:
    """The range of a first job's time, and what it rests on."""
    threads = "1 thread" if first.threads == 1 else f"{first.threads} threads"
    on = clean(first.device_name or first.device.value)
    where = on if first.device is DeviceKind.CUDA else f"{on}, {threads}"
    return f"about {time_range(*first.seconds_range)} on this worker ({where}), from a short measurement of its device."


def estimate_page(found: JobEstimate) -> Iterator[RenderableType]:
    """A row a step, then time and memory."""
    neurons = any(step.ffn_sparsity for step in found.steps)
    table = Table("step", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("attention removed", *(["FFN removed"] if neurons else []), "params", "FLOPs", "file"):
        table.add_column(name, justify="right")
    for step in found.steps:
        table.add_row(
            str(step.step),
            percent(step.attention_sparsity),
            *([percent(step.ffn_sparsity)] if neurons else []),
            count(step.total_parameters),
            count(step.flops),
            size(step.file_bytes),
        )
    yield table
    if found.first_estimate is not None:
        yield first_line(found.first_estimate)
    needs = [f"about {duration(found.seconds)}{_span(found)}"] if found.seconds is not None else []
    needs += [f"{size(found.host_memory_bytes)} of memory"] if found.host_memory_bytes is not None else []
    needs += [f"{size(found.device_memory_bytes)} on the GPU"] if found.device_memory_bytes is not None else []
    if needs:
        yield f"{', '.join(needs)} on {clean(found.device or 'a suitable worker')}, based on {found.jobs_observed} finished jobs."
    for note in (*([found.reason] if found.reason else []), *found.notes):
        yield clean(note)
    yield from warning_lines(found.warnings)
