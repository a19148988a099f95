"""Progress bars on standard error, if that is a terminal: for transfers, and for jobs that are waited for."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Column
from rich.text import Text

from api_schemas.api.resources import JobResource
from secateur.client.progress import Progress, ProgressCallback
from secateur.terminal.formatting import named, size
from secateur.terminal.job_bar import duration
from secateur.terminal.metrics import quality

_BYTES = "bytes"


class _Amount(ProgressColumn):
    """`1.2/4.5 MB`, or `3/10 files`."""

    def render(self, task: Task) -> Text:
        unit, total = task.fields["unit"], task.total or 0
        text = f"{size(task.completed)}/{size(total)}" if unit == _BYTES else f"{task.completed:g}/{total:g} {unit}"
        return Text(text, no_wrap=True)


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        known = task.fields["unit"] == _BYTES and speed
        return Text(f"{size(speed)}/s" if known and speed else "", no_wrap=True)


@contextmanager
def transfer(console: Console, what: str) -> Iterator[ProgressCallback]:
    """What the client tells of hashing, packing, sending and fetching, a bar each; they go when the block ends."""
    bars = Bars(
        TextColumn("{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)),
        BarColumn(bar_width=20),
        TextColumn("{task.percentage:>3.0f}%"),
        _Amount(),
        _Speed(),
        TimeRemainingColumn(compact=True),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    tasks: dict[str, TaskID] = {}

    def told(now: Progress) -> None:
        if now.phase not in tasks:
            tasks[now.phase] = bars.add_task(f"{now.phase} {what}", total=now.total, unit=now.unit)
        bars.update(tasks[now.phase], completed=now.done, total=now.total)

    with bars:
        yield told


class JobBars:
    """A bar a job. A context manager; `show` says how a job is now."""

    def __init__(self, console: Console) -> None:
        self._bars = Bars(
            TextColumn("{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis", max_width=20)),
            BarColumn(bar_width=12),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[at]}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> "JobBars":
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def show(self, job: JobResource) -> None:
        """Phase, step, the newest metric and the time that is left."""
        if job.id not in self._tasks:
            self._tasks[job.id] = self._bars.add_task(named(job), total=1.0, at="")
        share = 1.0 if job.progress is None and job.finished_at else job.progress.fraction if job.progress else 0.0
        self._bars.update(self._tasks[job.id], completed=share, at=where(job))


def where(job: JobResource) -> str:
    """`step 2/5 finetuning, accuracy 94.6% on validation, training loss 0.512, 12:10 left`."""
    parts = [job.state.value]
    if (now := job.progress) is not None:
        parts = [f"step {now.step}/{now.steps} {now.phase.value}"]
        if now.training is not None:
            parts.append(f"training loss {now.training.points[-1]:.3f}")
        if now.eta_seconds is not None:
            parts.append(f"{duration(now.eta_seconds)} left")
    elif job.queue_position is not None:
        parts.append(f"place {job.queue_position}")
    if job.waiting_reason is not None:
        parts.append(job.waiting_reason)
    if job.metrics:
        parts.insert(1, f"{quality(job.metrics[-1].validation)} on validation")
    return ", ".join(part for part in parts if part)
