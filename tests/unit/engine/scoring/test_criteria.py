"""Every criterion against its formula, from the definition's loop; and what sets of channels score."""

import itertools

import pytest
import torch

from api_schemas.enums import Criterion
from tests.unit.engine.scoring.reference import EVERYTHING, MODELS, batches, build_case, loss_of, seen
from worker.engine.scoring import REQUIRED_STATISTICS, observe, score

GRADIENT_SUMS = {Criterion.FISHER: 1.0, Criterion.FISHER_SALIENCY: 0.5}
GATES = {Criterion.FISHER_GATE, Criterion.TAYLOR}


@pytest.fixture(scope="module", params=MODELS)
def case(request):
    model, blocks, x, y = build_case(request.param)
    reference = seen(model, blocks, x, y, loss_of())
    return blocks, reference, observe(model, blocks, batches(x, y), loss_of(), EVERYTHING)


def parts(block, side, members):
    """(projection, index of its weight, index of its bias or None) of every parameter row or column in a set."""
    pairs = "qk" if side == "qk" else "vo" if side == "vo" else "qkvo"
    for name, (h, c) in itertools.product(pairs, members):
        rows = block.rows(name, h)
        channel = rows if c < 0 else slice(rows.start + c, rows.start + c + 1)
        yield name, (slice(None), channel) if name == "o" else (channel,), None if name == "o" else channel


def by_definition(criterion, block, reference, side, members):
    """The criterion's formula over all parameters of a set."""
    theta = {name: (p.weight.detach(), p.bias.detach()) for name, p in block.projections.items()}

    def gradient(name, index, what):
        return reference[block.number, name, what][(slice(None), *index)].flatten(1)

    if criterion in (Criterion.ENERGY, Criterion.FISHER_ENERGY):
        return energy(criterion, block, reference, side, members)
    if criterion in GATES:
        # One side of each coupling: k here and o, where the engine takes q and v; of a head the VO side.
        gate = 0
        for name, index, bias in parts(block, "vo" if side == "head" else side, members):
            if name in "ko":
                gate = gate + gradient(name, index, "weight") @ theta[name][0][index].flatten()
                if bias is not None:
                    gate = gate + gradient(name, (bias,), "bias") @ theta[name][1][bias]
        return float(gate.square().mean() if criterion is Criterion.FISHER_GATE else gate.mean().abs())
    total = 0.0
    for name, index, bias in parts(block, side, members):
        for what, where in (("weight", index), ("bias", (bias,))):
            if where[0] is None:
                continue
            values = theta[name][what == "bias"][where].flatten()
            if criterion is Criterion.MAGNITUDE:
                total += float(values.square().sum())
                continue
            squares = gradient(name, where, what).square().mean(0)
            weights = values.square() if criterion is Criterion.FISHER_SALIENCY else 1.0
            total += GRADIENT_SUMS[criterion] * float((weights * squares).sum())
    return total**0.5 if criterion is Criterion.MAGNITUDE else total


def energy(criterion, block, reference, side, members):
    """What a channel carries, times what it is multiplied with, or times how much the loss listens to it."""
    q, k, context, dq, dcontext = (reference[block.number, what].numpy() for what in ("q", "k", "x", "dq", "dx"))
    total = 0.0
    for name, h in itertools.product(("qk", "vo") if side == "head" else (side,), {h for h, _ in members}):
        rows = block.rows("q" if name == "qk" else "v", h)
        for c in range(rows.stop - rows.start):
            if side != "head" and (h, c) not in members:
                continue
            at = rows.start + c
            carried = (q[..., at] ** 2).mean() if name == "qk" else context[..., at].var()
            if criterion is Criterion.FISHER_ENERGY:
                weight = ((dq if name == "qk" else dcontext)[..., at] ** 2).mean()
            elif name == "qk":
                weight = ((k[..., at] - k[..., at].mean(1, keepdims=True)) ** 2).mean()
            else:
                weight = float(block.projections["o"].weight.detach()[:, at].square().sum())
            total += float(carried * weight)
    return total


