"""The inspector and the engine read the same shards the same way, and say the same of what they refuse."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from api_schemas.api.resources import DatasetContents
from api_schemas.enums import Head, Modality, Split
from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.spec.inputs import Columns
from checkpoints.data.split_names import samples_by_role
from store.uploads.inspection.dataset import inspect
from tests.support.checkpoints import preprocessors
from tests.support.checkpoints.clips import WORDS, word, write_checkpoint
from tests.support.checkpoints.rows import read
from worker.engine.data import PreparedData
from worker.engine.data.split import Ragged

REVIEWS = ["the good films", "bad film.", "ada lovelace sleeps", "in london", "the bad", "good films"]
NAMES = ("bad", "good")
FOUND = Columns()
"""No column is named."""
CLASSES = {"label": {"names": list(NAMES), "_type": "ClassLabel"}}


def columns(label: Any = None, text: Any = None, **more: Any) -> dict[str, Any]:
    """Reviews and their labels; other values or types for either, and more columns."""
    texts = pa.array(REVIEWS) if text is None else text
    return {"text": texts, "label": pa.array(list(NAMES) * 3) if label is None else label, **more}


def write(folder: Path, shards: Mapping[str, Mapping[str, Any]], features: Any = None) -> Path:
    folder.mkdir()
    for name, values in shards.items():
        table = pa.table(dict(values))
        if features:
            metadata = {"huggingface": json.dumps({"info": {"features": features}})}
            table = table.replace_schema_metadata(metadata)
        pq.write_table(table, folder / f"{name}.parquet")
    return folder


def engine(folder: Path, head: Head = Head.CLASSIFICATION, wanted: Columns = FOUND) -> PreparedData:
    model = preprocessors.write("bert", folder.parent / "model")
    labels = NAMES if head is Head.CLASSIFICATION else ()
    return read(folder, model, Modality.TEXT, head, labels, columns=wanted)


def both_refuse(folder: Path, wanted: Columns = FOUND) -> str:
    """What the two say, which is the same."""
    said = []
    for reader in (lambda: inspected(folder, wanted), lambda: engine(folder, wanted=wanted)):
        with pytest.raises(SecateurError) as caught:
            reader()
        assert caught.value.code is ErrorCode.DATASET_SCHEMA
        said.append(caught.value.detail)
    assert said[0] == said[1]
    return said[0]


def inspected(folder: Path, wanted: Columns = FOUND) -> DatasetContents:
    """Raises what is wrong with labels, too, as a job that reads them is told; then whoever reads none has read the data."""
    contents = inspect(folder, wanted)
    if contents.label_error is not None:
        assert engine(folder, Head.MASKED_LM).summary.samples
        raise SecateurError(contents.label_error.code, contents.label_error.detail)
    return contents


@pytest.mark.parametrize(
    "shards",
    [
        {"train": columns(), "validation": columns(), "test": columns(id=pa.array(range(6)))},
        {"train": columns(id=pa.array(range(6))), "validation": columns(), "test": columns(id=pa.array(["x"] * 6))},
        {"train": columns(), "validation": columns(), "test": columns(title=pa.array(["x"] * 6))},
        {"train-0": columns(note=pa.nulls(6)), "train-1": columns(note=pa.array(["x"] * 6)), "test": columns()},
        {"train": columns(odd=pa.array([[("a", 1)]] * 6, pa.map_(pa.string(), pa.int8()))), "test": columns()},
    ],
    ids=["one more", "another type", "another text", "all null", "a type that datasets does not know"],
)
def test_columns_that_nobody_reads_may_differ(tmp_path: Path, shards: dict[str, dict[str, Any]]) -> None:
    folder = write(tmp_path / "data", shards)
    contents = inspect(folder, Columns())
    assert (contents.input_column, contents.label_column, contents.labels) == ("text", "label", NAMES)
    assert sum(contents.rows.values()) == sum(engine(folder).summary.samples.values()) == 6 * len(shards)


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ({}, {"text": pa.array(range(6))}, "column 'text' is string in train-0.parquet but int64 in train-1.parquet"),
        ({}, {"label": pa.array(range(6))}, "column 'label' is string in train-0.parquet but int64 in train-1.parquet"),
        ({"label": pa.array([[name] for name in NAMES * 3])}, {}, "column 'label' is list<item: string>"),
    ],
)
def test_columns_that_are_read_may_not(tmp_path: Path, first: Any, second: Any, said: str) -> None:
    shards = {"train-0": columns(**first), "train-1": columns(**second)}
    assert said in both_refuse(write(tmp_path / "data", shards)).replace("element:", "item:")


def test_a_column_that_is_read_and_is_not_everywhere_is_named(tmp_path: Path) -> None:
    without = {"label": pa.array(list(NAMES) * 3), "other": pa.array(REVIEWS)}
    folder = write(tmp_path / "data", {"test": without, "train": columns()})
    assert "column 'text' is in train.parquet but not in test.parquet" in both_refuse(folder)
    part = write(tmp_path / "part", {"train-0": columns(), "train-1": {"text": pa.array(REVIEWS)}})
    assert "column 'label' is in train-0.parquet but not in train-1.parquet" in both_refuse(part)


def test_other_label_names_are_named_with_column_and_files(tmp_path: Path) -> None:
    folder = write(tmp_path / "data", {"train": columns(label=pa.array([0, 1] * 3))}, CLASSES)
    other = {"label": {"names": ["good", "bad"], "_type": "ClassLabel"}}
    write(tmp_path / "more", {"test": columns(label=pa.array([0, 1] * 3))}, other)
    (tmp_path / "more" / "test.parquet").rename(folder / "test.parquet")
    assert "column 'label' has different label names in t" in both_refuse(folder)


@pytest.mark.parametrize(
    ("train", "test", "features"),
    [
        (pa.array([0, 1] * 3), pa.array([-1] * 6), CLASSES),
        (pa.array([0, 1] * 3), pa.nulls(6, pa.int64()), CLASSES),
        (pa.array(list(NAMES) * 3), pa.nulls(6, pa.string()), None),
        (pa.array(list(NAMES) * 3), pa.nulls(6), None),
        (pa.array(list(NAMES) * 3), pa.array([""] * 6), None),
    ],
    ids=["-1", "null ids", "null texts", "nulls without a type", "empty texts"],
)
def test_a_split_without_labels_is_left_out_and_warned_of(tmp_path: Path, train: Any, test: Any, features: Any) -> None:
    shards = {"train": columns(label=train), "validation": columns(label=train), "test": columns(label=test)}
    folder = write(tmp_path / "data", shards, features)
    assert inspect(folder, Columns()).label_columns["label"].unlabelled == ("test",)
    summary = engine(folder).summary
    assert (summary.samples, summary.held_out) == ({"train": 5, "validation": 6, "test": 1}, ("test",))
    first = summary.warnings[0]
    assert (first.code, first.pointer) == ("no_labels", "/dataset/splits/test")
    assert "the split 'test' has a label in column 'label'" in first.detail
    assert engine(folder, Head.EMBEDDING).summary.samples["test"] == 6, "nothing is to be answered, and it is read"


@pytest.mark.parametrize("train", [pa.array([0, 1] * 3), pa.array(list(NAMES) * 3)], ids=["ids", "names"])
@pytest.mark.parametrize(
    "test",
    [
        pa.array([-1] * 6, pa.int32()),
        pa.array([-100] * 6),
        pa.array([float("nan")] * 6),
        pa.nulls(6, pa.float32()),
        pa.nulls(6, pa.string()),
        pa.array([[]] * 6),
    ],
    ids=["-1", "-100", "NaN", "null numbers", "null texts", "empty lists"],
)
def test_a_split_without_labels_need_not_have_their_type(tmp_path: Path, train: Any, test: Any) -> None:
    """Pandas has decimal numbers where some are missing, and what never had labels never had their names."""
    features = CLASSES if pa.types.is_integer(train.type) else None
    folder = write(tmp_path / "data", dict.fromkeys(("train", "validation"), columns(label=train)), features)
    write(tmp_path / "more", {"test": columns(label=test)})
    (tmp_path / "more" / "test.parquet").rename(folder / "test.parquet")
    contents = inspected(folder)
    assert (contents.label_columns["label"].unlabelled, contents.labels) == (("test",), NAMES)
    data = engine(folder)
    assert (data.summary.samples, data.summary.held_out) == ({"train": 5, "validation": 6, "test": 1}, ("test",))
    assert data.splits[Split.VALIDATION].targets.tolist() == [0, 1] * 3


@pytest.mark.parametrize("test", [[[]] * 6, [None] * 6, [[-100] * len(each.split()) for each in REVIEWS]], ids=str)
def test_words_without_tags_are_left_out_too(tmp_path: Path, test: Any) -> None:
    words = [each.split() for each in REVIEWS]
    tags = [[at % 2 for at, _ in enumerate(each)] for each in words]
    features = {"tags": {"_type": "List", "feature": CLASSES["label"]}}
    tagged = {"tokens": pa.array(words), "tags": pa.array(tags)}
    folder = write(tmp_path / "data", dict.fromkeys(("train", "validation"), tagged), features)
    write(tmp_path / "more", {"test": tagged | {"tags": pa.array(test)}})
    (tmp_path / "more" / "test.parquet").rename(folder / "test.parquet")
    assert inspected(folder).label_columns["tags"].unlabelled == ("test",)
    model = preprocessors.write("bert", tmp_path / "model")
    data = read(folder, model, Modality.TEXT, Head.TOKEN_CLASSIFICATION, NAMES)
    assert (data.summary.samples["test"], data.summary.held_out) == (1, ("test",))


def test_a_split_without_the_column_of_labels_is_left_out_too(tmp_path: Path) -> None:
    folder = write(tmp_path / "data", {"train": columns(), "test": {"text": pa.array(REVIEWS)}})
    assert inspect(folder, Columns()).label_columns["label"].unlabelled == ("test",)
    assert engine(folder).summary.held_out == ("validation", "test")


def test_one_row_without_a_label_is_refused_as_before(tmp_path: Path) -> None:
    some = pa.array(["bad", None, *NAMES, *NAMES])
    folder = write(tmp_path / "data", {"train": columns(), "test": columns(label=some)})
    for reader in (lambda: inspected(folder), lambda: engine(folder)):
        with pytest.raises(SecateurError, match=r"test\[1\] has no label"):
            reader()


def test_train_without_labels_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "data", {"train": columns(label=pa.nulls(6, pa.string())), "test": columns()})
    with pytest.raises(SecateurError, match="No row of the split 'train'") as caught:
        engine(folder)
    assert caught.value.errors[0].pointer == "/dataset/splits/train"


PAIRS = [
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question", "sentence"),
    ("question1", "question2"),
    ("text", "text_pair"),
]


def pairs(first: str, second: str) -> dict[str, Any]:
    return {second: pa.array(REVIEWS[::-1]), first: pa.array(REVIEWS), "label": pa.array(list(NAMES) * 3)}


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_both_texts_of_a_pair_are_read_the_first_first(tmp_path: Path, first: str, second: str) -> None:
    folder = write(tmp_path / "data", {split: pairs(first, second) for split in ("train", "validation", "test")})
    contents = inspect(folder, Columns())
    assert (contents.input_column, contents.pair_column) == (first, second)
    inputs = engine(folder).splits[Split.TRAIN].inputs
    ids = inputs["input_ids"]
    assert isinstance(ids, Ragged)
    # [CLS] the good films [SEP] good films [SEP]: ids 5 + place in WORD_PIECES.
    of = {token: 5 + place for place, token in enumerate(preprocessors.WORD_PIECES)}
    films = [of["film"], of["##s"]]
    assert ids.row(0).tolist() == [2, of["the"], of["good"], *films, 3, of["good"], *films, 3]
    types = inputs["token_type_ids"]
    assert isinstance(types, Ragged)
    assert types.row(0).tolist() == [0] * 6 + [1] * 4


def test_a_pair_is_never_read_by_half(tmp_path: Path) -> None:
    folder = write(tmp_path / "data", {split: pairs("question", "sentence") for split in ("train", "test")})
    with pytest.raises(SecateurError, match="columns 'question' and 'sentence' are a pair of texts") as caught:
        engine(folder, Head.EMBEDDING)
    assert caught.value.code is ErrorCode.DATASET_SCHEMA
    one = engine(folder, Head.EMBEDDING, Columns(input="sentence")).splits[Split.TRAIN].inputs
    assert list(one) == ["input_ids"], "asked for by name, one of the two is what is wanted"


@pytest.mark.parametrize("named", [False, True])
def test_a_text_that_is_read_alone_beside_another_is_warned_of(tmp_path: Path, named: bool) -> None:
    folder = write(tmp_path / "data", dict.fromkeys(("train", "test"), pairs("text", "hypothesis")))
    wanted = Columns(input="text") if named else FOUND
    warned = [(each.code, "'hypothesis'" in each.detail) for each in engine(folder, wanted=wanted).summary.warnings]
    assert (("texts_unread", True) in warned) is not named


def test_a_pair_may_have_any_names(tmp_path: Path) -> None:
    folder = write(tmp_path / "data", {split: pairs("claim", "source") for split in ("train", "test")})
    wanted = Columns(input="claim", input_pair="source")
    assert inspect(folder, wanted).pair_column == "source"
    assert "token_type_ids" in engine(folder, wanted=wanted).splits[Split.TRAIN].inputs
    assert "'label' cannot be both label and input_pair" in both_refuse(
        folder, Columns(label="label", input_pair="label")
    )


def test_a_text_of_a_pair_that_is_missing_is_named(tmp_path: Path) -> None:
    shard = pairs("premise", "hypothesis") | {"hypothesis": pa.array([*REVIEWS[:5], None])}
    folder = write(tmp_path / "data", {"train": shard, "test": pairs("premise", "hypothesis")})
    assert inspect(folder, Columns()).blank_texts["train"].missing == 5
    with pytest.raises(SecateurError, match=r"train\[5\]"):
        engine(folder)


ARTICLES = [
    "",
    " = The films = \n",
    "",
    " the good film \n",
    None,
    "in london .",
    "\t\u2003\n",
    "a b",
    "ada sleep",
    *REVIEWS,
]
"""As corpora keep them: of three rows one is blank, or so."""


@pytest.mark.parametrize("head", [Head.MASKED_LM, Head.CAUSAL_LM, Head.EMBEDDING])
def test_blank_rows_are_left_out_where_nothing_is_asked_of_them(tmp_path: Path, head: Head) -> None:
    """Rows, their order, draws and masks are those of the data without them."""
    texts = [text for text in ARTICLES if text and text.strip()]
    group = [str(number // 2) for number in range(len(ARTICLES))]
    groups = [group[number] for number, text in enumerate(ARTICLES) if text in texts]
    shards = {
        "blank": {"train": (ARTICLES * 2, group * 2), "validation": (ARTICLES, group)},
        "bare": {"train": (texts * 2, groups * 2), "validation": (texts, groups)},
    }
    found = {}
    for name, splits in shards.items():
        folder = tmp_path / name / "data"
        folder.parent.mkdir()
        write(folder, {split: {"text": pa.array(of), "who": pa.array(by)} for split, (of, by) in splits.items()})
        found[name] = engine(folder, head, Columns(group="who"))
    contents = inspect(tmp_path / "blank" / "data", Columns())
    left_out = {split: blank.rows for split, blank in contents.blank_texts.items()}
    assert left_out == {"train": 8, "validation": 4}
    expected = samples_by_role(
        {"train": 30 - 8, "validation": 15 - 4}, {Split.TRAIN: "train", Split.VALIDATION: "validation"}
    )
    blank, bare = found["blank"], found["bare"]
    assert blank.summary.samples == bare.summary.samples
    assert sum(blank.summary.samples.values()) == sum(expected.values())
    said = [(one.code, one.pointer, one.detail.split(" texts")[0]) for one in blank.summary.warnings]
    assert said[:2] == [
        ("blank_texts", "/dataset/splits/train", "8 of the 30"),
        ("blank_texts", "/dataset/splits/validation", "4 of the 15"),
    ]
    assert blank.summary.warnings[2:] == bare.summary.warnings
    for role, split in bare.splits.items():
        for name in split.inputs:
            one, other = blank.splits[role].inputs[name], split.inputs[name]
            assert isinstance(one, Ragged)
            assert isinstance(other, Ragged)
            assert [one.row(row).tolist() for row in range(len(one))] == [
                other.row(row).tolist() for row in range(len(other))
            ]


def test_blank_rows_with_a_label_are_not(tmp_path: Path) -> None:
    """White space is a text, though a poor one; no text is a mistake beside a label."""
    for name, value in {"space": " ", "null": None, "empty": ""}.items():
        folder = tmp_path / name / "data"
        folder.parent.mkdir()
        write(folder, {"train": columns(text=pa.array([*REVIEWS[:5], value])), "test": columns()})
        if name == "space":
            assert engine(folder).summary.samples["train"] == 5
            continue
        with pytest.raises(SecateurError, match=r"the text at train\[5\] is null or empty"):
            engine(folder)


def test_a_split_of_blank_rows_alone_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "data", {"train": {"text": pa.array(REVIEWS)}, "test": {"text": pa.array(["", " "])}})
    with pytest.raises(SecateurError, match="'test' has no rows") as caught:
        engine(folder, Head.EMBEDDING)
    assert caught.value.code is ErrorCode.DATASET_EMPTY


@pytest.mark.parametrize("kind", ["roberta", "distilbert", "mpnet"])
def test_models_without_token_types_are_given_none(tmp_path: Path, kind: str) -> None:
    folder = write(tmp_path / "data", {split: pairs("sentence1", "sentence2") for split in ("train", "test")})
    model = preprocessors.write(kind, tmp_path / "model")
    inputs = read(folder, model, Modality.TEXT, Head.CLASSIFICATION, NAMES).splits[Split.TRAIN].inputs
    assert list(inputs) == ["input_ids"]


@pytest.mark.parametrize(
    "type_",
    [pa.string_view(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())],
    ids=["string_view", "large_string", "dictionary"],
)
def test_texts_and_labels_of_every_arrow_type(tmp_path: Path, type_: pa.DataType) -> None:
    values = columns(label=pa.array(list(NAMES) * 3).cast(type_), text=pa.array(REVIEWS).cast(type_))
    folder = write(tmp_path / "data", {"train": values, "test": values})
    assert inspect(folder, Columns()).labels == NAMES
    assert engine(folder).summary.samples["test"] == 6


@pytest.mark.parametrize("id_type", [pa.int8(), pa.int32(), pa.uint16(), pa.int64()], ids=str)
def test_ids_of_every_width(tmp_path: Path, id_type: pa.DataType) -> None:
    shard = columns(label=pa.array([0, 1] * 3, id_type))
    folder = write(tmp_path / "data", {"train": shard, "test": shard}, CLASSES)
    assert inspect(folder, Columns()).labels == NAMES
    targets = engine(folder).splits[Split.TEST].targets
    assert not isinstance(targets, Ragged)
    assert targets.tolist() == [0, 1] * 3


SCORES: dict[str, Any] = {
    "numbers": pa.array([0.0, 2.5, 5.0] * 2),
    "truths": pa.array([True, False] * 3),
    "structs": pa.array([{"a": 1}] * 6),
}


@pytest.mark.parametrize("kind", SCORES)
def test_a_label_of_no_labels_type_does_no_harm_where_none_is_needed(tmp_path: Path, kind: str) -> None:
    """As STS-B has the similarity of a pair."""
    shard = columns(label=SCORES[kind])
    folder = write(tmp_path / "data", {"train": shard, "test": shard})
    contents = inspect(folder, Columns())
    assert (contents.input_column, contents.label_column, contents.labels) == ("text", None, ())
    assert engine(folder, Head.EMBEDDING).summary.samples["test"] == 6
    for reader in (lambda: inspect(folder, Columns(label="label")), lambda: engine(folder)):
        with pytest.raises(SecateurError, match="whole numbers") as caught:
            reader()
        assert caught.value.code is ErrorCode.DATASET_SCHEMA


BIRDS = ("wren", "crane", "crane")


@pytest.mark.parametrize(
    ("names", "checkpoint", "told", "expected"),
    [
        (None, BIRDS, False, [0, 2, 1, 0, 2, 1]),
        (None, ("2", "1", "0"), False, [2, 0, 1, 2, 0, 1]),
        (None, ("2", "1", "0"), True, [0, 2, 1, 0, 2, 1]),
        (BIRDS, BIRDS, False, [0, 2, 1, 0, 2, 1]),
        (BIRDS, ("crane", "wren", "heron"), False, None),
        (BIRDS, ("crane", "wren", "heron"), True, [0, 2, 1, 0, 2, 1]),
        (("wren", "heron", "crane"), ("crane", "wren", "heron"), False, [1, 0, 2, 1, 0, 2]),
        (("wren", "heron", "crane"), ("crane", "wren", "heron"), True, [0, 2, 1, 0, 2, 1]),
        (("wren", "heron", "crane"), ("crane", "wren"), True, None),
    ],
)
def test_ids_by_name_or_by_number(
    tmp_path: Path, names: tuple[str, ...] | None, checkpoint: tuple[str, ...], told: bool, expected: list[int] | None
) -> None:
    shard = columns(label=pa.array([0, 2, 1] * 2))
    features = {"label": {"names": list(names), "_type": "ClassLabel"}} if names else None
    folder = write(tmp_path / "data", {"train": shard, "test": shard}, features)
    wanted = Columns(label_ids=told)
    contents = inspect(folder, wanted)
    assert contents.labels == (tuple(dict.fromkeys(names)) if names else ("0", "1", "2"))
    assert contents.label_columns["label"].repeated == (("crane",) if names == BIRDS else ())
    model = preprocessors.write("bert", tmp_path / "model")
    if expected is None:
        with pytest.raises(SecateurError) as caught:
            read(folder, model, Modality.TEXT, Head.CLASSIFICATION, checkpoint, columns=wanted)
        assert caught.value.code is ErrorCode.LABELS_MISMATCH
        return
    data = read(folder, model, Modality.TEXT, Head.CLASSIFICATION, checkpoint, columns=wanted)
    targets = data.splits[Split.TEST].targets
    assert not isinstance(targets, Ragged)
    assert targets.tolist() == expected
    by_number = names is None and not told and checkpoint == BIRDS
    assert any(one.code == "labels_by_number" for one in data.summary.warnings) == by_number


@pytest.mark.parametrize("told", [False, True])
def test_tags_without_names_are_class_numbers(tmp_path: Path, told: bool) -> None:
    """As conll2003 is where the metadata of `datasets` are lost."""
    words = pa.array([["ada", "sleep"], ["in", "london"]] * 3)
    shard = {"tokens": words, "ner_tags": pa.array([[1, 0], [0, 2]] * 3)}
    folder = write(tmp_path / "data", {"train": shard, "test": shard})
    contents = inspect(folder, Columns(label_ids=told))
    assert (contents.label_column, contents.labels) == ("ner_tags", ("0", "1", "2"))
    model = preprocessors.write("bert", tmp_path / "model")
    labels = ("O", "PER", "LOC")
    data = read(folder, model, Modality.TEXT, Head.TOKEN_CLASSIFICATION, labels, columns=Columns(label_ids=told))
    targets = data.splits[Split.TEST].targets
    assert isinstance(targets, Ragged)
    assert [label for label in targets.row(1).tolist() if label >= 0] == [0, 2]


FILE = pa.struct([("bytes", pa.binary_view()), ("path", pa.string_view())])


@pytest.mark.parametrize("type_", [pa.binary(), pa.large_binary(), pa.binary_view(), FILE], ids=str)
def test_recordings_of_every_arrow_type(tmp_path: Path, type_: pa.DataType) -> None:
    clips = [word(WORDS[number % 3], number) for number in range(6)]
    values: Any = [{"bytes": clip, "path": None} for clip in clips] if type_ is FILE else clips
    shard = {
        "digest": pa.array([b"\0\1\2\3" * 8] * 6),
        "sound": pa.array(values, type_),
        "label": pa.array([WORDS[number % 3] for number in range(6)]),
    }
    folder = write(tmp_path / "data", {"train": shard, "test": shard})
    contents = inspect(folder, Columns())
    assert (contents.modality, contents.input_column, contents.rows["test"]) == (Modality.AUDIO, "sound", 6)
    model = write_checkpoint(tmp_path / "model")
    assert read(folder, model, Modality.AUDIO, Head.CLASSIFICATION, WORDS).summary.samples["test"] == 6


def test_bytes_beside_texts_are_no_recordings(tmp_path: Path) -> None:
    shard = columns(digest=pa.array([b"\0\1\2\3" * 8] * 6))
    folder = write(tmp_path / "data", {"train": shard, "test": shard})
    assert inspect(folder, Columns()).modality is Modality.TEXT
    assert engine(folder).summary.samples["test"] == 6
