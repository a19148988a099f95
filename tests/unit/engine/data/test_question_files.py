"""Questions, contexts and answers in all forms that files have them in: the inspector and the engine find the same."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from api_schemas.enums import ColumnKind, Head, Modality
from api_schemas.spec.inputs import Columns
from secateur.client.files.packing import pack_folder
from store.uploads.inspection.dataset import inspect
from tests.support.checkpoints import preprocessors
from tests.support.checkpoints.rows import read
from worker.engine.data import PreparedData

CONTEXTS = ["ada sleeps in london", "the good films", "a bad film"] * 4
QUESTIONS = [f"the film {number}" for number, _ in enumerate(CONTEXTS)]
IN_LISTS = [
    {"text": ["london", "in london"], "answer_start": [14, 11]},
    {"text": ["good"], "answer_start": [4]},
    {"text": [], "answer_start": []},
] * 4
IN_STRUCTS = [[{"text": text, "answer_start": at} for text, at in zip(*row.values(), strict=True)] for row in IN_LISTS]
NOWHERE = [{"text": [], "answer_start": []}] * len(CONTEXTS)
SPLITS = ("train", "validation", "test")
FOUND = Columns()

Rows = list[Any]
TYPES = {
    "as datasets writes it": pa.struct([("text", pa.list_(pa.string())), ("answer_start", pa.list_(pa.int32()))]),
    "the other way round": pa.struct(
        [("answer_start", pa.large_list(pa.uint16())), ("n", pa.int8()), ("text", pa.list_(pa.large_string()))]
    ),
    "a list of structs": pa.list_(pa.struct([("text", pa.string()), ("answer_start", pa.int64())])),
    "a view": pa.struct([("text", pa.list_(pa.string_view())), ("answer_start", pa.list_(pa.int32()))]),
}


def table(answers: Any, **more: Any) -> pa.Table:
    return pa.table({"id": QUESTIONS, "question": QUESTIONS, "context": CONTEXTS, "answers": answers, **more})


def shards(folder: Path, **tables: pa.Table) -> Path:
    folder.mkdir()
    for name, each in tables.items():
        pq.write_table(each, folder / f"{name}.parquet")
    return folder


def engine(folder: Path, wanted: Columns = FOUND) -> PreparedData:
    model = preprocessors.write("bert", folder.parent / "model")
    return read(folder, model, Modality.TEXT, Head.QUESTION_ANSWERING, columns=wanted)


def asked(data: PreparedData, rows: int = 3) -> list[tuple[str, ...]]:
    assert data.questions is not None
    return [data.questions.asked(number).answers for number in range(rows)]


@pytest.mark.parametrize("kind", TYPES)
def test_every_type_that_has_both(kind: str, tmp_path: Path) -> None:
    type_ = TYPES[kind]
    values = pa.array(IN_STRUCTS if pa.types.is_list(type_) else IN_LISTS, type_)
    folder = shards(tmp_path / "data", **dict.fromkeys(SPLITS, table(values)))
    contents = inspect(folder, FOUND)
    assert contents.kinds["answers"] is ColumnKind.ANSWERS
    # What the checkpoint asks is not known yet: these are a pair of texts like any other.
    assert (contents.input_column, contents.pair_column, contents.label_column) == ("question", "context", None)
    found = contents.label_columns["answers"]
    assert (found.unusable, found.unlabelled, found.context) == ({}, (), "context")
    data = engine(folder)
    assert data.summary.unanswerable == dict.fromkeys(SPLITS, 4)
    assert asked(data) == [("london", "in london"), ("good",), ()]


@pytest.mark.parametrize("rows", [IN_LISTS, IN_STRUCTS], ids=["lists", "structs"])
@pytest.mark.parametrize("whole", [False, True], ids=["lines", "array"])
def test_json_is_packed_and_read(rows: Rows, whole: bool, tmp_path: Path) -> None:
    columns = zip(QUESTIONS, CONTEXTS, rows, strict=True)
    objects = [{"question": q, "context": c, "answers": a, "is_impossible": not a} for q, c, a in columns]
    folder, out = tmp_path / "json", tmp_path / "packed"
    folder.mkdir()
    out.mkdir()
    for split in SPLITS:
        text = json.dumps(objects) if whole else "".join(json.dumps(each) + "\n" for each in objects)
        (folder / f"{split}.{'json' if whole else 'jsonl'}").write_text(text)
    pack_folder(folder, out)
    contents = inspect(out, FOUND)
    assert contents.kinds["answers"] is ColumnKind.ANSWERS
    for each in (folder, out):
        assert asked(engine(each)) == [("london", "in london"), ("good",), ()]


def test_other_values_in_json_are_no_answers(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    row = {"question": "ada", "context": "ada", "answers": {"text": ["ada"], "answer_start": ["0"]}}
    for split in SPLITS:
        (tmp_path / "data" / f"{split}.jsonl").write_text((json.dumps(row) + "\n") * 3)
    with pytest.raises(
        Exception, match="the checkpoint needs answers and their start positions: a column called `answers`"
    ):
        engine(tmp_path / "data")


def test_shards_may_have_them_in_different_forms_and_a_split_without_any_is_left_out(tmp_path: Path) -> None:
    lists, structs = TYPES["as datasets writes it"], TYPES["a list of structs"]
    nothing = pa.array(NOWHERE, pa.struct([("text", pa.list_(pa.null())), ("answer_start", pa.list_(pa.null()))]))
    folder = shards(
        tmp_path / "data",
        train=table(pa.array(IN_LISTS, lists)),
        validation=table(pa.array(IN_STRUCTS, structs)),
        test=table(nothing),
    )
    assert inspect(folder, FOUND).label_columns["answers"].unlabelled == ("test",)
    summary = engine(folder).summary
    assert (summary.samples, summary.held_out) == ({"train": 11, "validation": 12, "test": 1}, ("test",))
    assert summary.warnings[0].code == "no_labels"


def test_what_is_wrong_is_said_by_both(tmp_path: Path) -> None:
    """By the inspector of the column, for whoever asks for it: the texts may be for something else."""
    wrong = [*IN_LISTS[:4], {"text": ["good"], "answer_start": [3]}, *IN_LISTS[5:]]
    type_ = TYPES["as datasets writes it"]
    good, bad = (table(pa.array(rows, type_)) for rows in (IN_LISTS, wrong))
    folder = shards(tmp_path / "data", train=good, validation=good, test=bad)
    (said,) = inspect(folder, FOUND).label_columns["answers"].unusable.items()
    assert said[0] == "test"
    assert said[1].startswith("at test[4], the answer 'good' does not start at character 3")
    with pytest.raises(Exception, match=r"at test\[4\], the answer 'good' does not start at character 3"):
        engine(folder)


def test_columns_may_be_named(tmp_path: Path) -> None:
    answers = pa.array(IN_STRUCTS, TYPES["a list of structs"])
    each = pa.table({"q": QUESTIONS, "c": CONTEXTS, "a": answers, "text": ["x"] * len(CONTEXTS)})
    folder = shards(tmp_path / "data", **dict.fromkeys(SPLITS, each))
    wanted = Columns(input="q", input_pair="c", label="a", group="q")
    contents = inspect(folder, wanted)
    assert (contents.input_column, contents.pair_column, contents.label_column) == ("q", "c", "a")
    assert contents.labels == ()
    assert contents.label_columns["a"].context == "c"
    assert asked(engine(folder, wanted)) == [("london", "in london"), ("good",), ()]
    # Of other contexts nothing is known before somebody names them.
    assert "a" not in inspect(folder, FOUND).label_columns


def test_what_answers_unpack_to_is_bounded(tmp_path: Path) -> None:
    """They are read for themselves, and may be far more than the texts."""
    many = [{"text": ["good"] * 100, "answer_start": [4] * 100} for _ in range(12)]
    values = pa.array(many, TYPES["as datasets writes it"])
    each = table(values).set_column(2, "context", pa.array(["the good film"] * 12))
    folder = shards(tmp_path / "data", train=each)
    texts = each["question"].nbytes + each["context"].nbytes
    assert inspect(folder, FOUND, most_bytes=2 * (texts + values.nbytes)).rows == {"train": 12}
    with pytest.raises(Exception, match="bytes uncompressed"):
        inspect(folder, FOUND, most_bytes=2 * texts)
