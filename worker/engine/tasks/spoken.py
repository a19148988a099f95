"""Texts that a model gave against texts that were wanted: word and character error rates."""

from collections.abc import Sequence

from torch import Tensor

from worker.engine.data.split import IGNORED
from worker.engine.tasks.base import Decode
from worker.engine.tasks.metrics import error_rate


def text_of(ids: Tensor, decode: Decode) -> str:
    """Of one row of label ids [L], padding left out."""
    return decode([number for number in ids.tolist() if number != IGNORED])


def error_rates(given: Sequence[str], wanted: Sequence[str]) -> dict[str, float | None]:
    """`word_error_rate` and `character_error_rate` over all texts together; None where nothing was wanted.

    Words are what white space divides; nothing is changed about case or punctuation, which the tokenizer has already settled.
    """
    pairs = list(zip(given, wanted, strict=True))
    return {
        "word_error_rate": error_rate((a.split(), b.split()) for a, b in pairs),
        "character_error_rate": error_rate((" ".join(a.split()), " ".join(b.split())) for a, b in pairs),
    }
