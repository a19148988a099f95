"""What rotary positions and gated feed-forward blocks ask beside what every family does: pairs, their angles, and the products.

The reference is transformers' own class, complex numbers, or numpy.
"""

import itertools

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

from api_schemas.enums import Basis, Criterion, Granularity, TargetKind
from api_schemas.results.widths import LayerWidths
from api_schemas.spec.pruning import Pruning
from benchmarks.families import reference
from benchmarks.families.tiny_models import MODELS
from checkpoints.config.pruned_layout import SaidWidths
from checkpoints.describe import describe_folder
from checkpoints.families import UnusableConfigError
from checkpoints.files.shards import WEIGHTS_NAME
from checkpoints.planning.feasibility import max_share, smallest_cut
from checkpoints.sizes import accounting
from worker.engine.checkpoint.load import load_original
from worker.engine.checkpoint.save import save_checkpoint
from worker.engine.latency.table_measurement import _Bench
from worker.engine.models.attention import attention_blocks
from worker.engine.models.feed_forward import all_neurons, feed_forward_blocks
from worker.engine.models.model_spec import attention_entry
from worker.engine.models.pruned_heads import Turns, behind, rotate
from worker.engine.models.pruned_layers import PrunedRotaryAttention
from worker.engine.pruning.compensation import Ridges, refit_outputs
from worker.engine.pruning.cutting import nonincreasing_scores
from worker.engine.pruning.layer_calls import call_of_first_layer
from worker.engine.pruning.selection import KeptHead, Selection, compose, keep_all, select
from worker.engine.pruning.targets import little_left
from worker.engine.scoring import Statistic, observe, score
from worker.engine.tasks.base import logits_of

TINY = next(tiny for tiny in MODELS if tiny.name == "ModernBertForSequenceClassification")
HEAD = 8
"""Channels of one of its heads: four pairs."""


@pytest.fixture(scope="module")
def whole():
    return reference.dense(TINY.model_spec, TINY.stock())


def pairs_of(layer, head, qk):
    """The pairs of a head's channels that stay, None where one stays without the other."""
    kept, count = set(qk), len(layer.rotary[head])
    both = [p for p in range(count) if {p, p + count} <= kept]
    return both if len(both) * 2 == len(qk) else None


def random_scores(whole, criterion=Criterion.RANDOM):
    blocks = attention_blocks(whole.model, whole.model_spec, whole.widths)
    return score(criterion, blocks, seed=3)


@pytest.mark.parametrize("widths", [[8, 8], [8, 6]], ids=["alike", "ragged"])
def test_rotation_is_multiplication_by_complex_numbers_of_the_first_channels(widths):
    """Heads of two rotated pairs, or two and one, and what is left of them that is not rotated."""
    torch.manual_seed(0)
    states, counts = torch.randn(2, 5, sum(widths)), (2, 2) if widths[1] == 8 else (2, 1)
    angles = torch.rand(1, 5, sum(counts)) * 6
    turns = Turns(angles.cos(), angles.sin(), counts)
    if widths[0] == widths[1]:
        turns = Turns(*(each.unflatten(-1, (2, 2)) for each in (angles.cos(), angles.sin())))
    found = rotate(states, widths, turns).split(widths, -1)
    start = 0
    for head, (whole_head, pairs) in enumerate(zip(states.split(widths, -1), counts, strict=True)):
        own, angle = whole_head.numpy(), angles[..., start : start + pairs].numpy()
        points = (own[..., :pairs] + 1j * own[..., pairs : 2 * pairs]) * np.exp(1j * angle)
        expected = np.concatenate([points.real, points.imag, own[..., 2 * pairs :]], -1)
        np.testing.assert_allclose(found[head].numpy(), expected, atol=1e-6)
        start += pairs


