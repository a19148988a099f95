"""Attention that is more than scores and softmax: scored, rotated and made up for."""

from dataclasses import replace

import pytest
import torch

from api_schemas.enums import Criterion
from tests.unit.engine.families.special_models import (
    CASES,
    Answering,
    blocks_of,
    bound,
    keep_of,
    loaded,
    smaller,
)
from worker.engine import principal
from worker.engine.attention import AttentionBlock
from worker.engine.compensation import fold_means, refit_outputs
from worker.engine.scoring import WANTS, Want, observe, score
from worker.engine.selection import keep_all


@pytest.fixture(params=CASES)
def name(request):
    return request.param


def squares(answers, _targets):
    """A loss a sample that every part of the answer has a part in."""
    return (answers * torch.linspace(0.5, 1.5, answers[0].numel()).view(answers[0].shape)).flatten(1).square().sum(1)


def seen(name, model, wants, samples=6, size=3):
    whole = CASES[name].inputs(samples, 1)
    batches = [
        ({key: column[start : start + size] for key, column in whole.items()}, None)
        for start in range(0, samples, size)
    ]
    return observe(Answering(CASES[name], model.model), blocks_of(model), batches, squares, wants)


@pytest.mark.parametrize("how", ["nothing", "some without heads"])
@pytest.mark.parametrize("criterion", Criterion)
def test_every_criterion_scores_every_channel(name, criterion, how):
    model = smaller(loaded(name), keep_of(name, how))
    observed = seen(name, model, WANTS[criterion]) if WANTS[criterion] else None
    for block, layer in zip(blocks_of(model), score(criterion, blocks_of(model), observed=observed), strict=True):
        assert [len(head) for head in layer.qk] == list(block.widths.qk)
        assert [len(head) for head in layer.vo] == list(block.widths.vo)
        scores = torch.cat([*layer.qk, *layer.vo, torch.ones(1)])
        assert torch.isfinite(scores).all()
        assert scores.max() > 0


@pytest.mark.parametrize("wants", [Want.FISHER, Want.SALIENCY, Want.GATES], ids=str)
@pytest.mark.parametrize("how", ["nothing", "some without heads"])
def test_squared_gradients_are_those_of_single_samples(name, how, wants):
    """Against autograd's own gradients of one sample after another."""
    model, samples = smaller(loaded(name), keep_of(name, how)), 4
    # In double precision, so that no rounding is left to explain a difference.
    torch.nn.Module.to(model.model, torch.float64)
    whole = {k: v.double() if v.is_floating_point() else v for k, v in CASES[name].inputs(samples, 1).items()}
    answering, blocks = Answering(CASES[name], model.model), blocks_of(model)
    found = observe(answering, blocks, [(whole, None)], squares, {wants})
    expected = [{"qk": 0.0, "vo": 0.0} for _ in blocks]
    for sample in range(samples):
        model.model.zero_grad()
        one = {key: column[sample : sample + 1] for key, column in whole.items()}
        squares(answering(**one).logits, None).sum().backward()
        for block, sums in zip(blocks, expected, strict=True):
            for pair in ("qk", "vo") if block.widths.heads else ():
                sums[pair] = sums[pair] + _of_channels(block, pair, wants) / samples
    for block, layer, sums in zip(blocks, found.layers, expected, strict=True):
        if block.widths.heads:
            for pair in ("qk", "vo"):
                of = {Want.FISHER: layer.fisher, Want.SALIENCY: layer.saliency, Want.GATES: layer.gates}[wants]
                values = getattr(of, pair).diagonal() if wants is Want.GATES else getattr(of, pair)
                torch.testing.assert_close(values, sums[pair], rtol=1e-8, atol=1e-12)


def _of_channels(block: AttentionBlock, pair: str, wants: Want) -> torch.Tensor:
    """Of one sample's gradients, by channel: Σ g², Σ θ²g², or (Σ θg)² over one side of the pair, q or v."""
    total = torch.zeros(())
    for side in pair if wants is not Want.GATES else pair[0]:
        for what in ("weight", "bias"):
            # (the output side is o: its columns are the channels)
            parameter = getattr(block.projections[side], what)
            if parameter is None or (side, what) == ("o", "bias"):
                continue
            theta, g = parameter.detach(), parameter.grad
            term = {Want.FISHER: g.square(), Want.SALIENCY: (theta * g).square(), Want.GATES: theta * g}[wants]
            total = total + (term if what == "bias" else term.sum(0 if side == "o" else 1))
    return total.square() if wants is Want.GATES else total


def test_rotation_alone_changes_nothing(name):
    case, model = CASES[name], loaded(name)
    turned = principal.rotate(model, principal.principal_bases(blocks_of(model), seen(name, model, principal.WANTS)))
    x = case.inputs(4, 9)
    with torch.inference_mode():
        expected = case(model.model, x)
        assert (case(turned.model, x) - expected).abs().max() <= bound(expected, 1e-4)
    for old, new in zip(blocks_of(model), blocks_of(turned), strict=True):
        for side in "qkvo":
            assert (old.projections[side].weight - new.projections[side].weight).abs().max() > 1e-2


def test_turned_moments_are_those_of_the_rotated_model(name):
    model = loaded(name)
    wants = {*principal.WANTS, Want.GRADIENTS, Want.OUTPUT_GRADIENT}
    observed = seen(name, model, wants)
    bases = principal.principal_bases(blocks_of(model), observed)
    expected = seen(name, principal.rotate(model, bases), wants)
    for turned, layer in zip(principal.rotate_observations(observed, bases).layers, expected.layers, strict=True):
        for what, of in (("qk", "q"), ("qk", "k"), ("gradients", "q"), ("gradients", "context")):
            for ours, theirs in zip(getattr(getattr(turned, what), of), getattr(getattr(layer, what), of), strict=True):
                torch.testing.assert_close(ours, theirs, rtol=5e-3, atol=1e-4 * float(theirs.abs().max()))


def _error(name, model, dense, seed=5):
    x = CASES[name].inputs(8, seed)
    with torch.inference_mode():
        return float((CASES[name](model.model, x) - CASES[name](dense.model, x)).square().mean())


@pytest.mark.parametrize("how", ["ragged", "some without heads"])
@pytest.mark.parametrize("feed_forward", [False, True])
def test_refitting_brings_unseen_answers_nearer_than_biases_do(name, how, feed_forward):
    dense, keep = loaded(name), keep_of(name, how)
    cut = smaller(dense, keep)
    fold_means(dense, cut, keep, seen(name, dense, {Want.CONTEXT}, samples=24, size=8))
    by_bias = _error(name, cut, dense)
    refit_outputs(dense, cut, [CASES[name].inputs(16, seed) for seed in range(20, 26)], feed_forward=feed_forward)
    assert _error(name, cut, dense) < 0.9 * by_bias


def test_a_model_that_was_not_cut_stays_as_it_is(name):
    dense = loaded(name)
    same = replace(dense, model=smaller(dense, keep_all(dense.widths)).model)
    refit_outputs(dense, same, [CASES[name].inputs(8, 1)], feed_forward=True)
    for a, b in zip(dense.model.parameters(), same.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-2)
