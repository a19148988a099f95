"""Texts and words as BERT, RoBERTa and DistilBERT read them: the tokenizer's own ids, no padding, one label a word."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import ClassLabel, List
from transformers import AutoTokenizer, BertTokenizer, CamembertTokenizer, XLMRobertaTokenizer

from api_schemas.enums import Head, Modality, Split
from api_schemas.errors import ErrorCode, SecateurError
from tests.support.checkpoints import preprocessors
from tests.support.checkpoints.rows import TEXT, TEXTS, read, write_splits
from worker.engine.data import PreparedData
from worker.engine.data.featurizers.texts import TextFeaturizer
from worker.engine.data.split import Ragged

KINDS = ("bert", "distilbert", "electra", "mpnet", "roberta", "xlm-roberta", "camembert", "modernbert")
REVIEWS = ["the good films", "bad film.", "Ada Lovelace sleeps in London", "a b", "the bad", "good films"]
TAGS = ("O", "PER", "LOC")
WORDS = [["Ada", "lovelace", "sleeps", "in", "London"], ["the", "films"]]
WORD_TAGS = [["PER", "PER", "O", "O", "LOC"], ["O", "O"]]


def reviews(tmp_path: Path, kind: str, head: Head = Head.CLASSIFICATION) -> PreparedData:
    rows = [{"text": text, "label": number % 2} for number, text in enumerate(REVIEWS)]
    data = write_splits(tmp_path / "data", {"text": TEXT, "label": ClassLabel(names=["bad", "good"])}, rows)
    labels = ("good", "bad") if head is Head.CLASSIFICATION else ()
    return read(data, preprocessors.write(kind, tmp_path / "model"), Modality.TEXT, head, labels)


@pytest.mark.parametrize("kind", KINDS)
def test_ids_are_those_of_the_checkpoints_tokenizer(tmp_path: Path, kind: str) -> None:
    split = reviews(tmp_path, kind).splits[Split.TRAIN]
    reference = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert list(split.inputs) == ["input_ids"]
    for row, text in enumerate(REVIEWS):
        inputs, targets = split.batch([row])
        assert inputs["input_ids"][0].tolist() == reference(text)["input_ids"]
        assert targets.tolist() == [1 - row % 2]


def test_rows_of_equal_length_share_batches_and_nothing_is_padded(tmp_path: Path) -> None:
    split = reviews(tmp_path, "bert").splits[Split.TRAIN]
    lengths = [len(split.batch([row])[0]["input_ids"][0]) for row in range(len(REVIEWS))]
    assert len(set(lengths)) > 2
    for batch in split.batches(4):
        assert len({lengths[row] for row in batch.tolist()}) == 1


def test_embeddings_need_no_labels(tmp_path: Path) -> None:
    data = write_splits(tmp_path / "data", {"text": TEXT}, [{"text": text} for text in REVIEWS])
    prepared = read(data, preprocessors.write("bert", tmp_path / "model"), Modality.TEXT, Head.EMBEDDING)
    targets = prepared.splits[Split.TEST].targets
    assert not isinstance(targets, Ragged)
    assert targets.shape == (len(REVIEWS), 0)
    assert prepared.decode is None


@pytest.mark.parametrize("kind", KINDS)
def test_every_word_has_its_label_at_its_first_token(tmp_path: Path, kind: str) -> None:
    features = {"tokens": TEXTS, "ner_tags": List(ClassLabel(names=list(TAGS)))}
    rows = [
        {"tokens": words, "ner_tags": [TAGS.index(tag) for tag in tags]}
        for words, tags in zip(WORDS, WORD_TAGS, strict=True)
    ]
    data = write_splits(tmp_path / "data", features, rows)
    labels = ("LOC", "O", "PER")
    model = preprocessors.write(kind, tmp_path / "model")
    split = read(data, model, Modality.TEXT, Head.TOKEN_CLASSIFICATION, labels).splits[Split.TRAIN]
    options = {"add_prefix_space": True} if kind == "roberta" else {}
    reference = AutoTokenizer.from_pretrained(model, **options)
    for row, (words, tags) in enumerate(zip(WORDS, WORD_TAGS, strict=True)):
        encoded = reference(words, is_split_into_words=True)
        expected, before = [], None
        for word in encoded.word_ids():
            expected.append(-100 if word is None or word == before else labels.index(tags[word]))
            before = word
        inputs, targets = split.batch([row])
        assert inputs["input_ids"][0].tolist() == encoded["input_ids"]
        assert targets[0].tolist() == expected
        assert sum(target != -100 for target in expected) == len(words)


def test_a_label_that_the_checkpoint_lacks_is_refused(tmp_path: Path) -> None:
    data = write_splits(tmp_path / "data", {"tokens": TEXTS, "tags": TEXTS}, [{"tokens": ["a"], "tags": ["DATE"]}])
    with pytest.raises(SecateurError) as caught:
        read(data, preprocessors.write("bert", tmp_path / "model"), Modality.TEXT, Head.TOKEN_CLASSIFICATION, TAGS)
    assert caught.value.code is ErrorCode.LABELS_MISMATCH


@pytest.mark.parametrize(
    "row",
    [
        {"tokens": ["a", "b"], "tags": ["O"]},
        {"tokens": ["a", ""], "tags": ["O", "O"]},
        {"tokens": [], "tags": []},
        {"tokens": None, "tags": ["O"]},
    ],
)
def test_words_that_cannot_be_used_are_named(tmp_path: Path, row: dict[str, Any]) -> None:
    data = write_splits(tmp_path / "data", {"tokens": TEXTS, "tags": TEXTS}, [{"tokens": ["a"], "tags": ["O"]}, row])
    with pytest.raises(SecateurError) as caught:
        read(data, preprocessors.write("bert", tmp_path / "model"), Modality.TEXT, Head.TOKEN_CLASSIFICATION, TAGS)
    assert caught.value.code is ErrorCode.DATASET_SCHEMA
    assert "[1]" in caught.value.detail


def test_texts_that_are_too_long_are_named(tmp_path: Path) -> None:
    data = write_splits(tmp_path / "data", {"text": TEXT}, [{"text": "good"}, {"text": "a " * 60_000}])
    with pytest.raises(SecateurError) as caught:
        read(data, preprocessors.write("bert", tmp_path / "model"), Modality.TEXT, Head.EMBEDDING)
    assert caught.value.code is ErrorCode.DATASET_SCHEMA
    assert caught.value.errors[0].pointer == "/train[1]"


@pytest.mark.parametrize(
    ("kind", "longest"), [("bert", 64), ("roberta", 64), ("mpnet", 64), ("xlm-roberta", 64), ("camembert", 64)]
)
def test_long_texts_are_cut_to_what_the_model_has_positions_for(tmp_path: Path, kind: str, longest: int) -> None:
    (ids,) = TextFeaturizer(preprocessors.write(kind, tmp_path / "model"), words=False)(["a b " * 200], ["train[0]"])[
        "input_ids"
    ]
    assert len(ids) == longest


@pytest.mark.parametrize(("padding", "longest"), [(None, 64), (0, 65), (3, 62)])
def test_a_roberta_counts_positions_from_behind_its_padding_token(
    tmp_path: Path, padding: int | None, longest: int
) -> None:
    folder = preprocessors.write("roberta", tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"pad_token_id": padding}))
    (ids,) = TextFeaturizer(folder, words=False)(["a b " * 200], ["train[0]"])["input_ids"]
    assert len(ids) == longest


@pytest.mark.parametrize(
    ("name", "change", "code"),
    [
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["own.Own", None]}}, ErrorCode.CODE_REFUSED),
        ("tokenizer_config.json", {"tokenizer_class": "OwnTokenizer"}, ErrorCode.CONFIG_INVALID),
        ("tokenizer_config.json", {"tokenizer_class": "WhisperTokenizer"}, ErrorCode.CONFIG_INVALID),
        ("tokenizer.json", {"model": {"type": "WordPiece", "vocab": 5}}, ErrorCode.CONFIG_INVALID),
        ("config.json", {"vocab_size": 6}, ErrorCode.CONFIG_INVALID),
        ("config.json", {"vocab_size": "many"}, ErrorCode.CONFIG_INVALID),
        ("config.json", {"max_position_embeddings": "many"}, ErrorCode.CONFIG_INVALID),
        ("config.json", {"max_position_embeddings": 3}, ErrorCode.CONFIG_INVALID),
    ],
)
def test_tokenizers_that_cannot_be_used_are_refused(
    tmp_path: Path, name: str, change: dict[str, Any], code: ErrorCode
) -> None:
    folder = preprocessors.write("bert", tmp_path / "model")
    (folder / name).write_text(json.dumps(json.loads((folder / name).read_text()) | change))
    with pytest.raises(SecateurError) as caught:
        TextFeaturizer(folder, words=False)(["the good films"], ["train[0]"])
    assert caught.value.code is code


WORDS_OF_BERT = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "the", "film", "##s")
PIECES = [(piece, -1.0) for piece in ("<s>", "<pad>", "</s>", "<unk>", "▁good", "▁the", "▁film", "s", "▁", "<mask>")]


@pytest.mark.parametrize(
    ("kind", "tokenizer"),
    [
        ("bert", XLMRobertaTokenizer(vocab=PIECES)),  # as multilingual-e5-small
        ("distilbert", CamembertTokenizer(vocab=PIECES)),
        (
            "roberta",
            BertTokenizer(vocab={word: number for number, word in enumerate(WORDS_OF_BERT)}),
        ),  # as klue/roberta-base
    ],
    ids=lambda each: each if isinstance(each, str) else type(each).__name__,
)
@pytest.mark.parametrize("where", ["tokenizer_config.json", "config.json"])
def test_tokens_of_another_line_are_what_transformers_makes(
    tmp_path: Path, kind: str, tokenizer: Any, where: str
) -> None:
    folder = preprocessors.write(kind, tmp_path / "model")
    tokenizer.save_pretrained(folder)
    settings, config = (json.loads((folder / name).read_text()) for name in ("tokenizer_config.json", "config.json"))
    named = {"tokenizer_class": settings.pop("tokenizer_class")}
    said = {"tokenizer_config.json": settings, "config.json": config | {"vocab_size": 40}}
    for name, content in said.items():
        (folder / name).write_text(json.dumps(content | (named if name == where else {})))
    text, pair = "the good films", ("the good", "films")
    stock = AutoTokenizer.from_pretrained(folder)
    featurizer = TextFeaturizer(folder, words=False)
    assert featurizer([text], [""])["input_ids"][0].tolist() == stock(text)["input_ids"]
    assert featurizer([pair], [""])["input_ids"][0].tolist() == stock(*pair)["input_ids"]
    assert stock.unk_token_id not in stock("the good film")["input_ids"]
    (tags,) = TextFeaturizer(folder, words=True).tags([["the", "good", "film"]], [[0, 1, 2]])
    assert tags.tolist() == [-100, 0, 1, 2, -100]


def test_a_path_in_the_settings_is_not_followed(tmp_path: Path) -> None:
    """Old tokenizers wrote paths of the machine they were saved on; a stranger may write any."""
    other = tmp_path / "elsewhere.txt"
    other.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good"]))
    folder = preprocessors.write("bert", tmp_path / "model")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    paths = {
        "vocab_file": str(other),
        "tokenizer_file": str(other),
        "special_tokens_map_file": "/home/somebody/map.json",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | paths))
    plain = TextFeaturizer(preprocessors.write("bert", tmp_path / "plain"), words=False)(REVIEWS, REVIEWS)["input_ids"]
    for found, expected in zip(TextFeaturizer(folder, words=False)(REVIEWS, REVIEWS)["input_ids"], plain, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_the_older_files_do_as_well(tmp_path: Path) -> None:
    folder = preprocessors.write("bert", tmp_path / "model")
    plain = TextFeaturizer(folder, words=False)(REVIEWS, REVIEWS)["input_ids"]
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True}))
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *preprocessors.WORD_PIECES]
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n")
    for found, expected in zip(TextFeaturizer(folder, words=False)(REVIEWS, REVIEWS)["input_ids"], plain, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_another_vocabulary_makes_another_entry(tmp_path: Path) -> None:
    reviews(tmp_path, "bert")
    settings = tmp_path / "model" / "tokenizer_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"do_lower_case": False}))
    read(tmp_path / "data", tmp_path / "model", Modality.TEXT, Head.CLASSIFICATION, ("good", "bad"))
    assert len(list((tmp_path / "cache").iterdir())) == 2


@pytest.mark.parametrize("kind", ["bert", "distilbert", "roberta", "clap_text"])
def test_a_config_may_leave_out_what_its_class_has_a_default_for(tmp_path: Path, kind: str) -> None:
    folder = preprocessors.write(kind, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    texts, places = ["the good films", "a bad film"], ["train[0]", "train[1]"]
    whole = TextFeaturizer(folder, words=False)(texts, places)
    less = {key: value for key, value in config.items() if key in ("model_type", "pad_token_id")}
    (folder / "config.json").write_text(json.dumps(less))
    found = TextFeaturizer(folder, words=False)(texts, places)
    assert found.keys() == whole.keys()
    for name, rows in whole.items():
        assert [row.tolist() for row in found[name]] == [row.tolist() for row in rows]
