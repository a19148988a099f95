"""Audio beyond AST: waves of their own lengths, Whisper's and CLAP's spectrograms, each as transformers makes them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import ClassLabel
from transformers import ClapFeatureExtractor, Wav2Vec2FeatureExtractor, WhisperFeatureExtractor

from api_schemas.enums import Head, Modality, Split
from api_schemas.errors import ErrorCode, SecateurError
from checkpoints.families.audio.waveform_encoder import MAX_SECONDS
from tests.support.checkpoints import preprocessors
from tests.support.checkpoints.clips import RATE, encoded, tone
from tests.support.checkpoints.rows import CLIP, TEXT, read, write_splits
from worker.engine.data import PreparedData
from worker.engine.data.featurizers import featurizer_for
from worker.engine.data.featurizers.spectrograms import ClapFeatures, SeamlessFeatures, WhisperFeatures
from worker.engine.data.featurizers.waveforms import Waveforms, frames
from worker.engine.data.split import Ragged

STEP = RATE // 4
LENGTHS = (0.4, 0.5, 0.55, 0.7, 0.1)
FEATURES = {"audio": CLIP, "label": ClassLabel(names=["low", "high"])}


def clips(lengths: tuple[float, ...] = LENGTHS) -> list[np.ndarray]:
    return [tone(300.0 + 100 * seed, seconds=seconds, seed=seed) for seed, seconds in enumerate(lengths)]


def prepared(tmp_path: Path, kind: str, samples: list[np.ndarray], **config: Any) -> PreparedData:
    rows = [{"audio": encoded(clip), "label": number % 2} for number, clip in enumerate(samples)]
    model = preprocessors.write(kind, tmp_path / "model", **config)
    data = write_splits(tmp_path / "data", FEATURES, rows)
    return read(data, model, Modality.AUDIO, Head.CLASSIFICATION, ("low", "high"))


@pytest.mark.parametrize("model_type", ["wav2vec2", "hubert", "data2vec-audio", "sew", "wavlm"])
def test_a_wave_is_normalised_and_then_lengthened_with_silence(tmp_path: Path, model_type: str) -> None:
    samples = clips()
    split = prepared(tmp_path, "waveform", samples, model_type=model_type).splits[Split.TRAIN]
    reference = Wav2Vec2FeatureExtractor.from_pretrained(tmp_path / "model")
    for row, clip in enumerate(samples):
        values = split.batch([row])[0]["input_values"][0].numpy()
        expected = reference(clip, sampling_rate=RATE)["input_values"][0]
        np.testing.assert_array_equal(values[: len(clip)], expected)
        assert len(values) % STEP == 0
        assert len(values) - len(clip) < STEP
        assert not values[len(clip) :].any()


def test_clips_of_about_equal_length_share_batches(tmp_path: Path) -> None:
    split = prepared(tmp_path, "waveform", clips()).splits[Split.TRAIN]
    column = split.inputs["input_values"]
    assert isinstance(column, Ragged)
    assert (column.lengths // STEP).tolist() == [2, 2, 3, 3, 1]
    assert sorted(batch.tolist() for batch in split.batches(8)) == [[0, 1], [2, 3], [4]]
    assert isinstance(column.values, np.memmap)


def test_a_long_clip_is_cut_where_only_its_class_is_asked_for(tmp_path: Path) -> None:
    extractor = Waveforms(preprocessors.write("waveform", tmp_path / "model"))
    (values,) = extractor([np.ones(40 * RATE, np.float32)])
    assert len(values) == MAX_SECONDS * RATE


def test_settings_that_do_not_normalise(tmp_path: Path) -> None:
    folder = preprocessors.write("waveform", tmp_path / "model")
    settings = json.loads((folder / "preprocessor_config.json").read_text()) | {"do_normalize": False}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    clip = tone(440.0, seconds=0.25)
    np.testing.assert_array_equal(Waveforms(folder)([clip])[0], clip)


@pytest.mark.parametrize(
    "change",
    [
        {"feature_extractor_type": "WhisperFeatureExtractor"},
        {"sampling_rate": 10**9},
        {"sampling_rate": "fast"},
        {"feature_size": 2},
    ],
)
def test_settings_that_cannot_be_used_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    folder = preprocessors.write("waveform", tmp_path / "model")
    saved = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps(saved | change))
    with pytest.raises(SecateurError) as caught:
        Waveforms(folder)
    assert caught.value.code is ErrorCode.CONFIG_INVALID


def test_frames_are_those_of_the_models_convolutions(tmp_path: Path) -> None:
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    config = Wav2Vec2Config(
        hidden_size=8, num_conv_pos_embedding_groups=2, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "wav2vec2", "conv_kernel": config.conv_kernel, "conv_stride": config.conv_stride})
    )
    model = Wav2Vec2Model(config)
    lengths = np.array([4000, 8000, 16_000, 16_001, 480_000])
    expected = [int(model._get_feat_extract_output_lengths(int(length))) for length in lengths]
    assert frames(tmp_path, lengths).tolist() == expected


@pytest.mark.parametrize("kernel", [[10, 3], "none", [0]])
def test_what_a_config_says_of_convolutions_that_its_class_lacks_counts_for_nothing(
    tmp_path: Path, kernel: Any
) -> None:
    config = {"model_type": "wav2vec2-bert", "conv_kernel": kernel, "conv_stride": [5, 2]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert frames(tmp_path, np.array([49, 249])).tolist() == [49, 249]


def test_whispers_features_are_transformers(tmp_path: Path) -> None:
    folder = preprocessors.write("whisper", tmp_path / "model")
    reference = WhisperFeatureExtractor.from_pretrained(folder)
    samples = clips((0.4, 1.9, 3.0))
    expected = [reference(clip, sampling_rate=RATE)["input_features"][0] for clip in samples]
    found = WhisperFeatures(folder)(samples)
    assert found.dtype == np.float32
    assert found.shape == (3, 16, 200)
    np.testing.assert_array_equal(found, np.stack(expected))


def test_claps_features_are_transformers_on_the_first_window(tmp_path: Path) -> None:
    folder = preprocessors.write("clap", tmp_path / "model")
    reference = ClapFeatureExtractor.from_pretrained(folder, truncation="rand_trunc")
    samples = clips((0.3, 1.0, 1.7))
    expected = [reference(clip[:RATE], sampling_rate=RATE)["input_features"][0] for clip in samples]
    extractor = ClapFeatures(folder)
    found = extractor(samples)
    assert found.shape == (3, 1, 101, 16)
    np.testing.assert_allclose(found, np.stack(expected), rtol=1e-6)
    np.testing.assert_array_equal(found, extractor(samples), "nothing is drawn by chance")


def test_audio_alone_is_enough_for_embeddings(tmp_path: Path) -> None:
    data = write_splits(tmp_path / "data", {"audio": CLIP}, [{"audio": encoded(clip)} for clip in clips()])
    model = preprocessors.write("clap", tmp_path / "model")
    split = read(data, model, Modality.AUDIO, Head.EMBEDDING).splits[Split.TRAIN]
    inputs, targets = split.batch(range(5))
    assert inputs["input_features"].shape == (5, 1, 101, 16)
    assert targets.shape == (5, 0)


@pytest.mark.parametrize(
    ("kind", "settings", "config"),
    [
        ("whisper", {"dither": 0.1}, {}),
        ("whisper", {"chunk_length": 10**6}, {}),
        ("whisper", {"n_fft": 10**9}, {}),
        ("whisper", {"hop_length": 0}, {}),
        ("whisper", {"feature_size": 10**6}, {}),
        ("whisper", {}, {"num_mel_bins": 80}),
        ("whisper", {}, {"max_source_positions": 1500}),
        ("clap", {}, {"enable_fusion": True}),
        ("clap", {"feature_size": 32}, {}),
        ("clap", {"max_length_s": 10**6}, {}),
        ("clap", {"fft_window_size": 10**9}, {}),
        *(("clap", {key: "noise"}, {}) for key in ("padding", "truncation")),
        ("clap", {"sampling_rate": 10**9}, {}),
    ],
)
def test_spectrograms_that_cannot_be_made_are_refused(
    tmp_path: Path, kind: str, settings: dict[str, Any], config: dict[str, Any]
) -> None:
    folder = preprocessors.write(kind, tmp_path / "model", **config)
    nested = kind == "whisper"
    path = folder / ("processor_config.json" if nested else "preprocessor_config.json")
    saved = json.loads(path.read_text())
    (saved["feature_extractor"] if nested else saved).update(settings)
    path.write_text(json.dumps(saved))
    with pytest.raises(SecateurError) as caught:
        featurizer_for(folder, Modality.AUDIO, Head.EMBEDDING)
    assert caught.value.code is ErrorCode.CONFIG_INVALID


def test_samples_too_large_for_features_are_refused(tmp_path: Path) -> None:
    loud = np.full(8000, 3e38, np.float32) * np.sign(tone(99, seconds=0.5))
    with pytest.raises(SecateurError) as caught:
        prepared(tmp_path, "waveform", [tone(300.0), loud])
    assert caught.value.code is ErrorCode.AUDIO_UNDECODABLE
    assert caught.value.errors[0].pointer == "/train[1]"


def test_a_checkpoint_that_reads_audio_refuses_texts(tmp_path: Path) -> None:
    data = write_splits(tmp_path / "data", {"text": TEXT, "label": TEXT}, [{"text": "a", "label": "low"}])
    model = preprocessors.write("waveform", tmp_path / "model")
    with pytest.raises(SecateurError, match="no column contains embedded audio") as caught:
        read(data, model, Modality.AUDIO, Head.CLASSIFICATION, ("low",))
    assert caught.value.code is ErrorCode.DATASET_SCHEMA


@pytest.mark.parametrize("samples", [RATE, RATE + 80, 4000, 100])
def test_wav2vec2_berts_features_are_transformers(tmp_path: Path, samples: int) -> None:
    """Of a clip alone: what the extractor masks is left out, and what is too short for a variance has silence behind it."""
    from transformers import SeamlessM4TFeatureExtractor

    folder = preprocessors.write("mel_frames", tmp_path / "model")
    extractor, clip = SeamlessFeatures(folder), tone(440.0, seconds=2.0)[:samples]
    (features,) = extractor([clip])
    filled = np.pad(clip, (0, max(0, 4000 - samples)))
    made = SeamlessM4TFeatureExtractor.from_pretrained(folder)(filled, sampling_rate=RATE, return_tensors="np")
    frames = (len(filled) - 400) // 160 + 1
    assert features.shape == (frames // 2, 40)
    assert features.dtype == np.float32
    np.testing.assert_array_equal(features, made["input_features"][0][: frames // 2].astype(np.float32))
    assert np.isfinite(features).all()
    together = extractor([clip, tone(200.0, seconds=1.5)])
    np.testing.assert_array_equal(together[0], features)


def test_a_long_clip_of_wav2vec2_bert_is_cut(tmp_path: Path) -> None:
    extractor = SeamlessFeatures(preprocessors.write("mel_frames", tmp_path / "model"))
    (features,) = extractor([np.ones(40 * RATE, np.float32)])
    assert len(features) == ((MAX_SECONDS * RATE - 400) // 160 + 1) // 2


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"feature_extractor_type": "WhisperFeatureExtractor"}, "WhisperFeatureExtractor"),
        ({"sampling_rate": 10**9}, "sampling_rate"),
        ({"stride": 3}, "stride"),
        ({"stride": 0}, "stride"),
        ({"num_mel_bins": 30}, "feature_size"),
        ({"num_mel_bins": 10**9}, "num_mel_bins"),
    ],
)
def test_settings_of_wav2vec2_bert_fit_its_config(tmp_path: Path, change: dict[str, Any], key: str) -> None:
    folder = preprocessors.write("mel_frames", tmp_path / "model")
    saved = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps(saved | change))
    with pytest.raises(SecateurError, match=key) as caught:
        SeamlessFeatures(folder)
    assert caught.value.code is ErrorCode.CONFIG_INVALID
