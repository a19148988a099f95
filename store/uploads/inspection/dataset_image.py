"""One image: always its header, its pixels for a few images."""

import io
import warnings

from PIL import Image

from api_schemas.errors import ErrorCode, ErrorItem, SecateurError
from checkpoints.data.media import IMAGE_FORMATS, MAX_IMAGE_BYTES, MAX_PIXELS


def check_image(data: bytes, decode: bool, where: str) -> None:
    """Read an image's header, and with `decode` its first frame. Raises IMAGE_UNDECODABLE, naming `where` (split, row)."""
    if len(data) > MAX_IMAGE_BYTES:
        raise _undecodable(where, f"it has {len(data)} bytes; the maximum is {MAX_IMAGE_BYTES}")
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data), formats=IMAGE_FORMATS) as image:
            pixels = image.width * image.height
            if not 0 < pixels <= MAX_PIXELS:
                raise _undecodable(
                    where, f"its header gives {image.width} × {image.height}; the maximum is {MAX_PIXELS} pixels"
                )
            if decode:
                image.load()
    except SecateurError:
        raise
    # What Pillow raises on untrusted files is not a closed list.
    except Exception as error:
        raise _undecodable(where, _reason(error)) from None


def _reason(error: Exception) -> str:
    # Where it does not know the format Pillow names what it was given, which here is a Python object at an address.
    text = str(error).split("<", 1)[0].strip()
    return text[:200].rstrip(".") or type(error).__name__


def _undecodable(where: str, reason: str) -> SecateurError:
    detail = f"The image at {where} cannot be decoded: {reason}. Send PNG, JPEG, WebP, GIF or BMP."
    item = ErrorItem.at(where, code=ErrorCode.IMAGE_UNDECODABLE, detail=reason)
    return SecateurError(ErrorCode.IMAGE_UNDECODABLE, detail, (item,))
