"""Maps tensor names from wrappers and older versions to names in the module tree of transformers 5."""

import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

from api_schemas.errors import ErrorCode, ErrorItem, SecateurError

T = TypeVar("T")

WRAPPERS = ("module.", "_orig_mod.")
"""What torch's DataParallel and torch.compile put before every name of a model that is saved inside them."""
MOST_WRAPPERS = 4
"""Per model: no real model has more, and each is searched for in every name."""

RENAMED = (
    # TensorFlow's names of a norm's weight and bias, which the first conversions kept.
    (r"\.gamma$", ".weight"),
    (r"\.beta$", ".bias"),
    # torch's weight norm before 2.0.
    (r"\.weight_g$", ".parametrizations.weight.original0"),
    (r"\.weight_v$", ".parametrizations.weight.original1"),
)


def wrapping(names: Iterable[str]) -> str:
    """What a wrapper put before all of the names, `module._orig_mod.` say; empty where there is nothing of the kind."""
    given, before = list(names), ""
    for _ in range(MOST_WRAPPERS if given else 0):
        found = [each for each in WRAPPERS if all(name.startswith(before + each) for name in given)]
        if not found:
            break
        before += found[0]
    return before


def renamings(names: Iterable[str]) -> dict[str, str]:
    """What makes names of the module tree out of a file's: patterns in the order in which they are replaced, and by what."""
    given = list(names)
    found = {f"^{re.escape(before)}": "" for before in (wrapping(given),) if before}
    return found | {pattern: by for pattern, by in RENAMED if any(re.search(pattern, name) for name in given)}


def renamed(tensors: Mapping[str, T], patterns: Mapping[str, str]) -> dict[str, T]:
    """The same tensors by their new names. Raises WEIGHTS_MISMATCH where two would have one name."""
    found: dict[str, T] = {}
    for name, tensor in tensors.items():
        new = name
        for pattern, by in patterns.items():
            new = re.sub(pattern, by, new)
        if new in found:
            item = ErrorItem.at(name, code=ErrorCode.WEIGHTS_MISMATCH, detail=f"another name for {new}")
            detail = f"The file contains {new} twice, once as {name}. Save the model again with transformers."
            raise SecateurError(ErrorCode.WEIGHTS_MISMATCH, detail, (item,))
        found[new] = tensor
    return found
