"""Inputs of text encoders: token ids from the checkpoint's tokenizer, each text with its own length.

There is no padding here; batches add it. Token types are not needed if a row is one text: a model's default is the first. For a
pair of texts, the model is told which tokens belong to the second, if it was trained for it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers.normalizers import Lowercase as _Lowercase
from tokenizers.normalizers import Sequence as _Sequence

from checkpoints.config.sentences import Sentences
from checkpoints.data.blank_texts import missing_text
from checkpoints.data.clip_flaws import Flaw
from checkpoints.data.media import MAX_CHARACTERS
from checkpoints.families import family_of
from checkpoints.files.preprocessor_files import FIRST_POSITION_OF_MPNET, ROBERTAS
from worker.engine.data.columns import row_error
from worker.engine.data.featurizers.base import TARGETS, Value
from worker.engine.data.featurizers.masking import Masking
from worker.engine.data.featurizers.tokenizer import load_tokenizer, vocabulary_size
from worker.engine.data.settings import full_config, invalid, model_type, number
from worker.engine.data.split import IGNORED

# Longer texts are cut: attention costs grow with the square of the length, and these models are made for no more.
MAX_TOKENS = 512
# Special tokens at both ends, and something between them.
LEAST_TOKENS = 4
LEAST_TOKENS_OF_PAIR = 6
MAX_POSITIONS = 2**20
_TYPES = 2
TYPED = ("bert", "electra")
"""Model types whose classes tell the second of two texts by token types."""
TYPE_IDS = "token_type_ids"

Ids = NDArray[np.int64]


class TextFeaturizer:
    """The featurizer of text: input_ids int64 [tokens]. `words`: rows are lists of words instead. `masked`: a seed, by which some
    tokens are replaced; what stood there comes beside the ids, as TARGETS.

    A row that is a tuple is a pair of texts: for BERT token_type_ids int64 [tokens] come beside the ids. What is too long is cut
    from the longer text first.
    """

    pad_value = 0.0

    def __init__(
        self, model_dir: Path, *, words: bool, masked: int | None = None, sentences: Sentences | None = None
    ) -> None:
        """`sentences`: how a folder of sentence-transformers has texts read. Raises CONFIG_INVALID or CODE_REFUSED."""
        self.flaws: list[Flaw] = []
        config = full_config(model_dir)
        kind = model_type(model_dir)
        self._tokenizer = load_tokenizer(model_dir, words=words)
        self._words = words
        self._vocabulary = vocabulary_size(config)
        self._masking = None if masked is None else Masking(self._tokenizer, self._vocabulary, masked)
        # The others know no token types, nor does a BERT that was made with a single one.
        types = config.get("type_vocab_size")
        self._typed = kind in TYPED and type(types) is int and types >= _TYPES
        family = family_of(kind)
        named = "max_position_embeddings"
        positions = number(config, family.aliases.get(named, named) if family else named, MAX_TOKENS, MAX_POSITIONS)
        # RoBERTa counts its positions from the padding token's id on.
        offset = number(config, "pad_token_id", 1, positions - 1, 0) + 1 if kind in ROBERTAS else 0
        offset = FIRST_POSITION_OF_MPNET if kind == "mpnet" else offset
        own = sentences or Sentences(pooling=())
        self._prompt = own.prompt
        if own.lower_case:
            before = self._tokenizer.backend_tokenizer.normalizer
            self._tokenizer.backend_tokenizer.normalizer = _Sequence([_Lowercase(), *([before] if before else [])])
        said = own.longest or getattr(self._tokenizer, "model_max_length", MAX_TOKENS)
        self._longest = min(MAX_TOKENS, positions - offset, said if type(said) is int else MAX_TOKENS)
        special = self._tokenizer.num_special_tokens_to_add()
        if self._longest < max(LEAST_TOKENS, special + 1):
            around = f", {special} of them special tokens" if special else ""
            raise invalid(f"only {self._longest} tokens of a text fit{around}")

    def decode(self, value: Value, where: str) -> Any:
        """The row as it is. Raises DATASET_SCHEMA, naming `where`, where it is missing, empty or too long."""
        text = value.value
        parts = text if (self._words and isinstance(text, list)) or isinstance(text, tuple) else [text]
        if not parts or not all(isinstance(part, str) and part for part in parts):
            raise row_error(where, "the words are missing, or one is empty") if self._words else missing_text(where)
        if (max if isinstance(text, tuple) else sum)(map(len, parts)) > MAX_CHARACTERS:
            raise row_error(where, f"the text has more than {MAX_CHARACTERS} characters")
        return text

    def __call__(self, decoded: Sequence[Any], places: Sequence[str]) -> dict[str, Any]:
        """Raises CONFIG_INVALID where an id is outside the model's vocabulary."""
        encoded = self._encoded(decoded)
        ids = arrays(encoded["input_ids"])
        self._check(ids, places)
        if self._masking is not None:
            masked, targets = zip(*map(self._masking, ids), strict=True)
            return {"input_ids": list(masked), TARGETS: list(targets)}
        return {"input_ids": ids} | ({TYPE_IDS: arrays(encoded[TYPE_IDS])} if TYPE_IDS in encoded else {})

    def _check(self, ids: Sequence[Ids], places: Sequence[str]) -> None:
        for row, where in zip(ids, places, strict=True):
            if not len(row) or row.max() >= self._vocabulary:
                raise invalid(f"the tokenizer's ids exceed vocab_size {self._vocabulary} ({where})")
            if len(row) > self._longest:
                raise invalid(f"the tokenizer returns {len(row)} tokens, but the model reads {self._longest} ({where})")

    def tags(self, rows: Sequence[Sequence[str]], tags: Sequence[Sequence[int]]) -> list[Ids]:
        """Of every row the targets [tokens]: each word's tag at its first token, IGNORED everywhere else."""
        encoded = self._encoded(rows)
        found: list[Ids] = []
        for place, row in enumerate(tags):
            words = encoded.word_ids(place)
            before = [None, *words]
            first = [word is not None and word != last for word, last in zip(words, before, strict=False)]
            ids = [row[word] if begins else IGNORED for word, begins in zip(words, first, strict=True)]
            found.append(np.array(ids, dtype=np.int64))
        return found

    def _encoded(self, rows: Sequence[Any]) -> Any:
        pairs = isinstance(rows[0], tuple)
        if pairs and self._longest < LEAST_TOKENS_OF_PAIR:
            raise invalid(f"only {self._longest} tokens of a pair of texts fit")
        if self._prompt:
            rows = [(self._prompt + row[0], row[1]) if pairs else self._prompt + row for row in rows]
        texts = tuple(map(list, zip(*rows, strict=True))) if pairs else (list(rows),)
        return self._tokenizer(
            *texts,
            is_split_into_words=self._words,
            truncation=True,
            max_length=self._longest,
            padding=False,
            return_attention_mask=False,
            return_token_type_ids=pairs and self._typed,
        )


def arrays(rows: Sequence[Sequence[int]]) -> list[Ids]:
    """Each row as int64 [tokens]."""
    return [np.asarray(row, dtype=np.int64) for row in rows]
