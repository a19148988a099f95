"""The files of an uploaded dataset: parquet shards, named by split, and nothing else."""

from collections.abc import Iterable

from api_schemas.errors import ErrorCode, ErrorItem, SecateurError
from store.uploads.inspection.file_kinds import refuse_device, refuse_kind

SUFFIXES = (".parquet",)


def check_names(names: Iterable[str]) -> None:
    """Raises FILE_NAME_REFUSED, FILE_TYPE_REFUSED or FILE_UNEXPECTED."""
    given = list(names)
    for name in given:
        refuse_device(name)
        refuse_kind(name)
        reason = None
        if not name.endswith(SUFFIXES):
            reason = (
                "a dataset must consist of parquet shards (with audio and images inside), named <split>.parquet "
                "or <split>-*.parquet"
            )
        elif given.count(name) > 1:
            reason = "it is declared more than once"
        if reason:
            item = ErrorItem.at(name, code=ErrorCode.FILE_UNEXPECTED, detail=reason)
            raise SecateurError(ErrorCode.FILE_UNEXPECTED, f"{name} is not accepted: {reason}.", (item,))
