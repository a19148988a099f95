"""Scripts, styles and pictures. The address contains a hash of them all, so browsers may cache them forever.

There is one hash and not one per file, because modules import one another by relative addresses.
"""

import hashlib
from mimetypes import types_map
from pathlib import Path

from fastapi import APIRouter, Response

from api_schemas.errors import ErrorCode, SecateurError
from service.access.turns import FairRoute

FOLDER = Path(__file__).parent / "static"
CACHING = "public, max-age=31536000, immutable"


def _read() -> dict[str, bytes]:
    return {
        path.relative_to(FOLDER).as_posix(): path.read_bytes() for path in sorted(FOLDER.rglob("*")) if path.is_file()
    }


_FILES = _read()
VERSION = hashlib.sha256(
    b"".join(name.encode() + hashlib.sha256(data).digest() for name, data in _FILES.items())
).hexdigest()[:16]

router = APIRouter(route_class=FairRoute)


def address(name: str) -> str:
    """Of a file below `static/`. KeyError where there is none: a template that names it wrongly is found by any test."""
    if name not in _FILES:
        raise KeyError(name)
    return f"/static/{VERSION}/{name}"


@router.get("/static/{version}/{name:path}", include_in_schema=False)
async def static_file(version: str, name: str) -> Response:
    """One file, of this version alone."""
    if version != VERSION or name not in _FILES:
        raise SecateurError(ErrorCode.NOT_FOUND, "There is no such file. Load the page again.")
    suffix = f".{name.rpartition('.')[2]}"
    kind = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8"}.get(suffix)
    media_type = kind or types_map.get(suffix, "text/plain; charset=utf-8")
    return Response(_FILES[name], headers={"Cache-Control": CACHING}, media_type=media_type)
