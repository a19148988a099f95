"""Measures a latency table: the parts of a layer on a small grid of widths, and the whole dense model.

Everything is timed in turn, round after round. Medians are kept after removing slowdowns that affect a whole round, because other
load on the machine affects every point alike. On a busy machine there are more rounds. The noise, measured by timing the whole
dense model twice in every round, is kept beside the table.

A part takes longer in a model than alone, where its data is in the cache. So a second whole model is timed, with little left of
what may be cut, and all parts are scaled by the factor that makes the table right about both. Everything that was not measured is
the whole dense model minus its dense layers.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.activations import ACT2FN

from api_schemas.results.widths import AttentionWidths, LayerWidths
from checkpoints.families import AttentionKind, AttentionSite
from worker.engine.checkpoint.load import LoadedModel
from worker.engine.data.split import Inputs, rows
from worker.engine.latency.paired import is_narrow, median_interval, without_load
from worker.engine.latency.table import LatencyModel, LatencyTable
from worker.engine.latency.timing import forward, time_in_turn, timing_mode
from worker.engine.models import narrow_attention
from worker.engine.models.model_spec import ModelSpec, attention_entry
from worker.engine.models.pruned_maps import resize

MIN_RUNS, ENOUGH_RUNS, MAX_RUNS, SECONDS = 5, 30, 100, 30.0
"""Rounds of timing: until there are enough and every median is sure, or so many seconds have passed, within these limits."""
LONG_ENOUGH = 20.0
"""Milliseconds that a part is timed for in one go, where the model's layers take as long."""
LEAST_TIMES, MOST_TIMES = 0.5, 4.0
"""By how much parts in a model may be taken to be faster or slower than alone; beyond it the timings are wrong."""
ALIGN, NARROWEST = 8, 16
"""The grid of padded widths starts at 16 and keeps to multiples of 8: narrower or odd ones are no faster."""


class _Given(nn.Module):
    """Stands in for a projection, to time what lies between them: returns what it was given, or its input."""

    def __init__(self, states_BTC: Tensor | None) -> None:
        super().__init__()
        self.states_BTC = states_BTC

    def forward(self, hidden_BTD: Tensor) -> Tensor:
        return hidden_BTD if self.states_BTC is None else self.states_BTC


