"""Files that rows reference and the artifact store has lost: after a restore, through a rule of the bucket, or by a broken disk.

They have their own error code, which is sent before the first byte of the response: a client that has read half a file can no
longer be told.
"""

from collections.abc import Mapping
from pathlib import PurePosixPath

from api_schemas.errors import ErrorCode, ErrorItem, SecateurError
from service.services import Services

NAMED = 10


def require(services: Services, files: Mapping[str, int], remedy: str) -> None:
    """Check that these artifacts, sizes by key, exist. Raises ARTIFACT_LOST, or STORAGE_UNAVAILABLE if that is unknown."""
    gone = services.artifacts.damaged(files)
    if gone:
        raise lost(gone, remedy)


def lost(keys: list[str], remedy: str, pointer: str = "") -> SecateurError:
    """ARTIFACT_LOST. `remedy`: what the caller can do; `pointer`: what in the request named them."""
    names = [PurePosixPath(key).name for key in sorted(keys)]
    listed = ", ".join(names[:NAMED]) + (" and more" if len(names) > NAMED else "")
    detail = f"Lost or damaged in the artifact store: {listed}. The operator may have a backup. {remedy}"
    items = (ErrorItem(pointer=pointer, code=ErrorCode.ARTIFACT_LOST, detail=f"{len(names)} files"),) if pointer else ()
    return SecateurError(ErrorCode.ARTIFACT_LOST, detail, items)
