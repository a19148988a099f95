"""The spans of one attempt at a job: children of the request that created it, and one for each phase of the engine.

The engine has no network and creates no spans itself; its phases become spans when it reports them to its supervisor
(docs/adr/0050-traces.md).
"""

from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import Self

from api_schemas.enums import Phase
from store import tracing
from store.database.tables import Job
from store.tracing import Span


class JobTrace:
    """Enter it where the attempt begins, in the thread that runs it."""

    def __init__(self, job: Job, wake: str | None = None) -> None:
        """`wake`: the `traceparent` of the message that led to it, which may have been sent for another job."""
        about: dict[str, tracing.Value] = {"secateur.job.id": job.id, "secateur.job.attempt": job.epoch}
        if job.worker is not None:
            about["secateur.worker"] = job.worker
        first = job.epoch == 1
        if first:
            # The wait ends here. For later attempts, the start of their wait is not known.
            tracing.begin("queued", about, parent=job.traceparent, root=_alone(job), since=job.created_at).end()
        self._span = tracing.begin(
            "attempt", about, parent=job.traceparent, root=_alone(job), link=wake, kind="consumer"
        )
        self._phase: Span = tracing.UNTRACED
        self._open = ExitStack()

    @property
    def traceparent(self) -> str | None:
        """Of the attempt's span."""
        return self._span.traceparent

    def __enter__(self) -> Self:
        self._open.enter_context(tracing.current(self._span))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._next(tracing.UNTRACED)
        self._open.__exit__(kind, error, trace)

    def started(self, device: str, threads: int) -> None:
        """The engine has reported its device."""
        self._span.set({"secateur.device": device, "secateur.threads": threads})

    def phase(self, phase: Phase, step: int) -> None:
        """Ends the previous phase's span and starts this one's."""
        self._next(tracing.begin(phase.value, {"secateur.phase": phase.value, "secateur.step": step}))

    def committing(self, step: int) -> AbstractContextManager[Span]:
        """A packed step is being stored; the phase that made it has ended."""
        self._next(tracing.UNTRACED)
        return tracing.current(tracing.begin("commit step", {"secateur.step": step}))

    def ended(self, outcome: str, *, failed: bool = False) -> None:
        """How the attempt ends: an error code, the reason of an interruption, or `succeeded`."""
        self._next(tracing.UNTRACED)
        self._span.set({"secateur.outcome": outcome})
        if failed:
            self._span.failed(outcome)

    def _next(self, span: Span) -> None:
        self._phase.end()
        self._phase = span


def _alone(job: Job) -> bool:
    """Whether the request that created it was not traced: then every attempt is its own trace."""
    return job.traceparent is None
