"""Physical removal against the masked dense model, on a model that was trained: every method, and three rounds of it.

Masked means: the dense model with the weights of what is cut set to zero. A head without output columns says nothing; a QK
channel without its rows leaves every dot product as it is without it; a VO channel without its row and column is gone.
"""

import itertools

import pytest
import torch

from api_schemas.enums import Criterion, Granularity, Layout, Scope
from api_schemas.spec.pruning import Pruning
from checkpoints.describe import describe_folder
from checkpoints.sizes import accounting
from tests.support.checkpoints.tiny import tiny_model
from worker.engine.checkpoint.load import load_original
from worker.engine.models.attention import attention_blocks, projections_by_name
from worker.engine.models.model_spec import build
from worker.engine.pruning.selection import compose, keep_all, select, widths_of
from worker.engine.pruning.surgery import cut
from worker.engine.scoring import REQUIRED_STATISTICS, observe, score
from worker.engine.tasks import Classification

METHODS = list(itertools.product(Granularity, (Criterion.MAGNITUDE, Criterion.FISHER), Scope))


@pytest.fixture(scope="module")
def original():
    return load_original(tiny_model())


@pytest.fixture(scope="module")
def shape():
    return describe_folder(tiny_model()).shape


@pytest.fixture(scope="module")
def samples(original):
    config = original.model.config
    x = torch.randn(6, config.max_length, config.num_mel_bins, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return x, original.model(x).logits.argmax(-1)


def masked(original, kept):
    """The dense model with everything that `kept` leaves out set to zero."""
    state = {name: tensor.clone() for name, tensor in original.model.state_dict().items()}
    for block, layer in zip(attention_blocks(original.model, original.model_spec, original.widths), kept, strict=True):
        alive = {side: torch.zeros(block.widths.heads, original.widths.head_dim) for side in "qv"}
        for head in layer:
            alive["q"][head.head, list(head.qk)] = 1
            alive["v"][head.head, list(head.vo)] = 1
        for side, name in block.names.items():
            mask = alive["q" if side in "qk" else "v"].flatten()
            if side == "o":
                state[f"{name}.weight"] *= mask
            else:
                state[f"{name}.weight"] *= mask[:, None]
                state[f"{name}.bias"] *= mask
    return build(original.model_spec, original.model.config.to_dict(), original.widths, state)


def channel_scores(model, loaded, widths, criterion, samples, seed):
    blocks = attention_blocks(model, loaded.model_spec, widths)
    observed = None
    if REQUIRED_STATISTICS[criterion]:
        observed = observe(
            model,
            blocks,
            [({"input_values": samples[0]}, samples[1])],
            Classification(several=False).loss,
            REQUIRED_STATISTICS[criterion],
        )
    return score(criterion, blocks, observed=observed, seed=seed)


def rounds(original, shape, samples, spec, targets):
    """Cut to each target in turn, scoring what is left each time: the smaller model, and what it kept of the original."""
    model, widths, kept = original.model, original.widths, keep_all(original.widths)
    for number, sparsity in enumerate(targets):
        found = channel_scores(model, original, widths, spec.criterion, samples, number)
        keep = select(found, widths, shape, spec, share=sparsity)
        model = cut(model, original.model_spec, widths, keep)
        widths, kept = widths_of(keep, widths), compose(kept, keep)
    return model, widths, kept


def assert_same_logits(model, reference, x):
    with torch.inference_mode():
        found, expected = model(x).logits, reference(x).logits
    bound = 1e-5 * max(1.0, expected.abs().max().item())
    assert (found - expected).abs().max().item() <= bound


@pytest.mark.parametrize("targets", [(0.5,), (0.25, 0.45, 0.6)], ids=["once", "three rounds"])
@pytest.mark.parametrize(("granularity", "criterion", "scope"), METHODS)
def test_cut_equals_masked(original, shape, samples, granularity, criterion, scope, targets):
    spec = Pruning.model_validate(
        {
            "preset": "paper", "target": {"attention_sparsity": targets[-1]},
            "granularity": granularity, "criterion": criterion, "scope": scope,
        }
    )  # fmt: skip
    model, widths, kept = rounds(original, shape, samples, spec, targets)
    reference = masked(original, kept)
    assert_same_logits(model, reference, samples[0])
    # The cut is real and matters: fewer parameters in the tensors themselves, and other logits than the dense model's.
    parameters = sum(p.numel() for p in projections_by_name(attention_blocks(model, original.model_spec, widths)).values()
                     for p in p.parameters())  # fmt: skip
    assert parameters == accounting.attention_parameters(shape, widths)
    assert sum(p.numel() for p in model.parameters()) == accounting.total_parameters(shape, widths)
    with torch.inference_mode():
        dense = original.model(samples[0]).logits
        assert (model(samples[0]).logits - dense).abs().max() > 1e-2


@pytest.mark.parametrize("granularity", [Granularity.ENTIRE_HEAD, Granularity.SAME_CHANNEL, Granularity.PER_HEAD])
def test_stock_layout_cut_equals_masked(original, shape, samples, granularity):
    spec = Pruning.model_validate(
        {"preset": "paper", "target": {"attention_sparsity": 0.5}, "granularity": granularity, "layout": Layout.STOCK}
    )
    model, widths, kept = rounds(original, shape, samples, spec, (0.5,))
    assert widths.stock_shape is not None
    assert_same_logits(model, masked(original, kept), samples[0])


def test_eager_attention_agrees_with_the_fused_kernel(original, shape, samples):
    spec = Pruning.model_validate({"preset": "paper", "target": {"attention_sparsity": 0.5}, "granularity": "per_head"})
    model, widths, _ = rounds(original, shape, samples, spec, (0.5,))
    assert any(set(layer.qk) != set(layer.vo) for layer in widths.layers)  # padding is at work
    model.config._attn_implementation = "sdpa"
    with torch.inference_mode():
        fused = model(samples[0]).logits
        model.set_attn_implementation("eager")
        eager = model(samples[0]).logits
    assert (fused - eager).abs().max().item() <= 1e-5 * max(1.0, eager.abs().max().item())


def test_the_model_that_is_cut_does_not_change(original, shape, samples):
    before = {name: tensor.clone() for name, tensor in original.model.state_dict().items()}
    spec = Pruning.model_validate({"preset": "paper", "target": {"attention_sparsity": 0.5}})
    rounds(original, shape, samples, spec, (0.5,))
    assert all(torch.equal(tensor, before[name]) for name, tensor in original.model.state_dict().items())
