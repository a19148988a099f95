"""Neurons of feed-forward blocks: scores against gradients of masks and of weights, cuts against masks, choices by hand."""

import itertools
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from api_schemas.enums import Criterion, Granularity, TargetKind
from api_schemas.errors import SecateurError
from api_schemas.spec.pruning import Pruning
from checkpoints.planning.feasibility import check_feasible, max_share, smallest_cut
from checkpoints.sizes import accounting
from checkpoints.sizes.cost_unit import CostUnit
from tests.unit.engine.small import DENSE, KIND, LAYERS, NEURONS, batches_of, inputs, small_model, small_shape
from worker.engine.models.attention import attention_blocks
from worker.engine.models.feed_forward import all_neurons, compose_neurons, feed_forward_blocks
from worker.engine.pruning import surgery
from worker.engine.pruning.compensation import RIDGE, Ridges, fold_neurons, refit_outputs
from worker.engine.pruning.selection import Selection, keep_all
from worker.engine.pruning.surgery import cut
from worker.engine.pruning.targets import neurons_met, requested_sparsity, selection_for
from worker.engine.scoring import LayerScores, NeuronScores, Statistic, observe, score, score_neurons
from worker.engine.scoring.channels import NormScores

SHAPE = small_shape().model_copy(update={"other_flops": 10_000, "other_parameters": 1_000})
EVERYTHING = frozenset({Statistic.FISHER, Statistic.SALIENCY, Statistic.GATES, Statistic.CONTEXT, Statistic.GRADIENTS})
SOME = (tuple(range(0, NEURONS, 2)), tuple(range(5)), tuple(range(NEURONS)))


def blocks_of(loaded):
    return feed_forward_blocks(loaded.model, loaded.model_spec, loaded.widths)


def without(loaded, neurons):
    kept = Selection(keep_all(loaded.widths), neurons)
    model = cut(loaded.model, loaded.model_spec, loaded.widths, kept.heads, kept.neurons)
    return replace(loaded, model=model, widths=kept.widths(loaded.widths))


def targets_of(samples):
    return torch.arange(samples) % 5


def loss(logits, targets):
    return functional.cross_entropy(logits, targets, reduction="none")


def observed(loaded, samples=6, batch=3):
    x, y = inputs(samples), targets_of(samples)
    batches = [({"input_values": a}, b) for a, b in zip(x.split(batch), y.split(batch), strict=True)]
    attention = attention_blocks(loaded.model, loaded.model_spec, loaded.widths)
    return observe(loaded.model, attention, batches, loss, EVERYTHING, neurons=blocks_of(loaded))


@contextmanager
def masked(loaded, neurons):
    """The dense model with the activations of what is cut set to zero."""
    handles = []
    for block, kept in zip(blocks_of(loaded), neurons, strict=True):
        mask_N = torch.zeros(block.second.in_features)
        mask_N[list(kept)] = 1.0

        def zero(_module, args, mask_N=mask_N):
            return (args[0] * mask_N,)

        handles.append(block.second.register_forward_pre_hook(zero))
    try:
        yield loaded.model
    finally:
        for handle in handles:
            handle.remove()


