"""Events of a job as human-readable lines."""

from api_schemas.results import events
from api_schemas.results.events import JobEvent, JobEventBody
from secateur.terminal.job_bar import duration
from secateur.terminal.metrics import percent, quality


def event_line(event: JobEvent) -> str:
    """`   12  14:03:05 CET  step       step 1: …`, by the clock of this machine."""
    return f"{event.seq:>5}  {event.created_at.astimezone():%H:%M:%S %Z}  {event.body.type:<9}  {_said(event.body)}".rstrip()


def _said(body: JobEventBody) -> str:
    match body:
        case events.StateChanged():
            return body.state.value + (f": {body.detail}" if body.detail else "")
        case events.Started():
            again = "" if body.resumed_from is None else f", resumes after step {body.resumed_from}"
            return f"{body.device}, {body.threads} threads, {body.steps} steps{again}"
        case events.DataReady():
            samples = ", ".join(f"{number} {role}" for role, number in body.data.samples.items())
            return "; ".join([samples, *(f"warning: {found.detail}" for found in body.data.warnings)])
        case events.PhaseChanged():
            return f"step {body.step}/{body.steps} {body.phase.value}"
        case events.Progress():
            left = "" if body.eta_seconds is None else f", {duration(body.eta_seconds)} left"
            return f"step {body.step}/{body.steps} {body.phase.value} {body.done}/{body.total}, {body.fraction:.0%} overall{left}"
        case events.Loss():
            return f"step {body.step}: epoch {body.epoch}/{body.epochs}, training loss {body.train_loss:.4f}"
        case events.TrainingSaved():
            return f"step {body.step}: epoch {body.epoch}/{body.epochs} is saved"
        case events.StepDone():
            step = body.metrics
            gone = percent(step.achieved_sparsity)
            return f"step {step.step}: {gone} of attention removed, {quality(step.validation)} on validation"
        case events.Warned():
            return f"{body.code}: {body.detail}"
        case events.Failed():
            return f"{body.code.value}: {body.detail}"
        case events.Finished():
            return body.result.detail if body.result else f"{body.steps} steps"
