"""Converts the transcript of a clip to the ids that a checkpoint is trained to output, and back."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from api_schemas.enums import Head, TextNormalizer
from api_schemas.errors import ErrorCode, ErrorItem, SecateurError
from api_schemas.spec.job import Speech
from checkpoints.data.media import MAX_CHARACTERS
from worker.engine.data.columns import row_error
from worker.engine.data.featurizers.normalizers import Normalize, normalizer
from worker.engine.data.featurizers.prompts import UNSAID, Prompt, prompt_of
from worker.engine.data.featurizers.tokenizer import load_tokenizer, vocabulary_size
from worker.engine.data.featurizers.waveforms import frames
from worker.engine.data.settings import Settings, full_config, invalid, number
from worker.engine.data.split import Ragged

# A stray sign costs a letter; where more is unknown, transcripts and checkpoint are of different languages or cases.
MAX_UNKNOWN_SHARE = 0.05
SHOWN = 60
# Whisper's default, which config.json may leave out.
WHISPER_START = 50_257

Ids = NDArray[np.int64]
Decode = Callable[[Sequence[int]], str]


class Transcripts:
    """Label ids of texts, for one checkpoint."""

    def __init__(self, model_dir: Path, head: Head, speech: Speech = UNSAID) -> None:
        """Raises CONFIG_INVALID or CODE_REFUSED, and INVALID_REQUEST where `speech` asks for what the checkpoint cannot."""
        self._model_dir = model_dir
        self._config = full_config(model_dir)
        self._ctc = head is Head.CTC
        self._tokenizer = load_tokenizer(model_dir)
        self.prompt = None if self._ctc else prompt_of(model_dir, self._config, self._tokenizer, speech)
        """What comes before every text; None where the tokenizer's own settings say it."""
        special = (getattr(self._tokenizer, f"{name}_token_id") for name in ("pad", "bos", "eos", "unk"))
        self._silent = frozenset(each for each in special if each is not None)
        self._vocabulary = vocabulary_size(self._config)
        self._longest = (
            None if self._ctc else number(self._config, "max_target_positions", MAX_CHARACTERS, MAX_CHARACTERS)
        )

    def ids(self, texts: Mapping[str, Sequence[Any]]) -> tuple[dict[str, Ragged], float]:
        """By split: of every text its label ids [length ≥ 1], for CTC without blanks, for a decoder without the start token.

        Also the share of all characters that a CTC vocabulary lacks, which become its unknown token. Raises DATASET_SCHEMA,
        naming split and row, and LABELS_MISMATCH where the share is above MAX_UNKNOWN_SHARE.
        """
        if self._ctc:
            share = self._check_characters([text for rows in texts.values() for text in rows if isinstance(text, str)])
        else:
            share = 0.0
        found = {
            split: Ragged.of([self._one(text, f"{split}[{row}]") for row, text in enumerate(rows)])
            for split, rows in texts.items()
        }
        return found, share

    def decode(self, ids: Sequence[int]) -> str:
        """The text of label ids without special tokens; of a CTC model's answers once repeats and blanks are out of them."""
        if not self._ctc:
            return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))
        # Not by the tokenizer, whose saved settings call the sign between words special, too.
        kept = [each for each in ids if each not in self._silent]
        return str(self._tokenizer.decode(kept, skip_special_tokens=False, group_tokens=False))

    def normalize(self, which: TextNormalizer | None) -> Normalize | None:
        """What makes two texts alike before they are compared; None where they are compared as they are."""
        return normalizer(which, self._model_dir)

    def _one(self, text: Any, where: str) -> Ids:
        if not isinstance(text, str) or not 0 < len(text) <= MAX_CHARACTERS:
            raise row_error(where, f"the transcript is missing, empty or longer than {MAX_CHARACTERS} characters")
        ids = self._unprompted(text) if self.prompt is None else self._prompted(text, self.prompt)
        if not ids:
            raise row_error(where, "nothing is left of the transcript after the checkpoint's tokenizer")
        if any(not isinstance(each, int) or not 0 <= each < self._vocabulary for each in ids):
            raise invalid(f"the tokenizer's ids exceed vocab_size {self._vocabulary} ({where})")
        if self._ctc and self._config.get("pad_token_id", 0) in ids:
            raise row_error(where, "the transcript contains the padding token, which stands for the CTC blank")
        if self._longest is not None and len(ids) > self._longest:
            raise row_error(
                where,
                f"the transcript has {len(ids)} tokens, but the checkpoint's decoder reads at most {self._longest}",
            )
        return np.array(ids, dtype=np.int64)

    def _unprompted(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text)["input_ids"]
        if not self._ctc and ids[:1] == [_start(self._config)]:
            return ids[1:]  # The decoder is given it, and does not answer it.
        return ids

    def _prompted(self, text: str, prompt: Prompt) -> list[int]:
        before = self._tokenizer.convert_tokens_to_ids(list(prompt.tokens))
        own: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return [*before, *own, self._tokenizer.eos_token_id]

    def _check_characters(self, texts: Sequence[str]) -> float:
        vocabulary = self._tokenizer.get_vocab()
        total, lacking, unknown = 0, 0, set()
        for text in texts:
            tokens = self._tokenizer.tokenize(text)
            missing = [token for token in tokens if token not in vocabulary]
            total, lacking = total + len(tokens), lacking + len(missing)
            unknown.update(missing)
        share = lacking / max(total, 1)
        if share > MAX_UNKNOWN_SHARE or (unknown and self._tokenizer.unk_token not in vocabulary):
            raise _unknown_characters(unknown, share, sorted(vocabulary))
        return share


def shifted(model_dir: Path, labels: Ragged) -> Ragged:
    """What a decoder reads while it answers `labels`: the start token, then all of them but the last."""
    values = np.empty_like(labels.values)
    values[1:] = labels.values[:-1]
    values[labels.starts[:-1]] = _start(full_config(model_dir))
    return Ragged(values, labels.starts)


def check_alignable(model_dir: Path, samples: NDArray[np.int64], labels: Ragged, places: Sequence[str]) -> None:
    """Every clip has a frame for each of its labels, and one more between two equal ones: else CTC's loss is infinite.

    samples: of each clip [N]. Raises DATASET_SCHEMA, naming the row.
    """
    available = frames(model_dir, samples)
    for row, where in enumerate(places):
        ids = labels.row(row)
        needed = len(ids) + int((ids[1:] == ids[:-1]).sum())
        if needed > available[row]:
            reason = (
                f"the clip gives {available[row]} frames, but its transcript needs {needed}; one of the two is cut off"
            )
            raise row_error(where, reason)


def _start(config: Settings) -> int:
    return number(config, "decoder_start_token_id", WHISPER_START, vocabulary_size(config) - 1)


def _unknown_characters(unknown: set[str], share: float, vocabulary: Sequence[str]) -> SecateurError:
    lists = {"unknown": sorted(unknown), "checkpoint": vocabulary}
    shown = {pointer: " ".join(characters[:SHOWN]) for pointer, characters in lists.items()}
    detail = (
        f"{share:.1%} of the transcripts' characters are not in the checkpoint's vocabulary: {shown['unknown']}. It "
        f"has: {shown['checkpoint']}. Write the transcripts in the checkpoint's case, without other characters."
    )
    items = tuple(ErrorItem.at(key, code=ErrorCode.LABELS_MISMATCH, detail=text) for key, text in shown.items())
    return SecateurError(ErrorCode.LABELS_MISMATCH, detail, items)
