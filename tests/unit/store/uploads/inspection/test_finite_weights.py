"""NaN and infinity are found in whatever pieces weights come, and nothing else is taken for one."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from api_schemas.errors import ErrorCode, SecateurError
from checkpoints.files.safetensors_header import TensorInfo
from store.uploads.inspection.incoming_file import IncomingFile
from store.uploads.inspection.models.finite_weights import FiniteWeights

KINDS = {"F16": np.float16, "F32": np.float32, "F64": np.float64}


def judged(data: bytes, pieces: list[int]) -> None:
    """As an upload of model.safetensors that comes in pieces of these sizes, in turn."""
    incoming = IncomingFile("model.safetensors", len(data), 2**20)
    start, turn = 0, 0
    while start < len(data):
        incoming.feed(data[start : start + pieces[turn % len(pieces)]])
        start, turn = start + pieces[turn % len(pieces)], turn + 1
    incoming.finish()


def bfloat16(values: np.ndarray) -> bytes:
    """The upper halves of float32."""
    return (values.astype(np.float32).view(np.uint32) >> 16).astype("<u2").tobytes()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 1, 498, 999])
def test_one_bad_number_among_a_thousand(kind: str, bad: float, place: int) -> None:
    values = np.random.default_rng(0).normal(size=1000).astype(KINDS[kind])
    values[place] = bad
    file = save({"first": np.zeros(7, np.float32), "second": values, "third": np.zeros(3, np.int64)})
    for pieces in ([1], [3, 5, 1000], [len(file)]):
        with pytest.raises(SecateurError) as caught:
            judged(file, pieces)
        assert caught.value.code is ErrorCode.WEIGHTS_NOT_FINITE
        assert caught.value.errors[0].pointer == "/second"
        assert "model.safetensors" in caught.value.detail


@given(
    kind=st.sampled_from(sorted(KINDS)),
    values=st.lists(st.floats(allow_nan=False, allow_infinity=False, width=16), max_size=50),
    pieces=st.lists(st.integers(1, 40), min_size=1, max_size=4),
)
def test_finite_numbers_pass_in_any_pieces(kind: str, values: list[float], pieces: list[int]) -> None:
    extremes = np.array([np.finfo(KINDS[kind]).max, np.finfo(KINDS[kind]).tiny, -0.0], KINDS[kind])
    judged(save({"a": np.array(values, KINDS[kind]), "b": extremes, "c": np.full(5, -1, np.int64)}), pieces)


@pytest.mark.parametrize(("value", "refused"), [(np.inf, True), (np.nan, True), (3.0e38, False), (1.0, False)])
def test_bfloat16_which_numpy_does_not_have(value: float, refused: bool) -> None:
    data = bfloat16(np.array([1.0, value, 2.0]))
    weights = FiniteWeights({"w": TensorInfo(dtype="BF16", shape=(3,), start=0, end=6)})
    if refused:
        with pytest.raises(SecateurError, match="'w' contains NaN"):
            weights.feed(data)
    else:
        weights.feed(data)


def test_integers_may_have_any_bits() -> None:
    header = json.dumps({"ids": {"dtype": "I64", "shape": [4], "data_offsets": [0, 32]}})
    judged(len(header).to_bytes(8, "little") + header.encode() + b"\xff" * 32, [5])
