"""Rows of CSV and JSON files, one at a time, and the contents of their columns.

A CSV does not state the types of its cells. Labels and texts are taken as written: `None`, `NA` and `01` are labels like any
other. The client that packs such files and the engine that reads them both use this module.
"""

import csv
import gzip
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from io import TextIOWrapper
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

from api_schemas.spec.inputs import Columns
from checkpoints.data.answers import START, TEXT, in_lists, is_articles, rows_of_articles
from checkpoints.data.columns import LABEL_NAMES, TAG_NAMES, USUAL_NAMES

MAX_LINE = 2**26
"""Characters; and of one cell. What a few kilobytes unpack to is not known before."""
DATA, VERSION = "data", "version"
"""What SQuAD's own files, and those that transformers' run_qa.py takes, have: their rows under the first."""
MAX_ARRAY_BYTES = 2**30
"""Of a JSON array, which is read whole."""
_INTEGER = re.compile(r"-?(0|[1-9]\d{0,17})")
_NUMBER = re.compile(r"[+-]?(0|[1-9]\d*)?(\.\d*)?([eE][+-]?\d+)?")
_TRUTHS = {"true": True, "false": False}
_NO_NUMBERS = frozenset({"nan", "inf", "-inf"})
"""What programs write among numbers where there is none; among other texts they are texts."""


class Cells(StrEnum):
    """What the cells of a column hold, by Arrow's names where it has one."""

    TEXT = "string"
    TEXTS = "list<string>"
    INTEGER = "int64"
    NUMBER = "double"
    TRUTH = "bool"
    DATE = "timestamp"
    INTEGERS = "list<int64>"
    ANSWERS = "struct<text: list<string>, answer_start: list<int64>>"
    NOTHING = "null"
    """No value, or values that nothing here reads."""


def column_cells(files: Sequence[Path], columns: Columns, *, texts: bool) -> dict[str, Cells]:
    """What every column of these files holds, in order of first appearance.

    Columns of usual names, and those that `columns` names, hold texts whatever they look like. With `texts` so do all, where
    else none would: then texts are what is read. Raises ValueError where a file cannot be read as rows.
    """
    found: defaultdict[str, set[Cells]] = defaultdict(set)
    for file in files:
        judge = _judged_text if _is_csv(file) else _judged_value
        for row in _rows(file):
            for name, value in row.items():
                seen = found[name]
                if value is not None and Cells.TEXT not in seen:
                    seen.add(judge(value))
    labels = {columns.label, columns.group, *LABEL_NAMES, *TAG_NAMES}
    usual = {columns.input, columns.input_pair, columns.label, *USUAL_NAMES}
    cells = {name: _together(seen, usual=name in usual) for name, seen in found.items()}
    if texts and not any(each in (Cells.TEXT, Cells.TEXTS) for name, each in cells.items() if name not in labels):
        cells = {name: each if each in (Cells.TEXTS, Cells.NOTHING) else Cells.TEXT for name, each in cells.items()}
    return cells


def read_rows(file: Path, cells: Mapping[str, Cells]) -> Iterator[dict[str, Any]]:
    """The rows of a file by column, as `column_cells` found them. Null where a cell is blank. Raises ValueError."""
    kept = {name: each for name, each in cells.items() if each is not Cells.NOTHING}
    for row in _rows(file):
        yield {name: _valued(row.get(name), each) for name, each in kept.items()}


def is_text_file(file: Path) -> bool:
    """Whether `read_rows` reads a file of this name."""
    return bool(_kind(file))


def _kind(file: Path) -> str:
    name = file.name.lower().removesuffix(".gz")
    return next((suffix for suffix in (".csv", ".jsonl", ".json") if name.endswith(suffix)), "")


def _is_csv(file: Path) -> bool:
    return _kind(file) == ".csv"


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    """Raises ValueError, naming the file."""
    read: Callable[[TextIO, Path], Iterator[dict[str, Any]]] = _csv_rows if _is_csv(file) else _json_rows
    try:
        # utf-8-sig: some programs begin a file with a byte-order mark, which is no part of the first column's name.
        with (gzip.open if file.suffix.lower() == ".gz" else open)(file, "rb") as raw:
            yield from read(TextIOWrapper(raw, encoding="utf-8-sig", newline=""), file)
    except UnicodeDecodeError as error:
        raise ValueError(f"{file.name} is not UTF-8 text ({error.reason} at byte {error.start})") from None
    except (gzip.BadGzipFile, EOFError, csv.Error, RecursionError) as error:
        raise ValueError(f"{file.name} cannot be read: {error}") from None


def _lines(text: TextIO, file: Path) -> Iterator[str]:
    while line := text.readline(MAX_LINE):
        if len(line) == MAX_LINE:
            raise ValueError(f"{file.name} has a line longer than {MAX_LINE} characters")
        yield line


def _csv_rows(text: TextIO, file: Path) -> Iterator[dict[str, Any]]:
    csv.field_size_limit(max(MAX_LINE, csv.field_size_limit()))
    reader = csv.reader(_lines(text, file), strict=True)
    header: list[str] | None = None
    for cells in reader:
        if not cells:
            continue
        if header is None:
            header = cells
            if len(set(header)) != len(header):
                raise ValueError(f"{file.name} has two columns of the same name")
            continue
        if len(cells) != len(header):
            raise ValueError(
                f"{file.name} has {len(cells)} cells in the row that ends at line {reader.line_num}, but "
                f"{len(header)} columns"
            )
        yield {name: cell or None for name, cell in zip(header, cells, strict=True)}


