"""SQuAD's evaluation: which part of a context a model selects as the answer, and how similar it is to the correct answers.

The answer is chosen as in transformers' examples (examples/pytorch/question-answering/utils_qa.py), which follow BERT's authors
(Devlin et al., arXiv 1810.04805, §4.2 and §4.3). Words are counted as in the official script of SQuAD 2.0 (Rajpurkar et al.,
arXiv 1806.03822, evaluate-v2.0.py). It equals that of 1.1 except for answers of which nothing is left without articles and
punctuation: in the older script these have an F1 of 0. Shapes: T tokens of a window, K best candidate tokens.
"""

import re
import string
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LIKELIEST = 20
"""Of a window so many first and so many last tokens are looked at."""
LONGEST = 30
"""Tokens of an answer."""
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


class Ends(NamedTuple):
    """What a model says of one window, as far as it matters."""

    first: NDArray[np.int64]
    """The likeliest first tokens [K], whose logits are `first_logits` [K]."""
    first_logits: NDArray[np.floating]
    last: NDArray[np.int64]
    last_logits: NDArray[np.floating]
    none: float
    """Logits of the class token as the first and as the last, added up: there is no answer in here."""
    spans: NDArray[np.int32]
    """[T, 2]: from which character of the context to which each token is, both below 0 where it is not of it."""


def best_answer(context: str, windows: Iterable[Ends], *, unanswerable: bool) -> str:
    """The part of the context whose ends have the largest sum of logits in any window.

    With `unanswerable`, nothing where the least that any window has for there being no answer is more. Nothing as well where no
    window has a part that could be one.
    """
    best, text, none = -np.inf, "", np.inf
    for window in windows:
        none = min(none, window.none)
        starts_K, stops_K = window.spans[window.first, 0], window.spans[window.last, 1]
        lengths_KK = window.last[None, :] - window.first[:, None] + 1
        possible_KK = (starts_K >= 0)[:, None] & (stops_K >= 0)[None, :] & (lengths_KK >= 1) & (lengths_KK <= LONGEST)
        sums_KK = np.where(possible_KK, window.first_logits[:, None] + window.last_logits[None, :], -np.inf)
        first, last = np.unravel_index(int(sums_KK.argmax()), sums_KK.shape)
        if sums_KK[first, last] > best:
            best, text = float(sums_KK[first, last]), context[starts_K[first] : stops_K[last]]
    return "" if unanswerable and none > best else text


def normalized(text: str) -> str:
    """Lower case, without punctuation and articles, one space between words."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(given: str, wanted: str) -> float:
    """1 where both are the same once they are normalized, else 0."""
    return float(normalized(given) == normalized(wanted))


def f1(given: str, wanted: str) -> float:
    """Of the words of both once they are normalized; of two without any 1, of one 0."""
    said, right = normalized(given).split(), normalized(wanted).split()
    if not said or not right:
        return float(said == right)
    same = (Counter(said) & Counter(right)).total()
    return 2 * same / (len(said) + len(right))


def against(given: str, wanted: Sequence[str]) -> tuple[float, float]:
    """Exact match and F1 with the wanted answer that is nearest; where there is none, with nothing."""
    right = [text for text in wanted if normalized(text)] or [""]
    return max(exact_match(given, each) for each in right), max(f1(given, each) for each in right)
