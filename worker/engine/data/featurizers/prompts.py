"""The tokens before a text in a Whisper's decoder: language and task, as transformers' `generate` would give them.

The paper's format (Radford et al., arXiv 2212.04356, section 2.3): start, language, task, no timestamps, then the text.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from api_schemas.enums import TextNormalizer
from api_schemas.errors import ErrorCode, ErrorItem, SecateurError
from api_schemas.spec.job import Speech
from checkpoints.files.preprocessor_files import GENERATION
from worker.engine.data.featurizers.normalizers import choose
from worker.engine.data.settings import Settings, read_object

START, QUIET = "<|startoftranscript|>", "<|notimestamps|>"
UNSAID = Speech()
TASKS = ("transcribe", "translate")


@dataclass(frozen=True)
class Prompt:
    """The tokens behind the one that starts a text."""

    tokens: tuple[str, ...]
    unsaid: bool = False
    """The model knows many languages, and the language of the data is not given."""
    normalizer: TextNormalizer = TextNormalizer.WHISPER_ENGLISH
    """Of texts in that language, before they are compared."""


def prompt_of(model_dir: Path, config: Settings, tokenizer: Any, speech: Speech) -> Prompt | None:
    """The prompt of a checkpoint; None where its vocabulary has no such tokens, and its tokenizer is asked instead.

    In this order: what the job says, generation_config.json, the tokens that it or config.json forces, the tokenizer's settings.
    Raises INVALID_REQUEST where the job says what the checkpoint cannot.
    """
    vocabulary = tokenizer.get_vocab()
    if not {START, QUIET} <= vocabulary.keys():
        if speech != UNSAID:
            raise _refused(
                "language" if speech.language else "task", "this checkpoint supports neither a language nor a task"
            )
        return None
    path = model_dir / GENERATION
    generation = read_object(path) if path.is_file() else {}
    if not _multilingual(generation, vocabulary):
        if speech != UNSAID:
            reason = "this checkpoint is English-only and supports neither"
            raise _refused("language" if speech.language else "task", reason)
        return Prompt((QUIET,))
    language, task = speech.language or generation.get("language"), speech.task or generation.get("task")
    if language is None and task is None:
        (language, task), (older_language, older_task) = (_forced(each, tokenizer) for each in (generation, config))
        # As published, the first names no language: `generate` guesses one for each clip, which a fixed prompt cannot.
        language, task = language or older_language, task or older_task
    if language is None:
        language = getattr(tokenizer, "language", None)
    task = task or getattr(tokenizer, "task", None) or TASKS[0]
    code = _codes().get(str(language).lower())
    if language is not None and (code is None or f"<|{code}|>" not in vocabulary):
        raise _refused("language", f"this checkpoint does not support the language {str(language)[:40]!r}")
    if f"<|{task}|>" not in vocabulary or task not in TASKS:
        raise _refused("task", f"this checkpoint does not support the task {str(task)[:40]!r}")
    if code is None:
        return Prompt((QUIET,), unsaid=True, normalizer=choose(None, task))
    return Prompt((f"<|{code}|>", f"<|{task}|>", QUIET), normalizer=choose(code, task))


@cache
def _codes() -> Mapping[str, str]:
    """Of every language that Whisper knows, its code by name and by code."""
    # Imported only where a Whisper is read.
    from transformers.models.whisper.tokenization_whisper import LANGUAGES, TO_LANGUAGE_CODE

    return {**TO_LANGUAGE_CODE, **{code: code for code in LANGUAGES}}


def _multilingual(generation: Settings, vocabulary: Mapping[str, int]) -> bool:
    said = generation.get("is_multilingual")
    # Vocabularies of the English models name languages as well, and put them elsewhere.
    return bool(said) if isinstance(said, bool) else f"<|{TASKS[0]}|>" in vocabulary and vocabulary[START] != 50_257


def _forced(settings: Settings, tokenizer: Any) -> tuple[str | None, str | None]:
    """Language and task among the tokens that old configurations force, place by place from 1."""
    forced = settings.get("forced_decoder_ids")
    language = task = None
    for place, pair in enumerate(forced if isinstance(forced, list) else [], start=1):
        if not isinstance(pair, list) or len(pair) != 2 or pair[0] != place or type(pair[1]) is not int:
            continue
        name = str(tokenizer.convert_ids_to_tokens(pair[1])).removeprefix("<|").removesuffix("|>")
        language = name if name in _codes() else language
        task = name if name in TASKS else task
    return language, task


def _refused(field: str, reason: str) -> SecateurError:
    item = ErrorItem.at("speech", field, code=ErrorCode.INVALID_REQUEST, detail=reason)
    return SecateurError(ErrorCode.INVALID_REQUEST, f"`speech.{field}` cannot be used: {reason}.", (item,))
