"""The files that say how a checkpoint's inputs are made: whose they are, and whether those that are needed are there."""

import json
from dataclasses import replace
from typing import Any

import pytest
import transformers

from api_schemas.enums import Head, Modality
from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.results.widths import AttentionWidths
from checkpoints.config.preprocessor_fields import used_settings
from checkpoints.describe import Checkpoint
from checkpoints.families import AST, Family
from checkpoints.families.audio.clap import CLAP
from checkpoints.families.audio.wav2vec2 import WAV2VEC2
from checkpoints.families.base import Architecture
from checkpoints.families.vision.clip_vision import CLIP_VISION, SIGLIP_VISION
from checkpoints.families.vision.dinov2 import DINOV2
from checkpoints.families.vision.dinov3 import DINOV3
from checkpoints.families.vision.vit import DEIT
from checkpoints.files.preprocessor_files import TYPE_FIELDS, preprocessor_settings, preprocessor_type
from checkpoints.sizes.accounting import ModelShape
from store.uploads.inspection.models.inputs import check_preprocessor, check_tokenizer


def checkpoint(modality: Modality, head: Head, *preprocessors: str) -> Checkpoint:
    family = replace(AST, modality=modality, preprocessors=preprocessors, preprocessor_fields=())
    architecture = Architecture(task="", head=head, auto_class="")
    empty: Any = ModelShape.model_construct()
    widths = AttentionWidths.model_construct()
    return Checkpoint(family, "BertModel", architecture, (), False, empty, widths, "F32", {})


def refusal(check: Any, *arguments: Any) -> SecateurError:
    with pytest.raises(SecateurError) as caught:
        check(*arguments)
    return caught.value


WHISPER = checkpoint(Modality.AUDIO, Head.SEQUENCE_TO_SEQUENCE, "WhisperFeatureExtractor")
CTC = checkpoint(Modality.AUDIO, Head.CTC)
VIT = checkpoint(Modality.IMAGE, Head.CLASSIFICATION, "ViTImageProcessor")
BERT = checkpoint(Modality.TEXT, Head.EMBEDDING)
SOUND = replace(VIT, family=CLAP)
DINO = replace(VIT, family=DINOV2)
DINO_3 = replace(VIT, family=DINOV3)
OF_FRACTIONS = {"image_processor_type": "DINOv3ViTImageProcessorFast"}
CLIP_OF_IMAGES, SIGLIP_OF_IMAGES = (replace(VIT, family=family) for family in (CLIP_VISION, SIGLIP_VISION))


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
    assert error.errors[0].pointer == "/processor_config.json/feature_extractor_type"


def test_settings_that_name_no_class_are_the_familys_own() -> None:
    """As up to transformers 4.5, and in many fine-tuned models since."""
    assert check_preprocessor(WHISPER, {}, {"sampling_rate": 16000}, "preprocessor_config.json") == ()


def test_old_image_processors_name_no_class() -> None:
    check_preprocessor(VIT, {}, {"size": 224}, "preprocessor_config.json")
    check_preprocessor(VIT, {}, {"image_processor_type": "ViTImageProcessor"}, "preprocessor_config.json")
    other = {"image_processor_type": "CLIPImageProcessor"}
    assert refusal(check_preprocessor, VIT, {}, other, "preprocessor_config.json").code is ErrorCode.CONFIG_INVALID


