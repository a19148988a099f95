"""What a cut model has to be: transformers' stock dense model with hooks.

What is cut is zeroed where it leaves q and k, and where it enters o. Nothing of the code under test is in it.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from api_schemas.results.widths import AttentionWidths
from checkpoints.sizes import accounting
from checkpoints.sizes.shape import ModelShape
from worker.engine.checkpoint.load import LoadedModel
from worker.engine.data.split import Inputs
from worker.engine.models.feed_forward import all_neurons
from worker.engine.models.model_spec import ModelSpec, build
from worker.engine.models.stock_tensors import as_pruned
from worker.engine.pruning.selection import KeptHead, Selection, keep_all
from worker.engine.pruning.surgery import cut


def answer(model: nn.Module, inputs: Inputs) -> Tensor:
    """Whatever a model answers with: logits, both ends' one after the other, or what its embedding is made of."""
    output = model(**inputs)
    if "start_logits" in output:
        return torch.stack([output.start_logits, output.end_logits], 1)
    for name in ("logits", "audio_embeds", "text_embeds", "last_hidden_state", "projected_states"):
        found: Tensor | None = getattr(output, name, None)
        if found is not None:
            return found
    raise AssertionError(f"{type(model).__name__} answers with {list(output)}")


def shape_of(kind: ModelSpec, stock: PreTrainedModel) -> ModelShape:
    """The accounts of a stock model in memory."""
    layout = kind.layout(stock.config.to_dict())
    empty = ModelShape(
        attention=tuple(site.shape for site in layout.attention),
        feed_forward=tuple(site.shape for site in layout.feed_forward),
        other_parameters=0,
        other_flops=layout.other_flops,
        bytes_per_parameter=4,
    )
    blocks = accounting.total_parameters(empty, empty.dense)
    return empty.model_copy(update={"other_parameters": sum(p.numel() for p in stock.parameters()) - blocks})


def dense(kind: ModelSpec, stock: PreTrainedModel) -> LoadedModel:
    """The engine's model of the same function: nothing is cut."""
    widths = shape_of(kind, stock).dense
    config = stock.config.to_dict()
    state = as_pruned(stock.state_dict(), kind.layout(config), widths)
    return LoadedModel(build(kind, config, widths, state), kind, widths, torch.float32)


def cut_by(loaded: LoadedModel, kept: Selection) -> LoadedModel:
    """A new one, smaller."""
    model = cut(loaded.model, loaded.model_spec, loaded.widths, kept.heads, kept.neurons)
    return replace(loaded, model=model, widths=kept.widths(loaded.widths))


