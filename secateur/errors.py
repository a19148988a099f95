"""Everything that the Python client raises on purpose. One tree; `SecateurError` catches all of it.

SecateurError
├── InvalidRequest          the request, a file or a folder cannot be used
├── Unauthorized            no key, or one that opens nothing
├── Forbidden               the key's scopes, or the server's host names
├── NotFound                never there, deleted or expired
├── Conflict                the present state does not allow it
├── RateLimited             too many requests or streams, tried again until the retries were used up
│   └── QuotaExceeded       the tenant's share is used up
├── ChecksumMismatch        bytes are not those that were announced
├── Unavailable             5xx, tried again until the retries were used up
├── ConnectionFailed        no answer at all
├── UnexpectedAnswer        an answer that is not this API's
├── JobFailed               with `.job`
│   └── JobTimedOut         the job reached its own `limits.max_runtime`
├── JobCancelled            with `.job`
├── WaitTimeout             the `timeout` of `wait` is over; the job goes on
├── MissingDependency       a library is needed that is not installed
└── TrustRequired           a checkpoint brings code, and `trust_remote_code` was not passed
"""

from typing import Any

from api_schemas.errors import ErrorItem


class SecateurError(Exception):
    """Base of all. `str()` is for a person: what was wrong, in which field, and what to do.

    >>> try:
    ...     client.submit(model, data, sparsity=2)
    ... except SecateurError as error:
    ...     print(error.code, error.pointers)
    invalid_request ('/pruning/target/attention_sparsity',)
    """

    def __init__(
        self,
        detail: str,
        *,
        code: str = "",
        title: str = "",
        status: int | None = None,
        items: tuple[ErrorItem, ...] = (),
        request_id: str | None = None,
        retry_after: float | None = None,
        advice: str = "",
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code
        """Stable, for programs: docs/errors.md lists them. Empty where the service was not asked."""
        self.title = title
        self.status = status
        """HTTP status; None where there was no answer."""
        self.items = items
        """What was wrong one by one, each with `pointer`, `code` and `detail`."""
        self.request_id = request_id
        """Names the request in the operator's log."""
        self.retry_after = retry_after
        """Seconds after which the same may succeed, where the service says so."""
        self.advice = advice
        """What to do about it in Python; a part of `str()`. The command line has advice of its own."""

    @property
    def pointers(self) -> tuple[str, ...]:
        """JSON pointers (RFC 6901): into the request, or into what was read, such as `/config.json/num_labels`."""
        return tuple(item.pointer for item in self.items if item.pointer)

    def __str__(self) -> str:
        return self.said(self.advice)

    def said(self, advice: str) -> str:
        """For a person, with `advice` after what was wrong."""
        # The detail mostly speaks of the first item; what it does not name is added.
        more = [item for item in self.items if item.pointer and item.pointer.strip("/") not in self.detail][:10]
        lines = [f"\n  {item.pointer}" + ("" if item.detail in self.detail else f": {item.detail}") for item in more]
        return f"{self.detail}{' ' if advice else ''}{advice}{''.join(lines)}"


class InvalidRequest(SecateurError):
    """The request, a file or a folder cannot be used; `pointers` says where."""


class Unauthorized(SecateurError):
    """No key was sent, or one that is unknown, revoked or expired."""


class Forbidden(SecateurError):
    """The key lacks a scope, or the service does not answer to this caller or host name."""


class NotFound(SecateurError):
    """There is no such thing, or none any more (`code` says `deleted` or `expired`)."""


class Conflict(SecateurError):
    """The present state does not allow it."""


class RateLimited(SecateurError):
    """Too many requests, or too many event streams, at a time."""


class QuotaExceeded(RateLimited):
    """The tenant's share of bytes or waiting jobs is used up; `client.limits()` shows it."""


class ChecksumMismatch(SecateurError):
    """Bytes are not those that were announced; nothing of them was kept."""


class Unavailable(SecateurError):
    """The service could not do its work (5xx)."""


class ConnectionFailed(SecateurError):
    """The service could not be reached, or the connection broke, and trying again did not help."""


class UnexpectedAnswer(SecateurError):
    """An answer that this client cannot read: another program's, or one of a newer service."""


class _OfAJob(SecateurError):
    """With the job that it is about."""

    def __init__(self, detail: str, *, job: Any = None, **more: Any) -> None:
        super().__init__(detail, **more)
        self.job = job
        """The Job, or AsyncJob, that was waited for."""


class JobFailed(_OfAJob):
    """The job ended without a result. `code`, `detail` and `pointers` are the job's own."""


class JobTimedOut(JobFailed):
    """The job ran for longer than its `limits.max_runtime`. Its finished steps can be downloaded."""


class JobCancelled(_OfAJob):
    """The job was cancelled; its finished steps can be downloaded."""


class WaitTimeout(SecateurError, TimeoutError):
    """`wait(timeout=…)` waited for so long. The job goes on: wait again, or cancel it."""


class MissingDependency(SecateurError, ImportError):
    """What was asked for needs a library that is not installed; the text says how to install it."""


class TrustRequired(SecateurError):
    """The checkpoint brings Python files of its own; pass `trust_remote_code=True` after looking at them."""
