"""`Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): a repeated request gets the response of the first."""

import hashlib
import re
from collections.abc import Callable
from typing import Annotated, TypeVar

from fastapi import Depends, Header, Request, Response
from pydantic import BaseModel
from sqlalchemy.orm import Session

from api_schemas.errors import ErrorCode, SecateurError
from service.services import Services
from store.access import idempotency
from store.access.idempotency import Answer

T = TypeVar("T")
Also = Callable[[Session, T], None]
"""What is to be written in the transaction that makes something, once it is made."""

# The draft's structured string is in quotes; what most clients send is not.
_KEY = re.compile(r'"([\x20-\x21\x23-\x5b\x5d-\x7e]{1,255})"|([\x21\x23-\x5b\x5d-\x7e]{1,255})')
CODES = (
    ErrorCode.IDEMPOTENCY_KEY_INVALID,
    ErrorCode.IDEMPOTENCY_MISMATCH,
    ErrorCode.IDEMPOTENCY_IN_PROGRESS,
)
REPLAYED = {
    "Idempotency-Replayed": {
        "description": "`true` if this is the response to an earlier request with the same key.",
        "schema": {"type": "string"},
    }
}


def _key(
    idempotency_key: Annotated[
        str | None,
        Header(
            description="A fresh key (such as a UUID) per request; repeated requests with the same key get the first response.",
            examples=['"8e03978e-40d5-43e8-bc93-6894a57f9324"'],
        ),
    ] = None,
) -> str | None:
    """Raises IDEMPOTENCY_KEY_INVALID."""
    if idempotency_key is None:
        return None
    match = _KEY.fullmatch(idempotency_key)
    if match is None:
        detail = "An Idempotency-Key is 1 to 255 visible ASCII characters, in double quotes or without. Send a UUID."
        raise SecateurError(ErrorCode.IDEMPOTENCY_KEY_INVALID, detail)
    return match[1] or match[2]


Key = Annotated[str | None, Depends(_key)]


def once(
    services: Services,
    request: Request,
    key: str | None,
    body: BaseModel,
    make: Callable[[Also[T]], T],
    answer: Callable[[Session, T], Answer],
) -> Response:
    """Make what `body` asks for and answer; with a key that has been answered, only answer.

    `make` writes everything in one transaction and calls what it is given there. Where it raises, nothing was made and the key
    is free again: errors are not kept.
    """
    given: list[Answer] = []
    if key is None:
        make(lambda session, made: given.append(answer(session, made)))
        return _response(given[0])
    told = f"{request.method} {request.url.path}\n{body.model_dump_json()}"
    fingerprint = hashlib.sha256(told.encode()).hexdigest()
    database, tenant = services.database, services.tenant
    with database.write() as session:
        reserved = idempotency.reserve(session, tenant, key, fingerprint, services.settings.idempotency_seconds)
    if isinstance(reserved, Answer):
        return _response(reserved, replayed=True)

    def also(session: Session, made: T) -> None:
        given.append(answer(session, made))
        idempotency.keep(session, tenant, reserved, given[0])

    try:
        make(also)
    except BaseException:
        with database.write() as session:
            idempotency.give_back(session, tenant, reserved)
        raise
    return _response(given[0])


def _response(answer: Answer, *, replayed: bool = False) -> Response:
    headers = {**answer.headers, **({"Idempotency-Replayed": "true"} if replayed else {})}
    return Response(answer.body, answer.status, headers, "application/json")
