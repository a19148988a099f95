"""What a job object knows without a request: shared by `Job` and `AsyncJob`."""

from html import escape
from typing import Protocol

from api_schemas.api.resources import JobProgress, JobResource
from api_schemas.enums import TERMINAL_STATES, JobState
from api_schemas.results.answer import recommendation
from api_schemas.results.metrics import JobResult, StepMetrics
from secateur.client import notebook


class _Viewed(Protocol):
    @property
    def view(self) -> JobResource: ...


class JobBase:
    """Properties read from `view`, which is as old as the last call about the job; `refresh()` updates it."""

    @property
    def id(self: _Viewed) -> str:
        """`job_…`."""
        return self.view.id

    @property
    def name(self: _Viewed) -> str | None:
        """The name given by the user."""
        return self.view.name

    @property
    def state(self: _Viewed) -> JobState:
        """A string: `queued`, `running`, `paused`, `cancelling`, `succeeded`, `failed` or `cancelled`."""
        return self.view.state

    @property
    def ended(self: _Viewed) -> bool:
        """Whether the job has ended, so that nothing of it will change."""
        return self.view.state in TERMINAL_STATES

    @property
    def progress(self: _Viewed) -> JobProgress | None:
        """Phase, step, fraction of the whole job and expected seconds left, while it runs."""
        return self.view.progress

    @property
    def metrics(self: _Viewed) -> tuple[StepMetrics, ...]:
        """Metrics of the original (step 0) and of every finished step."""
        return self.view.metrics

    @property
    def result(self: _Viewed) -> JobResult | None:
        """Which step to take, once the job has succeeded."""
        return self.view.result

    def __repr__(self: _Viewed) -> str:
        view = self.view
        at = f", {view.progress.fraction:.0%}" if view.progress else ""
        return f"<{type(self).__name__} {view.id} {view.state.value}{at}>"

    def _repr_html_(self: _Viewed) -> str:
        """A small table, for notebooks."""
        return _html(self.view)

    def _ipython_display_(self: _Viewed) -> None:
        notebook.unless_shown(_html(self.view))


def _html(view: JobResource) -> str:
    """Everything in it is escaped: names and details are a user's, or a server's."""
    title = f"{view.name} ({view.id})" if view.name else view.id
    parts = [f"<b>{escape(title)}</b>: {escape(view.state.value)}"]
    if (at := view.progress) is not None:
        left = "" if at.eta_seconds is None else f", about {_minutes(at.eta_seconds)} left"
        parts.append(f'<progress value="{at.fraction:.4f}" max="1"></progress> {at.fraction:.0%}')
        parts.append(escape(f"step {at.step} of {at.steps}, {at.phase.value}{left}"))
    if view.error is not None:
        parts.append(escape(f"{view.error.code.value}: {view.error.detail}"))
    if view.result is not None:
        parts.append(escape(recommendation(view.result)))
    return "<br>".join(parts) + (_table(view) if view.metrics else "")


def _table(view: JobResource) -> str:
    names = ("step", "attention removed", "feed-forward removed", "validation", "test", "parameters", "file")
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    rows = []
    for step in view.metrics:
        test = view.result.test if view.result is not None and view.result.step == step.step else step.test
        scores = [found.text if each and (found := each.headline) else "" for each in (step.validation, test)]
        cells = [
            str(step.step),
            f"{step.achieved_sparsity:.1%}",
            f"{step.ffn_sparsity:.1%}",
            *scores,
            f"{step.size.total_parameters:,}",
            f"{step.size.file_bytes / 1e6:.2f} MB",
        ]
        rows.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
    return f"<table><tr>{head}</tr>{''.join(rows)}</table>"


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
