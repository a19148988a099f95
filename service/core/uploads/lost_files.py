"""Files that rows name and the artifact store has lost: after a restore, by a rule of the bucket, by a broken disk.

It is said with a code of its own, and before the first byte of an answer: who has read half a file cannot be told any more.
"""

from collections.abc import Mapping
from pathlib import PurePosixPath

from api_schemas.errors import ErrorCode, ErrorItem, SecateurError
from service.services import Services

NAMED = 10


def require(services: Services, files: Mapping[str, int], remedy: str) -> None:
    """That these artifacts, sizes by key, are there. Raises ARTIFACT_LOST, or STORAGE_UNAVAILABLE where nobody can tell."""
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
