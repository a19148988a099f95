"""The raw body of a file upload: how OpenAPI describes it, and the length it announces."""

from typing import Any

from fastapi import Request

FILE_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The bytes of the file.",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


def content_length(request: Request) -> int | None:
    """None for a chunked body. The server itself has refused anything that is no number."""
    announced = request.headers.get("content-length")
    return int(announced) if announced is not None and announced.isdecimal() else None
