"""Shows a running job: a live bar on a terminal, one line per phase elsewhere. Fed by the engine's events or by polling."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from api_schemas.api.resources import JobProgress
from api_schemas.results.events import Progress as ProgressEvent


class JobBar:
    """A context manager; `update` says where the job is, `note` prints a line above the bar."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = console.is_terminal
        self._said = ""
        self._bar = Progress(
            TextColumn("{task.description:<24}"),
            BarColumn(bar_width=40),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[detail]}"),
            console=console,
            transient=True,
            disable=not self._live,
        )
        self._task = self._bar.add_task("starting", total=1.0, detail="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def update(self, now: JobProgress | ProgressEvent) -> None:
        """Where the job is: phase, step, the newest training loss, the time that is left."""
        label = f"step {now.step}/{now.steps} {now.phase.value}"
        eta = "" if now.eta_seconds is None else f"{duration(now.eta_seconds)} left"
        loss = "" if now.training is None else f"loss {now.training.points[-1]:.3f}"
        detail = "  ".join(part for part in (f"{now.done}/{now.total}", loss, eta) if part)
        self._bar.update(self._task, completed=now.fraction, description=label, detail=detail)
        if not self._live and label != self._said:
            self._said = label
            self.note(f"{now.fraction:4.0%}  {label}  {eta}")

    def note(self, text: str) -> None:
        """A line that stays."""
        self._console.print(text, highlight=False, markup=False)


def duration(seconds: float) -> str:
    """`75.2` as `1:15`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
