"""The estimate of a job that can run: the resulting sizes and, from finished jobs, the time and memory.

Time: each phase's seconds per unit of work (checkpoints/sizes/cost_model.py), summed over finished jobs of the family. A phase
that none of them had is assumed to be as fast as their other passes through the model; where no job has finished yet, it is a
range (first_estimate.py). Memory: what finished jobs needed beyond what the engine uses at start, scaled by the tensors that the
job holds at once. Finished jobs counted the inputs that texts were divided into (text_lengths.py).
"""

from collections.abc import Mapping, Sequence
from functools import partial
from statistics import median

from api_schemas.enums import DeviceKind, Head, Phase, TargetKind
from api_schemas.errors import ErrorCode, ErrorItem, SecateurError
from api_schemas.results.estimate import JobEstimate
from api_schemas.spec.job import JobRequest
from checkpoints.planning.estimates import estimated_steps
from checkpoints.planning.schedule import CONFIRMED_SHARES
from checkpoints.sizes.cost_model import JobCost, phase_work
from service.core.jobs import first_estimate, needs, text_lengths
from service.core.jobs.submit import Accepted
from service.core.jobs.text_lengths import ONE_EACH
from service.services import Services
from store.jobs import job_costs
from store.jobs.job_costs import RecentJobCosts

_NOT_PASSES = (Phase.STARTING, Phase.PREPARING, Phase.PACKAGING)
_LATENCY = (
    "The target is a latency, which only the worker can measure: the sizes are those for the same share of FLOPs, "
    "and the job may have to remove more."
)

_BOUND = (
    "The target is a bound on the drop: step 1 is the smallest model possible with this spec, and the result will be "
    "between it and the original."
)


def estimate(services: Services, accepted: Accepted) -> JobEstimate:
    """What the job comes to. Reads what finished jobs took; writes nothing. Raises INVALID_REQUEST for a model of the hub."""
    known = accepted.model.known
    if known is None:
        detail = (
            "No estimate is possible for a model on the hub before a worker has fetched it. Upload the model to get "
            "an estimate."
        )
        item = ErrorItem(pointer="/model/type", code=ErrorCode.INVALID_REQUEST, detail="not known yet")
        raise SecateurError(ErrorCode.INVALID_REQUEST, detail, (item,))
    request, layout, shape = accepted.request, known.layout, known.shape
    steps = estimated_steps(shape, request.pruning, known.weight_file_bytes)
    with services.database.read() as session:
        observed = job_costs.recent(session, layout.family)
        texts = text_lengths.of_texts(session, services.tenant, accepted, known)
        first = None
        if observed is None:
            first = first_estimate.of_job(session, accepted, known, steps, texts)
    samples = None if accepted.samples is None else (texts or ONE_EACH).counted(accepted.samples)
    seconds, span, by_phase, host, device = None, None, {}, None, None
    bounded = request.pruning.target.max_drop is not None
    if observed is not None:
        kind = DeviceKind(observed.device.partition(":")[0])
        host = needs.host_memory(observed.jobs, request, shape, kind)
        device = needs.device_memory(observed.jobs, request, shape, kind)
        if samples is not None:
            work = partial(phase_work, request, len(shape.attention), samples, beside=layout.head is Head.HIDDEN_STATES)
            flops = [step.flops for step in steps]
            outside = median(job.outside_seconds for job in observed.jobs)
            if bounded:
                # Cut by nothing, a model takes longest.
                least, most = work(flops, trials=1), work(flops[:1] * (1 + len(CONFIRMED_SHARES)))
                span = _sum(_seconds(least, observed.jobs), outside), _sum(_seconds(most, observed.jobs), outside)
                flops = [flops[0]] * 2
            by_phase = _seconds(work(flops), observed.jobs)
            seconds = _sum(by_phase, outside)
    return JobEstimate(
        steps=steps,
        seconds=seconds,
        seconds_range=span,
        first_estimate=first,
        phase_seconds={phase: round(spent, 1) for phase, spent in by_phase.items()},
        host_memory_bytes=host,
        device_memory_bytes=device,
        device=None if observed is None else observed.device,
        jobs_observed=0 if observed is None else len(observed.jobs),
        reason=_reason(layout.family, observed, samples, measured=first is not None),
        notes=_notes(request, bounded=bounded),
        warnings=accepted.warnings,
    )


def _notes(request: JobRequest, *, bounded: bool) -> tuple[str, ...]:
    if bounded:
        return (_BOUND,)
    return (_LATENCY,) if request.pruning.target.kind is TargetKind.LATENCY else ()


def _sum(by_phase: Mapping[Phase, float], outside: float) -> float:
    return round(sum(by_phase.values()) + outside, 1)


def _seconds(work: Mapping[Phase, float], jobs: Sequence[JobCost]) -> dict[Phase, float]:
    """By phase: its work at the speed that was measured."""
    passes = [each for job in jobs for phase, each in job.comparable.items() if phase not in _NOT_PASSES]
    overall = sum(each.seconds for each in passes) / sum(each.work for each in passes)
    found: dict[Phase, float] = {}
    for phase, amount in work.items():
        same = [job.comparable[phase] for job in jobs if phase in job.comparable]
        rate = sum(each.seconds for each in same) / sum(each.work for each in same) if same else overall
        found[phase] = amount * rate
    return {phase: spent for phase, spent in found.items() if spent}


def _reason(
    family: str, observed: RecentJobCosts | None, samples: Mapping[str, int] | None, *, measured: bool
) -> str | None:
    if observed is None:
        unknown = f"No job of family {family} has finished here yet"
        if measured:
            return (
                f"{unknown}. The time is a range, from a short measurement of the worker's device; once a job has finished, time "
                "and memory can be estimated from it."
            )
        later = ""
        if samples is not None:
            later = " A range of time can be given as soon as a worker that has nothing to do has measured its device."
        return f"{unknown}; time and memory can be estimated once one has.{later}"
    reasons = []
    if samples is None:
        reasons.append("The worker fetches the dataset, so its number of samples is not known yet.")
    if not any(job.tensors_comparable for job in observed.jobs):
        reasons.append(
            f"The finished jobs of family {family} ran with an earlier version, which needed other memory; memory can be "
            "estimated once a job has finished with this version."
        )
    return " ".join(reasons) or None
