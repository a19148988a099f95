"""Sequence to sequence: the loss against transformers' own, and what is written against a loop without a cache."""

import numpy as np
import pytest
import torch
from torchaudio.functional import edit_distance

from tests.unit.engine.tasks.models import read, whisper
from worker.engine.data.split import FeatureSplit, Ragged
from worker.engine.evaluate import evaluate
from worker.engine.tasks.sequences import SequenceToSequence

TASK, CPU = SequenceToSequence(decode=read), torch.device("cpu")
TEXTS = [[4, 3, 5], [6, 4, 3, 4], [7, 3, 7], [5, 5, 5, 5]]


def recorded() -> FeatureSplit:
    """Every text begins behind <start> and <pad>, which are no text, and ends with <end>."""
    features = np.random.default_rng(0).normal(size=(len(TEXTS), 8, 20)).astype(np.float32)
    given = Ragged.of([np.array([0, 2, *text]) for text in TEXTS])
    wanted = Ragged.of([np.array([2, *text, 1]) for text in TEXTS])
    return FeatureSplit({"input_features": features, "decoder_input_ids": given}, wanted)


def test_a_samples_loss_is_the_models_own_for_it_alone() -> None:
    model, split = whisper(), recorded()
    inputs, targets = split.batch([0, 2])
    with torch.no_grad():
        losses = TASK.loss(TASK.outputs(model, inputs), targets)
        for row in range(2):
            alone = model(input_features=inputs["input_features"][[row]], labels=targets[[row]]).loss
            torch.testing.assert_close(losses[row], alone)


def test_both_texts_are_normalized_before_they_are_compared() -> None:
    model, split = whisper(), recorded()
    raw = evaluate(model, split, TASK, batch_size=4, device=CPU)
    # As if every letter were the same one: only lengths are left to differ.
    alike = SequenceToSequence(decode=read, normalize=lambda text: "a " * len(text.split()))
    scores = evaluate(model, split, alike, batch_size=4, device=CPU)
    assert scores.cross_entropy == raw.cross_entropy
    assert raw.word_error_rate is not None
    assert scores.word_error_rate is not None
    assert scores.word_error_rate < raw.word_error_rate


def test_the_wanted_text_has_to_be_shifted_as_transformers_shifts_it() -> None:
    model, (inputs, targets) = whisper(), recorded().batch([1, 3])
    with torch.no_grad():
        shifted = model(input_features=inputs["input_features"], labels=targets, use_cache=False).logits
        torch.testing.assert_close(TASK.outputs(model, inputs), shifted)


def written_without_a_cache(model: torch.nn.Module, features: torch.Tensor, limit: int) -> str:
    ids = torch.tensor([[0, 2]])
    while ids.shape[1] < limit:
        latest = model(input_features=features, decoder_input_ids=ids, use_cache=False).logits[:, -1].argmax(-1)
        ids = torch.cat([ids, latest[:, None]], 1)
        if int(latest) == 1:
            break
    return read(ids[0].tolist())


def test_error_rates_are_of_what_the_model_writes_by_itself() -> None:
    model, split = whisper(), recorded()
    given = []
    with torch.no_grad():
        for row, text in enumerate(TEXTS):
            limit = min(2 * (len(text) + 2) + 8, 24)
            given.append(written_without_a_cache(model, split.batch([row])[0]["input_features"], limit))
    assert len(set(given)) > 1
    wanted = [read(text) for text in TEXTS]
    words = sum(edit_distance(a.split(), b.split()) for a, b in zip(given, wanted, strict=True))
    given, wanted = ([" ".join(text.split()) for text in texts] for texts in (given, wanted))
    letters = sum(edit_distance(a, b) for a, b in zip(given, wanted, strict=True))
    found = [evaluate(model, split, TASK, batch_size=size, device=CPU) for size in (1, 2)]
    for scores in found:
        assert scores.word_error_rate == pytest.approx(words / sum(len(text.split()) for text in wanted))
        assert scores.character_error_rate == pytest.approx(letters / sum(map(len, wanted)))
    assert found[0].cross_entropy == pytest.approx(found[1].cross_entropy, rel=1e-6)


def test_own_labels_leave_padding_alone() -> None:
    answers = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    targets = torch.tensor([[4, 5, 1], [4, -100, -100]])
    (gradient,) = torch.autograd.grad(TASK.sampled_label_loss(0)(answers, targets).sum(), answers)
    assert gradient[0].abs().sum(-1).min() > 0
    assert gradient[1, 0].abs().sum() > 0
    assert not gradient[1, 1:].any()
