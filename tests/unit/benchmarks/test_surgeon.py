"""The surgeon's rule for VO channels and directions against ridge regressions solved anew, and the search for layers' shares."""

from itertools import combinations

import pytest
import torch
from torch import Tensor

from benchmarks.surgeon import layers, value_channels
from benchmarks.surgeon.refit import STEP, Order

HEADS = (0, 0, 0, 1, 1, 1)


@pytest.fixture
def problem() -> tuple[Tensor, Tensor, float]:
    """x (R, C) whose channels say much the same, y (R, D), λ."""
    generator = torch.Generator().manual_seed(1)
    mix_CC = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    x_RC = torch.randn(80, 6, generator=generator, dtype=torch.float64) @ (mix_CC + torch.eye(6).double())
    return x_RC, torch.randn(80, 4, generator=generator, dtype=torch.float64) + x_RC[:, :4], 0.7


def loss(x_RC: Tensor, y_RD: Tensor, ridge: float, basis_CK: Tensor) -> float:
    """Of the best W = basis · V, solved for directly: Σ‖y − x W‖² + λ‖W‖² (the pull is towards zero here)."""
    x_RK = x_RC @ basis_CK
    normal_KK = x_RK.mT @ x_RK + ridge * basis_CK.mT @ basis_CK
    weight_CD = basis_CK @ torch.linalg.solve(normal_KK, x_RK.mT @ y_RD)
    return float((y_RD - x_RC @ weight_CD).square().sum() + ridge * weight_CD.square().sum())


def solved(x_RC: Tensor, y_RD: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    inverse_CC = torch.linalg.inv(x_RC.mT @ x_RC + ridge * torch.eye(x_RC.shape[1]).double())
    return inverse_CC @ x_RC.mT @ y_RD, inverse_CC


@pytest.mark.parametrize("even", [True, False])
def test_each_channel_that_goes_is_the_one_whose_loss_is_least(
    problem: tuple[Tensor, Tensor, float], *, even: bool
) -> None:
    x_RC, y_RD, ridge = problem
    stay = list(range(6))
    while len(stay) > 2:
        able = [n for n in stay if not even or sum(HEADS[other] == HEADS[n] for other in stay) > 1]
        left = {n: [other for other in stay if other != n] for n in able}
        stay = min(left.values(), key=lambda kept: loss(x_RC, y_RD, ridge, torch.eye(6).double()[:, kept]))
    found = value_channels.channels(*solved(x_RC, y_RD, ridge), HEADS, 1, even=even)
    assert found.tolist() == stay


def test_what_is_left_is_the_solution_without_the_channels_that_went(problem: tuple[Tensor, Tensor, float]) -> None:
    x_RC, y_RD, ridge = problem
    weight_CD, inverse_CC = solved(x_RC, y_RD, ridge)
    value_channels.remove(weight_CD, inverse_CC, [1])
    value_channels.remove(weight_CD, inverse_CC, [4, 2])
    stay = [0, 3, 5]
    expected_CD, expected_CC = solved(x_RC[:, stay], y_RD, ridge)
    assert torch.allclose(weight_CD[stay], expected_CD)
    assert torch.allclose(inverse_CC[stay][:, stay], expected_CC)
    assert not weight_CD[[1, 2, 4]].any()


def test_the_directions_that_go_lose_no_more_than_any_other_of_the_head(problem: tuple[Tensor, Tensor, float]) -> None:
    x_RC, y_RD, ridge = problem
    turn_CC, stay = value_channels.directions(*solved(x_RC, y_RD, ridge), HEADS[:3] + (1,) * 3, 2, 1)
    assert torch.allclose(turn_CC.mT @ turn_CC, torch.eye(6).double())
    assert torch.count_nonzero(turn_CC[:3, 3:]) == torch.count_nonzero(turn_CC[3:, :3]) == 0
    assert [HEADS[n] for n in stay] == [0, 0, 1, 1]
    ours = loss(x_RC, y_RD, ridge, turn_CC[:, stay])
    kept = [[*first, *second] for first in combinations(range(3), 2) for second in combinations(range(3, 6), 2)]
    assert ours < min(loss(x_RC, y_RD, ridge, torch.eye(6).double()[:, each]) for each in kept)
    # The first to go, alone: no other direction of its head costs less.
    one, _ = value_channels.directions(*solved(x_RC[:, :3], y_RD, ridge), (0, 0, 0), 2, 1)
    least = loss(x_RC[:, :3], y_RD, ridge, one[:, :2])
    generator = torch.Generator().manual_seed(2)
    for _ in range(200):
        other_KK = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64)).Q
        assert least <= loss(x_RC[:, :3], y_RD, ridge, other_KK[:, :2]) + 1e-9


def test_downhill_moves_layers_against_the_slope_and_stays_where_nothing_is_better() -> None:
    tried = []

    def bowl(weights: layers.Weights) -> float:
        tried.append(weights)
        return (weights[0] - 0.4) ** 2 + (weights[1] + 0.4) ** 2

    found = layers.downhill(bowl, 2)
    assert found[0] > 0 > found[1]
    assert bowl(found) < bowl((0.0, 0.0))
    assert len(tried) <= 2 + 1 + 2 + len(layers.LENGTHS)
    assert layers.downhill(lambda weights: sum(map(abs, weights)), 3) == (0.0, 0.0, 0.0)


def test_neurons_stay_where_they_cost_most() -> None:
    cheap, dear = (Order(torch.arange(4 * STEP), slope * torch.arange(4).double()) for slope in (1.0, 9.0))
    assert layers.by_cost([dear, cheap], 5 * STEP, [4 * STEP] * 2, 4) == [4 * STEP, STEP]
    assert cheap.stay(3) == tuple(range(4 * STEP - 3, 4 * STEP))
    assert layers.spread([1.0, 3.0], 40, [100, 24], 4) == [16, 24]