def sets(block):
    """Single channels, pairs inside a head, slices through all heads, whole heads, two heads."""
    heads = range(block.widths.heads)
    for side, widths in (("qk", block.widths.qk), ("vo", block.widths.vo)):
        for h in heads:
            yield from ((side, [(h, c)]) for c in range(widths[h]))
            yield side, [(h, c) for c in range(min(3, widths[h]))]
        yield side, [(h, widths[h] - 1) for h in heads]
    yield from (("head", [(h, -1)]) for h in heads)
    yield "head", [(0, -1), (heads[-1], -1)]


@pytest.mark.parametrize("criterion", [c for c in Criterion if c is not Criterion.RANDOM])
def test_scores_are_the_formulas_values_for_channels_and_sets(case, criterion):
    blocks, reference, observed = case
    for block, scores in zip(blocks, score(criterion, blocks, observed=observed), strict=True):
        assert len(scores.qk) == len(scores.vo) == block.widths.heads
        for side, members in sets(block) if block.widths.heads else ():
            expected = by_definition(criterion, block, reference, side, members)
            assert scores.of(side, members) == pytest.approx(expected, rel=1e-6, abs=1e-14), (side, members)
            if len(members) == 1 and side != "head":
                (h, c), vector = members[0], scores.side(side)
                assert float(vector[h][c]) == pytest.approx(expected, rel=1e-6, abs=1e-14)
                assert float(vector[h][c]) >= 0


def test_gates_and_signed_sums_do_not_add_up(case):
    """The point of scoring sets: channels cancel. A sum over channels would be another number."""
    blocks, _, observed = case
    for criterion in GATES:
        scores = score(criterion, blocks, observed=observed)[0]
        everything = [(h, c) for h in range(len(scores.vo)) for c in range(len(scores.vo[h]))]
        alone = sum(float(vector.sum()) for vector in scores.vo)
        assert abs(scores.of("vo", everything) - alone) > 0.05 * alone


@pytest.mark.parametrize("criterion", Criterion)
def test_what_is_left_of_a_head_scores_as_a_set(case, criterion):
    blocks, _, observed = case
    scores = score(criterion, blocks, observed=observed, seed=3)[0]
    for h in range(len(scores.qk)):
        rests = {}
        for side in ("qk", "vo"):
            order = torch.randperm(len(scores.side(side)[h]), generator=torch.Generator().manual_seed(h)).tolist()
            rests[side] = scores.remaining_scores(side, h, order).tolist()
            sets = [scores.of(side, [(h, c) for c in order[gone:]]) for gone in range(len(order) + 1)]
            assert rests[side] == pytest.approx(sets, rel=1e-9, abs=1e-12 * sets[0])
        whole = scores.head_of(rests["qk"][0], rests["vo"][0])
        assert whole == pytest.approx(scores.of("head", [(h, -1)]), rel=1e-12)


@pytest.mark.parametrize("criterion", Criterion)
def test_an_empty_set_scores_nothing(case, criterion):
    blocks, _, observed = case
    for side in ("qk", "vo", "head"):
        assert score(criterion, blocks, observed=observed)[0].of(side, []) == 0


@pytest.mark.parametrize("criterion", [c for c in Criterion if REQUIRED_STATISTICS[c]])
def test_what_a_criterion_wants_is_enough_and_less_is_refused(criterion):
    model, blocks, x, y = build_case("dense")
    enough = observe(model, blocks, batches(x, y), loss_of(), REQUIRED_STATISTICS[criterion])
    score(criterion, blocks, observed=enough)
    with pytest.raises(ValueError, match=criterion.value):
        score(criterion, blocks)
    for statistic in REQUIRED_STATISTICS[criterion]:
        others = EVERYTHING - {statistic}
        with pytest.raises(ValueError, match=statistic.value):
            score(criterion, blocks, observed=observe(model, blocks, batches(x, y), loss_of(), others))


def test_random_follows_its_seed():
    _, blocks, _, _ = build_case("ragged")
    one, again, other = (score(Criterion.RANDOM, blocks, seed=seed)[0] for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(one.qk, again.qk, strict=True))
    assert not torch.equal(one.qk[0], other.qk[0])
    assert [len(vector) for vector in one.vo] == list(blocks[0].widths.vo)
