"""Torch-Pruning 1.6.1 (Fang et al., DepGraph, arXiv 2301.12900) as a peer: its own graph, importance and surgery.

It prunes a stock model, kept to attention by leaving every other linear layer out; in a race of whole models the first maps of
feed-forward blocks are its roots as well, at the same ratio. Its graph couples q, k,
v and o, so QK and VO lose the same channels; `heads` takes whole heads, `dims` the same channels of every head in a layer.
What the library leaves to its user is done here: the layer's number of heads and head width are set from the weights that are
left, and the softmax keeps the original scale. The result is carried over to the engine's class and must give the same logits.

A layer that would lose every head is left dense by the library (`check_pruning_group`), while its own record of heads says
zero. So requests are tried from the nearest on, and the one that lands nearest to the target is raced.
"""

import copy
import itertools
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from api_schemas.results.widths import AttentionWidths
from benchmarks.race.arms.arm import Arm, Cut
from benchmarks.race.setup import Setup, Unreachable
from worker.engine.checkpoint.load import LoadedModel, load_stock
from worker.engine.models.attention import linear_at
from worker.engine.models.model_spec import build, move_model

VERSION = 1
TOLERANCE = 1e-4
"""Largest difference between the pruned stock model's logits and the engine's, relative to the largest logit."""
NEAR = 0.0025
"""A request that lands this near to the target is not improved upon."""
HOPELESS = 0.05
"""A result this far from every request is called unreachable."""
BATCH = 32

Gradients = dict[str, Tensor]
"""By parameter name, what the importance finds in `parameter.grad`."""


def _stock(setup: Setup) -> PreTrainedModel:
    model = load_stock(setup.model, setup.dense.model_spec)
    model.float().eval()
    return move_model(model, setup.device)


def _attentions(model: nn.Module) -> list[Any]:
    return [
        module for module in model.modules() if hasattr(module, "num_attention_heads") and hasattr(module, "scaling")
    ]


def _projections(attention: Any) -> tuple[nn.Linear, ...]:
    """q, k, v, under the names of AST and of BERT."""
    names = ("q_proj", "k_proj", "v_proj") if hasattr(attention, "q_proj") else ("query", "key", "value")
    return tuple(getattr(attention, name) for name in names)


def _head_width(attention: Any) -> str:
    """What its attribute is called."""
    return "head_dim" if hasattr(attention, "head_dim") else "attention_head_size"


def _mean_gradient(setup: Setup, seed: int) -> Gradients:
    """For GroupTaylor: the gradient of the mean loss over the calibration samples."""
    model, split, loss = _stock(setup), setup.calibration(seed), setup.scoring_loss(seed)
    for inputs, targets in setup.batches(split, BATCH):
        (loss(setup.task.outputs(model, inputs), targets).sum() / len(split)).backward()
    return {name: p.grad.detach().cpu() for name, p in model.named_parameters() if p.grad is not None}


def _mended_hessian() -> Any:
    """GroupHessianImportance that adds up the samples it is shown.

    As shipped, `accumulate_grad` asks `if name not in self._accu_grad` but stores under the parameter itself. No name is ever
    found, so every sample overwrites the one before, and the counter stays at one: the importance rests on the last sample
    alone, whatever was accumulated. Here both are kept under the parameter.
    """
    import torch_pruning

    class MendedHessian(torch_pruning.importance.GroupHessianImportance):  # type: ignore[misc]
        def accumulate_grad(self, model: nn.Module) -> None:
            for parameter in model.parameters():
                if parameter.grad is not None:
                    squares = parameter.grad.detach().square()
                    self._accu_grad[parameter] = self._accu_grad.get(parameter, 0) + squares
                    self._counter[parameter] = self._counter.get(parameter, 0) + 1

    return MendedHessian()


