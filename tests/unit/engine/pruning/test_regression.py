"""Which inputs of a map go, against a full least-squares solve for every candidate; the map afterwards, against numpy."""

import numpy as np
import pytest
import torch
from torch import nn

from worker.engine.pruning.regression import GROUP, RidgeRegression

ROWS, INPUTS, OUTPUTS, RIDGE = 300, 44, 6, 1e-3


def data(seed=0):
    """Inputs that say much the same, with means, and what they are to give."""
    generator = torch.Generator().manual_seed(seed)
    few, mix = (torch.randn(*shape, generator=generator).double() for shape in ((ROWS, 12), (12, INPUTS)))
    x_RC = few @ mix + 0.3 * torch.randn(ROWS, INPUTS, generator=generator).double() + 1.0
    y_RD = x_RC[:, :OUTPUTS] * 2 + torch.randn(ROWS, OUTPUTS, generator=generator).double() - 3.0
    return x_RC, y_RD


def regression(x_RC, y_RD, *, bias=True):
    torch.manual_seed(1)
    linear = nn.Linear(INPUTS, OUTPUTS, bias=bias).double()
    found = RidgeRegression(linear)
    for x, y in zip(x_RC.split(70), y_RD.split(70), strict=True):
        found.add(x[None], y[None])
    return linear, found


def solved(x_RC, y_RD, now_CD, penalty, *, bias):
    """Weights of the ridge towards `now`, and what is left of the objective: lstsq on all rows, the pull as further rows."""
    x, y = x_RC.numpy(), y_RD.numpy()
    columns = now_CD.shape[0]
    pull = np.sqrt(penalty) * np.eye(columns)
    one = np.ones((len(x), 1)) if bias else np.zeros((len(x), 0))
    left = np.vstack([np.hstack([x, one]), np.hstack([pull, np.zeros((columns, one.shape[1]))])])
    right = np.vstack([y, np.sqrt(penalty) * now_CD.numpy()])
    weights = np.linalg.lstsq(left, right, rcond=None)[0]
    return weights, float(((left @ weights - right) ** 2).sum())


def one_by_one(x_RC, y_RD, linear, penalty, *, keep):
    """The columns that stay, each removal decided by a solve for every candidate."""
    now_CD, bias = linear.weight.detach().mT.clone(), linear.bias is not None
    stay = list(range(INPUTS))
    while len(stay) > keep:
        costs = []
        for candidate in stay:
            rest = [column for column in stay if column != candidate]
            gone = [column for column in range(INPUTS) if column not in rest]
            left = solved(x_RC[:, rest], y_RD, now_CD[rest], penalty, bias=bias)[1]
            costs.append(left + penalty * float(now_CD[gone].square().sum()))
        stay.pop(int(np.argmin(costs)))
    return stay


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("keep", [INPUTS - 1, INPUTS - GROUP - 4])
def test_what_goes_is_what_a_solve_for_every_candidate_says(keep, bias):
    x_RC, y_RD = data()
    linear, sums = regression(x_RC, y_RD, bias=bias)
    penalty = RIDGE * float(x_RC.square().sum(0).mean())
    now_CD = linear.weight.detach().mT.clone()
    stay = sums.most_needed(RIDGE, keep)
    assert stay.tolist() == one_by_one(x_RC, y_RD, linear, penalty, keep=keep)
    sums.fit(RIDGE, stay)
    gone = [column for column in range(INPUTS) if column not in stay]
    assert not linear.weight[:, gone].any()
    penalty = RIDGE * float(x_RC[:, stay].square().sum(0).mean())
    weights, _ = solved(x_RC[:, stay], y_RD, now_CD[stay], penalty, bias=bias)
    torch.testing.assert_close(
        linear.weight[:, stay].detach().mT, torch.from_numpy(weights[:keep]), rtol=1e-6, atol=1e-8
    )
    if bias:
        torch.testing.assert_close(linear.bias.detach(), torch.from_numpy(weights[keep]), rtol=1e-6, atol=1e-8)


def test_inputs_that_say_the_same_twice_go_first_and_need_no_ridge():
    x_RC, y_RD = data()
    x_RC = torch.cat([x_RC[:, : INPUTS // 2]] * 2, 1)
    _, sums = regression(x_RC, y_RD)
    stay = sums.most_needed(0.0, INPUTS // 2).tolist()
    assert sorted(column % (INPUTS // 2) for column in stay) == list(range(INPUTS // 2))


def test_sums_that_overflow_leave_the_largest_weights_as_they_are():
    x_RC, y_RD = data()
    y_RD[3, 2] = torch.inf
    linear, sums = regression(x_RC, y_RD)
    before = linear.weight.detach().clone()
    stay = sums.most_needed(RIDGE, 10)
    assert set(stay.tolist()) == set(before.square().sum(0).topk(10).indices.tolist())
    sums.fit(RIDGE, stay)
    assert torch.equal(linear.weight[:, stay], before[:, stay])
    assert int((linear.weight != 0).any(0).sum()) == 10


def test_nothing_at_all_may_stay():
    x_RC, y_RD = data()
    linear, sums = regression(x_RC, y_RD)
    stay = sums.most_needed(RIDGE, 0)
    sums.fit(RIDGE, stay)
    assert not len(stay)
    assert not linear.weight.any()
    torch.testing.assert_close(linear.bias.detach(), y_RD.mean(0))
