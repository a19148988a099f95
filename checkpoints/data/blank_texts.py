"""Rows without a text: null, empty or only white space, as in corpora that keep the ends of their paragraphs.

If a task reads only the row's own text, such a row contains nothing: it is left out and counted. Beside a label it is an error in
the data, and refused. The inspector, the service and the engine must agree on which rows these are.
"""

from collections.abc import Mapping
from typing import Any

from api_schemas.enums import Head, Modality, Split
from api_schemas.errors import ErrorCode, ErrorItem, SecateurError
from api_schemas.results.metrics import JobWarning
from checkpoints.data.columns import UNLABELLED


def is_missing_text(text: Any) -> bool:
    """Whether it is null or empty."""
    return text is None or text == ""


def is_blank(text: Any) -> bool:
    """Whether it is null, empty, or of white space alone."""
    return text is None or (isinstance(text, str) and not text.strip())


def leaves_out_blanks(modality: Modality, head: Head) -> bool:
    """Whether rows without a text are left out for such a checkpoint."""
    return modality is Modality.TEXT and head in UNLABELLED


def blank_warnings(
    named: Mapping[Split, str], rows: Mapping[str, int], blank: Mapping[str, int]
) -> tuple[JobWarning, ...]:
    """For every split that plays a role and has `blank` rows among its `rows`."""
    return tuple(
        JobWarning(
            code="blank_texts",
            pointer=f"/dataset/splits/{role.value}",
            detail=(
                f"{blank[split]} of the {rows[split]} texts of the split {split!r} are null, empty or blank. They are left out."
            ),
        )
        for role, split in named.items()
        if blank.get(split)
    )


def missing_text(where: str) -> SecateurError:
    """DATASET_SCHEMA for a labelled row without a text at `where` (split and row)."""
    reason = f"the text at {where} is null or empty, so its label has no input; remove such rows"
    item = ErrorItem.at(where, code=ErrorCode.DATASET_SCHEMA, detail=reason)
    return SecateurError(ErrorCode.DATASET_SCHEMA, f"The dataset cannot be used: {reason}.", (item,))
