"""Features: the extractor's own, the same in batches, kept on disk, and found again."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import ASTFeatureExtractor

from api_schemas.enums import Split
from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.spec.inputs import Columns, Splits
from tests.support.checkpoints.clips import FRAMES, MELS, PITCH, RATE, WORDS, encoded, tone, word, write_checkpoint
from worker.engine.data import PreparedData, prepare
from worker.engine.data.featurizers.ast_features import AstFeatures


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "model")


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    for number in range(40):
        path = tmp_path / "data" / WORDS[number % 3] / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(word(WORDS[number % 3], number))
    return tmp_path / "data"


def read(data_dir: Path, model_dir: Path, **changes: Any) -> tuple[PreparedData, list[tuple[int, int]]]:
    counted: list[tuple[int, int]] = []
    options: dict[str, Any] = {
        "labels": WORDS,
        "multi_label": False,
        "columns": Columns(),
        "splits": Splits(),
        "seed": 0,
        "cache_dir": data_dir.parent / "cache",
    }
    data = prepare(data_dir, model_dir, progress=lambda *pair: counted.append(pair), **options | changes)
    return data, counted


def test_features_are_those_of_the_checkpoints_extractor_clip_by_clip(model_dir: Path) -> None:
    clips = [tone(PITCH[WORDS[n % 3]], seconds=0.1 + 0.1 * n, seed=n) for n in range(6)]
    reference = ASTFeatureExtractor.from_pretrained(model_dir)
    expected = [reference(clip, sampling_rate=RATE, return_tensors="np")["input_values"][0] for clip in clips]
    extractor = AstFeatures(model_dir)
    batch = extractor(clips)
    assert batch.dtype == np.float32
    assert batch.shape == (6, FRAMES, MELS)
    np.testing.assert_array_equal(batch, np.stack(expected))
    np.testing.assert_array_equal(batch[4:5], extractor(clips[4:5]))


def test_what_lies_beyond_the_seconds_used_changes_nothing(model_dir: Path) -> None:
    extractor = AstFeatures(model_dir)
    clip = tone(440.0, seconds=2.0)
    used = clip[: round(extractor.seconds * RATE)]
    np.testing.assert_array_equal(extractor([clip]), extractor([used]))
    fewer = extractor([used[:-200]])
    assert not np.array_equal(extractor([clip]), fewer)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({}, 6.0 / 6.0), ({"do_normalize": False}, 0.0), ({"mean": -8.42, "std": 2.09}, 8.42 / 4.18)],
)
def test_the_pad_value_is_what_the_extractor_pads_with(
    tmp_path: Path, changes: dict[str, Any], expected: float
) -> None:
    assert AstFeatures(write_checkpoint(tmp_path, **changes)).pad_value == pytest.approx(expected)


def test_a_clip_shorter_than_a_window_is_lengthened(model_dir: Path) -> None:
    features = AstFeatures(model_dir)([np.full(3, 0.5, dtype=np.float32)])
    assert np.isfinite(features).all()


@pytest.mark.parametrize(
    "changes",
    [
        {"feature_extractor_type": "WhisperFeatureExtractor"},
        {"max_length": FRAMES + 1},
        {"num_mel_bins": "sixteen"},
        {"sampling_rate": 0},
        {"sampling_rate": 10**12},
        {"std": 0.0},
        {"mean": "loud"},
    ],
)
def test_settings_that_cannot_be_used_are_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(SecateurError) as caught:
        AstFeatures(write_checkpoint(tmp_path, **changes))
    assert caught.value.code is ErrorCode.CONFIG_INVALID


def test_settings_that_are_no_settings_of_the_extractors_change_nothing(tmp_path: Path) -> None:
    """One is called as a method of it is, and would take its place."""
    clips = [np.random.default_rng(0).normal(size=16_000).astype(np.float32)]
    plain, other = (AstFeatures(write_checkpoint(tmp_path, **more)) for more in ({}, {"normalize": 5, "crop": "x"}))
    np.testing.assert_array_equal(other(clips), plain(clips))


@pytest.mark.parametrize("content", [None, b"{", b"[1]"])
def test_settings_that_are_missing_or_no_json_are_refused(model_dir: Path, content: bytes | None) -> None:
    (model_dir / "preprocessor_config.json").unlink()
    if content is not None:
        (model_dir / "preprocessor_config.json").write_bytes(content)
    with pytest.raises(SecateurError) as caught:
        AstFeatures(model_dir)
    assert caught.value.code is ErrorCode.CONFIG_INVALID


def test_code_beside_the_settings_is_not_run(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, auto_map={"AutoFeatureExtractor": "own.Own"})
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Own: pass\n")
    AstFeatures(folder)
    assert not (tmp_path / "ran").exists()


def test_features_are_computed_once_and_found_again(
    data_dir: Path, model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, counted = read(data_dir, model_dir)
    assert counted[-1] == (40, 40)
    assert [done for done, _ in counted] == sorted(done for done, _ in counted)
    cache = data_dir.parent / "cache"
    assert len(list(cache.iterdir())) == 1, "neither rows nor temporary folders are left"

    # A resumed job: data fetched anew, so that times differ and bytes do not; nothing may be decoded again.
    for path in data_dir.rglob("*.wav"):
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)
    monkeypatch.setattr(
        "worker.engine.data.featurizers.audio.decode_mono", lambda *_, **__: pytest.fail("decoded again")
    )
    again, counted = read(data_dir, model_dir)
    assert counted == [(40, 40)]
    assert again.summary == first.summary
    assert again.pad_value == first.pad_value
    for role in Split:
        assert isinstance(again.splits[role].inputs["input_values"], np.memmap)
        np.testing.assert_array_equal(
            again.splits[role].inputs["input_values"], first.splits[role].inputs["input_values"]
        )
        assert torch.equal(again.splits[role].targets, first.splits[role].targets)


@pytest.mark.parametrize("change", ["clip", "extractor", "labels", "seed", "splits"])
def test_anything_that_matters_makes_another_entry(data_dir: Path, model_dir: Path, change: str) -> None:
    read(data_dir, model_dir)
    options: dict[str, Any] = {}
    if change == "clip":
        path = next(data_dir.rglob("*.wav"))
        path.write_bytes(encoded(tone(500.0), kind="pcm"))
    elif change == "extractor":
        write_checkpoint(model_dir, mean=-5.0)
    elif change == "labels":
        options = {"labels": tuple(reversed(WORDS))}
    elif change == "seed":
        options = {"seed": 1}
    else:
        options = {"splits": Splits(test="held")}
    read(data_dir, model_dir, **options)
    assert len(list((data_dir.parent / "cache").iterdir())) == 2


def test_threads_change_neither_order_nor_bits(
    data_dir: Path, model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = read(data_dir, model_dir)
    monkeypatch.setattr("worker.engine.data.pipeline.torch.get_num_threads", lambda: 4)
    four, _ = read(data_dir, model_dir, cache_dir=data_dir.parent / "other")
    for role in Split:
        np.testing.assert_array_equal(one.splits[role].inputs["input_values"], four.splits[role].inputs["input_values"])


def test_a_failure_half_way_leaves_nothing(data_dir: Path, model_dir: Path) -> None:
    (data_dir / WORDS[0] / "39.wav").write_bytes(b"broken")
    with pytest.raises(SecateurError) as caught:
        read(data_dir, model_dir)
    assert caught.value.code is ErrorCode.AUDIO_UNDECODABLE
    assert list((data_dir.parent / "cache").iterdir()) == []


def test_samples_too_large_for_features_are_refused(data_dir: Path, model_dir: Path) -> None:
    (data_dir / WORDS[0] / "0.wav").write_bytes(
        encoded(np.full(8000, 3e38, np.float32) * np.sign(tone(99, seconds=0.5)))
    )
    with pytest.raises(SecateurError) as caught:
        read(data_dir, model_dir)
    assert caught.value.code is ErrorCode.AUDIO_UNDECODABLE


def test_a_batch_is_a_copy_in_the_order_asked_for(data_dir: Path, model_dir: Path) -> None:
    split = read(data_dir, model_dir)[0].splits[Split.TRAIN]
    inputs, targets = split.batch(torch.tensor([5, 2, 5]))
    values = inputs["input_values"]
    assert torch.equal(values[0], values[2])
    assert targets.tolist() == split.targets[[5, 2, 5]].tolist()
    before = split.inputs["input_values"][5].copy()
    values.zero_()
    np.testing.assert_array_equal(split.inputs["input_values"][5], before)
    assert len(split.batch([])[0]["input_values"]) == 0
