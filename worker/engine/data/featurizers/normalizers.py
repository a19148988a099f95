"""Normalizes two texts before wrong words are counted, as Whisper's authors do (Radford et al., arXiv 2212.04356, appendix C),
with transformers' own code. Differences in case, punctuation, fillers and spelling then do not count as errors."""

from collections.abc import Callable
from pathlib import Path

from api_schemas.enums import TextNormalizer
from checkpoints.files.preprocessor_files import SPELLINGS
from worker.engine.data.settings import read_object

Normalize = Callable[[str], str]

UNSPACED = ("zh", "ja", "th", "lo", "my", "yue")
"""Languages, by code, that put no space between words: every letter of theirs counts as one."""


def choose(code: str | None, task: str) -> TextNormalizer:
    """The normalizer for a text written for `task` from speech in the language `code`, None if the language is unknown."""
    if code == "en" or task == "translate":
        return TextNormalizer.WHISPER_ENGLISH
    return TextNormalizer.WHISPER_LETTERS if code in UNSPACED else TextNormalizer.WHISPER_BASIC


def normalizer(which: TextNormalizer | None, model_dir: Path) -> Normalize | None:
    """British spellings become American ones as far as the checkpoint's normalizer.json lists them."""
    if which is None:
        return None
    # Imported only where a Whisper is judged.
    from transformers.models.whisper.english_normalizer import BasicTextNormalizer, EnglishTextNormalizer

    if which is not TextNormalizer.WHISPER_ENGLISH:
        basic: Normalize = BasicTextNormalizer(split_letters=which is TextNormalizer.WHISPER_LETTERS)
        return basic
    path = model_dir / SPELLINGS
    listed = read_object(path) if path.is_file() else {}
    english: Normalize = EnglishTextNormalizer({key: word for key, word in listed.items() if isinstance(word, str)})
    return english
