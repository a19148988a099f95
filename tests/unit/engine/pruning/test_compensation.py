"""Compensation against least squares done another way, and against the properties that define it."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.unit.engine.small import DENSE, HEAD_DIM, HEADS, KIND, LAYERS, batches_of, inputs, small_model
from worker.engine.checkpoint.load import LoadedModel
from worker.engine.models.attention import attention_blocks
from worker.engine.models.feed_forward import feed_forward_blocks
from worker.engine.pruning.compensation import (
    RIDGE,
    UNPRUNED_RIDGE,
    Ridges,
    fold_means,
    refit_outputs,
)
from worker.engine.pruning.selection import KeptHead, KeptHeads, widths_of
from worker.engine.pruning.surgery import cut
from worker.engine.scoring import Statistic, observe

ALL = tuple(range(HEAD_DIM))
RAGGED: KeptHeads = (
    (KeptHead(0, (0, 3), (1, 4, 5)), KeptHead(1, ALL, (0,)), KeptHead(3, (2, 6, 7), ALL)),
    tuple(KeptHead(h, ALL, (0, 2, 4, 6)) for h in range(HEADS)),
    (),
)


def _cut(loaded: LoadedModel, keep: KeptHeads) -> LoadedModel:
    model = cut(loaded.model, loaded.model_spec, loaded.widths, keep)
    return replace(loaded, model=model, widths=widths_of(keep, DENSE))


def _streams(loaded: LoadedModel, x: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
    """By layer: residual stream before attention, the context, the attention's output; float64, tokens in one dimension."""
    found: list[dict[str, Tensor]] = [{} for _ in range(LAYERS)]
    handles = []
    for number, block in enumerate(attention_blocks(loaded.model, loaded.model_spec, loaded.widths)):
        layer = loaded.model.get_submodule(KIND.layout_of(loaded.model).stacks[0][number])
        seen = found[number]
        handles.append(layer.register_forward_pre_hook(lambda _m, a, seen=seen: seen.update(hidden=a[0])))
        attention = loaded.model.get_submodule(block.name)
        handles.append(attention.register_forward_hook(lambda _m, _a, y, seen=seen: seen.update(y=y[0])))
        o = block.projections["o"]
        handles.append(o.register_forward_pre_hook(lambda _m, a, seen=seen: seen.update(x=a[0])))
    with torch.inference_mode():
        loaded.model(x)
    for handle in handles:
        handle.remove()
    flat = [{name: value.flatten(0, 1).double() for name, value in seen.items()} for seen in found]
    return [(seen["hidden"], seen.get("x", seen["hidden"][:, :0]), seen["y"]) for seen in flat]


def _last_output(loaded: LoadedModel, x: Tensor) -> Tensor:
    """The residual stream after the last layer, float64."""
    last = loaded.model.get_submodule(KIND.layout_of(loaded.model).stacks[0][-1])
    found: list[Tensor] = []
    handle = last.register_forward_hook(lambda _m, _a, y: found.append(y[0] if isinstance(y, tuple) else y))
    with torch.inference_mode():
        loaded.model(x)
    handle.remove()
    return found[0].double()


def test_folded_means_keep_the_mean_of_the_output() -> None:
    loaded, x = small_model(), inputs(16)
    everything = tuple(KeptHead(h, ALL, ALL) for h in range(HEADS))
    keep: KeptHeads = (tuple(KeptHead(h, ALL, (h, h + 2)) for h in (0, 1, 3)), everything, everything)
    blocks = attention_blocks(loaded.model, loaded.model_spec, loaded.widths)
    observed = observe(loaded.model, blocks, [({"input_values": x}, x)], lambda z, _: z.sum(1), {Statistic.CONTEXT})
    smaller = _cut(loaded, keep)
    unfolded = _streams(smaller, x)[0][2].mean(0)
    fold_means(loaded, smaller, keep, observed)
    expected, folded = _streams(loaded, x)[0][2].mean(0), _streams(smaller, x)[0][2].mean(0)
    torch.testing.assert_close(folded, expected, atol=1e-5, rtol=1e-4)
    assert (unfolded - expected).abs().max() > 0.01
    untouched = attention_blocks(smaller.model, smaller.model_spec, smaller.widths)[1].projections["o"].bias
    torch.testing.assert_close(untouched, blocks[1].projections["o"].bias)


