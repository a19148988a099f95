"""What each role of a dataset needs for a meaningful job: rows, classes, and inputs that no other role has.

The service checks it when a job is submitted, if it knows the dataset; the engine checks it when it has read the data. The rules
are the same, so hub datasets are judged like uploads.
"""

from collections.abc import Collection, Mapping

from api_schemas.enums import Split
from api_schemas.errors import ErrorCode, ErrorItem, SecateurError
from api_schemas.results.metrics import JobWarning
from api_schemas.spec.job import JobSettings
from checkpoints.data.shards.row_hashes import SharedRows

_WHY = {
    Split.TRAIN: "A model that is cut or trained on it learns nothing else",
    Split.VALIDATION: "Decisions based on it say nothing about other data",
    Split.TEST: "A score on it says nothing about other data",
}


def uses_train(job: JobSettings) -> bool:
    """Whether a job learns of its train rows: to recover, or what it cuts."""
    return job.finetune is not None or job.pruning.calibration.split is Split.TRAIN


def check_roles(
    samples: Mapping[Split, int], classes: Mapping[Split, int], held_out: Collection[Split], *, trains: bool
) -> tuple[JobWarning, ...]:
    """Refuse roles with one row, or of one class, whose numbers would mean nothing.

    Only warned of where the role is held out of train: who sends a few rows without splits is trying things out, and gets what
    can be had of them. Train has no such bounds where the job neither trains nor calibrates on it.

    Args:
        samples: rows of every role; what is held out is not in train's.
        classes: different labels of the roles for which that is known, and where every row or every word has exactly one.
        held_out: the roles that have no split.
        trains: whether the job learns of train, see `uses_train`.

    Raises DATASET_EMPTY (no row, one, or too few to hold the others out) and DATASET_SCHEMA (one class).
    """
    if held_out and samples[Split.TRAIN] < 1:
        unlike = " and ".join(role.value for role in held_out)
        detail = f"The train split has too few rows to hold out {unlike}; upload a split for it, or upload more data."
        raise _refused(ErrorCode.DATASET_EMPTY, Split.TRAIN, detail)
    warnings: list[JobWarning] = []
    for role, rows in samples.items():
        if rows < 1:
            raise _refused(ErrorCode.DATASET_EMPTY, role, f"The split for {role.value} has no rows.")
        if role is Split.TRAIN and not trains:
            continue
        left = " left once the others are held out of it" if role is Split.TRAIN and held_out else ""
        if rows == 1:
            found, code = f"one row{left}", ErrorCode.DATASET_EMPTY
        elif classes.get(role) == 1:
            found, code = "only rows of one class", ErrorCode.DATASET_SCHEMA
        else:
            continue
        if role in held_out:
            detail = f"The part of train held out for {role.value} has {found}. {_WHY[role]}: upload a split with more."
            warnings.append(_warning("few_rows" if rows == 1 else "one_class", role, detail))
            continue
        raise _refused(
            code,
            role,
            f"The split for {role.value} has {found}. {_WHY[role]}: upload more rows, or name another split.",
        )
    return tuple(warnings)


def same_rows(samples: Mapping[Split, int], shared: SharedRows) -> tuple[JobWarning, ...]:
    """Warn of inputs that are in two roles: a score is of data that was trained or decided on, as far as they are.

    `shared`: by the values of roles, see `row_hashes`.
    """
    warnings: list[JobWarning] = []
    for role, others in ((Split.VALIDATION, [Split.TRAIN]), (Split.TEST, [Split.TRAIN, Split.VALIDATION])):
        for other in others:
            rows = shared.get(role.value, {}).get(other.value, 0)
            if rows:
                detail = (
                    f"{rows} of the {samples[role]} rows of {role.value} have the same input as a row of "
                    f"{other.value}. Scores on {role.value} will be better than on new data; remove these rows from "
                    "one of the two."
                )
                warnings.append(_warning("shared_rows", role, detail))
    return tuple(warnings)


def repeated_rows(rows: int, repeated: int, held_out: Collection[Split]) -> tuple[JobWarning, ...]:
    """Warn of rows of train that come twice where the others are held out of it: nothing keeps them on one side."""
    if not repeated or not held_out:
        return ()
    roles = " and ".join(role.value for role in held_out)
    detail = (
        f"{repeated} of the {rows} rows of train have the same input as an earlier row, and {roles} will be held out "
        "of train: the same input may end up on both sides. Remove the duplicates, set `columns.group`, or upload "
        "splits."
    )
    return (_warning("repeated_rows", Split.TRAIN, detail),)


def _warning(code: str, role: Split, detail: str) -> JobWarning:
    return JobWarning(code=code, pointer=f"/dataset/splits/{role.value}", detail=detail)


def _refused(code: ErrorCode, role: Split, detail: str) -> SecateurError:
    return SecateurError(code, detail, (ErrorItem(pointer=f"/dataset/splits/{role.value}", code=code, detail=detail),))