def test_tokens_before_the_first_angles_stay_as_they_are():
    """DINOv3's class token and registers."""
    states, angles = torch.randn(2, 5, 8), torch.rand(3, 4) * 6
    cos, sin = behind((angles.cos(), angles.sin()), states)
    found = rotate(states, [8], Turns(cos[:, None], sin[:, None]))
    torch.testing.assert_close(found[:, :2], states[:, :2])
    turns = Turns(angles.cos()[:, None], angles.sin()[:, None])
    torch.testing.assert_close(found[:, 2:], rotate(states[:, 2:], [8], turns))
    assert (found[:, 2:] - states[:, 2:]).abs().max() > 0.1


def test_cut_twice_is_cut_once_and_pairs_keep_their_angles(whole):
    first = reference.keeps(whole.widths)["heads and channels"]
    smaller = reference.cut_by(whole, first)
    second = Selection(
        tuple(
            tuple(
                KeptHead(h, tuple(c for p, c in enumerate(range(width)) if p % (width // 2) or width == 2), (0,))
                for h, width in enumerate(layer.qk)
            )
            for layer in smaller.widths.layers
        ),
        tuple(tuple(range(0, n, 2)) for n in smaller.widths.feed_forward),
    )
    smallest, inputs = reference.cut_by(smaller, second), TINY.inputs(3)
    both = Selection(compose(first.heads, second.heads), first.then(second).neurons)
    at_once = reference.cut_by(whole, both)
    assert smallest.widths == at_once.widths
    lost = [set(before) - set(after) for before, after in zip(
        itertools.chain.from_iterable(layer.rotary for layer in smaller.widths.layers),
        itertools.chain.from_iterable(layer.rotary for layer in smallest.widths.layers), strict=True,
    )]  # fmt: skip
    assert any(lost)
    with torch.inference_mode(), reference.masked(TINY.model_spec, TINY.stock(), both) as dense:
        expected = reference.answer(dense, inputs)
        reference.assert_near(reference.answer(smallest.model, inputs), expected)
        attentions = [m for m in smallest.model.modules() if isinstance(m, PrunedRotaryAttention)]
        attentions[-1].columns.zero_()
        assert (reference.answer(smallest.model, inputs) - expected).abs().max() > 1e-3, "whose angle is whose counts"


def test_the_pairs_go_where_the_module_goes(whole):
    model = reference.cut_by(whole, reference.keeps(whole.widths)["ragged"]).model
    attention = next(m for m in model.modules() if isinstance(m, PrunedRotaryAttention))
    columns = attention.columns.tolist()
    model.to(torch.device("meta"))
    assert attention.columns.is_meta
    model.to_empty(device="cpu")
    assert attention.columns.tolist() == columns


@pytest.mark.parametrize("align", [1, 4])
@pytest.mark.parametrize("basis", Basis)
@pytest.mark.parametrize("granularity", [each for each in Granularity if each is not Granularity.ENTIRE_HEAD])
def test_channels_that_are_rotated_go_in_pairs(whole, granularity, basis, align):
    shape = reference.shape_of(TINY.model_spec, TINY.stock())
    spec = {"granularity": granularity, "basis": basis, "align": align, "criterion": "random", "normalization": "none"}
    within = Pruning.model_validate({"target": {"attention_sparsity": 0.5}, **spec})
    most = max_share(shape, whole.widths, within)
    assert smallest_cut(shape, whole.widths, within, TargetKind.ATTENTION_SPARSITY) < most
    kept = select(random_scores(whole), whole.widths, shape, within, share=0.6 * most)
    widths = Selection(kept, tuple(tuple(range(n)) for n in whole.widths.feed_forward)).widths(whole.widths)
    some = 0
    for layer, heads, own in zip(whole.widths.layers, kept, widths.layers, strict=True):
        for head in heads:
            pairs = pairs_of(layer, head.head, head.qk)
            assert pairs is not None, head
            some += 0 < len(pairs) < HEAD // 2
            assert len(head.qk) % align == 0
            if basis is Basis.PRINCIPAL:
                assert head.vo == tuple(range(len(head.vo)))
        if granularity not in (Granularity.RAGGED, Granularity.HEAD_AND_CHANNEL):
            assert own.uniform
    if align == 1:
        assert some, "some heads have lost some of their pairs"


def test_in_the_principal_basis_channels_that_are_rotated_keep_their_scores(whole):
    before = random_scores(whole)
    after = nonincreasing_scores(before, whole.widths)
    for one, other in zip(before, after, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one.qk, other.qk, strict=True))
        assert all(torch.equal(a.cummin(0).values, b) for a, b in zip(one.vo, other.vo, strict=True))


def test_units_of_heads_that_are_rotated_in_part():
    layer = LayerWidths(qk=(8,), vo=(5,), rotary=((1, 3),))
    assert layer.units("qk", 0) == ((0, 2), (1, 3), (4, 5), (6, 7))
    assert layer.units("vo", 0) == ((0,), (1,), (2,), (3,), (4,))
    assert layer.kept_pairs(0, (1, 3, 4, 5)) == (3,)


@pytest.fixture(scope="module")
def seen(whole):
    inputs = TINY.inputs(6)
    blocks = attention_blocks(whole.model, whole.model_spec, whole.widths)
    loss = lambda answers, _: answers.log_softmax(-1)[:, 0]  # noqa: E731
    statistics = {Statistic.GATES, Statistic.QK_MOMENTS, Statistic.CONTEXT}
    return inputs, blocks, observe(whole.model, blocks, [(inputs, None)], loss, statistics, outputs=logits_of)


def test_the_gate_of_a_pair_is_the_same_on_q_and_on_k_and_exact(whole, seen):
    """One factor on both channels of a pair commutes with the rotation, and one on a single channel does not."""
    inputs, blocks, observed = seen
    scores = score(Criterion.FISHER_GATE, blocks, observed=observed)[1]
    block, members = blocks[1], ((2, 1), (2, 1 + HEAD // 2))
    gradients = {}
    for side in "qk":
        rows = [block.rows(side, head).start + c for head, c in members]
        factor = torch.ones(len(inputs["input_ids"]), requires_grad=True)

        def gated(_module, _args, output, rows=rows, factor=factor):
            gates = torch.ones_like(output)
            gates[..., rows] = factor[:, None, None]
            return output * gates

        handle = block.projections[side].register_forward_hook(gated)
        whole.model(**inputs).logits.log_softmax(-1)[:, 0].sum().backward()
        handle.remove()
        gradients[side] = factor.grad
    torch.testing.assert_close(gradients["q"], gradients["k"], rtol=1e-3, atol=1e-6)
    assert scores.of("qk", members) == pytest.approx(float(gradients["q"].double().square().mean()), rel=1e-3)


def test_the_energy_of_a_pair_is_that_of_its_logits_over_all_angles(whole, seen):
    inputs, blocks, observed = seen
    layer = observed.layers[1]
    keys = []
    handle = blocks[1].projections["k"].register_forward_hook(lambda _m, _a, output: keys.append(output))
    with torch.inference_mode():
        whole.model(**inputs)
    handle.remove()
    own = keys[0][..., blocks[1].rows("k", 2)].flatten(0, 1).double()
    torch.testing.assert_close(layer.qk.k[2], own.mT @ own / len(own))
    assert not layer.qk.k_mean[2].any()
    scores = score(Criterion.ENERGY, blocks, observed=observed)[1]
    q, k = layer.qk.q[2].diagonal().numpy(), layer.qk.k[2].diagonal().numpy()
    states = [blocks[1].projections[side] for side in "qk"]
    assert all(linear.bias is None for linear in states)
    draw = np.random.default_rng(0)
    pair = [1, 1 + HEAD // 2]
    points = [draw.normal(size=(200_000, 2)) * np.sqrt(each[pair]) for each in (q, k)]
    turned = np.exp(1j * draw.uniform(0, 2 * np.pi, 200_000))
    logits = ((points[0] @ [1, 1j]) * (points[1] @ [1, -1j]) * turned).real
    found = scores.of("qk", [(2, c) for c in pair])
    assert found == pytest.approx(np.square(logits).mean(), rel=0.03)
    assert found == pytest.approx((q[pair].sum() * k[pair].sum()) / 2)


def test_layers_are_called_with_the_masks_and_angles_of_their_type(whole):
    """One by one as in one pass: global and local layers differ in both."""
    stock, inputs = TINY.stock(), TINY.inputs(3)
    layout = TINY.model_spec.layout(stock.config.to_dict())
    (stack,), (types,) = layout.stacks, layout.types
    assert len(set(types)) == 2
    states = []
    handle = stock.get_submodule(stack[-1]).register_forward_hook(lambda _m, _a, output: states.append(output))
    with torch.inference_mode():
        stock(**inputs)
        handle.remove()
        firsts = {kind: whole.model.get_submodule(path) for kind, path in zip(types, stack, strict=True)}
        call = call_of_first_layer(whole.model, firsts, inputs)
        for number, path in enumerate(stack):
            call = call.run(whole.model.get_submodule(path), following=(*types, "")[number + 1])
        wider = TINY.stock(local_attention=60)
        assert (reference.answer(wider, inputs) - reference.answer(stock, inputs)).abs().max() > 1e-3
    reference.assert_near(call.hidden, states[0])


def test_a_gated_block_is_refitted_as_numpy_solves_it(whole):
    """The last block's output map, on what act(gate)·up gives of the neurons that stay, towards the stream before the cut."""
    inputs = [TINY.inputs(24, seed) for seed in (10, 11)]
    *before, last = all_neurons(whole.widths)
    stay = list(last[::3])
    smaller = reference.cut_by(whole, Selection(keep_all(whole.widths), (*before, tuple(stay))))
    block = feed_forward_blocks(whole.model, whole.model_spec, whole.widths)[-1]
    rows, wanted = [], []

    def note(_module, args, output):
        rows.append(args[0].flatten(0, 1).double().numpy())
        wanted.append(output.flatten(0, 1).double().numpy())

    handle = block.second.register_forward_hook(note)
    gates, ups = ([], [])
    taps = [
        linear.register_forward_hook(lambda _m, _a, output, into=into: into.append(output.flatten(0, 1)))
        for linear, into in ((block.first, gates), (block.up, ups))
    ]
    with torch.inference_mode():
        for batch in inputs:
            whole.model(**batch)
    for each in (handle, *taps):
        each.remove()
    a = np.concatenate(rows)
    by_hand = torch.cat([functional.gelu(gate) * up for gate, up in zip(gates, ups, strict=True)])
    np.testing.assert_allclose(a, by_hand.numpy(), atol=1e-5)
    kept = a[:, stay]
    now = block.second.weight.detach().double().numpy()[:, stay]
    ridge = 1e-3
    penalty = np.sqrt(ridge * np.square(kept).sum(0).mean())
    left = np.concatenate([kept, penalty * np.eye(kept.shape[1])])
    right = np.concatenate([np.concatenate(wanted), penalty * now.T])
    expected = np.linalg.lstsq(left, right, rcond=None)[0].T
    refit_outputs(whole, smaller, inputs, Ridges(attention=None, feed_forward=ridge))
    found = feed_forward_blocks(smaller.model, smaller.model_spec, smaller.widths)[-1].second.weight
    assert np.abs(expected - now).max() > 0.05
    np.testing.assert_allclose(found.detach().numpy(), expected, atol=2e-3)


def test_a_joined_map_of_another_dtype_keeps_it_in_both_layouts(tmp_path):
    original = TINY.save(TINY.stock().to(torch.bfloat16), tmp_path / "original")
    tensors = load_file(original / WEIGHTS_NAME)
    precise = ("model.layers.0.attn.Wqkv.weight", "model.layers.1.mlp.Wi.weight")
    save_file(
        {n: t.float() if n in precise else t for n, t in tensors.items()}, original / WEIGHTS_NAME, {"format": "pt"}
    )
    loaded = load_original(original)
    for name, parts in (
        ("equal neurons", precise),
        ("ragged", (f"{precise[0][:-7]}.q.weight", f"{precise[1][:-7]}.up.weight")),
    ):
        folder = tmp_path / name
        save_checkpoint(folder, reference.cut_by(loaded, reference.keeps(loaded.widths)[name]), original)
        stored = load_file(folder / WEIGHTS_NAME)
        assert all(stored[part].dtype == torch.float32 for part in parts)
        assert stored["model.layers.1.mlp.Wo.weight"].dtype == torch.bfloat16


GOOD = {"qk": [8, 4], "vo": [3, 5], "heads": [0, 2], "rotary": ["f", "a"]}


@pytest.mark.parametrize(
    "changes",
    [{"rotary": value} for value in (
        None, {}, [], "0123", [[0, 1, 2, 3]], [[0, 1, 2, 3], [3, 1]], [[0, 1, 2, 3], [1, 1]], [[0, 1, 2, 3], [1, 4]],
        [[0, 1, 2, 3], [-1, 1]], [[0, 1, 2, 3], [1]], [[0, 1, 2, 3], [1, True]], [[0, 1, 2, 3], [1.0, 3]],
        [[0, 1, 2, 3], None], [[0, 1, 2, 3], list(range(2**16))],
        ["f"], ["f", "1a"], ["f", "A"], ["f", "0xa"], ["f", "-a"], ["f", ""], ["f", "f" * 2**16], ["f", "f_f"], ["f", "٣"],
    )] + [{"qk": [8, 3]}, {"qk": [8, 6]}, {"qk": [6, 4]}],
)  # fmt: skip
def test_pairs_that_are_none_are_refused(changes):
    """What a config in the layout of our own says of pairs, held against what its other keys tell."""
    layout = TINY.model_spec.layout(TINY.stock().config.to_dict())
    entries = [attention_entry(site, site.shape.whole) for site in layout.attention]
    for same in (GOOD, {**GOOD, "rotary": [[0, 1, 2, 3], [1, 3]]}):
        found = SaidWidths([{**entries[0], **same}, entries[1]], None).read(layout)
        assert found.layers[0].rotary == ((0, 1, 2, 3), (1, 3))
    with pytest.raises(UnusableConfigError, match=r"of entry 0 must be") as raised:
        SaidWidths([{**entries[0], **GOOD, **changes}, entries[1]], None).read(layout)
    assert raised.value.key == "pruned_attention"


def test_what_is_timed_has_pairs_too(whole):
    """The model with little left, and the parts of which a latency table is made."""
    pruning = Pruning.model_validate({"target": {"latency": 0.2}, "parts": ["attention", "feed_forward"]})
    small = little_left(whole, pruning)
    assert small.widths.layers[0].rotary == ((0, 1),)
    with torch.inference_mode():
        assert torch.isfinite(reference.answer(small.model, TINY.inputs(2))).all()
        layout = TINY.model_spec.layout(TINY.stock().config.to_dict())
        hidden = torch.randn(2, 7, 32)
        bench = _Bench(layout.attention[0], whole.model.get_submodule(layout.attention[0].module), hidden)
        assert bench.kernel([16, 14])()[0].shape == (2, 7, 30)
        assert bench.feed_forward(5, torch.nn.GELU(), gated=True)().shape == hidden.shape


def test_a_result_is_pruned_further_with_the_pairs_that_it_says(tmp_path, whole):
    """In the layout of our own, its maps apart, it is described, loaded and cut as any original."""
    original = TINY.save(TINY.stock(), tmp_path / "original")
    smaller = reference.cut_by(whole, reference.keeps(whole.widths)["heads and channels"])
    save_checkpoint(tmp_path / "result", smaller, original)
    again = load_original(tmp_path / "result")
    assert again.widths == smaller.widths
    described = describe_folder(tmp_path / "result")
    total = sum(parameter.numel() for parameter in again.model.parameters())
    assert accounting.total_parameters(described.shape, described.widths) == total
    with torch.inference_mode():
        expected = reference.answer(smaller.model, TINY.inputs(3))
        assert torch.equal(reference.answer(again.model, TINY.inputs(3)), expected)
