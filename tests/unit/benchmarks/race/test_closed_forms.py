"""The re-implemented closed forms against slow references: whole SVDs, stacked rows, every candidate and every choice."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.race.arms import a3, corp, kwon, obs
from benchmarks.race.setup import Unreachable

ROWS, CHANNELS, WIDTH, HEAD = 200, 12, 5, 4


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def inputs(channels: int = CHANNELS, seed: int = 0) -> Tensor:
    """Rows that are correlated and have a mean."""
    return randn(ROWS, channels, seed=seed) @ randn(channels, channels, seed=seed + 1) + randn(channels, seed=seed + 2)


def moment(x_RC: Tensor) -> Tensor:
    return x_RC.mT @ x_RC / len(x_RC)


def with_one(x_RC: Tensor) -> Tensor:
    return torch.cat([x_RC, torch.ones(len(x_RC), 1, dtype=x_RC.dtype)], 1)


@pytest.mark.parametrize("rank", [1, 3, HEAD])
def test_scores_of_a_rank_lose_what_the_svd_of_the_whole_says(rank):
    second = moment(inputs())
    query, key = randn(HEAD, CHANNELS, seed=5), randn(HEAD, CHANNELS, seed=6)
    root = torch.from_numpy(
        np.linalg.cholesky(second.numpy())
    ).mT  # any root of the moment has the same singular values
    values = torch.linalg.svdvals(root @ query.mT @ key @ root.mT)
    found = a3.scores_of_rank(query, key, second, rank)
    assert found.left.shape == found.right.shape == (rank, CHANNELS)
    lost = root @ (query.mT @ key - found.left.mT @ found.right) @ root.mT
    torch.testing.assert_close(lost.square().sum(), values[rank:].square().sum(), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("rank", [1, 3, HEAD])
def test_an_output_of_a_rank_loses_what_the_svd_of_the_whole_says(rank):
    context, output = inputs(HEAD), randn(CHANNELS, HEAD, seed=5)
    values = torch.linalg.svdvals(context @ output.mT)
    turn, narrow = a3.output_of_rank(output, moment(context), rank)
    lost = context @ output.mT - context @ turn.mT @ narrow.mT
    torch.testing.assert_close(lost.square().sum(), values[rank:].square().sum(), rtol=1e-8, atol=1e-8)


def test_u_is_ridge_regression_on_the_rows():
    active, second = inputs(), randn(WIDTH, CHANNELS, seed=5)
    stay = a3.neurons_of(second, moment(active), 7)
    score = [float(active[:, n].square().mean()) ** 0.5 * float(second[:, n].norm()) for n in range(CHANNELS)]
    assert set(stay.tolist()) == set(np.argsort(score)[-7:].tolist())
    penalty = (a3.RIDGE * float(active[:, stay].square().mean())) ** 0.5
    design = np.vstack([active[:, stay] / ROWS**0.5, penalty * np.eye(7)])
    wanted = np.vstack([active @ second.mT / ROWS**0.5, penalty * second[:, stay].mT])
    expected = np.linalg.lstsq(design, wanted, rcond=None)[0]
    np.testing.assert_allclose(a3.least_squares(second, moment(active), stay).mT, expected, rtol=1e-8)


def test_what_goes_is_affine_in_what_stays_by_ridge_regression():
    x_RC, stay = inputs(), [0, 2, 3, 7, 11]
    by, constant = corp.affine(moment(with_one(x_RC)), stay)
    gone = [c for c in range(CHANNELS) if c not in stay]
    centred = x_RC - x_RC.mean(0)
    penalty = (corp.RIDGE * float(x_RC[:, stay].square().mean())) ** 0.5
    design = np.vstack([centred[:, stay] / ROWS**0.5, penalty * np.eye(len(stay))])
    wanted = np.vstack([centred[:, gone] / ROWS**0.5, np.zeros((len(stay), len(gone)))])
    np.testing.assert_allclose(by.mT, np.linalg.lstsq(design, wanted, rcond=None)[0], rtol=1e-8)
    torch.testing.assert_close(constant, x_RC.mean(0)[gone] - by @ x_RC.mean(0)[stay])
    weight, bias = randn(WIDTH, CHANNELS, seed=5), randn(WIDTH, seed=6)
    narrow, new_bias = corp.folded(weight, bias, moment(with_one(x_RC)), stay)
    made_up = torch.zeros_like(x_RC)
    made_up[:, stay], made_up[:, gone] = x_RC[:, stay], x_RC[:, stay] @ by.mT + constant
    torch.testing.assert_close(x_RC[:, stay] @ narrow.mT + new_bias, made_up @ weight.mT + bias)


def test_the_map_between_queries_and_keys_that_stay_is_the_least_squares_of_all_scores():
    samples, tokens, stay, gone = 6, 5, [0, 3], [1, 2]
    query, key = randn(samples, tokens, HEAD), randn(samples, tokens, HEAD, seed=1)
    query[..., 1] += query[..., 0]
    found = corp.logits_map(query.mT @ query, key.mT @ key, stay)
    rows, wanted = [], []
    for q, k in zip(query, key, strict=True):
        for i, j in itertools.product(range(tokens), range(tokens)):
            rows.append(np.kron(q[i, stay], k[j, stay]))
            wanted.append(float(q[i, gone] @ k[j, gone]))
    design, size = np.array(rows), len(stay) ** 2
    penalty = (corp.RIDGE * np.square(design).sum(0).mean()) ** 0.5
    expected = np.linalg.lstsq(np.vstack([design, penalty * np.eye(size)]), [*wanted, *[0.0] * size], rcond=None)[0]
    np.testing.assert_allclose(found, np.eye(2) + expected.reshape(2, 2), rtol=1e-7)


def lost_without(weight: Tensor, hessian: Tensor, gone: list[int]) -> float:
    """‖ΔW‖² in the norm of the Hessian once everything else was solved for anew."""
    stay = [c for c in range(weight.shape[1]) if c not in gone]
    solved = torch.zeros_like(weight)
    if stay:
        solved[:, stay] = torch.linalg.solve(hessian[stay][:, stay], (weight @ hessian[:, stay]).mT).mT
    return float(torch.einsum("dc,ce,de->", weight - solved, hessian, weight - solved))


@pytest.mark.parametrize("size", [1, 3])
def test_each_time_the_group_goes_that_the_others_make_up_for_best(size, monkeypatch):
    monkeypatch.setattr(obs, "TOGETHER", 2)
    weight, second = randn(WIDTH, CHANNELS, seed=5), moment(inputs())
    hessian, whole = obs.damped(second), lost_without(weight, obs.damped(second), list(range(CHANNELS)))
    found = obs.order(weight, second, size)
    gone: list[int] = []
    for step, group in enumerate(found.gone):
        left = [g for g in range(CHANNELS // size) if g * size not in gone]
        losses = {g: lost_without(weight, hessian, [*gone, *range(g * size, (g + 1) * size)]) for g in left}
        assert group == min(losses, key=losses.__getitem__)
        gone += range(group * size, (group + 1) * size)
        assert found.error[step + 1] == pytest.approx(losses[group] / whole, rel=1e-6)
    assert sorted(found.gone) == list(range(CHANNELS // size))
    assert found.error[0] == 0
    stay = torch.tensor([1, 4, 6])
    others = [c for c in range(CHANNELS) if c not in stay.tolist()]
    narrow = torch.zeros_like(weight)
    narrow[:, stay] = obs.refitted(weight, second, stay)
    left_over = torch.einsum("dc,ce,de->", weight - narrow, hessian, weight - narrow)
    assert float(left_over) == pytest.approx(lost_without(weight, hessian, others), rel=1e-8)


@pytest.mark.parametrize("seed", range(6))
def test_the_programme_finds_the_best_levels_that_fit(seed):
    generator = np.random.default_rng(seed)
    costs = [sorted(generator.integers(1, 40, 4).tolist(), reverse=True) for _ in range(4)]
    errors = [sorted(generator.random(4).tolist()) for _ in range(4)]
    for budget in (50, 80, 100):
        fitting = [
            levels
            for levels in itertools.product(range(4), repeat=4)
            if sum(costs[m][level] for m, level in enumerate(levels)) <= budget
        ]
        # A cost of 1 is a whole number of steps of these budgets, so that nothing is lost by rounding up.
        best = min(sum(errors[m][level] for m, level in enumerate(levels)) for levels in fitting)
        found = obs.programme(costs, errors, budget)
        assert sum(costs[m][level] for m, level in enumerate(found)) <= budget
        assert sum(errors[m][level] for m, level in enumerate(found)) == pytest.approx(best)
    with pytest.raises(Unreachable):
        obs.programme(costs, errors, sum(min(own) for own in costs) - 1)


def test_the_exchange_is_the_papers_one_by_one():
    gradients = randn(30, 5, seed=1) @ randn(5, 14, seed=2)
    fisher, going = gradients.mT @ gradients / 30, {1, 4, 6, 9}

    def cost(chosen: list[int]) -> float:
        return float(fisher[chosen][:, chosen].sum())

    chosen = sorted(going)
    for channel in sorted(set(range(14)) - going, key=lambda c: float(fisher[c, c])):
        joined = [*chosen, channel]
        chosen = min(([c for c in joined if c != left] for left in joined), key=cost)
    assert kwon.exchange(fisher, going) == set(chosen) != going


def test_heads_and_filters_are_those_that_lose_least_together():
    heads, filters = randn(2, 3).square(), randn(2, 6, seed=1).square()
    for budget in (10.0, 20.0, 30.0):
        gone = kwon.search_both(heads, filters, 4.0, 1.5, budget)
        pairs = [
            (float(heads.flatten().sort().values[:h].sum() + filters.flatten().sort().values[:f].sum()), h, f)
            for h, f in itertools.product(range(7), range(13))
            if (6 - h) * 4 + (12 - f) * 1.5 <= budget and 12 - f >= 2
        ]
        assert gone == min(pairs)[1:]
    with pytest.raises(Unreachable):
        kwon.search_both(heads, filters, 4.0, 1.5, 1.0)
