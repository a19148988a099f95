"""The principal basis against the dense model, and against best low-rank approximations computed another way."""

import pytest
import torch

from tests.unit.engine.small import HEAD_DIM, HEADS, inputs, small_model
from worker.engine.checkpoint.load import LoadedModel
from worker.engine.models.attention import AttentionBlock, attention_blocks
from worker.engine.pruning.principal import (
    REQUIRED_STATISTICS,
    principal_bases,
    ranks_for_energy,
    rotate,
    rotate_observations,
)
from worker.engine.pruning.selection import KeptHead
from worker.engine.pruning.surgery import cut
from worker.engine.scoring import Observations, Statistic, observe

ALL = {*REQUIRED_STATISTICS, Statistic.GRADIENTS, Statistic.OUTPUT_GRADIENT}


def _blocks(loaded: LoadedModel) -> tuple[AttentionBlock, ...]:
    return attention_blocks(loaded.model, loaded.model_spec, loaded.widths)


def _observed(
    loaded: LoadedModel, statistics: set[Statistic] | frozenset[Statistic] = REQUIRED_STATISTICS, samples: int = 24
) -> Observations:
    batches = [({"input_values": batch}, torch.arange(len(batch)) % 5) for batch in inputs(samples).split(8)]
    return observe(
        loaded.model, _blocks(loaded), batches, lambda z, y: torch.nn.functional.cross_entropy(z, y, reduction="none"), statistics
    )  # fmt: skip


def test_the_rotated_model_is_the_same_function() -> None:
    loaded = small_model()
    turned = rotate(loaded, principal_bases(_blocks(loaded), _observed(loaded)))
    x = inputs(6, seed=9)
    with torch.inference_mode():
        dense, rotated = loaded.model(x).logits, turned.model(x).logits
    assert (dense - rotated).abs().max() <= 1e-4 * max(1.0, float(dense.abs().max()))
    changed = (a - b for a, b in zip(loaded.model.parameters(), turned.model.parameters(), strict=True))
    assert max(float(difference.detach().abs().max()) for difference in changed) > 0.1, "nothing was rotated"


def test_rotating_twice_changes_nothing_more() -> None:
    loaded = small_model()
    once = rotate(loaded, principal_bases(_blocks(loaded), _observed(loaded)))
    bases = principal_bases(_blocks(once), _observed(once))
    for layer in bases:
        for head in layer:
            torch.testing.assert_close(head.query.abs(), torch.eye(HEAD_DIM).double(), atol=2e-3, rtol=0)