def test_the_first_layer_is_refitted_as_lstsq_would() -> None:
    loaded, x = small_model(), inputs(16)
    smaller = _cut(loaded, RAGGED)
    _, context, _ = _streams(smaller, x)[0]
    refit_outputs(loaded, smaller, batches_of(x, 5), Ridges(0.0))
    attended = _streams(loaded, x)[0][2]
    with_one = torch.cat([context, torch.ones(len(context), 1, dtype=torch.float64)], 1)
    solution = torch.linalg.lstsq(with_one, attended).solution
    o = attention_blocks(smaller.model, smaller.model_spec, smaller.widths)[0].projections["o"]
    torch.testing.assert_close(o.weight.detach().double(), solution[:-1].mT, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(o.bias.detach().double(), solution[-1], atol=1e-3, rtol=1e-3)


def test_no_linear_correction_is_left_in_any_layer() -> None:
    """What is left of the residual stream's error is orthogonal to the context and to 1, on the inputs each layer now gets."""
    loaded, x = small_model(), inputs(16)
    smaller = _cut(loaded, RAGGED)
    refit_outputs(loaded, smaller, batches_of(x, 4), Ridges(0.0))
    for (wanted, _, attended), (hidden, context, output) in zip(_streams(loaded, x), _streams(smaller, x), strict=True):
        left = wanted + attended - hidden - output
        scale = (wanted + attended).std() * max(1.0, float(context.std())) if context.numel() else 1.0
        assert left.mean(0).abs().max() < 1e-4
        assert (context.mT @ left / len(left)).numel() == 0 or (
            context.mT @ left / len(left)
        ).abs().max() < 1e-4 * scale


def test_the_second_feed_forward_projection_is_refitted_too() -> None:
    loaded, x = small_model(), inputs(64, seed=1)
    attention_alone, both = _cut(loaded, RAGGED), _cut(loaded, RAGGED)
    refit_outputs(loaded, attention_alone, batches_of(x, 16), Ridges())
    refit_outputs(loaded, both, batches_of(x, 16), Ridges(feed_forward=UNPRUNED_RIDGE))
    path = "audio_spectrogram_transformer.layers.{layer}.mlp.fc2"
    for layer in range(LAYERS):
        old, new = (model.model.get_submodule(path.format(layer=layer)).weight for model in (loaded, both))
        assert (old - new).abs().max() > 1e-4
    # The last layer's output, before the final norm: what all the fits aim at.
    wanted, *found = (_last_output(model, x) for model in (loaded, attention_alone, both))
    errors = [float((output - wanted).square().mean()) for output in found]
    assert errors[1] < 0.95 * errors[0]


def test_refitting_brings_unseen_logits_nearer() -> None:
    loaded, seen, unseen = small_model(), inputs(64, seed=1), inputs(32, seed=2)
    smaller = _cut(loaded, RAGGED)
    with torch.inference_mode():
        dense = loaded.model(unseen).logits
        before = (smaller.model(unseen).logits - dense).square().mean()
        refit_outputs(loaded, smaller, batches_of(seen, 16), Ridges())
        after = (smaller.model(unseen).logits - dense).square().mean()
    assert after < 0.8 * before


def test_a_model_that_was_not_cut_stays_as_it_is() -> None:
    loaded = small_model()
    same = replace(loaded, model=cut(loaded.model, loaded.model_spec, loaded.widths, tuple(
        tuple(KeptHead(h, ALL, ALL) for h in range(HEADS)) for _ in range(LAYERS)
    )))  # fmt: skip
    refit_outputs(loaded, same, batches_of(inputs(16), 8), Ridges())
    for a, b in zip(loaded.model.parameters(), same.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-3)


def test_batches_are_gone_through_several_times() -> None:
    loaded = small_model()
    with pytest.raises(ValueError, match="several times"):
        refit_outputs(loaded, _cut(loaded, RAGGED), iter(batches_of(inputs(4), 4)), Ridges())
    with pytest.raises(ValueError, match="needs a ridge"):
        refit_outputs(loaded, _cut(loaded, RAGGED), batches_of(inputs(4), 4), Ridges(), counts=(1, 2, 3))


def test_bias_needs_the_context() -> None:
    loaded = small_model()
    blocks = attention_blocks(loaded.model, loaded.model_spec, loaded.widths)
    x = inputs(4)
    observed = observe(loaded.model, blocks, [({"input_values": x}, x)], lambda z, _: z.sum(1), {Statistic.QK_MOMENTS})
    with pytest.raises(ValueError, match="context"):
        fold_means(loaded, _cut(loaded, RAGGED), RAGGED, observed)


def _without_output_biases(loaded: LoadedModel) -> LoadedModel:
    """The same, as a family without them would have it."""
    for block in attention_blocks(loaded.model, loaded.model_spec, loaded.widths):
        block.projections["o"].bias = None  # type: ignore[assignment]
    return loaded


def test_without_a_bias_means_have_nowhere_to_go_and_least_squares_go_without() -> None:
    loaded, x = _without_output_biases(small_model()), inputs(16)
    smaller = _without_output_biases(_cut(small_model(), RAGGED))
    blocks = attention_blocks(loaded.model, loaded.model_spec, loaded.widths)
    observed = observe(loaded.model, blocks, [({"input_values": x}, x)], lambda z, _: z.sum(1), {Statistic.CONTEXT})
    before = [parameter.clone() for parameter in smaller.model.parameters()]
    fold_means(loaded, smaller, RAGGED, observed)
    assert all(map(torch.equal, smaller.model.parameters(), before))
    _, context, _ = _streams(smaller, x)[0]
    attended = _streams(loaded, x)[0][2]
    refit_outputs(loaded, smaller, batches_of(x, 5), Ridges(0.0))
    solution = torch.linalg.lstsq(context, attended).solution
    o = attention_blocks(smaller.model, smaller.model_spec, smaller.widths)[0].projections["o"]
    torch.testing.assert_close(o.weight.detach().double(), solution.mT, atol=1e-3, rtol=1e-3)


def test_a_layer_that_had_no_heads_gets_no_means() -> None:
    loaded, x = _cut(small_model(), RAGGED), inputs(4)
    blocks = attention_blocks(loaded.model, loaded.model_spec, loaded.widths)
    observed = observe(loaded.model, blocks, [({"input_values": x}, x)], lambda z, _: z.sum(1), {Statistic.CONTEXT})
    keep: KeptHeads = tuple(
        tuple(KeptHead(h, tuple(range(layer.qk[h])), (0,)) for h in range(layer.heads))
        for layer in loaded.widths.layers
    )
    model = cut(loaded.model, loaded.model_spec, loaded.widths, keep)
    smaller = replace(loaded, model=model, widths=widths_of(keep, loaded.widths))
    fold_means(loaded, smaller, keep, observed)
    moved = [
        float((new.projections["o"].bias - old.projections["o"].bias).detach().abs().max())
        for old, new in zip(blocks, attention_blocks(model, loaded.model_spec, smaller.widths), strict=True)
    ]
    assert min(moved[:2]) > 1e-3
    assert moved[2] == 0


def test_what_has_no_ridge_is_not_fitted() -> None:
    loaded, x = small_model(), inputs(16)
    smaller = _cut(loaded, RAGGED)
    before = {name: parameter.clone() for name, parameter in smaller.model.named_parameters()}
    refit_outputs(loaded, smaller, batches_of(x, 8), Ridges(None, RIDGE))
    changed = {name for name, parameter in smaller.model.named_parameters() if not torch.equal(parameter, before[name])}
    second = {block.names[1] for block in feed_forward_blocks(smaller.model, smaller.model_spec, smaller.widths)}
    assert changed == {f"{path}.{kind}" for path in second for kind in ("weight", "bias")}


def test_activations_that_overflow_leave_the_projections_as_they_are() -> None:
    loaded, x = small_model(), inputs(8)
    smaller = _cut(loaded, RAGGED)
    before = [parameter.clone() for parameter in smaller.model.parameters()]
    x[3, 5, 7] = torch.inf
    refit_outputs(loaded, smaller, batches_of(x, 4), Ridges(feed_forward=RIDGE))
    assert all(map(torch.equal, smaller.model.parameters(), before))


def test_a_layer_that_is_never_called_cannot_be_followed() -> None:
    loaded = small_model()
    loaded.model.forward = lambda **_inputs: None  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="first layer"):
        refit_outputs(loaded, _cut(small_model(), RAGGED), batches_of(inputs(4), 4), Ridges())
