"""Jobs in the states that a page has to show: finished, stopped with nothing removed, failed, running, queued, and so on."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from api_schemas.api.resources import JobError, JobProgress
from api_schemas.enums import Phase, StopReason
from api_schemas.errors import ErrorCode, ErrorItem
from api_schemas.results.events import JobEventBody, Loss, PhaseChanged, StepDone
from api_schemas.results.metrics import (
    EpochLoss,
    JobResult,
    Memory,
    Scores,
    StepMetrics,
    TargetMet,
    UnfinishedEpoch,
)
from api_schemas.results.widths import AttentionWidths, LayerWidths
from store.database.connection import Database
from store.database.tenancy import DEFAULT_TENANT
from store.jobs import jobs, logs, transitions
from store.jobs.transitions import Lease
from tests.support.jobs.records import job_request, step_file
from tests.support.jobs.sample_metrics import measured_step

FINE_TUNED = (Phase.SCORING, Phase.PRUNING, Phase.EVALUATING, Phase.FINETUNING, Phase.PACKAGING, Phase.EVALUATING)


@dataclass(frozen=True)
class SampleJobs:
    """Identifiers."""

    finished: str
    unchanged: str
    failed: str
    running: str
    interrupted: str
    """Failed in the recovery of its second step."""
    cancelled: str
    large: str
    """Of a model with twelve layers of twelve heads, in four steps, which is what most people prune."""
    paused: str
    queued: str


def fill(database: Database) -> SampleJobs:
    """One of each, made through the transitions that a worker uses."""
    found = []
    with database.write() as session:
        for make in (_finished, _unchanged, _failed, _running, _interrupted, _cancelled, _large, _paused, _queued):
            found.append(make(session))
    return SampleJobs(*found)


def scored(step: StepMetrics, accuracy: float, before: float | None = None, test: float | None = None) -> StepMetrics:
    """With these accuracies, on 1,200 samples."""

    def scores(value: float | None) -> Scores | None:
        return None if value is None else Scores(samples=1200, accuracy=value, cross_entropy=2 * (1 - value))

    changes = {"validation": scores(accuracy), "validation_before_recovery": scores(before), "test": scores(test)}
    losses = (
        (EpochLoss(epoch=1, train_loss=0.5 - 0.1 * step.step, learning_rate=3e-4, points=falling(1 - 0.2 * step.step)),)
        if step.step
        else ()
    )
    return step.model_copy(update=changes | {"losses": losses, "memory": Memory(host=3 * 10**9)})


def falling(start: float, parts: int = 50) -> tuple[float, ...]:
    """Losses of so many parts of an epoch, each a fiftieth lower than the one before, up and down by a tenth."""
    return tuple(round(start * 0.98**part * (1.1 if part % 2 else 0.9), 5) for part in range(parts))


STEPS = (
    scored(measured_step(0), 0.918, None, 0.914),
    scored(measured_step(1), 0.922, 0.871),
    scored(measured_step(2), 0.904, 0.802, 0.902),
)


def _begun(session: Session, name: str, **more: object) -> Lease:
    request = job_request(name=name, **more)
    jobs.create(session, DEFAULT_TENANT, request, {"model": "test"})
    job = transitions.claim(session, "worker", 3600, 3)
    assert job is not None
    return Lease(job.id, job.epoch)


def _phases(step: int, steps: int, phases: Sequence[Phase]) -> tuple[JobEventBody, ...]:
    return tuple(PhaseChanged(phase=phase, step=step, steps=steps) for phase in phases)


def _take(session: Session, lease: Lease, metrics: StepMetrics) -> None:
    files = [step_file(lease.job_id, metrics.step)] if metrics.step else []
    told = (StepDone(folder=f"step-{metrics.step}", metrics=metrics),)
    transitions.commit_step(session, lease, metrics, files, downloadable=metrics.step > 0, events=told)


def _finished(session: Session) -> str:
    lease = _begun(session, "AST on ESC-50, half of the attention", labels={"team": "speech"}, stop={"max_drop": 0.05})
    for metrics in STEPS:
        _take(session, lease, metrics)
    result = JobResult(step=2, stopped=None, detail="Both steps completed.", test=STEPS[2].test)
    transitions.succeed(session, lease, result=result)
    return lease.job_id


def _unchanged(session: Session) -> str:
    lease = _begun(session, "strict bound", stop={"max_drop": 0.01})
    for metrics in (STEPS[0], scored(measured_step(1), 0.88, 0.871)):
        _take(session, lease, metrics)
    detail = "No step is within the bound, so the result is the original model (step 0), which is not kept again."
    result = JobResult(step=0, stopped=StopReason.MAX_DROP, detail=detail, test=STEPS[0].test)
    transitions.succeed(session, lease, result=result)
    return lease.job_id


def _failed(session: Session) -> str:
    lease = _begun(session, "too much")
    item = ErrorItem(
        pointer="/pruning/target/attention_sparsity", code=ErrorCode.SPARSITY_OUT_OF_REACH, detail="maximum 0.8321"
    )
    detail = "entire_head can remove at most 0.8321 of this model's attention parameters; the target is 0.9500."
    transitions.fail(session, lease, JobError(code=ErrorCode.SPARSITY_OUT_OF_REACH, detail=detail, errors=(item,)))
    return lease.job_id


def _running(session: Session) -> str:
    lease = _begun(session, "a running job with a long name that has no business in one line of a phone")
    begun = (Phase.STARTING, Phase.PREPARING, Phase.EVALUATING)
    transitions.record(session, lease, _phases(0, 2, begun))
    _take(session, lease, STEPS[0])
    transitions.record(session, lease, _phases(1, 2, FINE_TUNED[:4]))
    losses = tuple(
        Loss(step=1, epoch=epoch, epochs=5, train_loss=0.9 / epoch, points=falling(0.9 / epoch, 40))
        for epoch in (1, 2, 3)
    )
    transitions.record(session, lease, losses)
    progress = JobProgress(
        phase=Phase.FINETUNING,
        step=1,
        steps=2,
        done=700,
        total=1000,
        fraction=0.42,
        eta_seconds=131.0,
        training=UnfinishedEpoch(epoch=4, epochs=5, parts=40, points=falling(0.2, 20)),
    )
    transitions.renew(session, lease, 3600, progress, 65.0)
    text = "".join(f"2026-01-05T12:00:{number:02} INFO step 1 of 2: epoch {number}\n" for number in range(20))
    logs.append(session, lease, 0, text, 10**6)
    return lease.job_id


def _queued(session: Session) -> str:
    return jobs.create(session, DEFAULT_TENANT, job_request(name="next in line"), {"model": "test"}).id


def _in_recovery(session: Session, name: str) -> Lease:
    """A job that has told of two epochs of its second step."""
    lease = _begun(session, name)
    for metrics in STEPS[:2]:
        _take(session, lease, metrics)
    transitions.record(session, lease, TOLD)
    return lease


TOLD = tuple(
    Loss(step=2, epoch=epoch, epochs=5, train_loss=0.8 / epoch, points=falling(0.8 / epoch, 40)) for epoch in (1, 2)
)


def _interrupted(session: Session) -> str:
    lease = _in_recovery(session, "out of time")
    detail = "The job has run for 7200 s, which is its limit."
    transitions.fail(session, lease, JobError(code=ErrorCode.MAX_RUNTIME, detail=detail))
    return lease.job_id


def _cancelled(session: Session) -> str:
    lease = _in_recovery(session, "not wanted any more")
    transitions.cancel(session, DEFAULT_TENANT, lease.job_id)
    transitions.confirm_cancel(session, lease)
    return lease.job_id


def _paused(session: Session) -> str:
    made = jobs.create(session, DEFAULT_TENANT, job_request(name="for later"), {"model": "test"})
    return transitions.pause(session, DEFAULT_TENANT, made.id).id


def _large(session: Session) -> str:
    lease = _begun(session, "ViT-base in four steps")
    for step in range(5):
        of = measured_step(min(step, 2))
        kept = tuple(range(2 * step, 12))
        layer = LayerWidths(qk=(64,) * len(kept), vo=(64,) * len(kept), numbers=kept)
        metrics = scored(of, 0.918 - 0.01 * step, 0.9 - 0.05 * step if step else None)
        widths = AttentionWidths(head_dim=64, layers=(layer,) * 12)
        share = TargetMet(kind="attention_sparsity", requested=step / 6, achieved=step / 6) if step else None
        changes = {"step": step, "widths": widths, "achieved_sparsity": step / 6, "target": share}
        _take(session, lease, metrics.model_copy(update=changes))
    result = JobResult(step=4, stopped=None, detail="All steps completed.", test=STEPS[2].test)
    transitions.succeed(session, lease, result=result)
    return lease.job_id