def keeps(widths: AttentionWidths) -> dict[str, Selection]:
    """Every kind of cut, by name, of a dense model with these widths."""
    draw = random.Random(0)
    rotary = bool(widths.layers[0].rotary)
    whole = keep_all(widths)

    def head(kept: KeptHead, qk: int, vo: int) -> KeptHead:
        if widths.layers[0].qk_whole:
            return KeptHead(kept.head, kept.qk, tuple(sorted(draw.sample(kept.vo, vo))))
        pairs = len(kept.qk) // 2
        # Of rotated channels both of a pair, i and i + half, or none; an odd number is rounded up.
        some = sorted(draw.sample(range(pairs), -(-qk // 2))) if rotary else []
        own = (*some, *(pair + pairs for pair in some)) if rotary else tuple(sorted(draw.sample(kept.qk, qk)))
        return KeptHead(kept.head, own, tuple(sorted(draw.sample(kept.vo, vo))))

    def ragged(layer: tuple[KeptHead, ...]) -> tuple[KeptHead, ...]:
        return tuple(head(kept, draw.randint(1, len(kept.qk)), draw.randint(1, len(kept.vo))) for kept in layer)

    def equal(layer: tuple[KeptHead, ...], qk: int, vo: int) -> tuple[KeptHead, ...]:
        return tuple(head(kept, qk, vo) for kept in layer)

    every = all_neurons(widths)
    some = tuple(tuple(sorted(draw.sample(neurons, draw.randint(1, len(neurons) // 2)))) for neurons in every)
    heads = {
        "whole heads": tuple(layer[number % 2 :: 2] for number, layer in enumerate(whole)),
        "ragged": tuple(map(ragged, whole)),
        "unequal sides": tuple(equal(layer, 3, 5) for layer in whole),
        "heads and channels": tuple(ragged(layer[1:]) for layer in whole),
        "no heads first": tuple(() if number == 0 else ragged(layer) for number, layer in enumerate(whole)),
        "no heads last": tuple(() if number == len(whole) - 1 else layer for number, layer in enumerate(whole)),
        "no heads at all": tuple(() for _ in whole),
        "equal": tuple(equal(layer[:3], 5, 5) for layer in whole),
        "neurons": whole,
        "equal neurons": whole,
        "nothing cut": whole,
    }
    heads["equal, neurons too"] = heads["equal"]
    alike = tuple(neurons[3:30] for neurons in every)
    fewer = dict.fromkeys(("heads and channels", "no heads first", "neurons"), some)
    fewer |= dict.fromkeys(("equal neurons", "equal, neurons too"), alike)
    return {name: Selection(keep, fewer.get(name, every)) for name, keep in heads.items()}


def _outputs_first(linear: Any) -> Tensor:
    """Its weight, or a view of it where the other way round, (outputs, inputs)."""
    weight: Tensor = linear.weight
    return weight.mT if isinstance(linear, Conv1D) else weight


@contextmanager
def masked(kind: ModelSpec, stock: PreTrainedModel, kept: Selection) -> Iterator[PreTrainedModel]:
    """The stock model, or the engine's of the same widths, with zeros in its weights where `kept` leaves something out, while the
    block lasts."""
    whole = {name: tensor.clone() for name, tensor in stock.state_dict().items()}
    layout = kind.layout(stock.config.to_dict())
    for site, layer in zip(layout.attention, kept.heads, strict=True):
        qk_HK, vo_HK = torch.zeros(2, site.shape.heads, site.shape.head_dim)
        queries = site.shape.queries_per_head
        for h in layer:
            qk_HK[h.head, list(h.qk)] = 1
            vo_HK[h.head, list(h.vo)] = 1
        of_queries = qk_HK.repeat_interleave(queries, 0).flatten()
        of_side = {site.q: of_queries, site.k: qk_HK.flatten(), site.v: vo_HK.flatten()}
        if site.joined is not None and not isinstance(stock, kind.classes.pruned):
            of_side = {site.joined: torch.cat(list(of_side.values()))}
        with torch.no_grad():
            for path, mask_C in of_side.items():
                linear: Any = stock.get_submodule(path)
                _outputs_first(linear).mul_(mask_C[:, None])
                if linear.bias is not None:
                    linear.bias.mul_(mask_C)
            _outputs_first(stock.get_submodule(site.o)).mul_(vo_HK.repeat_interleave(queries, 0).flatten())
    for pair, neurons in zip(layout.feed_forward, kept.neurons, strict=True):
        mask_N = torch.zeros(pair.shape.neurons)
        mask_N[list(neurons)] = 1
        with torch.no_grad():
            _outputs_first(stock.get_submodule(pair.second)).mul_(mask_N)
    try:
        yield stock
    finally:
        stock.load_state_dict(whole)


def distance(found: Tensor, expected: Tensor) -> float:
    """Largest absolute error, as a share of max(1, largest absolute value): what the project's bounds are stated in."""
    error: float = (found - expected).abs().max().item()
    return error / max(1.0, expected.abs().max().item())


def assert_near(found: Tensor, expected: Tensor, share: float = 1e-5) -> None:
    """The project's bound: a share of max(1, largest absolute value)."""
    assert found.shape == expected.shape
    error = distance(found, expected)
    assert error <= share, f"error {error:.3g}, bound {share:.3g}"
