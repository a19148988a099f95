"""Masked words: which tokens, what stands there instead, the same every time; and a whole data set of them."""

import json
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from api_schemas.enums import Head, Modality, Split
from api_schemas.errors import ErrorCode, SecateurError
from tests.support.checkpoints import preprocessors
from tests.support.checkpoints.rows import TEXT, read, write_splits
from worker.engine.data.featurizers.masking import Masking

REVIEWS = ["the good films", "bad film.", "ada lovelace sleeps in london", "a b", "the bad", "good films"]


class Words:
    """A tokenizer of 200 words, of which the first five are special; the fifth stands for a masked one."""

    mask_token_id: int | None = 4
    all_special_ids = (0, 1, 2, 3, 4)

    def __len__(self) -> int:
        return 200


def text(length: int, seed: int = 0) -> np.ndarray:
    inside = np.random.default_rng(seed).integers(5, 200, length)
    return np.concatenate([[2], inside, [3]]).astype(np.int64)


@pytest.mark.parametrize(("length", "count"), [(1, 1), (3, 1), (10, 2), (20, 3), (100, 15)])
def test_a_share_of_the_words_is_asked_for_and_no_special_token(length: int, count: int) -> None:
    ids = text(length)
    masked, targets = Masking(Words(), 200, 0)(ids)
    asked = targets != -100
    assert asked.sum() == count
    assert not asked[[0, -1]].any()
    assert (targets[asked] == ids[asked]).all()
    assert (masked[~asked] == ids[~asked]).all()


def test_of_ten_words_eight_are_hidden_one_is_another_and_one_stays() -> None:
    masking = Masking(Words(), 200, 0)
    hidden = swapped = kept = 0
    for seed in range(400):
        ids = text(100, seed)
        masked, targets = masking(ids)
        asked = targets != -100
        hidden += int((masked[asked] == 4).sum())
        kept += int((masked[asked] == ids[asked]).sum())
        swapped += int(((masked[asked] != 4) & (masked[asked] != ids[asked])).sum())
    # Of 6000: five standard deviations of either side.
    assert hidden / 6000 == pytest.approx(0.8, abs=0.026)
    assert swapped / 6000 == pytest.approx(0.1, abs=0.02)
    assert kept / 6000 == pytest.approx(0.1, abs=0.02)


def test_a_text_is_masked_alike_by_one_seed_wherever_it_stands() -> None:
    ids, other = text(40), text(40, seed=1)
    first, again = Masking(Words(), 200, 7), Masking(Words(), 200, 7)
    again(other)
    for one, same in zip(first(ids), again(ids), strict=True):
        assert np.array_equal(one, same)
    assert not np.array_equal(first(ids)[1], Masking(Words(), 200, 8)(ids)[1])
    assert not np.array_equal(first(ids)[1] == -100, first(other)[1] == -100)


def test_words_that_the_model_lacks_are_never_put_in() -> None:
    masking = Masking(Words(), 40, 0)
    assert all(masking(np.full(100 + n, 9))[0].max() < 40 for n in range(50))


def test_special_tokens_alone_are_left_as_they_are() -> None:
    masked, targets = Masking(Words(), 200, 0)(np.array([2, 3]))
    assert masked.tolist() == [2, 3]
    assert (targets == -100).all()


@pytest.mark.parametrize("kind", ["bert", "distilbert", "roberta", "modernbert"])
def test_a_data_set_of_texts_needs_no_label(kind: str, tmp_path: Path) -> None:
    rows = [{"text": each, "label": "x"} for each in REVIEWS]
    data = write_splits(tmp_path / "data", {"text": TEXT, "label": TEXT}, rows)
    model = preprocessors.write(kind, tmp_path / "model")
    reference = AutoTokenizer.from_pretrained(model)
    prepared = read(data, model, Modality.TEXT, Head.MASKED_LM)
    split = prepared.splits[Split.VALIDATION]
    assert list(split.inputs) == ["input_ids"]
    changed = 0
    for row, each in enumerate(REVIEWS):
        inputs, targets = split.batch([row])
        asked = targets[0] != -100
        restored = inputs["input_ids"][0].clone()
        restored[asked] = targets[0][asked]
        assert restored.tolist() == reference(each)["input_ids"]
        assert asked.sum() >= 1
        changed += int((inputs["input_ids"][0] == reference.mask_token_id).sum())
    assert changed > 0


def test_a_tokenizer_without_a_mask_token_is_refused(tmp_path: Path) -> None:
    data = write_splits(tmp_path / "data", {"text": TEXT}, [{"text": each} for each in REVIEWS])
    model = preprocessors.write("bert", tmp_path / "model")
    settings = json.loads((model / "tokenizer_config.json").read_text())
    (model / "tokenizer_config.json").write_text(json.dumps({**settings, "mask_token": None}))
    with pytest.raises(SecateurError) as caught:
        read(data, model, Modality.TEXT, Head.MASKED_LM)
    assert caught.value.code is ErrorCode.CONFIG_INVALID
    assert "no mask token" in caught.value.detail