def _hessians(setup: Setup, seed: int) -> dict[str, Gradients]:
    """What the shipped and the mended importance have accumulated after the same per-sample backward passes."""
    import torch_pruning

    model, loss = _stock(setup), setup.scoring_loss(seed)
    found = {"hessian": torch_pruning.importance.GroupHessianImportance(), "hessian_mended": _mended_hessian()}
    for inputs, targets in setup.batches(setup.calibration(seed), 1):
        model.zero_grad()
        loss(setup.task.outputs(model, inputs), targets).sum().backward()
        for importance in found.values():
            importance.accumulate_grad(model)
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {
        kind: {names[p]: (total / importance._counter[p]).cpu() for p, total in importance._accu_grad.items()}
        for kind, importance in found.items()
    }


def _gradients(setup: Setup, kind: str, seed: int) -> Gradients:
    if kind == "taylor":
        return setup.once(("torch-pruning", kind, seed), lambda: _mean_gradient(setup, seed))
    if kind in ("hessian", "hessian_mended"):
        return setup.once(("torch-pruning", "hessian", seed), lambda: _hessians(setup, seed))[kind]
    return {}


def _importance(kind: str) -> Any:
    """Defaults throughout: mean over the group's layers, scores divided by the group's mean.

    The Hessian reads `parameter.grad` where nothing was accumulated; that is where its accumulated squares are put, as it
    does itself.
    """
    import torch_pruning

    kinds = torch_pruning.importance
    if kind == "l2":
        return kinds.GroupMagnitudeImportance(p=2)
    return kinds.GroupTaylorImportance() if kind == "taylor" else kinds.GroupHessianImportance()


