"""What must hold of scoring, rotation and compensation in any family, as functions of a stock model and its inputs."""

from collections.abc import Sequence, Set
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from api_schemas.enums import Criterion
from benchmarks.families.reference import answer, assert_near, cut_by, dense, keeps, shape_of
from worker.engine.checkpoint.load import LoadedModel
from worker.engine.data.split import Inputs
from worker.engine.models.attention import attention_blocks
from worker.engine.models.feed_forward import feed_forward_blocks
from worker.engine.models.model_spec import ModelSpec
from worker.engine.pruning import principal
from worker.engine.pruning.compensation import UNPRUNED_RIDGE, Ridges, fold_means, refit_outputs
from worker.engine.pruning.selection import Selection
from worker.engine.scoring import Observations, Statistic, observe, score, score_neurons

ROUGH = 0.2
"""How far Fisher information in bfloat16 may be from that in float32, as a share: its products have eight bits."""


def _seen(
    loaded: LoadedModel, batches: Sequence[Inputs], wants: Set[Statistic], autocast: torch.dtype | None = None
) -> tuple[Observations, Tensor]:
    """Observations under a loss linear in the answers, whose weights are random, and those weights."""
    blocks = attention_blocks(loaded.model, loaded.model_spec, loaded.widths)
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
        neurons=feed_forward_blocks(loaded.model, loaded.model_spec, loaded.widths),
        autocast=autocast,
    )
    return found, direction


def check_scores(kind: ModelSpec, stock: PreTrainedModel, inputs: Inputs, name: str = "no heads last") -> None:
    """Every criterion scores every channel and neuron; what Fisher sums per sample is what a loop over samples finds, and near
    that in bfloat16."""
    loaded = cut_by(dense(kind, stock), keeps(shape_of(kind, stock).dense)[name])
    blocks = attention_blocks(loaded.model, kind, loaded.widths)
    pairs = feed_forward_blocks(loaded.model, kind, loaded.widths)
    observed, direction = _seen(loaded, [inputs], frozenset(Statistic))
    for criterion in Criterion:
        found = []
        for block, scores in zip(blocks, score(criterion, blocks, observed=observed), strict=True):
            assert [len(head) for head in scores.qk] == list(block.widths.qk)
            assert [len(head) for head in scores.vo] == list(block.widths.vo)
            found += [*scores.qk, *scores.vo]
        neurons = [scores.vector for scores in score_neurons(criterion, pairs, observed)]
        assert tuple(map(len, neurons)) == loaded.widths.feed_forward
        for vector in (*found, *neurons):
            assert torch.isfinite(vector).all()
            assert (vector >= 0).all()
            assert vector.max() > 0, criterion
    rough, _ = _seen(loaded, [inputs], {Statistic.FISHER}, torch.bfloat16)
    expected = _mean_squares(loaded, inputs, direction)
    for block, layer, near in zip(blocks, observed.layers, rough.layers, strict=True):
        if not block.widths.heads:
            continue
        assert layer.fisher is not None
        assert near.fisher is not None
        for exact, other in ((layer.fisher.qk, near.fisher.qk), (layer.fisher.vo, near.fisher.vo)):
            # Of the middle channel: a ReLU near zero may switch in bfloat16, on some processors, which changes a few by much.
            far = (exact - other).abs() / exact.abs().clamp_min(1e-12)
            assert far.max() > 0
            assert far.median() <= ROUGH
        of: dict[str, Any] = {
            side: sum(_summed(expected, path, columns=side == "o")) for side, path in block.names.items()
        }
        of |= {"q": _of_heads(of["q"], block.widths.qk), "o": _of_heads(of["o"], block.widths.vo)}
        torch.testing.assert_close(layer.fisher.qk, of["q"] + of["k"], rtol=1e-3, atol=0)
        torch.testing.assert_close(layer.fisher.vo, of["v"] + of["o"], rtol=1e-3, atol=0)
    for pair, seen in zip(pairs, observed.neurons, strict=True):
        of_maps = [sum(_summed(expected, path, columns=path == pair.names[1])) for path in pair.names]
        torch.testing.assert_close(seen.fisher, sum(of_maps), rtol=1e-3, atol=0)


def _of_heads(numbers: Tensor, widths: Sequence[int]) -> Tensor:
    """Of every channel of every query, one head of keys after another: summed over the queries that share it."""
    times = len(numbers) // max(1, sum(widths))
    parts = numbers.split([times * width for width in widths])
    return torch.cat([part.unflatten(0, (times, -1)).sum(0) for part in parts])


