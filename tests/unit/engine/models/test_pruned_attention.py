"""Attention whose heads differ in width, or that has no heads, against transformers' own class with hooks that mask.

The reference is the stock dense model: what is cut is zeroed where it leaves q and k, and where it enters o. Nothing of the
code under test is in it.
"""

import random
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode
from transformers import ASTForAudioClassification

from api_schemas.results.widths import AttentionWidths
from api_schemas.spec.recovery import Lora
from checkpoints.sizes import accounting
from checkpoints.sizes.shape import ModelShape
from tests.unit.engine.small import KIND, inputs, small_config
from worker.engine.checkpoint.load import LoadedModel
from worker.engine.models import pruned_heads
from worker.engine.models.attention import attention_blocks, projections_by_name
from worker.engine.models.model_spec import attention_entry, build
from worker.engine.pruning.selection import KeptHead, keep_all, widths_of
from worker.engine.pruning.surgery import cut
from worker.engine.recovery.lora import attach, merge

LAYERS, HEADS, HEAD_DIM, HIDDEN = 3, 4, 32, 48
DENSE = AttentionWidths.dense(LAYERS, HEADS, HEAD_DIM, (64,) * LAYERS)


def head(number, qk, vo, seed=0):
    """A head that keeps so many channels of each side, scattered."""
    draw = random.Random(100 * number + seed)
    return KeptHead(number, *(tuple(sorted(draw.sample(range(HEAD_DIM), width))) for width in (qk, vo)))


ALL = keep_all(DENSE)[0]
KEEPS = {
    "ragged": tuple(
        tuple(head(h, qk, vo, layer) for h, (qk, vo) in enumerate(widths))
        for layer, widths in enumerate(
            [((3, 20), (32, 1), (17, 17), (9, 30)), ((24, 24), (24, 24), (5, 5), (24, 24)), ((1, 1), (2, 1), (1, 3), (31, 2))]
        )
    ),
    "heads and channels": ((head(1, 7, 12), head(3, 30, 2)), (head(2, 1, 1),), (head(0, 32, 32), head(2, 16, 16))),
    "no heads in the middle": ((head(0, 8, 8), head(1, 8, 8)), (), (head(3, 32, 5),)),
    "no heads first and last": ((), ALL, ()),
    "no heads at all": ((), (), ()),
    "unequal sides": tuple(tuple(head(h, 5, 27, layer) for h in range(HEADS)) for layer in range(LAYERS)),
    "even heads, one side narrower": tuple(
        tuple(head(h, *widths, layer) for h in range(HEADS)) for layer, widths in enumerate([(8, 12), (20, 4), (16, 20)])
    ),
    "nothing cut": keep_all(DENSE),
}  # fmt: skip


@pytest.fixture(scope="module")
def stock():
    """transformers' class with random weights large enough for attention to be far from uniform, biases that matter."""
    torch.manual_seed(0)
    config = small_config(hidden_size=HIDDEN, head_dim=HEAD_DIM, initializer_range=0.2)
    model = ASTForAudioClassification(config).eval()
    for parameter in model.parameters():
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, std=0.2)
    return model


@pytest.fixture(scope="module")
def dense(stock):
    return LoadedModel(build(KIND, stock.config.to_dict(), DENSE, stock.state_dict()), KIND, DENSE, torch.float32)


@pytest.fixture(params=[None, 0], ids=["calls as they pay", "calls for nothing"])
def cost(request, monkeypatch):
    """On inputs this short all heads share a call; where calls cost nothing, each width gets its own."""
    if request.param is not None:
        monkeypatch.setattr(pruned_heads, "CALL_FLOPS", request.param)


def smaller(dense, keep):
    return cut(dense.model, KIND, DENSE, keep)


@contextmanager
def masked(stock, keep):
    """The stock model with hooks that zero what `keep` leaves out, while the block lasts."""
    handles = []
    for layer, kept in zip(stock.audio_spectrogram_transformer.layers, keep, strict=True):
        qk, vo = torch.zeros(2, HEADS, HEAD_DIM)
        for h in kept:
            qk[h.head, list(h.qk)] = 1
            vo[h.head, list(h.vo)] = 1
        attention = layer.attention
        for projection in (attention.q_proj, attention.k_proj):
            handles.append(projection.register_forward_hook(lambda _m, _i, out, mask=qk: out * mask.flatten()))
        handles.append(attention.o_proj.register_forward_pre_hook(lambda _m, out, mask=vo: (out[0] * mask.flatten(),)))
    try:
        yield stock
    finally:
        for handle in handles:
            handle.remove()


def bound(expected):
    return 1e-5 * max(1.0, expected.abs().max().item())


def assert_like_masked(stock, dense, keep, x):
    model = smaller(dense, keep)
    with torch.inference_mode(), masked(stock, keep) as reference:
        expected = reference(x).logits
        fused = model(x).logits
        model.set_attn_implementation("eager")
        eager = model(x).logits
    assert (fused - expected).abs().max().item() <= bound(expected)
    assert (eager - expected).abs().max().item() <= bound(expected)
    return expected


