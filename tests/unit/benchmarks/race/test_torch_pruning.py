"""Torch-Pruning as a peer: its bug is what the benchmark says it is, its mend is right, and what it prunes still computes."""

import pytest
import torch

from benchmarks.race.arms import torch_pruning as peer
from benchmarks.race.setup import Setup, Unreachable
from tests.unit.benchmarks.race.setups import small_setup

pytest.importorskip("torch_pruning", reason="the peer is an extra: pip install -e .[bench]")


@pytest.fixture
def setup(tmp_path) -> Setup:
    return small_setup(tmp_path)


def arm(name: str) -> peer.Arm:
    return next(arm for arm in peer.arms() if arm.name == f"torch-pruning/{name}")


def test_the_shipped_hessian_is_the_last_samples_and_the_mended_one_the_mean_of_all(setup):
    found = peer._hessians(setup, 0)
    squares = []
    for inputs, targets in setup.batches(setup.calibration(0), 1):
        setup.dense.model.zero_grad()
        setup.loss(setup.dense.model(**inputs).logits, targets).sum().backward()
        squares.append({name: p.grad.square() for name, p in setup.dense.model.named_parameters()})
    name = "audio_spectrogram_transformer.layers.1.attention.v_proj.weight"
    torch.testing.assert_close(found["hessian"][name], squares[-1][name], rtol=1e-3, atol=1e-9)
    mean = torch.stack([sample[name] for sample in squares]).mean(0)
    torch.testing.assert_close(found["hessian_mended"][name], mean, rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize("kind", ["l2", "taylor", "hessian", "hessian_mended"])
@pytest.mark.parametrize("mode", ["heads", "dims"])
@pytest.mark.parametrize("scope", ["global", "local"])
def test_what_is_left_is_whole_and_computes(setup, kind, mode, scope):
    """The arm itself compares the pruned stock model's logits with the raced model's."""
    loaded = arm(f"{mode}/{kind}/{scope}").cut(setup, 0, 0.5)
    assert setup.sparsity(loaded) == pytest.approx(0.5, abs=0.01)
    for layer in loaded.widths.layers:
        assert layer.qk == layer.vo
        assert layer.uniform
        assert layer.heads == 4 if mode == "dims" else set(layer.qk) == {8}
    if scope == "local":
        assert len(set(loaded.widths.layers)) == 1
    scales = {attention.softmax_scale() for attention in peer._attentions(loaded.model)}
    assert scales == {8**-0.5}, "the softmax scale is the original's"


def test_a_local_request_beyond_the_last_head_is_unreachable(setup):
    with pytest.raises(Unreachable, match="nearest lands at 74"):
        arm("heads/l2/local").cut(setup, 0, 0.9)


def test_a_wrong_head_width_is_noticed(setup):
    model = peer._pruned(setup, peer._stock(setup), {}, "l2", "dims", "local", 0.5)
    ours = arm("dims/l2/local").cut(setup, 0, 0.5).model
    for attention in peer._attentions(model):
        attention.scaling = attention.head_dim**-0.5
    with pytest.raises(ValueError, match="differ by"):
        peer._check(setup, model, ours)
