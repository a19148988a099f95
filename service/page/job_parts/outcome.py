"""The head of a finished job: its answer as a sentence and a picture, the download, and the code that loads it."""

from dataclasses import dataclass

from api_schemas.api.resources import CheckpointFile, JobResource
from api_schemas.enums import TERMINAL_STATES
from api_schemas.errors import SecateurError
from api_schemas.results import answer
from api_schemas.results.answer import Answer
from api_schemas.results.metrics import StepMetrics
from api_schemas.spec.inputs import UploadedModel
from checkpoints.families import family_named
from service.core import resources
from service.core.jobs import checkpoints
from service.core.uploads import uploads
from service.page.figures import bars
from service.page.figures.types import Bar
from service.services import Services


@dataclass(frozen=True)
class Download:
    """`python` loads what `archive_url` gives, unpacked into the folder that it holds."""

    step: int
    archive_url: str
    bytes: int
    unpack: str
    python: str
    files: tuple[CheckpointFile, ...]


@dataclass(frozen=True)
class Outcome:
    answer: Answer
    chosen: StepMetrics
    bars: tuple[Bar, ...]
    scale: float
    download: Download | None


def of_job(services: Services, job: JobResource) -> Outcome | None:
    """None before a job has ended, and of one that ended before its first step."""
    chosen = answer.chosen_step(job.metrics, job.result)
    found = answer.answer(job.metrics, job.result, job.request)
    if found is None or chosen is None or job.state not in TERMINAL_STATES:
        return None
    return _outcome(services, job, chosen, found)


def of_step(services: Services, job: JobResource, step: StepMetrics) -> Outcome:
    """The same of one step with a cut, recommended or not."""
    return _outcome(services, job, step, answer.of_step(job.metrics[0], step, job.result, job.request))


def _outcome(services: Services, job: JobResource, chosen: StepMetrics, found: Answer) -> Outcome:
    drawn = bars.left(job, chosen) if found.removed else ()
    return Outcome(found, chosen, drawn, bars.scale(drawn) if drawn else 1.0, _download(services, job, chosen))


def _download(services: Services, job: JobResource, chosen: StepMetrics) -> Download | None:
    """None where the step's files are not kept, or not kept any more."""
    try:
        rows = [row for row in checkpoints.all_of(services, job.id) if row.step == chosen.step]
    except SecateurError:
        return None
    if not rows:
        return None
    [found] = checkpoints.described(services, job.id, rows)
    folder = f"{job.id}-step-{chosen.step}"
    return Download(
        step=chosen.step,
        archive_url=found.archive_url,
        bytes=sum(file.size for file in found.files),
        unpack=f"tar xf {folder}.tar",
        python=_loading(services, job, folder, stock=chosen.stock_layout),
        files=found.files,
    )


def _loading(services: Services, job: JobResource, folder: str, *, stock: bool) -> str:
    """By the model's auto class; where only a worker has seen the model, by the client, which finds the class in the folder."""
    flag = "" if stock else ", trust_remote_code=True"
    auto = _auto_class(services, job)
    if auto is None:
        return f'from secateur import load\nmodel = load("{folder}"{flag})'
    return f'from transformers import {auto}\nmodel = {auto}.from_pretrained("{folder}"{flag})'


def _auto_class(services: Services, job: JobResource) -> str | None:
    if not isinstance(job.request.model, UploadedModel):
        return None
    try:
        layout = resources.model(uploads.get(services, "model", job.request.model.id), services.settings).layout
    except SecateurError:
        return None
    return None if layout is None else family_named(layout.family).architectures[layout.architecture].auto_class