@pytest.mark.parametrize(
    ("model_type", "named", "names", "enough"),
    [
        *(("bert", None, [name], name != "vocab.json") for name in ("tokenizer.json", "vocab.txt", "vocab.json")),
        ("roberta", None, ["vocab.json"], False),
        ("roberta", None, ["vocab.json", "merges.txt"], True),
        ("roberta", "BertTokenizer", ["vocab.txt"], True),
        ("roberta", "BertTokenizer", ["vocab.json", "merges.txt"], False),
        ("bert", "XLMRobertaTokenizer", ["vocab.txt"], False),
        ("bert", "XLMRobertaTokenizer", ["tokenizer.json"], True),
        ("bert", "PreTrainedTokenizerFast", ["vocab.txt"], False),
        ("whisper", None, ["vocab.json"], False),
        ("whisper", None, ["merges.txt", "vocab.json"], True),
        ("wav2vec2", None, ["tokenizer.json"], False),
        ("wav2vec2", None, ["vocab.json"], True),
    ],
)
def test_the_words_are_in_a_file_that_the_tokenizer_reads(
    model_type: str, named: str | None, names: list[str], enough: bool
) -> None:
    """BERT's makes unknown words of a vocab.json without a word about it, and the others end in an error of a library's."""
    found = CTC if model_type == "wav2vec2" else BERT
    for config, settings in (({}, {"tokenizer_class": named}), ({"tokenizer_class": named}, None)):
        arguments = (found, {"model_type": model_type, **config}, settings, dict.fromkeys(names, 1))
        if enough:
            check_tokenizer(*arguments)
        else:
            assert refusal(check_tokenizer, *arguments).code is ErrorCode.FILE_MISSING


def test_a_checkpoint_that_reads_or_writes_text_needs_a_vocabulary() -> None:
    for needing in (BERT, WHISPER, CTC):
        assert refusal(check_tokenizer, needing, {}, {}, {"config.json": 1}).code is ErrorCode.FILE_MISSING
    check_tokenizer(checkpoint(Modality.AUDIO, Head.CLASSIFICATION), {}, None, {"config.json": 1})


@pytest.mark.parametrize(
    ("model_type", "named", "allowed"),
    [
        ("bert", "BertTokenizer", True),
        ("bert", "BertTokenizerFast", True),
        ("bert", "TokenizersBackend", True),
        ("bert", None, True),
        ("bert", "RobertaTokenizer", True),
        ("bert", "XLMRobertaTokenizer", True),
        ("roberta", "BertTokenizerFast", True),
        ("bert", "WhisperTokenizer", False),
        ("whisper", "BertTokenizer", False),
        ("bert", "OwnTokenizer", False),
        ("hubert", "Wav2Vec2CTCTokenizer", True),
        ("hubert", "PreTrainedTokenizerFast", False),
        ("bert", ["BertTokenizer"], False),
    ],
)
def test_the_tokenizer_is_one_that_such_a_model_can_have(model_type: str, named: Any, allowed: bool) -> None:
    arguments = (
        BERT,
        {"model_type": model_type},
        {"tokenizer_class": named},
        dict.fromkeys(("tokenizer.json", "vocab.json"), 1),
    )
    if allowed:
        check_tokenizer(*arguments)
    else:
        error = refusal(check_tokenizer, *arguments)
        assert error.code is ErrorCode.CONFIG_INVALID
        assert error.errors[0].pointer == "/tokenizer_config.json/tokenizer_class"


@pytest.mark.parametrize(
    "extractor",
    [
        *("ASTFeatureExtractor", "Wav2Vec2FeatureExtractor", "WhisperFeatureExtractor", "ClapFeatureExtractor"),
        *("ViTImageProcessorPil", "DeiTImageProcessorPil", "CLIPImageProcessorPil", "SiglipImageProcessorPil"),
    ],
)
def test_what_transformers_writes_of_its_own_passes(extractor: str) -> None:
    settings = json.loads(getattr(transformers, extractor)().to_json_string())
    modality = Modality.IMAGE if "Image" in extractor else Modality.AUDIO
    model = checkpoint(modality, Head.EMBEDDING, *(str(settings[key]) for key in TYPE_FIELDS if key in settings))
    check_preprocessor(model, {}, settings, "preprocessor_config.json")


