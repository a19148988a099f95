"""The files that say how a checkpoint's inputs are made: whose they are, and whether those that are needed are there."""

from dataclasses import replace
from typing import Any

import pytest

from api_schemas.accounting import ModelShape
from api_schemas.checkpoint import Checkpoint
from api_schemas.enums import Head, Modality
from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.families import AST
from api_schemas.families.base import Architecture
from api_schemas.preprocessing import preprocessor_settings
from api_schemas.widths import AttentionWidths
from store.intake.model_inputs import check_preprocessor, check_tokenizer


def checkpoint(modality: Modality, head: Head, *preprocessors: str) -> Checkpoint:
    family = replace(AST, modality=modality, preprocessors=preprocessors, preprocessor_keys=())
    architecture = Architecture(task="", head=head, auto_class="")
    empty: Any = ModelShape.model_construct()
    return Checkpoint(family, "BertModel", architecture, (), False, empty, AttentionWidths.model_construct())


def refusal(check: Any, *arguments: Any) -> SecateurError:
    with pytest.raises(SecateurError) as caught:
        check(*arguments)
    return caught.value


WHISPER = checkpoint(Modality.AUDIO, Head.SEQUENCE_TO_SEQUENCE, "WhisperFeatureExtractor")
VIT = checkpoint(Modality.IMAGE, Head.CLASSIFICATION, "ViTImageProcessor")
BERT = checkpoint(Modality.TEXT, Head.EMBEDDING)


def test_settings_lie_in_either_file() -> None:
    settings = {"feature_extractor_type": "WhisperFeatureExtractor"}
    assert preprocessor_settings({"feature_extractor": settings}, {"other": 1}) == settings
    assert preprocessor_settings({"processor_class": "WhisperProcessor"}, settings) == settings
    assert preprocessor_settings(None, None) is None


def test_the_extractor_is_the_familys_own() -> None:
    check_preprocessor(WHISPER, {}, {"feature_extractor_type": "WhisperFeatureExtractor"}, "processor_config.json")
    error = refusal(
        check_preprocessor, WHISPER, {}, {"feature_extractor_type": "ASTFeatureExtractor"}, "processor_config.json"
    )
    assert error.code is ErrorCode.CONFIG_INVALID
    assert error.errors[0].pointer == "processor_config.json/feature_extractor_type"
    assert refusal(check_preprocessor, WHISPER, {}, {}, "x").code is ErrorCode.CONFIG_INVALID


def test_old_image_processors_name_no_class() -> None:
    check_preprocessor(VIT, {}, {"size": 224}, "preprocessor_config.json")
    check_preprocessor(VIT, {}, {"image_processor_type": "ViTImageProcessor"}, "preprocessor_config.json")
    other = {"image_processor_type": "CLIPImageProcessor"}
    assert refusal(check_preprocessor, VIT, {}, other, "preprocessor_config.json").code is ErrorCode.CONFIG_INVALID


@pytest.mark.parametrize("name", ["tokenizer.json", "vocab.txt", "vocab.json"])
def test_any_vocabulary_will_do(name: str) -> None:
    check_tokenizer(BERT, {"model_type": "bert"}, None, {name: 1})


def test_a_checkpoint_that_reads_or_writes_text_needs_a_vocabulary() -> None:
    for needing in (BERT, WHISPER, checkpoint(Modality.AUDIO, Head.CTC)):
        assert refusal(check_tokenizer, needing, {}, {}, {"config.json": 1}).code is ErrorCode.FILE_MISSING
    check_tokenizer(checkpoint(Modality.AUDIO, Head.CLASSIFICATION), {}, None, {"config.json": 1})


@pytest.mark.parametrize(
    ("model_type", "named", "allowed"),
    [
        ("bert", "BertTokenizer", True),
        ("bert", "BertTokenizerFast", True),
        ("bert", "TokenizersBackend", True),
        ("bert", None, True),
        ("bert", "RobertaTokenizer", False),
        ("bert", "OwnTokenizer", False),
        ("hubert", "Wav2Vec2CTCTokenizer", True),
        ("hubert", "PreTrainedTokenizerFast", False),
        ("bert", ["BertTokenizer"], False),
    ],
)
def test_the_tokenizer_is_of_the_models_line(model_type: str, named: Any, allowed: bool) -> None:
    arguments = (BERT, {"model_type": model_type}, {"tokenizer_class": named}, {"tokenizer.json": 1})
    if allowed:
        check_tokenizer(*arguments)
    else:
        error = refusal(check_tokenizer, *arguments)
        assert error.code is ErrorCode.CONFIG_INVALID
        assert error.errors[0].pointer == "tokenizer_config.json/tokenizer_class"