@pytest.mark.usefixtures("cost")
@pytest.mark.parametrize("name", KEEPS)
def test_cut_equals_masked_fused_and_eager(stock, dense, name):
    expected = assert_like_masked(stock, dense, KEEPS[name], inputs(3))
    if name != "nothing cut":  # the mask is real: the dense model says something else
        with torch.inference_mode():
            assert (stock(inputs(3)).logits - expected).abs().max() > 1e-2


@pytest.mark.parametrize(("widths", "copies"), [((12, 12), 0), ((8, 12), 2), ((12, 8), 1), ((13, 13), 3)])
def test_of_even_heads_only_the_narrower_side_is_copied(dense, widths, copies):
    """q and k, or v alone, where the other side is as wide as its kernel wants it; all three at a width that no kernel likes."""
    keep = tuple(tuple(head(h, *widths, layer) for h in range(HEADS)) for layer in range(LAYERS))
    model = smaller(dense, keep)
    with torch.inference_mode(), torch.profiler.profile() as profiled:
        model(inputs(1))
    assert (
        sum(event.count for event in profiled.key_averages() if event.key == "aten::constant_pad_nd") == copies * LAYERS
    )


WIDTH = st.integers(1, HEAD_DIM)
ANY_KEEP = st.tuples(
    *[
        st.dictionaries(st.integers(0, HEADS - 1), st.tuples(WIDTH, WIDTH), max_size=HEADS).map(
            lambda heads: tuple(head(number, *heads[number]) for number in sorted(heads))
        )
    ]
    * LAYERS
)


@settings(max_examples=30, deadline=None)
@given(ANY_KEEP, st.sampled_from([0, 50_000, pruned_heads.CALL_FLOPS]))
def test_any_widths_equal_masked(stock, dense, keep, call_flops):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pruned_heads, "CALL_FLOPS", call_flops)
        assert_like_masked(stock, dense, keep, inputs(2))


@pytest.mark.usefixtures("cost")
@pytest.mark.parametrize("name", KEEPS)
def test_gradients_of_what_is_kept_are_the_masked_models(stock, dense, name):
    keep, x, targets = KEEPS[name], inputs(4), torch.tensor([0, 1, 2, 3])
    stock.zero_grad()
    with masked(stock, keep) as reference:
        functional.cross_entropy(reference(x).logits, targets).backward()
    model = smaller(dense, keep)
    functional.cross_entropy(model(x).logits, targets).backward()
    expected = {path: parameter.grad for path, parameter in stock.named_parameters()}
    for block, layer in zip(attention_blocks(stock, KIND, DENSE), keep, strict=True):
        for side, path in block.names.items():
            kept = [h.head * HEAD_DIM + c for h in layer for c in (h.qk if side in "qk" else h.vo)]
            if side == "o":
                expected[f"{path}.weight"] = expected[f"{path}.weight"][:, kept]
            else:
                expected[f"{path}.weight"] = expected[f"{path}.weight"][kept]
                expected[f"{path}.bias"] = expected[f"{path}.bias"][kept]
    largest = max(gradient.abs().max().item() for gradient in expected.values() if gradient.numel())
    for path, parameter in model.named_parameters():
        # Without heads, what only attention saw gets no gradient at all; the masked model's is zero.
        found = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        assert torch.allclose(found, expected[path], rtol=0, atol=1e-5 * max(1.0, largest)), path


def test_adapters_on_ragged_heads_get_the_gradients_of_their_weights(dense):
    """dL/dB of an adapter is scale · dL/dW · Aᵀ. A layer without heads gets none, and merging changes nothing while B = 0."""
    keep, x, targets = KEEPS["no heads in the middle"], inputs(4), torch.tensor([0, 1, 2, 3])
    model, plain = smaller(dense, keep), smaller(dense, keep)
    widths = widths_of(keep, DENSE)
    projections = projections_by_name(attention_blocks(model, KIND, widths))
    assert len(projections) == 2 * 4
    adapted, ranks = attach(model, projections, KIND.classifiers, Lora(rank=4, dropout=0.0))
    assert set(ranks) == set(projections)
    functional.cross_entropy(adapted(x).logits, targets).backward()
    functional.cross_entropy(plain(x).logits, targets).backward()
    for path in projections:
        layer = adapted.get_base_model().get_submodule(path)
        weight = plain.get_submodule(path).weight.grad
        found = layer.lora_B["default"].weight.grad
        expected = layer.scaling["default"] * weight @ layer.lora_A["default"].weight.T
        assert found.abs().max() > 0, path
        assert torch.allclose(found, expected, atol=1e-6, rtol=1e-4), path
    with torch.no_grad():
        assert torch.equal(merge(adapted)(x).logits, plain(x).logits)


