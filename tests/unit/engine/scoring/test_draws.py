"""Several draws of a batch's labels: backward passes on the graph of one forward pass give what as many whole passes gave."""

import pytest
import torch

from benchmarks.families import reference
from benchmarks.families.tiny_models import MODELS as CLASSES
from tests.unit.engine.scoring.reference import EVERYTHING, MODELS, SAMPLES, batches, build_case
from tests.unit.engine.small import DENSE, KIND
from worker.engine.models.attention import attention_blocks
from worker.engine.models.feed_forward import feed_forward_blocks
from worker.engine.scoring import Statistic, observe
from worker.engine.tasks import Classification
from worker.engine.tasks.base import sampled_gradient_loss
from worker.engine.tasks.label_sampling import signs_like

DRAWS = 3
OF_LAYERS = ("fisher", "saliency", "gates", "gradients", "output_gradient")
OF_NEURONS = ("fisher", "saliency", "gate", "gate_square", "gradient_square")


def tensors(value):
    if isinstance(value, torch.Tensor):
        return [value]
    if value is None or isinstance(value, int):
        return []
    parts = value if isinstance(value, tuple) else vars(value).values()
    return [tensor for part in parts for tensor in tensors(part)]


def assert_equal(found, expected):
    """Bit for bit what rests on gradients; the rest is added up in another order."""
    assert len(tensors(found.layers)) == len(tensors(expected.layers)) > 0
    for rows, names in (("layers", OF_LAYERS), ("neurons", OF_NEURONS)):
        for one, other in zip(getattr(found, rows), getattr(expected, rows), strict=True):
            for name in names:
                pairs = zip(tensors(getattr(one, name)), tensors(getattr(other, name)), strict=True)
                assert all(torch.equal(*pair) for pair in pairs), name
            for pair in zip(tensors(one), tensors(other), strict=True):
                torch.testing.assert_close(*pair, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("kind", MODELS)
def test_draws_are_what_as_many_whole_passes_see(kind, multi_label):
    model, blocks, x, y = build_case(kind, multi_label, dtype=torch.float32)
    widths = DENSE.model_copy(update={"layers": tuple(block.widths for block in blocks)})
    neurons = feed_forward_blocks(model, KIND, widths)

    def loss():
        return Classification(several=multi_label).sampled_label_loss(5)

    found = observe(model, blocks, batches(x, y), loss(), EVERYTHING, neurons=neurons, draws=DRAWS)
    repeated = (batch for batch in batches(x, y) for _ in range(DRAWS))
    assert_equal(found, observe(model, blocks, repeated, loss(), EVERYTHING, neurons=neurons))
    assert found.samples == SAMPLES


@pytest.mark.parametrize("tiny", CLASSES, ids=lambda tiny: tiny.id)
def test_they_are_in_every_class(tiny):
    dense = reference.dense(tiny.model_spec, tiny.stock())
    blocks = attention_blocks(dense.model, dense.model_spec, dense.widths)
    neurons = feed_forward_blocks(dense.model, dense.model_spec, dense.widths)
    several = [(tiny.inputs(2, seed), None) for seed in (1, 2)]

    def run(batches, draws):
        loss = sampled_gradient_loss(lambda answers, _targets, generator: signs_like(answers, generator), 7)
        kwargs = {"neurons": neurons, "outputs": reference.answer, "draws": draws}
        return observe(dense.model, blocks, batches, loss, EVERYTHING, **kwargs)

    assert_equal(run(several, DRAWS), run([batch for batch in several for _ in range(DRAWS)], 1))


def test_one_forward_pass_a_batch_and_none_of_its_graph_afterwards():
    model, blocks, x, y = build_case("dense", dtype=torch.float32)
    passes, answers, graphs = [], [], []
    model.register_forward_hook(lambda *_: passes.append(1))
    loss = Classification(several=False).sampled_label_loss(0)

    def watched(given, targets):
        answers.append(given)
        return loss(given, targets)

    def freed(_samples):
        with pytest.raises(RuntimeError, match="second time"):
            answers[-1].sum().backward()
        graphs.append(len(answers))

    observe(model, blocks, batches(x, y), watched, {Statistic.GATES}, freed, draws=DRAWS)
    assert len(passes) == 3
    assert graphs == [DRAWS, 2 * DRAWS, 3 * DRAWS]


def test_a_forward_pass_that_is_enough_draws_nothing():
    model, blocks, x, y = build_case("dense")

    def loss(_answers, _targets):
        raise AssertionError("no statistic needs a loss")

    found = observe(model, blocks, batches(x, y), loss, {Statistic.CONTEXT}, draws=DRAWS)
    once = observe(model, blocks, batches(x, y), loss, {Statistic.CONTEXT})
    assert all(torch.equal(*pair) for pair in zip(tensors(found.layers), tensors(once.layers), strict=True))
