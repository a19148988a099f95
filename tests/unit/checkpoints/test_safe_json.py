"""JSON from strangers: what is too much is refused before it is parsed, and depth is counted right."""

import json

import pytest

from checkpoints.files import safe_json
from checkpoints.files.safe_json import MAX_CONTAINERS, MAX_VALUES, UnsafeJsonError, load_object


@pytest.mark.parametrize(
    "data",
    [
        b'{"a": [' + b"[]," * MAX_CONTAINERS + b"1]}",
        b'{"a": [' + b"{}," * MAX_CONTAINERS + b"1]}",
        b'{"a": [' + b"1," * (MAX_VALUES + 1) + b"1]}",
    ],
    ids=["lists", "objects", "values"],
)
def test_what_is_cheap_to_send_and_dear_to_read_is_never_parsed(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safe_json.json, "loads", lambda *_, **__: pytest.fail("it was parsed"))
    with pytest.raises(UnsafeJsonError, match="has more than"):
        load_object(data, len(data))


def test_a_header_of_as_many_tensors_as_are_allowed_is_read() -> None:
    header = {f"layer.{number}": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for number in range(65_536)}
    data = json.dumps(header).encode()
    assert load_object(data, len(data), max_depth=3) == header


def test_levels_are_counted_through_objects_and_lists() -> None:
    nested = {"a": [{"b": [1]}], "c": 2}
    data = json.dumps(nested).encode()
    assert load_object(data, len(data), max_depth=4) == nested
    with pytest.raises(UnsafeJsonError, match="more than 3 levels"):
        load_object(data, len(data), max_depth=3)