def test_a_cut_model_is_the_masked_dense_one():
    loaded, x = small_model(), inputs(4)
    smaller = without(loaded, SOME)
    assert smaller.widths.feed_forward == (NEURONS // 2, 5, NEURONS)
    with torch.inference_mode(), masked(loaded, SOME) as reference:
        expected = reference(x).logits
        assert (smaller.model(x).logits - expected).abs().max() <= 1e-5 * max(1.0, float(expected.abs().max()))
    counted = accounting.feed_forward_parameters(SHAPE, smaller.widths)
    held = sum(
        p.numel() for block in blocks_of(smaller) for p in (*block.first.parameters(), *block.second.parameters())
    )
    assert counted == held


def test_a_first_map_without_bias_loses_its_rows_alone(monkeypatch):
    """No family has one yet."""
    loaded = small_model()
    for block in blocks_of(loaded):
        block.first.bias = None
    monkeypatch.setattr(surgery, "rebuild", lambda _model, _model_spec, _widths, state: state)
    state = cut(loaded.model, loaded.model_spec, loaded.widths, keep_all(loaded.widths), SOME)
    for block, stay in zip(blocks_of(loaded), SOME, strict=True):
        first, second = block.names
        assert torch.equal(state[f"{first}.weight"], block.first.weight[list(stay)])
        assert torch.equal(state[f"{second}.weight"], block.second.weight[:, list(stay)])
        assert f"{first}.bias" not in state


def test_cutting_twice_counts_in_the_original():
    loaded = small_model()
    once = without(loaded, SOME)
    again = ((1, 3), (0, 4), tuple(range(10, 20)))
    twice, direct = without(once, again), without(loaded, compose_neurons(SOME, again))
    for one, other in zip(twice.model.parameters(), direct.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_scores_against_one_sample_at_a_time():
    """Gates by autograd on a mask, Fisher and saliency from whole weight gradients; double the batch size changes nothing."""
    loaded = small_model()
    x, y = inputs(6), targets_of(6)
    seen = observed(loaded)
    again = observed(loaded, batch=6)
    model = loaded.model.requires_grad_(True)
    for number, block in enumerate(blocks_of(loaded)):
        gates, fisher, saliency, active = [], [], [], []
        for sample in range(6):
            mask_N = torch.ones(NEURONS, requires_grad=True)

            def apply(_module, args, mask_N=mask_N, active=active):
                active.append(args[0].detach())
                return (args[0] * mask_N,)

            handle = block.second.register_forward_pre_hook(apply)
            model.zero_grad()
            loss(model(x[sample : sample + 1]).logits, y[sample : sample + 1]).sum().backward()
            handle.remove()
            gates.append(mask_N.grad)
            first, second = block.first, block.second
            square = first.weight.grad.square().sum(1) + first.bias.grad.square() + second.weight.grad.square().sum(0)
            fisher.append(square)
            weighted = (first.weight * first.weight.grad).square().sum(1) + (first.bias * first.bias.grad).square()
            saliency.append((weighted + (second.weight * second.weight.grad).square().sum(0)).detach())
        gates_SN, activations_TN = torch.stack(gates).double(), torch.cat(active, 1)[0].double()
        found = seen.neurons[number]
        for value, expected in (
            (found.gate, gates_SN.mean(0)),
            (found.gate_square, gates_SN.square().mean(0)),
            (found.fisher, torch.stack(fisher).double().mean(0)),
            (found.saliency, torch.stack(saliency).double().mean(0)),
            (found.mean, activations_TN.mean(0)),
            (found.variance, activations_TN.var(0, correction=0)),
        ):
            torch.testing.assert_close(value, expected, rtol=2e-4, atol=1e-7 * float(expected.abs().max()) + 1e-12)
        torch.testing.assert_close(found.gate_square, again.neurons[number].gate_square, rtol=1e-4, atol=1e-12)


def test_every_criterion_scores_every_neuron():
    loaded = small_model()
    seen = observed(loaded)
    for criterion in Criterion:
        for block in score_neurons(criterion, blocks_of(loaded), seen):
            assert block.vector.shape == (NEURONS,)
            assert (block.vector >= 0).all()
            assert block.vector.max() > 0
    with pytest.raises(ValueError, match="needs observations"):
        score_neurons(Criterion.FISHER, blocks_of(loaded))
    block = blocks_of(loaded)[1]
    norm = score_neurons(Criterion.MAGNITUDE, blocks_of(loaded))[1].vector[7]
    parameters = torch.cat([block.first.weight[7], block.first.bias[7:8], block.second.weight[:, 7]])
    assert float(norm) == pytest.approx(float(parameters.detach().norm()), rel=1e-6)


def pruning(target, **changes):
    return Pruning.model_validate({"preset": "paper", "target": target, "criterion": "fisher_gate", **changes})


def chosen(spec, share=None):
    loaded = small_model()
    seen = observed(loaded)
    attention = score(spec.criterion, attention_blocks(loaded.model, KIND, DENSE), observed=seen)
    neurons = score_neurons(spec.criterion, blocks_of(loaded), seen)
    kept = selection_for(attention, DENSE, SHAPE, spec, share=share or spec.target.share, neurons=neurons)
    return kept, attention, neurons


@pytest.mark.parametrize("scope", ["global", "local"])
@pytest.mark.parametrize("align", [1, 8])
def test_feed_forward_blocks_alone(scope, align):
    spec = pruning({"ffn_sparsity": 0.5}, scope=scope, align=align, granularity="per_head")
    kept, _, neurons = chosen(spec)
    assert kept.heads == keep_all(DENSE)
    widths = kept.widths(DENSE)
    one = smallest_cut(SHAPE, DENSE, spec, TargetKind.FFN_SPARSITY)
    assert abs(accounting.feed_forward_sparsity(SHAPE, widths) - 0.5) <= one / 2 + 1e-12
    assert all(width % align == 0 for width in widths.feed_forward)
    if scope == "local":
        assert len(set(widths.feed_forward)) == 1
    if align == 1:
        gone = [v for n, kept_n in enumerate(kept.neurons) for i, v in enumerate(neurons[n].vector) if i not in kept_n]
        stay = [neurons[n].vector[i] for n, kept_n in enumerate(kept.neurons) for i in kept_n]
        assert scope == "local" or max(gone) <= min(stay)


def test_a_stock_layout_takes_as_many_of_every_block():
    spec = pruning({"ffn_sparsity": 0.5}, layout="stock", granularity="per_head")
    kept, _, neurons = chosen(spec)
    assert kept.heads == keep_all(DENSE)
    assert set(map(len, kept.neurons)) == {NEURONS // 2}
    for block, stay in zip(neurons, kept.neurons, strict=True):
        assert set(stay) == set(torch.topk(block.vector, NEURONS // 2).indices.tolist())
    assert requested_sparsity(SHAPE, spec, 0.5, kept.widths(DENSE)) == 0


SCALES = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)


@pytest.mark.parametrize("kind", [LayerScores, NormScores])
@pytest.mark.parametrize("normalization", ["none", "layer", "parameters"])
def test_blocks_of_other_scale_and_size_compare_as_the_spec_says(kind, normalization):
    """Against one sorted list: a block's scores by their mean, or by the parameters that go with a neuron of it."""
    generator = torch.Generator().manual_seed(5)
    vectors = torch.rand(LAYERS, NEURONS, generator=generator, dtype=torch.float64) * SCALES[:, None]
    scored = [NeuronScores(kind((), (vector,))) for vector in vectors]
    wider = tuple(
        block.model_copy(update={"hidden": block.hidden * times})
        for block, times in zip(SHAPE.feed_forward, (1, 2, 3), strict=True)
    )
    shape = SHAPE.model_copy(update={"feed_forward": wider})
    spec = pruning({"ffn_sparsity": 0.4}, normalization=normalization, granularity="per_head")
    kept = selection_for((), DENSE, shape, spec, share=0.4, neurons=scored).neurons

    sizes = torch.tensor([accounting.neuron_parameters(block) for block in wider], dtype=torch.float64)
    values = {
        "none": vectors,
        "layer": vectors / vectors.mean(1, keepdim=True),
        "parameters": (vectors.square() if kind is NormScores else vectors) / sizes[:, None],
    }[normalization]
    # One neuron stays in every block, the best.
    best = values.argmax(1).tolist()
    order = [divmod(place, NEURONS) for place in values.flatten().argsort().tolist()]
    order = [(block, neuron) for block, neuron in order if best[block] != neuron]
    budget = 0.4 * accounting.feed_forward_parameters(shape, shape.dense)
    removed = torch.cumsum(torch.tensor([0.0, *(float(sizes[block]) for block, _ in order)]).double(), 0)
    gone = order[: int((removed - budget).abs().argmin())]
    assert 10 < len(gone) < len(order) - 10
    assert {(b, n) for b, stay in enumerate(kept) for n in range(NEURONS) if n not in stay} == set(gone)


def test_a_share_of_each_is_met_by_each_also_half_way():
    spec = pruning({"attention_sparsity": 0.5, "ffn_sparsity": 0.3}, granularity="ragged")
    for progress in (0.5, 1.0):
        kept, *_ = chosen(spec, share=0.5 * progress)
        widths = kept.widths(DENSE)
        assert accounting.attention_sparsity(SHAPE, widths) == pytest.approx(0.5 * progress, abs=0.01)
        assert accounting.feed_forward_sparsity(SHAPE, widths) == pytest.approx(0.3 * progress, abs=0.01)
        met = neurons_met(SHAPE, spec, 0.5 * progress, widths)
        assert (met.requested, met.achieved) == (pytest.approx(0.3 * progress), pytest.approx(0.3 * progress, abs=0.01))


@pytest.mark.parametrize("granularity", Granularity)
@pytest.mark.parametrize("kind", ["parameters", "flops"])
def test_one_ranking_takes_what_is_cheapest_by_cost(granularity, kind):
    """Nothing that went scores more by its cost than something that stayed and would have fitted as well."""
    spec = pruning({kind: 0.4}, parts=["attention", "feed_forward"], granularity=granularity)
    kept, attention, neurons = chosen(spec)
    unit = CostUnit.of(SHAPE, spec.target.kind)
    share = unit.share(kept.widths(DENSE))
    assert abs(share - 0.4) <= smallest_cut(SHAPE, DENSE, spec, spec.target.kind) * (
        1 if granularity in ("ragged", "head_and_channel") else 9
    )
    went = [
        float(neurons[n].vector[i]) / unit.neuron[n]
        for n, stay in enumerate(kept.neurons) for i in range(NEURONS) if i not in stay
    ]  # fmt: skip
    stayed = [float(neurons[n].vector[i]) / unit.neuron[n] for n, stay in enumerate(kept.neurons) for i in stay]
    assert went
    assert max(went) <= min(stayed) * (1 + 1e-9)
    if granularity == "ragged":
        by_cost = [
            (float(scores.side(side)[h][c]) / unit.cost(n, side), c in getattr(head, side))
            for n, (scores, layer) in enumerate(zip(attention, kept.heads, strict=True)) for h, head in enumerate(layer)
            for side, c in itertools.product(("qk", "vo"), range(8))
        ]  # fmt: skip
        gone = [*went, *(value for value, stays in by_cost if not stays)]
        assert max(gone) <= min(stayed) * (1 + 1e-9)
        # A head keeps a channel of each side whatever it scores.
        assert sum(stays and value < max(gone) for value, stays in by_cost) <= 2 * 4 * LAYERS


def test_blocks_that_have_no_more_to_give_leave_the_rest_to_attention():
    spec = pruning({"parameters": 0.6}, parts=["attention", "feed_forward"], granularity="head_and_channel")
    seen = observed(small_model())
    attention = score(spec.criterion, attention_blocks(small_model().model, KIND, DENSE), observed=seen)
    worthless = [NeuronScores(LayerScores((), (torch.zeros(NEURONS, dtype=torch.float64),))) for _ in range(LAYERS)]
    kept = selection_for(attention, DENSE, SHAPE, spec, share=0.6, neurons=worthless)
    assert set(map(len, kept.neurons)) == {spec.min_neurons}
    unit = CostUnit.of(SHAPE, TargetKind.PARAMETERS)
    assert unit.share(kept.widths(DENSE)) == pytest.approx(0.6, abs=max(unit.qk) / unit.total)


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"target": {"attention_sparsity": 0.5, "flops": 0.5}}, "name exactly one"),
        ({"target": {"ffn_sparsity": 0.5, "latency": 0.5}}, "name exactly one"),
        ({"target": {"ffn_sparsity": 0.5}, "parts": ["attention"]}, "already says"),
        ({"target": {"latency": 0.2}, "parts": ["attention", "feed_forward"], "layout": "stock"}, "unequal"),
        ({"target": {"flops": 0.2}, "parts": ["attention", "feed_forward"], "scope": "local"}, "one threshold"),
        ({"target": {"flops": 0.2}, "parts": ["attention", "attention"]}, "once"),
    ],
)
def test_what_cannot_be_asked_for(spec, reason):
    with pytest.raises(ValueError, match=reason):
        Pruning.model_validate({"preset": "paper", **spec})


