"""Masked language modelling (Devlin et al., arXiv 1810.04805, §3.1): which tokens of a text are replaced, by what, and the
targets.

Determined by the seed and the row's own tokens: the same text gets the same mask in every step, on every machine and at any
position in the data, so measurements before and after a cut are comparable. Shapes: T tokens of one text.
"""

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.engine.data.settings import invalid
from worker.engine.data.split import IGNORED

SHARE = 0.15
"""Of a text's tokens without the special ones, rounded; one at least."""
HIDDEN, SWAPPED = 0.8, 0.1
"""Of those, become the mask token, and any word; the others stay as they are."""

Ids = NDArray[np.int64]


class Masking:
    """Token ids in, what the model reads instead and its targets out. `vocabulary`: ids from 0 up to this are the model's."""

    def __init__(self, tokenizer: Any, vocabulary: int, seed: int) -> None:
        """Raises CONFIG_INVALID where the tokenizer has no token that stands for a masked one."""
        mask = tokenizer.mask_token_id
        if mask is None:
            raise invalid("the tokenizer has no mask token, which a masked language model requires")
        self._mask, self._words = int(mask), min(vocabulary, len(tokenizer))
        self._special = np.array(sorted(tokenizer.all_special_ids), np.int64)
        self._seed = seed.to_bytes(16, "little", signed=True)

    def __call__(self, ids_T: Ids) -> tuple[Ids, Ids]:
        """(ids with some replaced, the original ones at those places and IGNORED elsewhere), both int64 [T].

        A text of special tokens alone is left as it is, and nothing is asked of it.
        """
        digest = hashlib.sha256(self._seed + ids_T.astype("<i8").tobytes()).digest()
        random = np.random.default_rng(int.from_bytes(digest[:16], "little"))
        words = np.flatnonzero(~np.isin(ids_T, self._special))
        masked_T, targets_T = ids_T.copy(), np.full_like(ids_T, IGNORED)
        if not len(words):
            return masked_T, targets_T
        chosen = random.choice(words, max(1, round(SHARE * len(words))), replace=False)
        how = random.random(len(chosen))
        instead = np.where(how < HIDDEN, self._mask, random.integers(0, self._words, len(chosen)))
        masked_T[chosen] = np.where(how < HIDDEN + SWAPPED, instead, ids_T[chosen])
        targets_T[chosen] = ids_T[chosen]
        return masked_T, targets_T
