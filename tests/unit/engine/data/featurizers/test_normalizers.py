"""Texts of a Whisper before they are compared: which normalizer, and that it is transformers' own."""

import json
from pathlib import Path
from typing import Any

import pytest

from api_schemas.enums import Head, TextNormalizer
from api_schemas.spec.job import Speech
from tests.unit.engine.data.featurizers.test_prompts import MANY, folder_of
from worker.engine.data.featurizers.transcripts import Transcripts
from worker.engine.tasks.metrics import error_rates

ENGLISH, BASIC = TextNormalizer.WHISPER_ENGLISH, TextNormalizer.WHISPER_BASIC
LETTERS = TextNormalizer.WHISPER_LETTERS
SAID = "Mr. Colour, it's TWENTY-five,\u00a0um, grey hats!"


def chosen(folder: Path, generation: dict[str, Any] | None, **said: str) -> tuple[Transcripts, TextNormalizer]:
    made, _ = folder_of(folder, {}, generation)
    transcripts = Transcripts(made, Head.SEQUENCE_TO_SEQUENCE, Speech.model_validate(said))
    assert transcripts.prompt is not None
    return transcripts, transcripts.prompt.normalizer


@pytest.mark.parametrize(
    ("generation", "said", "which"),
    [
        ({"is_multilingual": False}, {}, ENGLISH),
        (MANY, {"language": "en"}, ENGLISH),
        (MANY, {"language": "de", "task": "translate"}, ENGLISH),
        (MANY, {"language": "de"}, BASIC),
        (MANY, {}, BASIC),
    ],
    ids=str,
)
def test_it_fits_the_language_that_is_written(
    generation: dict[str, Any], said: dict[str, str], which: TextNormalizer, tmp_path: Path
) -> None:
    assert chosen(tmp_path, generation, **said)[1] is which


def test_english_is_made_alike_as_the_tokenizer_does_it(tmp_path: Path) -> None:
    folder, tokenizer = folder_of(tmp_path, {}, {"is_multilingual": False})
    spellings = {"colour": "color", "grey": "gray"}
    (folder / "normalizer.json").write_text(json.dumps(spellings))
    tokenizer.english_spelling_normalizer = spellings
    transcripts = Transcripts(folder, Head.SEQUENCE_TO_SEQUENCE)
    normalize = transcripts.normalize(ENGLISH)
    assert normalize is not None
    assert normalize(SAID) == tokenizer.normalize(SAID) == "mister color it is 25 gray hats"
    assert error_rates([normalize(SAID)], [normalize("mr color its 25 gray hats")])["word_error_rate"] == pytest.approx(
        2 / 6  # `it is` for `its`
    )


def test_without_a_list_of_spellings_they_stay_as_they_are(tmp_path: Path) -> None:
    transcripts, which = chosen(tmp_path, {"is_multilingual": False})
    normalize = transcripts.normalize(which)
    assert normalize is not None
    assert normalize("Colour, twenty!") == "colour 20"


def test_other_languages_keep_their_words_and_signs_above_letters(tmp_path: Path) -> None:
    transcripts, which = chosen(tmp_path, MANY, language="de")
    normalize = transcripts.normalize(which)
    assert normalize is not None
    assert normalize("Schöne Grüße, zwanzig!").split() == ["schöne", "grüße", "zwanzig"]


def test_letters_count_where_no_space_divides_words(tmp_path: Path) -> None:
    transcripts, _ = chosen(tmp_path, MANY)
    normalize = transcripts.normalize(LETTERS)
    assert normalize is not None
    assert normalize("你好。").split() == ["你", "好"]


def test_a_ctc_models_words_are_compared_as_they_are(tmp_path: Path) -> None:
    transcripts, _ = chosen(tmp_path, MANY)
    assert transcripts.normalize(None) is None