def test_what_is_out_of_reach_says_what_goes_further():
    with pytest.raises(SecateurError, match="feed_forward"):
        check_feasible(SHAPE, DENSE, pruning({"flops": 0.6}))
    both = pruning({"flops": 0.6}, parts=["attention", "feed_forward"])
    check_feasible(SHAPE, DENSE, both)
    assert max_share(SHAPE, DENSE, both) > 0.6
    with pytest.raises(SecateurError, match="min_neurons=48"):
        check_feasible(SHAPE, DENSE, pruning({"ffn_sparsity": 0.5}, min_neurons=48))
    with pytest.raises(SecateurError, match=r"feed-forward block of width 63 .* align"):
        check_feasible(
            SHAPE.model_copy(),
            DENSE.model_copy(update={"feed_forward": (63,) * 3}),
            pruning({"ffn_sparsity": 0.5}, align=8),
        )


def test_folded_means_keep_the_mean_of_the_block_and_least_squares_do_better():
    loaded, x = small_model(), inputs(64, seed=1)
    seen = observed(loaded, samples=64, batch=16)
    kept = (tuple(range(20)), all_neurons(DENSE)[1], tuple(range(0, NEURONS, 2)))
    bare, folded, refitted = (without(loaded, kept) for _ in range(3))
    for smaller in (folded, refitted):
        fold_neurons(loaded, smaller, kept, seen)
    refit_outputs(loaded, refitted, batches_of(x, 16), Ridges(feed_forward=RIDGE))
    unseen = inputs(32, seed=9)
    with torch.inference_mode():
        expected = loaded.model(unseen).logits
        errors = [float((model.model(unseen).logits - expected).square().mean()) for model in (bare, folded, refitted)]
    assert errors[2] < 0.7 * errors[1]
    assert errors[1] < errors[0]
