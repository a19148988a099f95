"""Error responses as exceptions."""

import json
from collections.abc import Mapping

import httpx
from pydantic import ValidationError

from api_schemas.api.resources import JobError
from api_schemas.errors import ErrorCode, ErrorItem
from secateur import errors
from secateur.errors import SecateurError

_BY_CODE: Mapping[str, type[SecateurError]] = {
    "quota_exceeded": errors.QuotaExceeded,
    "checksum_mismatch": errors.ChecksumMismatch,
    "piece_checksum_mismatch": errors.ChecksumMismatch,
    "host_refused": errors.Forbidden,
}
_BY_STATUS: Mapping[int, type[SecateurError]] = {
    401: errors.Unauthorized,
    403: errors.Forbidden,
    404: errors.NotFound,
    409: errors.Conflict,
    410: errors.NotFound,
    429: errors.RateLimited,
}
_SHOWN = 200
_NO_KEY = "Pass `api_key=`, or set SECATEUR_API_KEY."


def error_of(response: httpx.Response) -> SecateurError:
    """What an answer of status 300 or more says; its body must have been read."""
    status = response.status_code
    request_id, retry_after = response.headers.get("x-request-id"), retry_after_of(response)
    try:
        body = json.loads(response.content)
        code, detail, title = str(body["code"]), str(body["detail"]), str(body.get("title", ""))
        items = tuple(ErrorItem.model_validate(item) for item in body.get("errors", ()))
    except (ValueError, KeyError, TypeError, AttributeError, ValidationError):
        return _foreign(response, request_id, retry_after)
    kind = _BY_CODE.get(code) or _kind(status)
    return kind(
        detail,
        code=code,
        title=title,
        status=status,
        items=items,
        request_id=body.get("request_id") or request_id,
        retry_after=retry_after,
        advice=_NO_KEY if status == 401 else "",
    )


def refusal(error: JobError) -> SecateurError:
    """What a resource says was wrong with it, as the answer to a request would have been."""
    kind = errors.Conflict if error.code is ErrorCode.CONFLICT else errors.InvalidRequest
    return kind(error.detail, code=error.code.value, items=error.errors)


def retry_after_of(response: httpx.Response) -> float | None:
    """Seconds, where the header says so in seconds."""
    try:
        return max(0.0, float(response.headers["retry-after"]))
    except (KeyError, ValueError):
        return None


def _kind(status: int) -> type[SecateurError]:
    if status >= 500:
        return errors.Unavailable
    return _BY_STATUS.get(status, errors.InvalidRequest if status >= 400 else errors.UnexpectedAnswer)


def _foreign(response: httpx.Response, request_id: str | None, retry_after: float | None) -> SecateurError:
    """Of a proxy in between, or of another program at this address."""
    status, request = response.status_code, response.request
    said = " ".join(response.text[: 4 * _SHOWN].split())[:_SHOWN]
    where = response.headers.get("location")
    detail = f"{request.method} {request.url} was answered with status {status}" + (f": {said}" if said else "")
    hint = f" and sent on to {where}. Use that address as the URL" if where else ""
    return _kind(status)(
        f"{detail}{hint}.", code=f"http_{status}", status=status, request_id=request_id, retry_after=retry_after
    )
