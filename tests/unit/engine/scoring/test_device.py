"""On a device, nothing in the loop waits for it; and it finds what the CPU finds."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.unit.engine.scoring.reference import EVERYTHING, batches, build_case, loss_of
from tests.unit.engine.scoring.test_moments import tensors
from worker.engine.scoring import observe
from worker.engine.tasks import Classification

WAITING = ("_local_scalar_dense", "nonzero", "equal", "is_nonzero", "masked_select", "_unique2")
"""Operators whose result the host has to read: on a GPU each one stops the queue."""


class Watch(TorchDispatchMode):
    """Names of the operators that ran."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func._schema.name.removeprefix("aten::"))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", ["dense", "ragged"])
def test_no_operator_in_the_loop_makes_the_host_read_a_number(kind):
    model, blocks, x, y = build_case(kind, dtype=torch.float32)
    loss = Classification(several=False).sampled_label_loss(0)
    watch = Watch()

    def watched():
        with watch:
            yield from batches(x, y)

    observe(model, blocks, watched(), loss, EVERYTHING)
    # It did watch: the forward pass, and the backward pass, where gradients are formed.
    assert {"addmm", "linalg_vector_norm"} <= watch.names
    assert not watch.names & set(WAITING)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("kind", ["dense", "ragged"])
def test_a_gpu_finds_the_same_without_waiting(kind):
    model, blocks, x, y = build_case(kind, dtype=torch.float32)
    expected = observe(model, blocks, batches(x, y), loss_of(), EVERYTHING)
    model.cuda()
    x, y = x.cuda(), y.cuda()

    def strict():
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield from batches(x, y)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    found = observe(model, blocks, strict(), loss_of(), EVERYTHING)
    for one, other in zip(expected.layers, found.layers, strict=True):
        for a, b in zip(tensors(one), tensors(other), strict=True):
            assert b.device.type == "cpu"
            assert (a - b).norm() <= 1e-3 * a.norm()
    # The same draws, in half precision, without waiting either.
    drawn = Classification(several=False).sampled_label_loss(0)
    rough = observe(model, blocks, strict(), drawn, EVERYTHING, autocast=torch.bfloat16)
    assert all(torch.isfinite(t).all() for layer in rough.layers for t in tensors(layer))
