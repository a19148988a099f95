"""What is kept of many batches between two layers: in memory, in a file, or not at all; whichever, the refit is the same."""

from collections import Counter

import torch

from tests.unit.engine.pruning.test_compensation import RAGGED, _cut
from tests.unit.engine.small import LAYERS, batches_of, inputs, small_model
from worker.engine.pruning import layer_calls
from worker.engine.pruning.compensation import RIDGE, Ridges, refit_outputs
from worker.engine.pruning.layer_calls import CallStore, LayerCall

MASK = torch.ones(3, 1, 16, 16, dtype=torch.bool)
NUMBERS = 3 * 16 * 64


def call(seed, **others):
    hidden = torch.randn(3, 16, 64, generator=torch.Generator().manual_seed(seed)).to(torch.bfloat16)
    return LayerCall(hidden, (MASK.clone(), None), {"": {"scale": 2.0, **others}})


def equal(one, other):
    return (
        torch.equal(one.hidden, other.hidden)
        and one.hidden.dtype == other.hidden.dtype
        and torch.equal(one.rest[0], other.rest[0])
        and one.rest[1] is None
        and one.kwargs == other.kwargs
    )


def test_calls_come_back_in_order_wherever_they_are():
    first = 2 * 2 * NUMBERS + 2 * MASK.nbytes
    with CallStore(in_memory=first, on_disk=2 * 4 * NUMBERS) as store:
        pairs = [(call(number), call(number + 10)) for number in range(5)]
        for pair in pairs:
            store.append(pair)
        assert len(store) == 3, "one in memory, two in the file"
        assert store.full
        for _ in range(2):
            found = list(store)
            assert len(found) == 3
            for pair, back in zip(pairs, found, strict=False):
                assert all(map(equal, pair, back))


def test_what_every_batch_says_is_kept_once():
    with CallStore(in_memory=1 << 30, on_disk=0) as store:
        for number in range(3):
            store.append((call(number),))
        masks = [pair[0].rest[0] for pair in store]
    assert masks[0] is masks[1] is masks[2]


def test_a_refit_is_the_same_wherever_its_inputs_lie(monkeypatch):
    found = []
    for memory, disk in ((1 << 30, 0), (40_000, 60_000), (0, 1 << 30), (0, 0)):
        monkeypatch.setattr(layer_calls, "IN_MEMORY", memory)
        monkeypatch.setattr(layer_calls, "ON_DISK", disk)
        loaded = small_model()
        smaller = _cut(loaded, RAGGED)
        refit_outputs(loaded, smaller, batches_of(inputs(20), 3), Ridges(feed_forward=RIDGE))
        found.append([parameter.detach() for parameter in smaller.model.parameters()])
    for other in found[1:]:
        assert all(map(torch.equal, found[0], other))


def test_the_passes_grow_with_batches_alone():
    """Of the cut model: up to each of two maps that are fitted, and once to the next layer, however many batches there are."""
    counts = []
    for batches in (2, 6):
        loaded = small_model()
        smaller = _cut(loaded, RAGGED)
        passed = Counter()
        for number, layer in enumerate(smaller.model.audio_spectrogram_transformer.layers):
            layer.register_forward_pre_hook(lambda *_, number=number, passed=passed: passed.update([number]))
        refit_outputs(loaded, smaller, batches_of(inputs(3 * batches), 3), Ridges(feed_forward=RIDGE))
        counts.append([passed[number] / batches for number in range(LAYERS)])
    # Into the first once more, to see what it is called with; nothing follows the last.
    assert counts == [[4, 3, 2]] * 2
