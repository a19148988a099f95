"""Texts count by the inputs that a model makes of them: blocks of a language model, windows of question answering."""

import math
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from api_schemas.enums import Head, Modality, Split
from checkpoints.families.decoders.causal import BLOCK
from checkpoints.families.text.text_encoder import WINDOW
from checkpoints.sizes.first_time import JobFacts
from service.core.jobs import first_estimate, text_lengths
from service.core.jobs.text_lengths import CHARACTERS_A_TOKEN, ONE_EACH, TextLengths
from worker.engine.data.featurizers.questions import OVERLAP


def known_model(head: Head, tokens: int, modality: Modality = Modality.TEXT) -> SimpleNamespace:
    """`tokens`: that FLOPs are counted for."""
    layout = SimpleNamespace(modality=modality, head=head)
    return SimpleNamespace(layout=layout, shape=SimpleNamespace(attention=[SimpleNamespace(queries=tokens)]))


def lengths(head: Head, tokens: int, characters: int, rows: int = 10) -> TextLengths:
    """Of so many rows that have so many characters each."""
    accepted: Any = SimpleNamespace(
        dataset="dst", contents=SimpleNamespace(characters=characters * rows, rows={"train": rows - 1, "test": 1})
    )
    known: Any = known_model(head, tokens)
    session: Any = None
    found = text_lengths.of_texts(session, "tenant", accepted, known)
    assert found is not None
    return found


def blocks(tokens: float) -> int:
    """As BlockFeaturizer divides a text."""
    return max(1, math.ceil(tokens / BLOCK))


def windows(tokens: float, question: int) -> int:
    """As QuestionFeaturizer divides a context of a question with three special tokens around them."""
    overlap = int(OVERLAP * WINDOW)
    room = WINDOW - 3 - question
    return 1 + max(0, math.ceil((tokens - question - room) / (room - overlap)))


@pytest.mark.parametrize("characters", [40, 1900, 2700, 6000, 50_000, 1_000_000])
def test_a_text_is_as_many_blocks_as_the_engine_makes_of_it(characters: int) -> None:
    found = lengths(Head.CAUSAL_LM, BLOCK, characters)
    for rate in np.linspace(*CHARACTERS_A_TOKEN, 7):
        made = blocks(characters / rate)
        assert found.inputs[0] <= made <= found.inputs[1]
    for end, rate in enumerate(CHARACTERS_A_TOKEN):
        # All tokens of a text are in its blocks.
        assert found.length[end] * found.inputs[end] * BLOCK == pytest.approx(characters / rate)
        assert found.length[end] <= 1.0


@pytest.mark.parametrize("characters", [40, 1200, 2700, 6000, 50_000])
def test_a_context_is_as_many_windows_as_the_engine_makes_of_it(characters: int) -> None:
    found = lengths(Head.QUESTION_ANSWERING, 128, characters)
    for rate, question in ((each, some) for each in CHARACTERS_A_TOKEN for some in (8, 30)):
        assert math.floor(found.inputs[0]) <= windows(characters / rate, question) <= math.ceil(found.inputs[1])
    assert found.length[1] * 128 <= WINDOW


def test_other_texts_are_an_input_each_and_are_cut_off() -> None:
    short, long = (lengths(Head.CLASSIFICATION, 128, each) for each in (520, 1_000_000))
    assert (short.inputs, long.inputs) == ((1.0, 1.0), (1.0, 1.0))
    assert short.length == pytest.approx((100 / 128, 520 / 3.8 / 128))
    assert long.length == (4.0, 4.0)


def test_rows_count_as_the_inputs_that_are_made_of_them() -> None:
    rows = {Split.TRAIN: 100, Split.TEST: 10}
    assert ONE_EACH.counted(rows) == {"train": 100, "test": 10}
    assert TextLengths((1.0, 1.0), (4.0, 9.0)).counted(rows) == {"train": 600, "test": 60}


def test_models_of_other_inputs_have_none() -> None:
    some: Any = None
    known: Any = known_model(Head.CLASSIFICATION, 128, Modality.AUDIO)
    assert text_lengths.of_texts(some, "tenant", some, known) is None


def test_a_first_estimate_is_made_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[JobFacts] = []

    def counted(_spec: object, facts: JobFacts, _speed: object) -> dict[Any, Any]:
        seen.append(facts)
        return {}

    device = SimpleNamespace(
        device="cpu", device_name=None, threads=1, body=None, measured_at=datetime(2026, 1, 1, tzinfo=UTC)
    )
    monkeypatch.setattr(first_estimate, "first_seconds", counted)
    monkeypatch.setattr(first_estimate.device_speeds, "latest", lambda *_: device)
    target, limits = SimpleNamespace(max_drop=None), SimpleNamespace(device=None)
    request = SimpleNamespace(pruning=SimpleNamespace(target=target), limits=limits)
    accepted: Any = SimpleNamespace(request=request, samples={Split.TRAIN: 7}, contents=None)
    known: Any = known_model(Head.QUESTION_ANSWERING, 128)
    known.layout.family = "bert"
    session: Any = None
    first_estimate.of_job(session, accepted, known, (), TextLengths((0.5, 1.0), (2.0, 3.0)))
    assert [(facts.length, facts.inputs, facts.samples) for facts in seen] == [((0.5, 1.0), (2.0, 3.0), {"train": 7})]