@pytest.mark.parametrize(
    ("model", "settings", "key"),
    [
        (WHISPER, {"n_fft": -1}, "n_fft"),
        (WHISPER, {"hop_length": 10**9}, "hop_length"),
        (WHISPER, {"n_samples": 1.5}, "n_samples"),
        (WHISPER, {"dither": "much"}, "dither"),
        (WHISPER, {"mel_filters": [[[1.0]]]}, "mel_filters"),
        (VIT, {"size": {"height": 10**9}}, "size"),
        (VIT, {"size": {"height": {"height": 2}}}, "size"),
        (VIT, {"resample": 99}, "resample"),
        (VIT, {"image_mean": [0.5] * 5}, "image_mean"),
        (VIT, {"image_mean": [None] * 3}, "image_mean"),
        *((VIT, {"size": size}, "size") for size in ([], [224], {"a": 3}, {"height": 224}, 5000)),
        *((WHISPER, {"padding_side": side}, "padding_side") for side in ("banana", True)),
        *((WHISPER, {key: value}, key) for key in ("n_fft", "hop_length", "chunk_length") for value in (0, 2**20)),
    ],
)
def test_settings_of_the_wrong_kind_are_refused_by_their_name(
    model: Checkpoint, settings: dict[str, Any], key: str
) -> None:
    kind = {"feature_extractor_type": "WhisperFeatureExtractor"} if model is WHISPER else {}
    error = refusal(check_preprocessor, model, {}, kind | settings, "preprocessor_config.json")
    assert (error.code, error.errors[0].pointer) == (ErrorCode.CONFIG_INVALID, f"/preprocessor_config.json/{key}")


def test_settings_that_nobody_reads_are_left_out_and_said() -> None:
    settings = {"image_processor_type": "ViTImageProcessor", "crop_pct": 0.9, "label": {"a": [1]}}
    (warning,) = check_preprocessor(VIT, {}, settings, "preprocessor_config.json")
    assert (warning.code, warning.pointer) == ("settings_ignored", "/preprocessor_config.json")
    assert "`crop_pct`, `label`" in warning.detail
    assert used_settings(VIT.family, settings) == {"image_processor_type": "ViTImageProcessor"}


@pytest.mark.parametrize("key", ["do_feature_extract", "_valid_processor_keys"])
def test_what_versions_of_transformers_left_there_is_no_news(key: str) -> None:
    assert check_preprocessor(VIT, {}, {"size": 224, key: ["images"]}, "preprocessor_config.json") == ()


@pytest.mark.parametrize(("family", "named"), [(DEIT, "DeiTImageProcessor"), (WAV2VEC2, "Wav2Vec2FeatureExtractor")])
def test_each_family_has_a_class_for_settings_that_name_none(family: Family, named: str) -> None:
    assert preprocessor_type(used_settings(family, {"do_normalize": True})) == named


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        *((SOUND, {key: value}) for key in ("padding", "truncation") for value in ("banana", "", True, None)),
        *((SOUND, {key: 0}) for key in ("hop_length", "fft_window_size", "max_length_s", "frequency_max")),
        (SOUND, {"fft_window_size": 1023}),
        (VIT, {"do_resize": False}),
        (VIT, {"do_resize": None}),
        (VIT, {"size": {"shortest_edge": 224}}),
        (VIT, {"image_mean": [0.5]}),
        (VIT, {"image_std": [0.5, 0.5, 0]}),
    ],
)
def test_settings_that_make_no_inputs_are_refused_before_a_worker_has_them(
    model: Checkpoint, settings: dict[str, Any]
) -> None:
    error = refusal(check_preprocessor, model, {}, settings, "preprocessor_config.json")
    (key,) = settings
    assert (error.code, error.errors[0].pointer) == (ErrorCode.CONFIG_INVALID, f"/preprocessor_config.json/{key}")