def _pruned(
    setup: Setup, dense: PreTrainedModel, gradients: Gradients, kind: str, mode: str, scope: str, ratio: float
) -> PreTrainedModel:
    """A copy of the stock model, pruned, with the head counts and widths that its forward pass reads put right."""
    import torch_pruning

    model = copy.deepcopy(dense)
    for name, parameter in model.named_parameters():
        parameter.grad = gradients[name].clone() if name in gradients else None
    heads = {linear: a.num_attention_heads for a in _attentions(model) for linear in _projections(a)}
    roots = set(heads)
    if setup.whole:
        roots |= {
            linear_at(model, site.first) for site in setup.dense.model_spec.layout_of(setup.dense.model).feed_forward
        }
    others = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d) and m not in roots]
    example, _ = setup.calibration(0).batch(range(1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says which bare parameters it will not touch
        pruner = torch_pruning.pruner.BasePruner(
            model,
            dict(example),
            importance=_importance(kind),
            global_pruning=scope == "global",
            # Also read where only heads are pruned: a ratio of zero would end the step before it comes to them.
            pruning_ratio=ratio,
            head_pruning_ratio=ratio,
            prune_num_heads=mode == "heads",
            prune_head_dims=mode == "dims",
            num_heads=heads,
            # Its defaults are mutable and shared by all pruners of a process.
            in_channel_groups={},
            out_channel_groups={},
            ignored_layers=others,
            root_module_types=[nn.Linear],
            output_transform=lambda output: output[0].sum(),
        )
        pruner.step()
    for attention in _attentions(model):
        left, width = _projections(attention)[0].out_features, _head_width(attention)
        if mode == "heads":
            attention.num_attention_heads = left // getattr(attention, width)
        else:
            setattr(attention, width, left // attention.num_attention_heads)
        # `scaling` stays that of the original head width.
    return model


def _widths(setup: Setup, model: PreTrainedModel) -> AttentionWidths:
    def layer(attention: Any) -> tuple[list[int], list[int]]:
        heads = attention.num_attention_heads
        query, _, value = _projections(attention)
        return [query.out_features // heads] * heads, [value.out_features // heads] * heads

    sites = setup.dense.model_spec.layout_of(setup.dense.model).feed_forward
    neurons = tuple(linear_at(model, site.first).out_features for site in sites)
    head_dim = setup.dense.widths.head_dim
    return AttentionWidths.of(head_dim, (layer(attention) for attention in _attentions(model)), neurons)


def _requests(target: float, mode: str, scope: str, layers: int, heads: int, width: int) -> Iterator[float]:
    """Ratios to ask for, one a number of structures, nearest to the target first."""
    units = {"heads": heads, "dims": width}[mode] * (layers if scope == "global" else 1)
    counts = sorted(range(1, units), key=lambda count: (abs(count / units - target), count))
    # A hair below the count's ratio: the library rounds what is left down, and what is removed up.
    yield from (count / units - 1e-6 for count in counts[: units if mode == "heads" else 16])


def _halving(landed: dict[float, float], target: float) -> Iterator[float]:
    """Ratios by bisection, where neurons make nearly every share reachable; `landed` is what they came to."""
    low, high = 0.0, 1.0
    for _ in range(12):
        ratio = (low + high) / 2
        yield ratio
        low, high = (ratio, high) if landed[ratio] < target else (low, ratio)


def _cut(kind: str, mode: str, scope: str) -> Cut:
    def run(setup: Setup, seed: int, target: float) -> LoadedModel:
        widths = setup.dense.widths
        gradients = _gradients(setup, kind, seed)
        dense = setup.once(("torch-pruning", "stock"), lambda: _stock(setup))
        # Where a request lands does not depend on the target: each is tried once for all of them.
        landed: dict[float, float] = setup.once(("torch-pruning", "landed", kind, mode, scope, seed), dict)
        requests = _requests(target, mode, scope, len(widths.layers), widths.layers[0].heads, widths.head_dim)
        nearest = 0.0
        for ratio in _halving(landed, target) if setup.whole else requests:
            if ratio not in landed:
                left = _widths(setup, _pruned(setup, dense, gradients, kind, mode, scope, ratio))
                landed[ratio] = setup.share_gone(left)
            if abs(landed[ratio] - target) < abs(landed.get(nearest, 0.0) - target):
                nearest = ratio
            if abs(landed[ratio] - target) <= NEAR:
                break
        if abs(landed.get(nearest, 0.0) - target) > HOPELESS:
            raise Unreachable(f"of all requests the nearest lands at {landed.get(nearest, 0.0):.1%}")
        model = _pruned(setup, dense, gradients, kind, mode, scope, nearest)
        left = _widths(setup, model)
        state = {name: tensor for name, tensor in model.state_dict().items() if name in setup.dense.model.state_dict()}
        loaded = replace(
            setup.dense,
            model=build(setup.dense.model_spec, model.config.to_dict(), left, state),
            widths=left,
        )
        _check(setup, model, loaded.model)
        return loaded

    return run


def _check(setup: Setup, stock: PreTrainedModel, ours: PreTrainedModel) -> None:
    """The library's own pruned module and the model that is raced must be one function."""
    # Rows of different lengths share no batch.
    inputs, _ = next(setup.batches(setup.calibration(0), 8))
    with torch.inference_mode():
        theirs, raced = (setup.task.outputs(model, inputs) for model in (stock, ours))
    error, scale = float((theirs - raced).abs().max()), max(1.0, float(theirs.abs().max()))
    if not error <= TOLERANCE * scale:
        raise ValueError(f"the pruned model and its copy in the engine's class differ by {error:.2e}")


def arms(*, whole: bool = False) -> tuple[Arm, ...]:
    """Importance × heads or dims × global or local; of whole models the mended Hessian alone, and no whole heads."""
    kinds = ("l2", "taylor", "hessian_mended") if whole else ("l2", "taylor", "hessian", "hessian_mended")
    modes = ("dims",) if whole else ("heads", "dims")
    return tuple(
        Arm(
            name=f"torch-pruning/{mode}/{kind}/{scope}",
            family="torch-pruning",
            cut=_cut(kind, mode, scope),
            version=VERSION,
            settings={"importance": kind, "mode": mode, "scope": scope, "torch_pruning": "1.6.1"},
            seeded=kind != "l2",
        )
        for kind, mode, scope in itertools.product(kinds, modes, ("global", "local"))
    )
