"""Inputs of causal language models: texts in blocks of a fixed number of tokens, with the next token at every position.

Each text is its own sample: no block contains parts of two, so the model never reads unrelated texts as one. A text longer than a
block is divided into several, each of which begins as a text does.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from checkpoints.families.decoders.causal import BLOCK
from worker.engine.data.featurizers.base import TARGETS
from worker.engine.data.featurizers.texts import Ids, TextFeaturizer, arrays
from worker.engine.data.settings import invalid
from worker.engine.data.split import IGNORED


class BlockFeaturizer(TextFeaturizer):
    """By block: input_ids and TARGETS, int64 [T]: the token after each, IGNORED at the last."""

    def __init__(self, model_dir: Path) -> None:
        """Raises CONFIG_INVALID or CODE_REFUSED."""
        super().__init__(model_dir, words=False)
        if not getattr(self._tokenizer, "is_fast", False):
            raise invalid("the tokenizer cannot split texts into blocks; a tokenizer.json is required")
        self._longest = min(self._longest, BLOCK)
        self._special = self._tokenizer.num_special_tokens_to_add()
        if self._longest < self._special + 2:
            raise invalid(
                f"a block of {self._longest} tokens, {self._special} of them special tokens, has no next token to "
                "predict"
            )

    def __call__(self, decoded: Sequence[Any], places: Sequence[str]) -> dict[str, Any]:
        """Raises CONFIG_INVALID where an id is outside the model's vocabulary."""
        encoded = self._tokenizer(
            list(decoded),
            truncation=True,
            max_length=self._longest,
            stride=0,
            return_overflowing_tokens=True,
            padding=False,
            return_attention_mask=False,
            return_token_type_ids=False,
        )
        ids, rows = arrays(encoded["input_ids"]), encoded["overflow_to_sample_mapping"]
        self._check(ids, [places[row] for row in rows])
        # A single token at the end of a text that is divided asks for nothing.
        kept = [
            block
            for number, block in enumerate(ids)
            if len(block) > self._special + 1 or number == 0 or rows[number] != rows[number - 1]
        ]
        return {"input_ids": kept, TARGETS: list(map(following, kept))}


def following(ids_T: Ids) -> Ids:
    """At every token the one after it, int64 [T]."""
    return np.append(ids_T[1:], np.int64(IGNORED))