def _json_rows(text: TextIO, file: Path) -> Iterator[dict[str, Any]]:
    """One object a line, an array of objects, or an object around such an array, as SQuAD's own files are."""
    lines = _lines(text, file)
    first = next((line for line in lines if line.strip()), "")
    rows: Iterable[Any]
    if first.lstrip().startswith("["):
        rows = _parsed(_whole(first, lines, file), file)
    elif first.lstrip().startswith("{") and not first.rstrip().endswith("}"):
        rows = _rows_inside(_parsed(_whole(first, lines, file), file), file)
    else:
        parsed = _parsed(first, file) if first else None
        second = next((line for line in lines if line.strip()), None)
        if second is None and isinstance(parsed, dict) and DATA in parsed and set(parsed) <= {DATA, VERSION}:
            rows = _rows_inside(parsed, file)
        else:
            after = () if second is None else (second,)
            rows = chain(
                [parsed] if first else [], (_parsed(line, file) for line in chain(after, lines) if line.strip())
            )
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise ValueError(f"row {number} of {file.name} is not a JSON object")
        yield row


def _whole(first: str, lines: Iterable[str], file: Path) -> str:
    if file.stat().st_size > MAX_ARRAY_BYTES:
        raise ValueError(
            f"{file.name} is an array of more than {MAX_ARRAY_BYTES} bytes; write one object per line instead"
        )
    return "".join(_bounded(chain((first,), lines), file))


def _rows_inside(whole: Any, file: Path) -> Iterator[Any]:
    """The rows that an object has as `data`; where these are SQuAD's articles, a row a question."""
    inside = whole.get(DATA)
    if not isinstance(inside, list):
        raise ValueError(
            f"{file.name} is one JSON object without an array `{DATA}`; write an array of objects, or one object "
            "per line"
        )
    if not is_articles(inside):
        yield from inside
        return
    try:
        yield from rows_of_articles(inside)
    except ValueError as error:
        raise ValueError(f"{file.name} has questions in SQuAD's format, but {error}") from None


def _bounded(lines: Iterable[str], file: Path) -> Iterator[str]:
    left = MAX_ARRAY_BYTES
    for line in lines:
        left -= len(line)
        if left < 0:
            raise ValueError(f"{file.name} unpacks to an array of more than {MAX_ARRAY_BYTES} characters")
        yield line


def _parsed(text: str, file: Path) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"{file.name} is neither an array of JSON objects nor one object per line: {error}") from None


def _judged_text(cell: str) -> Cells:
    if _INTEGER.fullmatch(cell):
        return Cells.INTEGER
    if (_NUMBER.fullmatch(cell) and any(map(str.isdigit, cell))) or cell.lower() in _NO_NUMBERS:
        return Cells.NUMBER
    if cell.lower() in _TRUTHS:
        return Cells.TRUTH
    return Cells.TEXT if _date(cell) is None else Cells.DATE


def _judged_value(value: Any) -> Cells:
    """Of a JSON value, which says what it is."""
    if isinstance(value, dict | list) and value and _is_answers(value):
        return Cells.ANSWERS
    if isinstance(value, list):
        if not all(each is None or isinstance(each, str | int) for each in value):
            return Cells.NOTHING
        return Cells.TEXTS if all(each is None or isinstance(each, str) for each in value) else Cells.INTEGERS
    if isinstance(value, bool):
        return Cells.TRUTH
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return Cells.INTEGER
    if isinstance(value, int | float):
        return Cells.NUMBER
    return Cells.TEXT if isinstance(value, str) else Cells.NOTHING


def _is_answers(value: Any) -> bool:
    try:
        found = in_lists(value)
    except ValueError:
        return False
    texts, starts = (set(map(type, each)) for each in (found or {}).values())
    named = all({TEXT, START} <= set(each) for each in ([value] if isinstance(value, dict) else value))
    return named and texts <= {str, type(None)} and starts <= {int, type(None)}


def _together(seen: set[Cells], *, usual: bool) -> Cells:
    """What a column is whose cells were judged so."""
    if not seen:
        return Cells.TEXT if usual else Cells.NOTHING
    # An empty list is one of anything.
    if Cells.ANSWERS in seen and seen <= {Cells.ANSWERS, Cells.TEXTS}:
        return Cells.ANSWERS
    if seen <= {Cells.TEXTS, Cells.INTEGERS}:
        return Cells.TEXTS if usual or Cells.TEXTS in seen else Cells.NOTHING
    if seen & {Cells.TEXTS, Cells.INTEGERS, Cells.ANSWERS, Cells.NOTHING}:
        return Cells.NOTHING
    if seen == {Cells.INTEGER, Cells.NUMBER} and not usual:
        return Cells.NUMBER
    return Cells.TEXT if usual or len(seen) > 1 else next(iter(seen))


def _valued(value: Any, cells: Cells) -> Any:
    match cells:
        case _ if value is None:
            return None
        case Cells.TEXT:
            return _text(value)
        case Cells.TEXTS:
            return [None if each is None else _text(each) for each in value]
        case Cells.ANSWERS:
            return in_lists(value)
        case Cells.INTEGER:
            return int(value)
        case Cells.NUMBER:
            return float(value)
        case Cells.TRUTH:
            return _TRUTHS[value.lower()] if isinstance(value, str) else value
        case _:
            return _date(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _date(cell: str) -> datetime | None:
    try:
        return datetime.fromisoformat(cell).replace(tzinfo=None)
    except ValueError:
        return None
