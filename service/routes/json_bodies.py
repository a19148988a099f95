"""JSON bodies (RFC 8259): UTF-8 only, and no duplicate names in an object. Routes that take one are JsonRoutes.

Python's own parser also accepts UTF-16 and UTF-32, and keeps the last of two values with one name.
"""

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response

from api_schemas.errors import ErrorCode, ErrorItem, SecateurError
from service.access.turns import FairRoute
from service.dependencies import refuse_compression
from service.problems import BodyRefused

Handler = Callable[[Request], Coroutine[Any, Any, Response]]
_CHARSETS = ("utf-8", "utf8", "us-ascii")
_SHOWN = 100


class JsonRoute(FairRoute):
    """Reads its body as JSON by the rules of this file."""

    def get_route_handler(self) -> Handler:
        original = super().get_route_handler()

        async def handler(request: Request) -> Response:
            # The framework reads the body before it asks what a route depends on.
            refuse_compression(request)
            return await original(_JsonRequest(request.scope, request.receive))

        return handler


class _JsonRequest(Request):
    async def json(self) -> Any:
        """Raises BodyRefused, or JSONDecodeError where the body is no JSON at all."""
        charset = _charset(self.headers.get("content-type", ""))
        if charset not in _CHARSETS:
            raise _refused(f"JSON must be UTF-8, but Content-Type says {charset[:_SHOWN]!r}")
        body = await self.body()
        encoding = json.detect_encoding(body)
        if not encoding.startswith("utf-8"):
            raise _refused(f"JSON must be UTF-8, but the body is {encoding.upper()}")
        try:
            # Some programs begin UTF-8 with a byte order mark; the RFC lets us pass over it.
            text = body.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise _invalid(f"JSON must be UTF-8, but the byte at {error.start} of the body is not") from None
        return json.loads(text, object_pairs_hook=_object)


def _charset(content_type: str) -> str:
    """As the header announces it; UTF-8 where it does not."""
    for parameter in content_type.split(";")[1:]:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset":
            return value.strip().strip('"').lower()
    return "utf-8"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _invalid(f"the name {twice[:_SHOWN]!r} occurs twice in one object")
    return found


def _refused(reason: str) -> BodyRefused:
    detail = f"{reason}. Send it as UTF-8 with `Content-Type: application/json`."
    return BodyRefused(SecateurError(ErrorCode.MEDIA_TYPE_REFUSED, detail))


def _invalid(reason: str) -> BodyRefused:
    item = ErrorItem(code=ErrorCode.INVALID_REQUEST, detail=reason)
    return BodyRefused(SecateurError(ErrorCode.INVALID_REQUEST, f"{reason}.", (item,)))