@dataclass(frozen=True)
class _Bench:
    """What is needed to build a layer's attention of any widths, and its parts."""

    site: AttentionSite
    attention: nn.Module
    """That of the model's first layer, of which copies are made narrow."""
    hidden: Tensor
    """(B, T, D): what goes into a layer."""

    def layer(self, widths: Sequence[int]) -> LayerWidths:
        """Heads this wide, QK and VO; where QK channels go with their head alone, all of these."""
        shape = self.site.shape
        qk = (shape.head_dim,) * len(widths) if shape.qk_whole else tuple(widths)
        rotary = tuple(tuple(range(width // 2)) for width in qk) if shape.rotary else ()
        return LayerWidths(qk=qk, vo=tuple(widths), rotary=rotary, qk_whole=shape.qk_whole)

    def kernel(self, widths: Sequence[int]) -> Callable[[], object]:
        """The module of heads this wide, without its projections."""
        module, layer = copy.deepcopy(self.attention), self.layer(widths)
        narrow_attention(module, attention_entry(self.site, layer))
        inside = f"{self.site.module}."
        for side, path in self.site.projections().items():
            if path.startswith(inside):
                channels = layer.vo_total if side == "v" else layer.qk_total
                channels *= self.site.shape.queries_per_head if side == "q" else 1
                states_BTC = self.hidden.new_empty(*self.hidden.shape[:-1], channels).normal_()
                module.set_submodule(path.removeprefix(inside), _Given(None if side == "o" else states_BTC))
        if self.site.positions is not None:
            # Its time goes with heads, as that of what lies between the projections does.
            resize(module, self.site.positions.removeprefix(inside), layer.qk_total, rows=True)
        return partial(module.eval(), self.hidden, **self._positions(max(layer.qk)))

    def _positions(self, width: int) -> dict[str, object]:
        """What the layer gives its attention beside hidden states: which numbers, takes no time. `width`: of the widest head."""
        shape, (_, tokens, hidden) = self.site.shape, self.hidden.shape
        if self.site.kind is AttentionKind.ROTATED_INPUT:
            return {"relative_position_embeddings": self.hidden.new_zeros(2, tokens, 1, 1, shape.head_dim)}
        if self.site.positions is not None:
            return {"relative_position_embeddings": self.hidden.new_zeros(1, 2 * tokens - 1, hidden)}
        # Angles of as many pairs as the padded widths have.
        angles_1TR = self.hidden.new_zeros(1, tokens, width)
        return {"position_embeddings": (angles_1TR, angles_1TR)} if shape.rotary else {}

    def projections(self, channels: int, *, output: bool) -> Callable[[], object]:
        """Both projections of a side: q and k, or (`output`) v and o."""
        hidden, of_queries = self.hidden.shape[-1], channels * self.site.shape.queries_per_head
        query, key, last = nn.Linear(hidden, of_queries), nn.Linear(hidden, channels), nn.Linear(of_queries, hidden)
        for linear in (query, key, last):
            linear.to(self.hidden.device, self.hidden.dtype)
        states_BTC = query(self.hidden)
        return lambda: (key(self.hidden), last(states_BTC) if output else query(self.hidden))

    def feed_forward(self, neurons: int, activation: nn.Module, *, gated: bool) -> Callable[[], object]:
        """A feed-forward block of so many neurons."""
        hidden = self.hidden.shape[-1]
        first, second, up = nn.Linear(hidden, neurons), nn.Linear(neurons, hidden), nn.Linear(hidden, neurons)
        for linear in (first, second, up):
            linear.to(self.hidden.device, self.hidden.dtype)
        if gated:
            return lambda: second(activation(first(self.hidden)) * up(self.hidden))
        return lambda: second(activation(first(self.hidden)))


def measure_latency_table(
    model: PreTrainedModel,
    model_spec: ModelSpec,
    widths: AttentionWidths,
    inputs: Inputs,
    small: LoadedModel,
    *,
    feed_forward: bool = False,
) -> LatencyTable:
    """Time the dense `model`, which has `widths` and whose attentions are all alike, and the parts of its layers.

    Args:
        inputs: a batch on the model's device and of its dtype, of the size that counts.
        small: the model with little left of what may be cut, on the same device.
        feed_forward: whether the blocks, which are then alike too, are timed by their neurons.
    """
    layer, layers = widths.layers[0], len(widths.layers)
    site = model_spec.layout_of(model).attention[0]
    tokens = site.shape.queries
    batch_size, device = rows(inputs), next(iter(inputs.values())).device
    channels = _grid(layer.qk_total, 8, 4, 2, 1)
    heads = _grid(layer.heads, layer.heads, 4, 2, 1)
    widest = max(NARROWEST, ceil(layer.qk[0] / ALIGN) * ALIGN)
    shared = tuple(sorted({NARROWEST, *(ceil(widest / part / ALIGN) * ALIGN for part in (2, 4 / 3, 1))}))
    shared = tuple(width for width in shared if width >= NARROWEST)
    gated = model_spec.layout_of(model).feed_forward[0].shape.gated
    neurons = _grid(widths.feed_forward[0], 16, 8, 4, 2, 1) if feed_forward else ()
    # Alternately one channel narrower, or one pair: heads that share a call and have to be copied into it.
    unit = 1 if layer.qk_whole else layer.qk_unit
    uneven = [max(unit, width - head % 2 * unit) for head, width in enumerate(layer.qk)]
    # Random weights and states are drawn here; the job's own draws stay as they would be without.
    with timing_mode(model, small.model), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        hidden_BTD = torch.randn(batch_size, tokens, site.shape.hidden, device=device, dtype=model.dtype)
        bench = _Bench(site, model.get_submodule(site.module), hidden_BTD)
        parts: dict[tuple[str, int, int], Callable[[], object]] = {
            **{("qk", n, 0): bench.projections(n, output=False) for n in channels},
            **{("vo", n, 0): bench.projections(n, output=True) for n in channels},
            **{("kernel", h, w): bench.kernel([w] * h) for h in heads for w in shared},
            ("uneven", 0, 0): bench.kernel(uneven),
            **{("neurons", n, 0): bench.feed_forward(n, _activation(model), gated=gated) for n in neurons},
        }
        passes = [forward(model, inputs), forward(small.model, inputs), *parts.values()]
        noise, whole, little, *each = _medians(passes, 2, layers, device)
    found = dict(zip(parts, each, strict=True))
    table = LatencyTable(
        batch_size=batch_size,
        tokens=tokens,
        device=str(device),
        channels=(0, *channels),
        qk_ms=(0.0, *_rising([found["qk", n, 0] for n in channels])),
        vo_ms=(0.0, *_rising([found["vo", n, 0] for n in channels])),
        heads=heads,
        widths=shared,
        kernel_ms=tuple(map(tuple, _rising([_rising([found["kernel", h, w] for w in shared]) for h in heads]))),
        copy_ms=0.0,
        neurons=(0, *neurons) if neurons else (),
        feed_forward_ms=(0.0, *_rising([found["neurons", n, 0] for n in neurons])) if neurons else (),
        other_ms=0.0,
        dense_ms=whole,
        noise=noise,
        queries=site.shape.queries_per_head,
    )
    looked_up = LatencyModel(table)
    uneven_layer = bench.layer(uneven)
    copied = found["uneven", 0, 0] - looked_up.kernels(uneven_layer)
    table = table.model_copy(update={"copy_ms": max(0.0, copied / looked_up.channels_in_calls(uneven_layer))})
    gone = LatencyModel(table).milliseconds(widths) - LatencyModel(table).milliseconds(small.widths)
    times = (whole - little) / gone if gone > 0 else 1.0
    table = _scaled(table, min(max(times, LEAST_TIMES), MOST_TIMES))
    dense = LatencyModel(table).milliseconds(widths)
    return table.model_copy(
        update={
            # What the dense layers take by the table itself, so that the table gives the dense model its own time.
            "other_ms": max(0.0, whole - dense),
            "dense_ms": max(whole, dense),
        }
    )


def _scaled(table: LatencyTable, times: float) -> LatencyTable:
    """Every part that many times as long."""
    return table.model_copy(
        update={
            "qk_ms": tuple(times * ms for ms in table.qk_ms),
            "vo_ms": tuple(times * ms for ms in table.vo_ms),
            "kernel_ms": tuple(tuple(times * ms for ms in row) for row in table.kernel_ms),
            "feed_forward_ms": tuple(times * ms for ms in table.feed_forward_ms),
            "copy_ms": times * table.copy_ms,
        }
    )


def _activation(model: PreTrainedModel) -> nn.Module:
    """Between the maps of a feed-forward block, by the name that the configuration has for it."""
    names = (getattr(model.config, field, None) for field in ("hidden_act", "hidden_activation", "activation_function"))
    made: nn.Module = ACT2FN[next((name for name in names if isinstance(name, str)), "gelu")]
    return made


def _grid(most: int, *parts: int) -> tuple[int, ...]:
    """`most` divided by each part, rounded up, in rising order."""
    return tuple(sorted({ceil(most / part) for part in parts}))


def _rising(values: ArrayLike) -> NDArray[np.float64]:
    """Along the first axis, no value above a later one: more work is never faster, and what disturbs a timing adds to it."""
    return np.minimum.accumulate(np.asarray(values)[::-1], axis=0)[::-1]


def _repeated(part: Callable[[], object], times: int, device: torch.device) -> Callable[[], object]:
    def call() -> None:
        for _ in range(times):
            part()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return call


def _medians(passes: Sequence[Callable[[], object]], models: int, layers: int, device: torch.device) -> list[float]:
    """The noise of the first call, the whole model, and milliseconds of every call, timed in turn for about SECONDS at most.

    The first `models` of the calls are whole models. A part is called several times in a row: on a GPU, where work is only
    queued, as often as the model has layers, so that the wait at the end weighs as it does in the model; on a CPU, up to as
    often, for LONG_ENOUGH, so that what else the machine does slows it by as much as it slows the model.
    """
    once = np.median(time_in_turn([_repeated(part, 1, device) for part in passes], 3), axis=0)
    on_cpu = np.clip(np.ceil(LONG_ENOUGH / np.maximum(once, 1e-6)), 1, layers).astype(int)
    parts = on_cpu[models:] if device.type == "cpu" else [layers] * (len(passes) - models)
    counts = [*[1] * models, *parts]
    blocks = [_repeated(part, int(count), device) for part, count in zip(passes, counts, strict=True)]
    times = time_in_turn([*blocks, blocks[0]], MIN_RUNS, most=MAX_RUNS, seconds=SECONDS, enough=_sure)
    whole, *_, again = times.T
    low, high = median_interval(whole / again)
    medians = np.median(without_load(times)[:, :-1], axis=0)
    return [max(high - 1.0, 1.0 / low - 1.0), *(float(ms / n) for ms, n in zip(medians, counts, strict=True))]


def _sure(times: NDArray[np.float64]) -> bool:
    """Whether more rounds would hardly move any median."""
    return len(times) >= ENOUGH_RUNS and all(map(is_narrow, without_load(times).T))
