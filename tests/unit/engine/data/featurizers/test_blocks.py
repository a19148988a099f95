"""Texts in blocks: every token is in one, in order, and is asked for but where a block begins."""

import json
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from api_schemas.enums import Head, Modality
from tests.support.checkpoints import preprocessors
from worker.engine.data.featurizers import featurizer_for
from worker.engine.data.featurizers.base import TARGETS
from worker.engine.data.featurizers.tokenizer import load_tokenizer

LONG = " ".join(["the good films sleep in london"] * 40)
TEXTS = ["the good films", LONG, "a", "ada"]


@pytest.mark.parametrize(
    ("kind", "begins"),
    [
        *(("gpt2", []), ("opt", [2]), ("llama", [0]), ("mistral", [1]), ("qwen2", []), ("phi", []), ("phi3", [1])),
        ("gemma", [2]),
    ],
)
def test_a_text_is_divided_and_no_block_has_parts_of_two(kind: str, begins: list[int], tmp_path: Path) -> None:
    folder = preprocessors.write(kind, tmp_path)
    found = featurizer_for(folder, Modality.TEXT, Head.CAUSAL_LM)(TEXTS, ["train[0]"] * len(TEXTS))
    blocks = [block.tolist() for block in found["input_ids"]]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    room = 64 - len(begins)  # the model's positions are fewer than a block of 512
    expected = []
    for text in TEXTS:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        expected += [begins + ids[start : start + room] for start in range(0, len(ids), room)]
    assert len(expected) > len(TEXTS) + 1
    assert blocks == expected
    for block, targets in zip(found["input_ids"], found[TARGETS], strict=True):
        assert targets.dtype == np.int64
        assert targets.tolist() == [*block[1:].tolist(), -100]


def test_a_single_token_that_is_left_of_a_text_is_no_block(tmp_path: Path) -> None:
    folder = preprocessors.write("gpt2", tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    whole = tokenizer(LONG)["input_ids"]
    text = tokenizer.decode(whole[:65])
    assert len(tokenizer(text)["input_ids"]) == 65
    found = featurizer_for(folder, Modality.TEXT, Head.CAUSAL_LM)([text, "a"], ["train[0]", "train[1]"])
    assert [len(block) for block in found["input_ids"]] == [64, 1], "of a text of one token it is all that there is"


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen2", "qwen3", "phi", "phi3", "gemma"])
@pytest.mark.parametrize("said", ["LlamaTokenizerFast", "LlamaTokenizer", None])
def test_a_tokenizer_that_is_named_otherwise_is_read_as_transformers_reads_it(
    kind: str, said: str | None, tmp_path: Path
) -> None:
    """Many folders name Llama's class whose tokenizer.json divides texts into bytes, in another way than that class would."""
    folder = preprocessors.write(kind, tmp_path)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings = {**settings, "tokenizer_class": said} if said else settings
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    expected, found = AutoTokenizer.from_pretrained(folder), load_tokenizer(folder)
    for text in ("the good films, Ada!", " a  bad film", "one\ntwo"):
        assert found(text)["input_ids"] == expected(text)["input_ids"]


@pytest.mark.parametrize("kind", ["mistral", "phi3"])
def test_a_tokenizer_file_counts_where_transformers_goes_by_it(kind: str, tmp_path: Path) -> None:
    """And not by the class that is named, which would divide texts in its own way."""
    folder = preprocessors.write(kind, tmp_path)
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"normalizer": {"type": "Lowercase"}}))
    expected, found = (
        AutoTokenizer.from_pretrained(folder)("ADA")["input_ids"],
        load_tokenizer(folder)("ADA")["input_ids"],
    )
    assert found == expected == load_tokenizer(folder)("ada")["input_ids"]
