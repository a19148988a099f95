"""Headers that the reference reader accepts and we refuse, and headers that both accept."""

import json
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from api_schemas.errors import ErrorCode, SecateurError
from checkpoints.files.safetensors_header import DTYPE_BYTES, MAX_HEADER_BYTES, TensorInfo, parse_header, read_header
from tests.support.uploads import safetensors_bytes


def entry(shape: list[int], start: int, end: int, dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def refusal(data: bytes, size: int | None = None) -> str:
    with pytest.raises(SecateurError) as caught:
        parse_header(data, len(data) if size is None else size)
    assert caught.value.code is ErrorCode.SAFETENSORS_INVALID
    return caught.value.detail


def refusal_of(header: dict[str, object], data: bytes = b"") -> str:
    return refusal(safetensors_bytes(json.dumps(header), data))


def test_reads_what_the_reference_writes(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    arrays = {"b.weight": np.ones((3, 5), "float32"), "a": np.zeros((), "float16"), "empty": np.zeros((0, 4), "int64")}
    path.write_bytes(save(arrays, metadata={"format": "pt"}))

    tensors = read_header(path)

    assert {name: tensor.shape for name, tensor in tensors.items()} == {name: a.shape for name, a in arrays.items()}
    assert tensors["b.weight"].dtype == "F32"
    assert tensors["b.weight"].end - tensors["b.weight"].start == 60
    assert tensors["b.weight"].elements == 15


def test_a_header_of_640_bytes_is_not_taken_for_another_thing() -> None:
    text = json.dumps({"a": entry([1], 0, 4)}).ljust(640)
    data = safetensors_bytes(text, bytes(4))
    assert data[:2] == b"\x80\x02"
    assert parse_header(data, len(data)) == {"a": TensorInfo(dtype="F32", shape=(1,), start=0, end=4, data=648)}


def test_repeated_keys_are_refused() -> None:
    one = json.dumps(entry([1], 0, 4))
    assert "more than once" in refusal(safetensors_bytes(f'{{"a": {one}, "a": {one}}}', bytes(4)))
    inner = '{"dtype": "F32", "dtype": "F64", "shape": [1], "data_offsets": [0, 4]}'
    assert "more than once" in refusal(safetensors_bytes(f'{{"a": {inner}}}', bytes(4)))


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b", "", ".", "a..b", "a b", "ä", "a\0", "a" * 600])
def test_names_that_are_paths_or_worse_are_refused(name: str) -> None:
    assert "not a valid tensor name" in refusal_of({name: entry([1], 0, 4)}, bytes(4))


def test_a_huge_dimension_is_refused_even_beside_a_zero() -> None:
    assert "invalid shape" in refusal_of({"a": entry([2**40, 0], 0, 0)})
    assert "invalid shape" in refusal_of({"a": entry([1] * 9, 0, 4)}, bytes(4))


@pytest.mark.parametrize("shape", [[-1], [1.0], [True], ["1"], None, {"0": 1}])
def test_shapes_are_lists_of_whole_numbers(shape: object) -> None:
    assert "shape" in refusal_of({"a": {"dtype": "F32", "shape": shape, "data_offsets": [0, 4]}}, bytes(4))


@pytest.mark.parametrize(
    ("spans", "said"),
    [
        ([(0, 4), (0, 4)], "starts at 0, but 4 was expected"),  # the same bytes twice
        ([(0, 4), (2, 6)], "starts at 2"),  # overlapping
        ([(0, 4), (8, 12)], "starts at 8"),  # a gap
        ([(4, 8)], "starts at 4"),  # bytes before the first
        ([(0, 4)], "end at byte 4 of 12"),  # bytes after the last
        ([(0, 4), (4, 16)], "outside the file"),
        ([(8, 4)], "outside the file"),
    ],
)
def test_tensors_cover_the_data_exactly_once(spans: list[tuple[int, int]], said: str) -> None:
    header = {f"t{n}": entry([max((end - start) // 4, 0)], start, end) for n, (start, end) in enumerate(spans)}
    assert said in refusal_of(header, bytes(12))


def test_bytes_and_shape_must_agree() -> None:
    assert "needs 8 bytes" in refusal_of({"a": entry([2], 0, 4)}, bytes(4))
    assert "unknown dtype" in refusal_of({"a": entry([1], 0, 4, "F4")}, bytes(4))
    assert "exactly dtype" in refusal_of({"a": entry([1], 0, 4) | {"more": 1}}, bytes(4))


def test_a_header_of_57_mebibytes_is_refused_before_it_is_read() -> None:
    started = time.perf_counter()
    said = refusal((57 * 2**20).to_bytes(8, "little") + b"{", size=58 * 2**20)
    assert f"the maximum is {MAX_HEADER_BYTES}" in said
    assert time.perf_counter() - started < 0.5


def test_very_many_tensors_are_refused() -> None:
    header = ",".join(f'"{n}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}' for n in range(65_537))
    assert "65537 tensors" in refusal(safetensors_bytes("{" + header + "}"))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\1\0\0",
        (100).to_bytes(8, "little"),
        safetensors_bytes("[]"),
        safetensors_bytes("{"),
        safetensors_bytes("{" * 100_000),
        safetensors_bytes('{"a":' + "[" * 100_000),
        safetensors_bytes('{"a": NaN}'),
        safetensors_bytes('{"a": ' + "9" * 5000 + "}"),
        safetensors_bytes('{"__metadata__": {"a": 1}}'),
        safetensors_bytes('{"__metadata__": []}'),
        safetensors_bytes('{"a": 1}'),
        len(b"{\xff}").to_bytes(8, "little") + b"{\xff}",
        b"PK\x03\x04" + bytes(100),
    ],
)
def test_rubbish_is_refused(data: bytes) -> None:
    assert refusal(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for candidate in (data, safetensors_bytes('{"a": ', data)):
        tensors: dict[str, TensorInfo] = {}
        with suppress(SecateurError):  # anything else that is raised fails the test
            tensors = parse_header(candidate, len(candidate))
        assert all(tensor.dtype in DTYPE_BYTES and tensor.end <= len(candidate) for tensor in tensors.values())
