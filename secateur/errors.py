"""The exceptions of the Python client; `SecateurError` catches all of them.

SecateurError
├── InvalidRequest          the request, a file or a folder is invalid
├── Unauthorized            no key, or one that is not valid
├── Forbidden               a missing scope, or a host name that the server does not accept
├── NotFound                unknown, deleted or expired
├── Conflict                the resource's current state does not allow this
├── RateLimited             too many requests or streams, after all retries
│   └── QuotaExceeded       the tenant's quota is used up
├── ChecksumMismatch        the bytes do not match the declared checksum
├── Unavailable             5xx, after all retries
├── ConnectionFailed        no response at all
├── UnexpectedAnswer        a response that is not from this API
├── JobFailed               with `.job`
│   └── JobTimedOut         the job reached its own `limits.max_runtime`
├── JobCancelled            with `.job`
├── WaitTimeout             the `timeout` of `wait` has passed; the job continues
├── MissingDependency       a required library is not installed
└── TrustRequired           a checkpoint contains code, and `trust_remote_code` was not passed
"""

from typing import Any

from api_schemas.errors import ErrorItem


class SecateurError(Exception):
    """Base class of all errors. `str()` is for people: what was wrong, in which field, and what to do.

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
        """A stable code for programs; docs/errors.md lists them. Empty if the service was not called."""
        self.title = title
        self.status = status
        """HTTP status; None if there was no response."""
        self.items = items
        """All problems, each with `pointer`, `code` and `detail`."""
        self.request_id = request_id
        """Identifies the request in the operator's log."""
        self.retry_after = retry_after
        """Seconds after which a retry may succeed, if the service says so."""
        self.advice = advice
        """What to do about it in Python; part of `str()`. The command line gives its own advice."""

    @property
    def pointers(self) -> tuple[str, ...]:
        """JSON pointers (RFC 6901) into the request, or into data that was read, such as `/config.json/num_labels`."""
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
    """The request, a file or a folder is invalid; `pointers` says where."""


class Unauthorized(SecateurError):
    """No key was sent, or one that is unknown, revoked or expired."""


class Forbidden(SecateurError):
    """The key lacks a scope, or the service does not answer to this caller or host name."""


class NotFound(SecateurError):
    """The resource does not exist, or no longer exists (`code` is then `deleted` or `expired`)."""


class Conflict(SecateurError):
    """The resource's current state does not allow this."""


class RateLimited(SecateurError):
    """Too many requests, or too many open event streams."""


class QuotaExceeded(RateLimited):
    """The tenant's quota of bytes or waiting jobs is used up; `client.limits()` shows it."""


class ChecksumMismatch(SecateurError):
    """The bytes do not match the declared checksum; none of them were kept."""


class Unavailable(SecateurError):
    """The service failed or is unavailable (5xx)."""


class ConnectionFailed(SecateurError):
    """The service could not be reached, or the connection broke, and retries did not help."""


class UnexpectedAnswer(SecateurError):
    """A response that this client cannot read: from another program, or from a newer service."""


class _OfAJob(SecateurError):
    """An error about a job."""

    def __init__(self, detail: str, *, job: Any = None, **more: Any) -> None:
        super().__init__(detail, **more)
        self.job = job
        """The Job or AsyncJob that `wait` was called on."""


class JobFailed(_OfAJob):
    """The job failed. `code`, `detail` and `pointers` are those of the job's error."""


class JobTimedOut(JobFailed):
    """The job ran for longer than its `limits.max_runtime`. Its finished steps can be downloaded."""


class JobCancelled(_OfAJob):
    """The job was cancelled; its finished steps can be downloaded."""


class WaitTimeout(SecateurError, TimeoutError):
    """The timeout of `wait(timeout=…)` has passed. The job continues: wait again, or cancel it."""


class MissingDependency(SecateurError, ImportError):
    """A required library is not installed; the message says how to install it."""


class TrustRequired(SecateurError):
    """The checkpoint contains Python files; review them, then pass `trust_remote_code=True`."""
