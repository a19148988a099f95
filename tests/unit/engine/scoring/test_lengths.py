"""Attentions and neurons of different lengths, an encoder's beside a decoder's: what `fisher_energy` makes of them."""

import pytest
import torch

from api_schemas.enums import Criterion
from benchmarks.families import reference
from benchmarks.families.tiny_models import SPECIAL
from tests.unit.engine.scoring.reference import batches, build_case, loss_of
from worker.engine.models.attention import attention_blocks
from worker.engine.models.feed_forward import feed_forward_blocks
from worker.engine.scoring import REQUIRED_STATISTICS, observe, score, score_neurons

WHISPER = SPECIAL[0]
ENERGY = Criterion.FISHER_ENERGY


def test_what_is_seen_at_more_positions_counts_as_much_more():
    """By a loop over samples, positions added up; in units of the longest."""
    loaded = reference.dense(WHISPER.model_spec, WHISPER.stock())
    blocks = attention_blocks(loaded.model, loaded.model_spec, loaded.widths)
    pairs = feed_forward_blocks(loaded.model, loaded.model_spec, loaded.widths)
    inputs = WHISPER.inputs(4)

    def loss(answers, _targets):
        return answers.square().flatten(1).sum(1)

    observed = observe(
        loaded.model,
        blocks,
        [(inputs, None)],
        loss,
        REQUIRED_STATISTICS[ENERGY],
        neurons=pairs,
        outputs=reference.answer,
    )
    scores, neurons = score(ENERGY, blocks, observed=observed), score_neurons(ENERGY, pairs, observed)
    linears = {("q", n): block.projections["q"] for n, block in enumerate(blocks)}
    linears |= {("o", n): block.projections["o"] for n, block in enumerate(blocks)}
    linears |= {("second", n): pair.second for n, pair in enumerate(pairs)}
    sums = dict.fromkeys(linears, (0.0, 0.0, 0.0))
    longest = 0
    loaded.model.requires_grad_(True)
    for sample in range(4):
        kept, handles = {}, []
        for key, linear in linears.items():

            def keep(_module, args, output, key=key, kept=kept):
                kept[key] = output if key[0] == "q" else args[0]
                kept[key].retain_grad()

            handles.append(linear.register_forward_hook(keep))
        one = {name: tensor[sample : sample + 1] for name, tensor in inputs.items()}
        loss(reference.answer(loaded.model, one), None).sum().backward()
        for key, tensor in kept.items():
            x_TC, dx_TC = tensor.detach()[0].double(), tensor.grad[0].double()
            longest = max(longest, len(x_TC))
            new = (x_TC.sum(0), x_TC.square().sum(0), dx_TC.square().sum(0))
            sums[key] = tuple(a + b for a, b in zip(sums[key], new, strict=True))
            sums[key[0], key[1], "tokens"] = len(x_TC)
        for handle in handles:
            handle.remove()

    def expected(side, number):
        tokens = sums[side, number, "tokens"]
        first, square, gradient = (total / (4 * tokens) for total in sums[side, number])
        carried = square if side == "q" else square - first.square()
        return carried * gradient * tokens / longest

    lengths = {sums[side, number, "tokens"] for side, number in linears}
    assert len(lengths) == 2
    for number, (layer, block) in enumerate(zip(scores, blocks, strict=True)):
        for side, vectors in (("q", layer.qk), ("o", layer.vo)):
            assert torch.cat(vectors).shape == (block.widths.qk_total,)
            wanted = expected(side, number)
            torch.testing.assert_close(torch.cat(vectors), wanted, rtol=1e-3, atol=1e-6 * float(wanted.max()))
    for number, found in enumerate(neurons):
        wanted = expected("second", number)
        torch.testing.assert_close(found.vector, wanted, rtol=1e-3, atol=1e-6 * float(wanted.max()))


@pytest.mark.parametrize("kind", ["dense", "ragged"])
def test_where_all_are_of_one_length_means_are_the_scores_bit_by_bit(kind):
    model, blocks, x, y = build_case(kind)
    observed = observe(model, blocks, batches(x, y), loss_of(), REQUIRED_STATISTICS[ENERGY])
    for layer, scores in zip(observed.layers, score(ENERGY, blocks, observed=observed), strict=True):
        variances = torch.cat(scores.vo) if scores.vo else torch.zeros(0)
        for vector, q, gradient in zip(scores.qk, layer.qk.q, layer.gradients.q, strict=True):
            assert torch.equal(vector, q.diagonal() * gradient.diagonal())
        gradients = [gradient.diagonal() for gradient in layer.gradients.context]
        listened = torch.cat(gradients) if gradients else torch.zeros(0)
        assert torch.equal(variances, layer.context.covariance.diagonal().clamp_min(0) * listened)