def _mean_squares(loaded: LoadedModel, inputs: Inputs, direction: Tensor) -> dict[str, Tensor]:
    """By parameter, E over samples of the squared gradient, one sample at a time. The model becomes float64."""
    model = loaded.model.double()
    samples = len(next(iter(inputs.values())))
    sums: dict[str, Tensor] = {}
    for sample in range(samples):
        one = {key: value[sample : sample + 1] for key, value in inputs.items()}
        one = {key: value.double() if value.is_floating_point() else value for key, value in one.items()}
        model.zero_grad()
        (answer(model, one) * direction).sum().backward()
        for path, parameter in model.named_parameters():
            if parameter.grad is not None:
                sums[path] = sums.get(path, 0.0) + parameter.grad.square() / samples
    return sums


def _summed(squares: dict[str, Tensor], path: str, *, columns: bool) -> list[Tensor]:
    """Of a map, the sum over each column; or over each row, and its bias."""
    weight = squares[f"{path}.weight"].sum(0 if columns else 1)
    bias = squares.get(f"{path}.bias")
    return [weight] if columns or bias is None else [weight, bias]


def check_rotation(kind: ModelSpec, stock: PreTrainedModel, inputs: Inputs, name: str) -> None:
    """Turning every head into its principal axes changes weights and no answer, of a whole model and of a cut one."""
    loaded = cut_by(dense(kind, stock), keeps(shape_of(kind, stock).dense)[name])
    observed, _ = _seen(loaded, [inputs], principal.REQUIRED_STATISTICS)
    blocks = attention_blocks(loaded.model, kind, loaded.widths)
    turned = principal.rotate(loaded, principal.principal_bases(blocks, observed))
    with torch.inference_mode():
        assert_near(answer(turned.model, inputs), answer(loaded.model, inputs), 1e-4)
    changed = zip(loaded.model.parameters(), turned.model.parameters(), strict=True)
    assert max(float((a - b).detach().abs().max()) for a, b in changed if a.numel()) > 0.1, "nothing was rotated"


def last_states(loaded: LoadedModel, inputs: Inputs) -> Tensor:
    """The residual stream after the last layer: what all fits aim at."""
    layer = loaded.model.get_submodule(loaded.model_spec.layout_of(loaded.model).stacks[-1][-1])
    found: list[Any] = []
    handle = layer.register_forward_hook(lambda _m, _a, output: found.append(output))
    with torch.inference_mode():
        answer(loaded.model, inputs)
    handle.remove()
    states: Tensor = found[0][0] if isinstance(found[0], tuple) else found[0]
    return states.double()


def check_compensation(
    kind: ModelSpec, stock: PreTrainedModel, seen: Sequence[Inputs], unseen: Inputs, name: str
) -> None:
    """On inputs that were not fitted to, least squares comes nearer than folded means, and these, where there is a bias to fold
    them into, nearer than nothing."""
    loaded = dense(kind, stock)
    kept = keeps(loaded.widths)[name]
    observed, _ = _seen(loaded, seen, {Statistic.CONTEXT})
    bare, folded, refitted, whole = (cut_by(loaded, kept) for _ in range(4))
    fold_means(loaded, folded, kept.heads, observed)
    refit_outputs(loaded, refitted, seen, Ridges())
    refit_outputs(loaded, whole, seen, Ridges(feed_forward=UNPRUNED_RIDGE))
    expected = last_states(loaded, unseen)
    errors = [
        float((last_states(model, unseen) - expected).square().mean()) for model in (bare, folded, refitted, whole)
    ]
    folds = any(
        block.projections["o"].bias is not None for block in attention_blocks(loaded.model, kind, loaded.widths)
    )
    assert errors[1] < errors[0] if folds else errors[1] == errors[0], errors
    assert errors[2] < 0.95 * errors[1], errors
    assert errors[3] < 0.95 * errors[1], errors


def check_uncut_stays(kind: ModelSpec, stock: PreTrainedModel, batches: Sequence[Inputs]) -> None:
    """Where nothing was lost there is nothing to make up for."""
    loaded = dense(kind, stock)
    same = cut_by(loaded, Selection.all(loaded.widths))
    refit_outputs(loaded, same, batches, Ridges(feed_forward=UNPRUNED_RIDGE))
    for a, b in zip(loaded.model.parameters(), same.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-3)
