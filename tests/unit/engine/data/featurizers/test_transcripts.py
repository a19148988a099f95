"""Audio with what was said: label ids for CTC and for Whisper's decoder, and transcripts that cannot be used."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Wav2Vec2Processor, WhisperProcessor
from transformers.models.whisper.modeling_whisper import shift_tokens_right

from api_schemas.enums import Head, Modality, Split
from api_schemas.errors import ErrorCode, SecateurError
from tests.support.checkpoints import preprocessors
from tests.support.checkpoints.clips import RATE, encoded, tone
from tests.support.checkpoints.rows import CLIP, TEXT, read, write_splits
from worker.engine.data import PreparedData
from worker.engine.data.split import Ragged

HEADS = {"ctc": Head.CTC, "whisper": Head.SEQUENCE_TO_SEQUENCE}
SPOKEN = ["GO UP", "GO DOWN", "LOOK ALL", "ONE TWO THREE"]


def prepared(
    tmp_path: Path, kind: str, texts: list[Any], seconds: float = 1.0, column: str = "sentence", **config: Any
) -> PreparedData:
    rows = [{"audio": encoded(tone(300.0, seconds=seconds, seed=n)), column: text} for n, text in enumerate(texts)]
    data = write_splits(tmp_path / "data", {"audio": CLIP, column: TEXT}, rows)
    return read(data, preprocessors.write(kind, tmp_path / "model", **config), Modality.AUDIO, HEADS[kind])


def refusal(tmp_path: Path, *arguments: Any, **options: Any) -> SecateurError:
    with pytest.raises(SecateurError) as caught:
        prepared(tmp_path, *arguments, **options)
    assert not (tmp_path / "cache").exists() or not list((tmp_path / "cache").iterdir())
    return caught.value


@pytest.mark.parametrize("column", ["text", "transcript", "transcription", "sentence"])
def test_ids_for_ctc_are_the_tokenizers(tmp_path: Path, column: str) -> None:
    data = prepared(tmp_path, "ctc", SPOKEN, column=column)
    split = data.splits[Split.TRAIN]
    reference = Wav2Vec2Processor.from_pretrained(tmp_path / "model")
    assert isinstance(split.targets, Ragged)
    for row, text in enumerate(SPOKEN):
        assert split.targets.row(row).tolist() == reference.tokenizer(text)["input_ids"]
    assert data.summary.unknown_characters == 0


def test_clips_of_one_length_share_a_batch_whatever_was_said(tmp_path: Path) -> None:
    split = prepared(tmp_path, "ctc", SPOKEN).splits[Split.TRAIN]
    inputs, targets = split.batch(range(4))
    assert list(inputs) == ["input_values"]
    assert inputs["input_values"].shape == (4, RATE)
    assert targets.shape == (4, len(SPOKEN[-1]))
    assert (targets[0, len(SPOKEN[0]) :] == -100).all()


@pytest.mark.parametrize("kind", ["ctc", "whisper"])
def test_the_text_of_label_ids_is_what_was_said(tmp_path: Path, kind: str) -> None:
    data = prepared(tmp_path, kind, SPOKEN)
    targets = data.splits[Split.VALIDATION].targets
    assert isinstance(targets, Ragged)
    assert data.decode is not None
    assert [data.decode(targets.row(row).tolist()) for row in range(4)] == SPOKEN


def test_whispers_decoder_reads_what_transformers_would_have_it_read(tmp_path: Path) -> None:
    split = prepared(tmp_path, "whisper", SPOKEN).splits[Split.TRAIN]
    tokenizer = WhisperProcessor.from_pretrained(tmp_path / "model").tokenizer
    start = json.loads((tmp_path / "model" / "config.json").read_text())["decoder_start_token_id"]
    for row, text in enumerate(SPOKEN):
        inputs, targets = split.batch([row])
        ids = tokenizer(text)["input_ids"]
        assert ids[0] == start
        labels = torch.tensor([ids[1:]])
        assert torch.equal(targets, labels)
        assert torch.equal(inputs["decoder_input_ids"], shift_tokens_right(labels, 0, start))
        assert inputs["input_features"].shape == (1, 16, 200)


def test_whispers_batches_hold_labels_of_one_length(tmp_path: Path) -> None:
    split = prepared(tmp_path, "whisper", SPOKEN).splits[Split.TRAIN]
    assert isinstance(split.targets, Ragged)
    lengths = split.targets.lengths
    for batch in split.batches(4):
        assert len(set(lengths[batch.numpy()].tolist())) == 1
        inputs, targets = split.batch(batch)
        assert inputs["decoder_input_ids"].shape == targets.shape
        assert (targets != -100).all()


def test_a_stray_sign_becomes_unknown_and_is_counted(tmp_path: Path) -> None:
    texts = ["LOOK ALL AROUND THE HOUSE"] * 3 + ["GO UP, NOW"]
    data = prepared(tmp_path, "ctc", texts)
    assert data.summary.unknown_characters == pytest.approx(1 / sum(map(len, texts)))
    targets = data.splits[Split.TRAIN].targets
    assert isinstance(targets, Ragged)
    assert targets.row(3)[5] == 3
    assert data.decode is not None
    assert data.decode([1, *targets.row(3).tolist(), 2]) == "GO UP NOW"


def test_transcripts_in_another_case_are_refused_with_both_lists(tmp_path: Path) -> None:
    error = refusal(tmp_path, "ctc", ["go up", "go down"])
    assert error.code is ErrorCode.LABELS_MISMATCH
    assert {item.pointer: item.detail for item in error.errors}["/unknown"] == "d g n o p u w"
    assert "in the checkpoint's case" in error.detail


def test_an_unknown_character_without_a_token_for_it_is_refused(tmp_path: Path) -> None:
    folder = preprocessors.write("ctc", tmp_path / "model")
    vocabulary = {token: number for number, token in enumerate(["<pad>", "|", *preprocessors.LETTERS])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    settings = {"tokenizer_class": "Wav2Vec2CTCTokenizer", "unk_token": None, "bos_token": None, "eos_token": None}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    rows = [{"audio": encoded(tone(300.0, seconds=1.0)), "text": "LOOK ALL AROUND THE HOUSE, NOW"}]
    data = write_splits(tmp_path / "data", {"audio": CLIP, "text": TEXT}, rows)
    with pytest.raises(SecateurError) as caught:
        read(data, folder, Modality.AUDIO, Head.CTC)
    assert caught.value.code is ErrorCode.LABELS_MISMATCH


@pytest.mark.parametrize("kind", ["ctc", "whisper"])
@pytest.mark.parametrize("text", ["", None])
def test_a_row_without_a_transcript_is_named(tmp_path: Path, kind: str, text: str | None) -> None:
    error = refusal(tmp_path, kind, ["GO UP", text])
    assert error.code is ErrorCode.DATASET_SCHEMA
    assert error.errors[0].pointer == "/train[1]"


def test_a_transcript_that_spells_a_blank_is_named(tmp_path: Path) -> None:
    error = refusal(tmp_path, "ctc", ["GO UP", "GO<pad>UP"])
    assert error.code is ErrorCode.DATASET_SCHEMA
    assert error.errors[0].pointer == "/train[1]"


def test_speech_too_long_to_be_read_whole_is_named(tmp_path: Path) -> None:
    error = refusal(tmp_path, "whisper", ["GO UP"], seconds=2.05)
    assert error.code is ErrorCode.DATASET_SCHEMA
    assert error.errors[0].pointer == "/train[0]"
    assert "longer than 2 s" in error.detail


@pytest.mark.parametrize(("seconds", "frames"), [(0.25, 12), (0.5, 24)])
def test_a_transcript_longer_than_its_clip_is_named(tmp_path: Path, seconds: float, frames: int) -> None:
    fits, too_long = "AB" * (frames // 2), "AB" * (frames // 2 - 1) + "CC"
    prepared(tmp_path / "fits", "ctc", [fits], seconds=seconds)
    error = refusal(tmp_path / "not", "ctc", [fits, too_long], seconds=seconds)
    assert error.code is ErrorCode.DATASET_SCHEMA
    assert error.errors[0].pointer == "/train[1]"
    # torch agrees: there is no way to spell it in so many frames.
    ids = torch.tensor([[1 + ord(letter) - 64 for letter in too_long]])
    logits = torch.zeros(frames, 1, 30).log_softmax(-1)
    loss = torch.nn.functional.ctc_loss(logits, ids, torch.tensor([frames]), torch.tensor([frames]), reduction="sum")
    assert loss.isinf()


def test_more_tokens_than_whispers_decoder_reads_are_refused(tmp_path: Path) -> None:
    error = refusal(tmp_path, "whisper", ["go up", "qz" * 30])
    assert error.code is ErrorCode.DATASET_SCHEMA
    assert error.errors[0].pointer == "/train[1]"
    assert "decoder reads at most 40" in error.detail


def test_ids_beyond_the_models_vocabulary_are_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path, "ctc", SPOKEN, vocab_size=10).code is ErrorCode.CONFIG_INVALID


@pytest.mark.parametrize(
    "config",
    [
        {"decoder_start_token_id": 10**6},
        {"decoder_start_token_id": "first"},
        {"max_target_positions": 0},
        {"vocab_size": 0},
    ],
)
def test_configs_that_no_decoder_has_are_refused(tmp_path: Path, config: dict[str, Any]) -> None:
    assert refusal(tmp_path, "whisper", SPOKEN, **config).code is ErrorCode.CONFIG_INVALID


def test_prepared_once_and_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = prepared(tmp_path, "whisper", SPOKEN)
    monkeypatch.setattr(
        "worker.engine.data.featurizers.audio.decode_mono", lambda *_, **__: pytest.fail("decoded again")
    )
    again = read(tmp_path / "data", tmp_path / "model", Modality.AUDIO, Head.SEQUENCE_TO_SEQUENCE)
    assert again.summary == first.summary
    for role in Split:
        for name, column in first.splits[role].inputs.items():
            found = again.splits[role].inputs[name]
            if isinstance(column, Ragged) and isinstance(found, Ragged):
                np.testing.assert_array_equal(found.starts, column.starts)
                column, found = column.values, found.values
            np.testing.assert_array_equal(found, column)