def test_turned_observations_are_those_of_the_rotated_model() -> None:
    loaded = small_model()
    observed = _observed(loaded, ALL)
    bases = principal_bases(_blocks(loaded), observed)
    expected = _observed(rotate(loaded, bases), ALL)
    for turned, layer in zip(rotate_observations(observed, bases).layers, expected.layers, strict=True):
        assert turned.qk
        assert turned.context
        assert turned.gradients
        assert layer.qk
        assert layer.context
        assert layer.gradients
        torch.testing.assert_close(turned.context.mean, layer.context.mean, atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(turned.context.covariance, layer.context.covariance, atol=1e-3, rtol=1e-3)
        pairs = (
            (turned.qk.q, layer.qk.q), (turned.qk.k, layer.qk.k), (turned.gradients.q, layer.gradients.q),
            (turned.gradients.k, layer.gradients.k), (turned.gradients.context, layer.gradients.context),
        )  # fmt: skip
        for ours, theirs in pairs:
            for a, b in zip(ours, theirs, strict=True):
                torch.testing.assert_close(a, b, atol=1e-3 * float(b.abs().max()), rtol=1e-3)


def _heads_of(loaded: LoadedModel, layer: int, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """q, k (B, T, C) and the context (B, T, C) of one layer, by hooks of the test's own, float64."""
    found: dict[str, torch.Tensor] = {}
    block = _blocks(loaded)[layer]
    handles = [
        block.projections[side].register_forward_hook(lambda _m, _a, y, side=side: found.update({side: y.double()}))
        for side in "qk"
    ]
    handles.append(block.projections["o"].register_forward_pre_hook(lambda _m, a: found.update(x=a[0].double())))
    with torch.inference_mode():
        loaded.model(x)
    for handle in handles:
        handle.remove()
    return {name: value.unflatten(-1, (HEADS, HEAD_DIM)) for name, value in found.items()}


@pytest.mark.parametrize("rank", [1, 3, 6])
def test_the_leading_channels_are_the_best_of_their_rank(rank: int) -> None:
    """No rank-r map does better on the calibration data: Eckart and Young on the stacked activations themselves."""
    loaded, x = small_model(), inputs(24)
    bases = principal_bases(_blocks(loaded), _observed(loaded))
    seen, weight = _heads_of(loaded, 1, x), _blocks(loaded)[1].projections["o"].weight.detach().double()
    for h in range(HEADS):
        basis = bases[1][h]
        q, k = seen["q"][:, :, h].flatten(0, 1), seen["k"][:, :, h]
        k = (k - k.mean(1, keepdim=True)).flatten(0, 1)
        # Expected squared logit error over independent q, k; the best is the tail of the singular values of Q Kᵀ / N.
        tokens = len(q)
        singular = torch.linalg.svdvals(torch.linalg.qr(q).R @ torch.linalg.qr(k).R.mT) / tokens
        cut_q, cut_k = (basis.query @ q.mT)[:rank], (basis.key @ k.mT)[:rank]
        error = (q @ k.mT - cut_q.mT @ cut_k).square().mean()
        assert float(error) == pytest.approx(float(singular[rank:].square().sum()), rel=1e-4)
        # VO: the head's centred output, cut to r channels, against PCA of that output.
        at = slice(h * HEAD_DIM, (h + 1) * HEAD_DIM)
        output = seen["x"][:, :, h].flatten(0, 1) @ weight[:, at].mT
        output = output - output.mean(0)
        inside = basis.output[:, :rank] @ (basis.output[:, :rank].mT @ output.mT)
        best = torch.linalg.svdvals(output).square()[rank:].sum() / tokens
        assert float((output.mT - inside).square().sum() / tokens) == pytest.approx(float(best), rel=1e-4)
        torch.testing.assert_close(
            basis.vo_energy[:HEAD_DIM], torch.linalg.svdvals(output).square()[:HEAD_DIM] / tokens
        )


def test_ragged_and_empty_layers_can_be_rotated() -> None:
    loaded = small_model()
    keep = (
        (KeptHead(0, (0, 2, 5), (1,)), KeptHead(3, tuple(range(HEAD_DIM)), (0, 1, 2, 3))),
        (),
        tuple(KeptHead(h, (1, 2), tuple(range(HEAD_DIM))) for h in range(HEADS)),
    )
    from dataclasses import replace

    from worker.engine.pruning.selection import widths_of

    smaller = replace(
        loaded, model=cut(loaded.model, loaded.model_spec, loaded.widths, keep), widths=widths_of(keep, loaded.widths)
    )
    turned = rotate(smaller, principal_bases(_blocks(smaller), _observed(smaller)))
    x = inputs(4, seed=3)
    with torch.inference_mode():
        expected, got = smaller.model(x).logits, turned.model(x).logits
    assert (expected - got).abs().max() <= 1e-4 * max(1.0, float(expected.abs().max()))


def test_ranks_for_energy_counts_the_leading_channels() -> None:
    assert ranks_for_energy(torch.tensor([90.0, 9.0, 1.0]).double()) == 2
    assert ranks_for_energy(torch.tensor([90.0, 8.9, 1.1]).double()) == 3
    assert ranks_for_energy(torch.tensor([1.0, 0.0]).double()) == 1
    assert ranks_for_energy(torch.zeros(3).double()) == 0


@pytest.mark.parametrize("seen", [Statistic.QK_MOMENTS, Statistic.CONTEXT])
def test_both_moments_are_needed(seen: Statistic) -> None:
    loaded = small_model()
    lacking = _observed(loaded, {seen}, samples=8)
    with pytest.raises(ValueError, match="context, qk_moments"):
        principal_bases(_blocks(loaded), lacking)
    with pytest.raises(ValueError, match="context, qk_moments"):
        rotate_observations(lacking, principal_bases(_blocks(loaded), _observed(loaded, samples=8)))
