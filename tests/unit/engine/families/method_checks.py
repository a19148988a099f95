"""What must hold of scoring, rotation and compensation in any family, as functions of a stock model and its inputs."""

from collections.abc import Sequence, Set
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from api_schemas.enums import Criterion
from tests.unit.engine.families.reference import answer, assert_near, cut_by, dense, keeps, shape_of
from worker.engine import principal
from worker.engine.attention import attention_blocks
from worker.engine.checkpoint.load import Loaded
from worker.engine.compensation import fold_means, refit_outputs
from worker.engine.data.split import Inputs
from worker.engine.models import Kind
from worker.engine.scoring import Observations, Want, observe, score
from worker.engine.selection import keep_all


def _seen(loaded: Loaded, batches: Sequence[Inputs], wants: Set[Want]) -> tuple[Observations, Tensor]:
    """Observations under a loss linear in the answers, whose weights are random, and those weights."""
    blocks = attention_blocks(loaded.model, loaded.kind, loaded.widths)
    with torch.no_grad():
        one = answer(loaded.model, {name: tensor[:1] for name, tensor in batches[0].items()})
    direction = torch.randn(one.shape, generator=torch.Generator().manual_seed(5))
    found = observe(
        loaded.model,
        blocks,
        [(inputs, None) for inputs in batches],
        lambda answers, _: (answers * direction).flatten(1).sum(1),
        wants,
        outputs=answer,
    )
    return found, direction


def check_scores(kind: Kind, stock: PreTrainedModel, inputs: Inputs, name: str = "no heads last") -> None:
    """Every criterion scores every channel, and what Fisher sums per sample is what a loop over samples finds."""
    loaded = cut_by(dense(kind, stock), keeps(shape_of(kind, stock).dense)[name])
    blocks = attention_blocks(loaded.model, kind, loaded.widths)
    observed, direction = _seen(loaded, [inputs], frozenset(Want))
    for criterion in Criterion:
        for block, scores in zip(blocks, score(criterion, blocks, observed=observed), strict=True):
            assert [len(head) for head in scores.qk] == list(block.widths.qk)
            assert [len(head) for head in scores.vo] == list(block.widths.vo)
            for head in (*scores.qk, *scores.vo):
                assert torch.isfinite(head).all()
                assert (head >= 0).all()
                assert head.max() > 0, criterion
    model = loaded.model.double()
    samples = len(next(iter(inputs.values())))
    expected = [dict.fromkeys("qkvo", torch.zeros(())) for _ in blocks]
    for sample in range(samples):
        one = {key: value[sample : sample + 1] for key, value in inputs.items()}
        one = {key: value.double() if value.is_floating_point() else value for key, value in one.items()}
        model.zero_grad()
        (answer(model, one) * direction).sum().backward()
        for block, sums in zip(blocks, expected, strict=True):
            if not block.widths.heads:
                continue
            for side, linear in block.projections.items():
                square = linear.weight.grad.square().sum(0 if side == "o" else 1)
                if side != "o" and linear.bias is not None:
                    square = square + linear.bias.grad.square()
                sums[side] = sums[side] + square / samples
    for block, layer, sums in zip(blocks, observed.layers, expected, strict=True):
        if not block.widths.heads:
            continue
        assert layer.fisher is not None
        torch.testing.assert_close(layer.fisher.qk, sums["q"] + sums["k"], rtol=1e-3, atol=0)
        torch.testing.assert_close(layer.fisher.vo, sums["v"] + sums["o"], rtol=1e-3, atol=0)


def check_rotation(kind: Kind, stock: PreTrainedModel, inputs: Inputs, name: str) -> None:
    """Turning every head into its principal axes changes weights and no answer, of a whole model and of a cut one."""
    loaded = cut_by(dense(kind, stock), keeps(shape_of(kind, stock).dense)[name])
    observed, _ = _seen(loaded, [inputs], principal.WANTS)
    blocks = attention_blocks(loaded.model, kind, loaded.widths)
    turned = principal.rotate(loaded, principal.principal_bases(blocks, observed))
    with torch.inference_mode():
        assert_near(answer(turned.model, inputs), answer(loaded.model, inputs), 1e-4)
    changed = zip(loaded.model.parameters(), turned.model.parameters(), strict=True)
    assert max(float((a - b).detach().abs().max()) for a, b in changed if a.numel()) > 0.1, "nothing was rotated"


def last_states(loaded: Loaded, inputs: Inputs) -> Tensor:
    """The residual stream after the last layer: what all fits aim at."""
    layer = loaded.model.get_submodule(loaded.kind.layout_of(loaded.model).stacks[-1][-1])
    found: list[Any] = []
    handle = layer.register_forward_hook(lambda _m, _a, output: found.append(output))
    with torch.inference_mode():
        answer(loaded.model, inputs)
    handle.remove()
    states: Tensor = found[0][0] if isinstance(found[0], tuple) else found[0]
    return states.double()


def check_compensation(kind: Kind, stock: PreTrainedModel, seen: Sequence[Inputs], unseen: Inputs, name: str) -> None:
    """On inputs that were not fitted to, least squares comes nearer than folded means, and these nearer than nothing."""
    loaded = dense(kind, stock)
    keep = keeps(loaded.widths)[name]
    observed, _ = _seen(loaded, seen, {Want.CONTEXT})
    bare, folded, refitted, whole = (cut_by(loaded, keep) for _ in range(4))
    fold_means(loaded, folded, keep, observed)
    refit_outputs(loaded, refitted, seen)
    refit_outputs(loaded, whole, seen, feed_forward=True)
    expected = last_states(loaded, unseen)
    errors = [
        float((last_states(model, unseen) - expected).square().mean()) for model in (bare, folded, refitted, whole)
    ]
    assert errors[1] < errors[0], errors
    assert errors[2] < 0.95 * errors[1], errors
    assert errors[3] < 0.95 * errors[1], errors


def check_uncut_stays(kind: Kind, stock: PreTrainedModel, batches: Sequence[Inputs]) -> None:
    """Where nothing was lost there is nothing to make up for."""
    loaded = dense(kind, stock)
    same = cut_by(loaded, keep_all(loaded.widths))
    refit_outputs(loaded, same, batches, feed_forward=True)
    for a, b in zip(loaded.model.parameters(), same.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-3)
