"""Sequence to sequence: the loss against transformers' own, and what is written against a loop without a cache."""

import copy
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torchaudio.functional import edit_distance
from transformers import GenerationMixin

from api_schemas.results.metrics import Scores
from checkpoints.families.audio.whisper import WHISPER
from tests.unit.engine.tasks.models import read, whisper
from worker.engine.data.split import FeatureSplit, Ragged
from worker.engine.evaluate import encoder_outputs, evaluate
from worker.engine.evaluate.encoder_outputs import EncoderOutputs
from worker.engine.tasks.sequences import SequenceToSequence

TASK, CPU = SequenceToSequence(decode=read), torch.device("cpu")
TASK.padding = WHISPER.padding({}, WHISPER.architectures["WhisperForConditionalGeneration"])
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


def as_stock_writes(model: torch.nn.Module, features: torch.Tensor) -> list[list[int]]:
    """By transformers' own loop, greedily, up to the end of every text or of the positions."""
    said = model.config.eos_token_id
    ends = set() if said is None else {said} if isinstance(said, int) else set(said)
    made = GenerationMixin.generate(
        model, features, decoder_input_ids=torch.tensor([[0, 2]] * len(features)), do_sample=False, max_length=24
    )
    return [row[: next((n for n, each in enumerate(row) if each in ends), len(row)) + 1] for row in made.tolist()]


@pytest.mark.parametrize("ends", [1, [1], [1, 7], None], ids=str)
def test_a_batch_of_texts_of_all_lengths_is_written_token_by_token_as_generate_does(
    ends: int | list[int] | None,
) -> None:
    model, split = whisper(), recorded().padded(TASK.padding)
    model.config.eos_token_id = model.generation_config.eos_token_id = ends
    inputs, targets = split.batch(range(len(TEXTS)))
    assert inputs["decoder_input_ids"].shape == (4, 6)
    limits = [2 * (len(text) + 2) + 8 for text in TEXTS]
    seen: list[list[int]] = []

    def keep(ids: Sequence[int]) -> str:
        seen.append(list(ids))
        return read(list(ids))

    with torch.inference_mode():
        SequenceToSequence(decode=keep).texts(model, inputs, targets)
        stock = as_stock_writes(model, inputs["input_features"])
    wanted = [ids[:limit] for ids, limit in zip(stock, limits, strict=True)]
    assert len({len(ids) for ids in wanted}) > (2 if ends else 1)
    assert seen[-len(TEXTS) :] == wanted


def test_both_texts_and_losses_come_of_one_encoding_and_a_text_that_has_ended_costs_nothing() -> None:
    model, split = whisper(), recorded()
    heard: list[int] = []
    decoded: list[int] = []
    features = split.padded(TASK.padding).batch(range(len(TEXTS)))[0]["input_features"]
    stock = as_stock_writes(model, features)
    limits = [2 * (len(text) + 2) + 8 for text in TEXTS]
    tokens = [min(len(ids), limit) - 2 for ids, limit in zip(stock, limits, strict=True)]
    model.get_encoder().register_forward_hook(lambda *call: heard.append(len(call[-1][0])))
    model.get_decoder().register_forward_hook(lambda *call: decoded.append(len(call[-1][0])))
    evaluate(model, split, TASK, batch_size=4, device=CPU)
    assert heard == [4]
    # First all at once with their texts given; then each token of those that are still at it.
    assert decoded == [4, *(sum(count > step for count in tokens) for step in range(max(tokens)))]
    assert len(set(decoded)) > 2


def test_losses_alone_are_the_same_and_nothing_is_written() -> None:
    model, split = whisper(), recorded()
    both, alone = (evaluate(model, split, TASK, batch_size=4, device=CPU, texts=texts) for texts in (True, False))
    assert alone.cross_entropy == both.cross_entropy
    assert alone.word_error_rate is None
    assert alone.metric is None


def test_what_an_encoder_gave_serves_the_next_model_with_the_same_one_and_no_other() -> None:
    model, split, known = whisper(), recorded(), EncoderOutputs()
    heard: list[int] = []

    def scores(cut: torch.nn.Module, on: FeatureSplit, kept: EncoderOutputs | None) -> Scores:
        hook = cut.get_encoder().register_forward_hook(lambda *_: heard.append(1))  # type: ignore[operator]
        found = evaluate(cut, on, TASK, batch_size=3, device=CPU, encoder_outputs=kept)
        hook.remove()
        return found

    decoder_cut, encoder_cut = copy.deepcopy(model), copy.deepcopy(model)
    with torch.no_grad():
        decoder_cut.get_decoder().layers[0].encoder_attn.out_proj.weight[:, :8] = 0
        encoder_cut.get_encoder().layers[0].fc1.weight[:4] = 0
    counts = []
    other = split.subset([0, 1, 2])
    for cut, on in ((model, split), (decoder_cut, split), (encoder_cut, split), (model, split), (model, other)):
        heard.clear()
        found = scores(cut, on, known)
        counts.append(len(heard))
        assert found == scores(cut, on, None)
    assert counts == [2, 0, 2, 2, 1]


def test_outputs_that_take_too_much_memory_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder_outputs, "MOST_BYTES", 4 * 10 * 16 * 4 - 1)
    model, split, known = whisper(), recorded(), EncoderOutputs()
    heard: list[int] = []
    model.get_encoder().register_forward_hook(lambda *_: heard.append(1))
    for _ in range(2):
        evaluate(model, split, TASK, batch_size=4, device=CPU, encoder_outputs=known)
    assert len(heard) == 2


def test_own_labels_leave_padding_alone() -> None:
    answers = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    targets = torch.tensor([[4, 5, 1], [4, -100, -100]])
    (gradient,) = torch.autograd.grad(TASK.sampled_label_loss(0)(answers, targets).sum(), answers)
    assert gradient[0].abs().sum(-1).min() > 0
    assert gradient[1, 0].abs().sum() > 0
    assert not gradient[1, 1:].any()