@pytest.mark.parametrize(
    ("model", "config", "settings", "key"),
    [
        (WHISPER, {"num_mel_bins": 128}, {}, "feature_size"),
        (WHISPER, {"max_source_positions": 750}, {}, "chunk_length"),
        (VIT, {"image_size": 384}, {"size": 224}, "size"),
        (VIT, {"image_size": 384}, {}, "size"),
        (VIT, {"image_size": [32, 48]}, {"size": {"height": 48, "width": 32}}, "size"),
        (VIT, {}, {"size": 224, "do_center_crop": True, "crop_size": 192}, "crop_size"),
        (replace(VIT, family=DEIT), {}, {"crop_size": {"height": 256, "width": 256}}, "crop_size"),
        (CLIP_OF_IMAGES, {}, {"crop_size": 336}, "crop_size"),
        (CLIP_OF_IMAGES, {}, {"do_center_crop": False}, "size"),
        (CLIP_OF_IMAGES, {"image_size": 336}, {}, "crop_size"),
        (SIGLIP_OF_IMAGES, {"image_size": 384}, {}, "size"),
        (DINO, {"image_size": 518}, {"crop_size": 574}, "crop_size"),
        (DINO, {"image_size": 4096}, {"do_center_crop": False, "size": 4096}, "size"),
        (DINO_3, {}, {**OF_FRACTIONS, "size": {"height": 656, "width": 656}}, "size"),
        (DINO_3, {}, {**OF_FRACTIONS, "size": {"shortest_edge": 224}}, "size"),
        (DINO_3, {}, {**OF_FRACTIONS, "do_rescale": False}, "do_rescale"),
        (DINO_3, {}, {**OF_FRACTIONS, "resample": 1}, "resample"),
        (DINO_3, {}, {**OF_FRACTIONS, "image_std": [0.2, 0.2, 0]}, "image_std"),
        (replace(VIT, family=WAV2VEC2), {}, {"feature_size": 80}, "feature_size"),
        (SOUND, {}, {"feature_size": 80}, "feature_size"),
    ],
)
def test_inputs_of_another_size_are_refused_before_a_worker_has_them(
    model: Checkpoint, config: dict[str, Any], settings: dict[str, Any], key: str
) -> None:
    error = refusal(check_preprocessor, model, config, settings, "preprocessor_config.json")
    assert (error.code, error.errors[0].pointer) == (ErrorCode.CONFIG_INVALID, f"/preprocessor_config.json/{key}")


@pytest.mark.parametrize(
    ("model", "config", "settings"),
    [
        (WHISPER, {"num_mel_bins": 128}, {"feature_size": 128}),
        (VIT, {"image_size": 384}, {"size": {"height": 384, "width": 384}}),
        (VIT, {"image_size": [32, 48]}, {"size": [32, 48]}),
        (VIT, {}, {"size": {"shortest_edge": 256}, "do_center_crop": True, "crop_size": 224}),
        (VIT, {}, {"size": None, "resample": None, "image_mean": None, "rescale_factor": None, "image_std": 0.5}),
        (SOUND, {}, {"feature_size": None, "hop_length": None, "max_length_s": None, "frequency_max": None}),
        (SOUND, {}, {"padding": "repeat", "truncation": "rand_trunc", "padding_side": None, "return_tensors": "tf"}),
        (replace(VIT, family=WAV2VEC2), {}, {"padding": True, "truncation": True}),
        (replace(VIT, family=DEIT), {}, {"size": 256}),
        # openai/clip-vit-large-patch14-336, and google/siglip-base-patch16-224.
        (CLIP_OF_IMAGES, {"image_size": 336}, {"crop_size": 336, "do_center_crop": True, "size": 336, "resample": 3}),
        (DINO, {"image_size": 518}, {"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}}),
        (DINO, {"image_size": 224}, {"size": 518, "crop_size": 518}),
        (DINO_3, {}, OF_FRACTIONS),
        (DINO_3, {}, {**OF_FRACTIONS, "size": {"height": 640, "width": 512}, "resample": 3, "do_center_crop": None}),
        (DINO_3, {}, {"image_processor_type": "ViTImageProcessor", "size": 224, "resample": 1}),
        (CLIP_OF_IMAGES, {}, {"feature_extractor_type": "CLIPFeatureExtractor"}),
        (SIGLIP_OF_IMAGES, {}, {"size": {"height": 224, "width": 224}, "resample": 3, "image_mean": [0.5, 0.5, 0.5]}),
    ],
)
def test_inputs_of_the_models_size_pass(model: Checkpoint, config: dict[str, Any], settings: dict[str, Any]) -> None:
    assert check_preprocessor(model, config, settings, "preprocessor_config.json") == ()