@pytest.mark.usefixtures("cost")
@pytest.mark.parametrize("name", ["ragged", "no heads in the middle"])
def test_attention_maps_are_one_a_layer_and_heads_keep_their_order(stock, dense, name):
    keep, x = KEEPS[name], inputs(2)
    model = smaller(dense, keep)
    model.set_attn_implementation("eager")
    stock.set_attn_implementation("eager")
    try:
        with torch.inference_mode(), masked(stock, keep) as reference:
            expected = reference(x, output_attentions=True).attentions
            found = model(x, output_attentions=True).attentions
    finally:
        stock.set_attn_implementation("sdpa")
    assert len(found) == LAYERS
    for own, dense_maps, layer in zip(found, expected, keep, strict=True):
        kept = dense_maps[:, [h.head for h in layer]]
        assert own.shape == kept.shape
        assert torch.allclose(own, kept, atol=1e-5)


def test_the_kernel_gets_one_width_a_call_and_few_calls(dense, monkeypatch):
    """Query, key and value equally wide: with unequal widths torch leaves the fused kernel."""
    seen = []
    kernel = functional.scaled_dot_product_attention

    def record(query, key, value, **options):
        seen.append((query.shape, key.shape, value.shape))
        return kernel(query, key, value, **options)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", record)
    model = smaller(dense, KEEPS["ragged"])
    with torch.inference_mode():
        model(inputs(2))
    assert len(seen) == LAYERS  # a short input: all heads of a layer share one call
    for query, key, value in seen:
        assert query == key == value
        assert query[-1] % 8 == 0


@pytest.mark.parametrize("name", KEEPS)
def test_parameters_and_flops_are_those_of_the_accounts(stock, dense, name):
    keep = KEEPS[name]
    widths, model = widths_of(keep, DENSE), smaller(dense, keep)
    layout = KIND.layout(stock.config.to_dict())
    attention = LAYERS * (4 * HIDDEN * HEADS * HEAD_DIM + 3 * HEADS * HEAD_DIM + HIDDEN)
    feed_forward = LAYERS * (2 * HIDDEN * 64 + 64 + HIDDEN)
    shape = ModelShape(
        attention=tuple(site.shape for site in layout.attention),
        feed_forward=tuple(site.shape for site in layout.feed_forward),
        other_flops=layout.other_flops,
        other_parameters=sum(p.numel() for p in stock.parameters()) - attention - feed_forward,
        bytes_per_parameter=4,
    )
    assert accounting.total_parameters(shape, widths) == sum(p.numel() for p in model.parameters())
    biases = LAYERS * HIDDEN  # of o: never removed
    if name == "no heads at all":
        assert accounting.attention_sparsity(shape, widths) == 1 - biases / attention
    model.set_attn_implementation("eager")  # nothing is padded there
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(inputs(1))
    assert accounting.total_flops(shape, widths) == counter.get_total_flops()


def test_cutting_again_what_was_cut(stock, dense):
    """A ragged model with a layer without heads is cut on: other channels, another head, another layer's last head."""
    first = KEEPS["no heads in the middle"]
    once = replace(dense, model=smaller(dense, first), widths=widths_of(first, DENSE))
    model = cut(once.model, KIND, once.widths, ((KeptHead(1, (0, 3, 7), (1, 2)),), (), ()))
    of_first = first[0][1]
    same = ((KeptHead(1, tuple(of_first.qk[c] for c in (0, 3, 7)), tuple(of_first.vo[c] for c in (1, 2))),), (), ())
    x = inputs(2)
    with torch.inference_mode(), masked(stock, same) as reference:
        expected = reference(x).logits
        assert (model(x).logits - expected).abs().max().item() <= bound(expected)


@pytest.mark.usefixtures("cost")
def test_it_exports_for_any_batch(dense):
    model = smaller(dense, KEEPS["no heads in the middle"])
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(model, (inputs(2),), dynamic_shapes={"input_values": {0: batch}}, strict=False)
    with torch.inference_mode():
        expected = model(inputs(5)).logits
        found = program.module()(inputs(5)).logits
    assert (found - expected).abs().max().item() <= bound(expected)


@pytest.mark.parametrize("widths", [{"qk": [4], "vo": []}, {"qk": [4, 0], "vo": [4, 4]}])
def test_widths_that_are_no_layer_are_refused(stock, widths):
    config = stock.config.to_dict()
    entries = [
        attention_entry(site, layer) for site, layer in zip(KIND.layout(config).attention, DENSE.layers, strict=True)
    ]
    values = {key: value for key, value in config.items() if key != "model_type"}
    classes = KIND.classes
    narrow = classes.config(**values, pruned_attention=[{**entries[0], **widths}, *entries[1:]])
    with pytest.raises(ValueError, match="width of at least 1"):
        classes.pruned(narrow)
