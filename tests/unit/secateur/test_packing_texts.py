"""Texts as people keep them: packed by the client and inspected, or read by the engine where they lie, they are the same."""

import gzip
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet as pq
import pytest

from api_schemas.api.resources import DatasetContents
from api_schemas.enums import ColumnKind, Head, Modality, Split
from api_schemas.errors import SecateurError
from api_schemas.spec.inputs import Columns, Splits
from checkpoints.data import answers as squad
from checkpoints.data.layout import find_layout
from secateur.client.files.packing import packing
from store.uploads.inspection.dataset import inspect
from tests.support.checkpoints import preprocessors
from tests.support.checkpoints.clips import WORDS, word, write_checkpoint
from tests.support.checkpoints.rows import read
from worker.engine.data.split import Ragged

FOUND = Columns()
TEXTS = ["the good films", "bad film", "ada lovelace", "in london"]
ROWS = [{"text": text, "label": ("yes", "no")[number % 2]} for number, text in enumerate(TEXTS)]
BOM = b"\xef\xbb\xbf"


def written(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return folder


def packed(folder: Path, columns: Columns = FOUND) -> DatasetContents:
    """What the inspector finds in the shards that a client sends."""
    out = folder.parent / "packed"
    out.mkdir()
    assert sum(packing(find_layout(folder, Splits()), folder, out, columns)) > 0
    return inspect(out, columns)


def answers(folder: Path, labels: tuple[str, ...], columns: Columns = FOUND) -> list[int]:
    """Targets of the test split as the engine reads them."""
    model = preprocessors.write("bert", folder.parent / "model")
    data = read(folder, model, Modality.TEXT, Head.CLASSIFICATION, labels, columns=columns)
    targets = data.splits[Split.TEST].targets
    assert not isinstance(targets, Ragged)
    found: list[int] = targets.tolist()
    return found


def csv_of(labels: list[str], column: str = "label") -> str:
    return f"text,{column}\n" + "".join(f"{text},{label}\n" for text, label in zip(TEXTS, labels, strict=True))


@pytest.mark.parametrize(
    "labels",
    [
        ["None", "good", "None", "good"],
        ["NA", "NaN", "null", "n/a"],
        ["01", "1", "001", "01"],
        ["1", "2", "2", "1"],
        ["true", "false", "True", "true"],
        ["2020-01-01", "2021-01-01", "2020-01-01", "2021-01-01"],
        ["0.5", "1.0", "0.50", "1.0"],
        ["<NA>", "-nan", "#N/A", "1.#IND"],
    ],
    ids=["None", "nulls", "zeros", "numbers", "truths", "dates", "fractions", "pandas"],
)
@pytest.mark.parametrize("column", ["label", "kind"])
def test_a_label_is_what_is_written(tmp_path: Path, labels: list[str], column: str) -> None:
    folder = written(tmp_path / "data", dict.fromkeys(("train.csv", "test.csv"), csv_of(labels, column)))
    wanted = Columns(label=column) if column != "label" else Columns()
    names = tuple(sorted(set(labels)))
    assert packed(folder, wanted).labels == names
    assert answers(folder, names, wanted) == [names.index(label) for label in labels]


def test_labels_of_metadata_are_what_is_written(tmp_path: Path) -> None:
    names = ("01", "None")
    clips = {f"{number}.wav": word(WORDS[number % 3], number) for number in range(4)}
    lines = "".join(f"{number}.wav,{names[number % 2]}\n" for number in range(4))
    files: dict[str, str | bytes] = {"metadata.csv": "file_name,label\n" + lines, **clips}
    folder = written(
        tmp_path / "data", {f"{split}/{name}": data for split in ("train", "test") for name, data in files.items()}
    )
    assert packed(folder).labels == names
    data = read(folder, write_checkpoint(tmp_path / "model"), Modality.AUDIO, Head.CLASSIFICATION, names)
    targets = data.splits[Split.TEST].targets
    assert not isinstance(targets, Ragged)
    assert targets.tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize(
    "texts", [["2020-01-01", "2021-05-06T10:00", "1999-12-31", "2000-01-01"], ["1", "2", "3", "4"], ["true"] * 4]
)
@pytest.mark.parametrize("name", ["text", "body"])
def test_texts_are_texts_whatever_they_look_like(tmp_path: Path, texts: list[str], name: str) -> None:
    rows = f"{name},label\n" + "".join(f"{text},{'yes' if number % 2 else 'no'}\n" for number, text in enumerate(texts))
    folder = written(tmp_path / "data", {"train.csv": rows, "test.csv": rows})
    contents = packed(folder)
    assert (contents.input_column, contents.kinds[name]) == (name, ColumnKind.TEXT)
    assert answers(folder, ("no", "yes")) == [0, 1, 0, 1]


def test_numbers_and_dates_beside_a_text_are_not_taken_for_one(tmp_path: Path) -> None:
    lines = [
        "score,day,seen,id,review,label",
        "0.5,2020-01-01,true,1,good,yes",
        ",,,,bad,no",
        "nan,2020-01-02,false,2,a,no",
    ]
    folder = written(tmp_path / "data", {"train.csv": "\n".join([*lines, lines[1]]), "test.csv": "\n".join(lines)})
    contents = packed(folder)
    assert contents.input_column == "review"
    assert {name: kind for name, kind in contents.kinds.items() if kind is not ColumnKind.OTHER} == {
        "id": ColumnKind.NUMBER,
        "review": ColumnKind.TEXT,
        "label": ColumnKind.TEXT,
    }
    assert answers(folder, ("no", "yes")) == [1, 0, 0]


def test_a_blank_cell_is_a_missing_label_and_leaves_the_others_as_they_are(tmp_path: Path) -> None:
    folder = written(
        tmp_path / "data", {"train.csv": csv_of(["1", "2", "1", "2"]), "test.csv": csv_of(["1", "", "2", "1"])}
    )
    error = packed(folder).label_error
    assert error is not None
    assert "row test[1] has no label" in error.detail
    with pytest.raises(SecateurError, match=r"row test\[1\] has no label"):
        answers(folder, ("1", "2"))


@pytest.mark.parametrize("written_as", ["", "-1"])
@pytest.mark.parametrize("train", [["1", "2", "1", "2"], ["good", "bad", "good", "bad"]])
def test_a_csv_whose_test_split_has_no_labels(train: list[str], written_as: str, tmp_path: Path) -> None:
    folder = written(tmp_path / "data", {"train.csv": csv_of(train), "test.csv": csv_of([written_as] * 4)})
    assert packed(folder).label_columns["label"].unlabelled == ("test",)
    assert len(answers(folder, tuple(sorted(set(train))))) == 1


def json_lines(rows: list[dict[str, Any]]) -> str:
    return "\n".join(json.dumps(row) for row in rows)


def saved(folder: Path) -> Path:
    rows = datasets.Dataset.from_list(ROWS)
    datasets.DatasetDict({"train": rows, "test": rows}).save_to_disk(folder)
    return folder


@pytest.mark.parametrize(
    "write",
    [
        lambda folder: written(
            folder, dict.fromkeys(("train.csv", "test.csv"), BOM + csv_of(["yes", "no"] * 2).encode())
        ),
        lambda folder: written(folder, dict.fromkeys(("train.jsonl", "test.jsonl"), BOM + json_lines(ROWS).encode())),
        lambda folder: written(folder, dict.fromkeys(("train.json", "test.json"), BOM + json.dumps(ROWS).encode())),
        lambda folder: written(folder, dict.fromkeys(("train.json", "test.json"), json.dumps(ROWS, indent=1))),
        lambda folder: written(folder, dict.fromkeys(("train.json", "test.json"), json_lines(ROWS))),
        lambda folder: written(
            folder, dict.fromkeys(("train.jsonl.gz", "test.jsonl.gz"), gzip.compress(json_lines(ROWS).encode()))
        ),
        lambda folder: written(folder, dict.fromkeys(("Train.CSV", "Test.CSV"), csv_of(["yes", "no"] * 2))),
        lambda folder: written(folder, dict.fromkeys(("train_00.csv", "test_00.csv"), csv_of(["yes", "no"] * 2))),
        lambda folder: written(
            folder, dict.fromkeys(("train.csv", "test.csv"), csv_of(["yes", "no"] * 2).replace("\n", "\r\n"))
        ),
        saved,
    ],
    ids=[
        "csv mark",
        "jsonl mark",
        "json mark",
        "json",
        "json lines",
        "jsonl.gz",
        "capitals",
        "numbered",
        "crlf",
        "saved",
    ],
)
def test_ways_in_which_rows_are_kept(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    folder = write(tmp_path / "data")
    contents = packed(folder)
    assert (contents.rows, contents.labels) == ({"test": 4, "train": 4}, ("no", "yes"))
    assert (contents.input_column, contents.columns) == ("text", ("text", "label"))
    assert answers(folder, ("no", "yes")) == [1, 0, 1, 0]


def test_the_own_files_of_squad_are_a_row_a_question(tmp_path: Path) -> None:
    """Version 2.0, and flat rows under `data`, as transformers' run_qa.py reads them; on a line, or on many."""
    told = {"text": "the Pope", "answer_start": 6}
    asked = [
        {"id": "1", "question": "Who?", "answers": [told], "is_impossible": False},
        {"id": "2", "question": "Why?", "answers": [], "plausible_answers": [told], "is_impossible": True},
    ]
    paragraphs = [
        {"context": "Here, the Pope.", "qas": asked},
        {"context": "It was the Pope", "qas": [{"id": "2", "question": "Why?", "is_impossible": True}]},
    ]
    nested = {"version": "v2.0", "data": [{"title": "Pope", "paragraphs": paragraphs}]}
    flat = [
        {"id": "1", "title": "Pope", "context": "Here, the Pope.", "question": "Who?", "answers": [told]},
        {"id": "2", "title": "Pope", "context": "Here, the Pope.", "question": "Why?", "answers": []},
        {"id": "2", "title": "Pope", "context": "It was the Pope", "question": "Why?", "answers": []},
    ]
    for number, name, text in (
        (0, "train-v2.0.json", json.dumps(nested)),
        (1, "train-v2.0.json", json.dumps(nested, indent=2)),
        (2, "train.json", json.dumps({"version": "0.1", "data": flat})),
        (3, "train.jsonl", json_lines(flat)),
    ):
        folder = written(tmp_path / str(number) / "data", {name: text})
        contents = packed(folder)
        assert contents.kinds["answers"] is ColumnKind.ANSWERS
        assert contents.label_columns["answers"].unusable == {}
        packed_rows = pq.read_table(folder.parent / "packed" / "train-00000-of-00001.parquet").to_pylist()
        lists = {"text": ["the Pope"], "answer_start": [6]}
        none: dict[str, list[Any]] = {"text": [], "answer_start": []}
        assert packed_rows == [{**row, "answers": lists if row["answers"] else none} for row in flat]


def test_contexts_are_not_repeated_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(squad, "MAX_REPEATED", 9)
    paragraph = {"context": "abc", "qas": [{"question": "?", "answers": []}] * 4}
    folder = written(tmp_path / "data", {"train.json": json.dumps({"data": [{"paragraphs": [paragraph]}]})})
    with pytest.raises(
        ValueError, match=r"train\.json has .* repeated for every question, have more than 9 characters"
    ):
        packed(folder)


def test_a_lone_row_may_have_a_column_of_data(tmp_path: Path) -> None:
    folder = written(tmp_path / "data", {"train.jsonl": '{"text": "a", "data": ["b"]}'})
    assert packed(folder).columns == ("text", "data")


def test_a_dataset_that_was_saved_alone_is_train(tmp_path: Path) -> None:
    datasets.Dataset.from_list(ROWS * 5).save_to_disk(tmp_path / "data")
    assert packed(tmp_path / "data").rows == {"train": 20}
    assert len(answers(tmp_path / "data", ("no", "yes"))) == 2


def test_numbers_in_json_are_labels_by_their_text(tmp_path: Path) -> None:
    rows = [{"text": row["text"], "label": number % 2, "score": number / 2} for number, row in enumerate(ROWS)]
    folder = written(tmp_path / "data", dict.fromkeys(("train.jsonl", "test.jsonl"), json_lines(rows)))
    contents = packed(folder)
    assert (contents.labels, contents.kinds["score"]) == (("0", "1"), ColumnKind.OTHER)
    assert answers(folder, ("0", "1")) == [0, 1, 0, 1]


def test_dates_in_json_are_texts(tmp_path: Path) -> None:
    rows = [{"text": f"2020-01-0{day}", "label": "yes" if day % 2 else "no"} for day in range(1, 5)]
    folder = written(tmp_path / "data", dict.fromkeys(("train.jsonl", "test.jsonl"), json_lines(rows)))
    assert packed(folder).kinds == {"text": ColumnKind.TEXT, "label": ColumnKind.TEXT}
    assert pq.read_table(tmp_path / "packed" / "test-00000-of-00001.parquet")["text"][0].as_py() == "2020-01-01"


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("train.csv", "text,label\na,b,c\n", "3 cells in the row that ends at line 2, but 2 columns"),
        ("train.csv", "text,text\na,b\n", "two columns of the same name"),
        ("train.csv", b"text,label\n\xff\xfe,b\n", "is not UTF-8 text"),
        ("train.csv", 'text,label\n"a,b\n', "cannot be read"),
        ("train.jsonl", "[1, 2]", "row 0 of train.jsonl is not a JSON object"),
        ("train.jsonl", '{"text": ', "neither an array of JSON objects nor one object per line"),
        ("train.jsonl", "[" * 100_000, "cannot be read"),
        ("train.json", '{\n"rows": []}', "one JSON object without an array `data`"),
        ("train.json", '{"data": [{"paragraphs": 1}]}', "data\\[0\\].paragraphs is not an array of objects"),
        ("train.json", '{"data": [{"paragraphs": [{"qas": []}]}]}', "paragraphs\\[0\\] has no text field `context`"),
        ("train.json", '{"data": [{"paragraphs": [{"context": "a", "qas": [1]}]}]}', "qas is not an array of objects"),
        ("train.jsonl.gz", b"no archive", "cannot be read"),
        ("train.jsonl.gz", gzip.compress(b'{"text": "a"}', mtime=0)[:-9], "cannot be read"),
    ],
)
def test_files_that_are_something_else_are_named(tmp_path: Path, name: str, data: str | bytes, said: str) -> None:
    folder = written(tmp_path / "data", {name: data})
    with pytest.raises(ValueError, match=said) as caught:
        packed(folder)
    assert name in str(caught.value)
