"""Where the time of a small model's forward pass goes, dense and cut, and what no cut can save.

Tables of one thread's processor time; all passes of a table are made in turn, in a random order each round: models as they are,
and by torch's own interpreter, which runs the same operators without Python; what is left of the dense model when the products
that may be cut cost nothing, and when blocks are not run at all; a quarter of the FLOPs, spent on many heads or few; operators,
by torch's profiler; and single products, and the kernel of attention, by their widths.

    python -m benchmarks.small_model --model CHECKPOINT --data DATA --cache FOLDER [--only models floor shapes operators parts]

`--beside FILE` times the cuts with another `pruned_layers.py` as well, that of a checkpoint made before, say.
"""

import argparse
import copy
import gc
import importlib
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

from api_schemas.enums import Split
from benchmarks.feed_forward import TIMED, Bench
from benchmarks.race.setup import load_setup
from checkpoints.sizes import accounting
from worker.engine.checkpoint.load import LoadedModel, load_stock
from worker.engine.data.split import Inputs
from worker.engine.latency.timing import inputs_of
from worker.engine.models.model_spec import attention_entry
from worker.engine.pruning.selection import KeptHead, Selection
from worker.engine.pruning.surgery import cut

CUTS = ("FLOPs 50%, both", "FLOPs 75%, both")
ROUNDS = 6, 400
"""At least, and at most."""
NARROW = 4
"""Channels of a head, and neurons, where products are to cost nothing."""
SHAPES: Mapping[str, tuple[tuple[int, int], int]] = {
    "six heads of 8, 188 neurons": ((6, 8), 188),
    "three heads of 16, 188 neurons": ((3, 16), 188),
    "two heads of 24, 188 neurons": ((2, 24), 188),
    "no heads, 284 neurons": ((0, 0), 284),
}
"""A quarter of the FLOPs of six heads of 32 and 768 neurons, spent in other ways: heads of a layer, their width, and neurons."""
GROUPS = {
    "aten::addmm": "linear maps",
    "aten::mkldnn_convolution": "convolution",
    "aten::_scaled_dot_product_flash_attention_for_cpu": "attention's kernel",
    "aten::native_layer_norm": "layer norms",
    "aten::gelu": "activation",
}
Passes = Mapping[str, Callable[[], object]]


class Given(nn.Module):
    """Stands in for a module: answers with what was computed before, whatever it is asked."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, *_: Any, **__: Any) -> Any:
        return self.answer


def processor_times(passes: Passes, seconds: float) -> NDArray[np.float64]:
    """Milliseconds of this process's time, (rounds, passes), after two passes each."""
    draw = np.random.default_rng(0)
    rounds: list[NDArray[np.float64]] = []
    gc.collect()
    gc.disable()
    try:
        with torch.inference_mode():
            for _ in range(2):
                for run in passes.values():
                    run()
            runs, until = list(passes.values()), time.monotonic() + seconds
            while len(rounds) < ROUNDS[0] or (time.monotonic() < until and len(rounds) < ROUNDS[1]):
                row = np.empty(len(runs))
                for which in draw.permutation(len(runs)).tolist():
                    start = time.process_time()
                    runs[which]()
                    row[which] = (time.process_time() - start) * 1e3
                rounds.append(row)
    finally:
        gc.enable()
    return np.array(rounds)


def compared(title: str, passes: Passes, seconds: float, promises: Mapping[str, float] | None = None) -> None:
    """Print medians, and how many times as fast as the first pass of the same rounds each is."""
    times = processor_times(passes, seconds)
    print(
        f"\n{title}, {len(times)} rounds\n\n| | ms | times as fast | of promise | share of the first |\n|---|---:|---:|---:|---:|"
    )
    for number, name in enumerate(passes):
        ratio = float(np.median(times[:, 0] / times[:, number]))
        promise = (promises or {}).get(name)
        cells = f"{np.median(times[:, number]):.2f} | {ratio:.2f} | {f'{ratio / promise:.2f}' if promise else '—'}"
        print(f"| {name} | {cells} | {np.median(times[:, number] / times[:, 0]):.1%} |", flush=True)


def with_layers(loaded: LoadedModel, file: Path) -> nn.Module:
    """The same model, its attentions of the classes in another `pruned_layers.py`."""
    # A package, since the file may import what lies beside it.
    sys.modules["layers_beside"] = package = ModuleType("layers_beside")
    package.__path__ = [str(file.parent)]
    layers = importlib.import_module(f"layers_beside.{file.stem}")
    model = copy.deepcopy(loaded.model)
    sites = loaded.model_spec.layout_of(model).attention
    for site, widths in zip(sites, loaded.widths.layers, strict=True):
        attention: Any = model.get_submodule(site.module)
        attention.__class__ = attention.made_of[1]
        layers.narrow_attention(attention, attention_entry(site, widths))
    return model


def traced(model: nn.Module, inputs: Inputs) -> Callable[[], object]:
    """The same operators in the same order, by torch's interpreter: no module, no hook and no line of Python is run."""
    names = list(inputs)
    values = tuple(inputs[name] for name in names)
    with torch.inference_mode():
        made = torch.jit.trace(
            lambda *given: model(**dict(zip(names, given, strict=True))).logits, values, check_trace=False
        )
    return partial(made, *values)


def floors(bench: Bench, stock: nn.Module, inputs: Inputs) -> dict[str, Callable[[], object]]:
    """The stock model with less and less of its blocks run."""
    layout = bench.setup.dense.model_spec.layout_of(bench.setup.dense.model)
    site, batch = layout.attention[0].shape, len(next(iter(inputs.values())))

    def states(width: int) -> Tensor:
        return torch.randn(batch, site.queries, width)

    free, none, bare = (copy.deepcopy(stock) for _ in range(3))
    for attention in layout.attention:
        module: Any = free.get_submodule(attention.module)
        module.head_dim = NARROW
        for side, path in attention.projections().items():
            free.set_submodule(path, Given(states(site.hidden if side == "o" else NARROW * site.heads)))
        none.set_submodule(attention.module, Given((states(site.hidden), None)))
    for block in layout.feed_forward:
        free.set_submodule(block.first, Given(states(NARROW)))
        free.set_submodule(block.second, Given(states(site.hidden)))
        none.set_submodule(block.first.rpartition(".")[0], Given(states(site.hidden)))
    kept: Any = bare.get_submodule(bench.setup.dense.model.base_model_prefix)
    kept.layers = nn.ModuleList()
    return {
        "dense, stock": lambda: stock(**inputs),
        "no products of q, k, v, o and neurons, heads 4 wide": lambda: free(**inputs),
        "no attention, no feed-forward block": lambda: none(**inputs),
        "no layers": lambda: bare(**inputs),
    }


def shaped(dense: LoadedModel, heads: int, width: int, neurons: int) -> LoadedModel:
    """The first heads, channels and neurons of every layer: what a model of that shape takes, whatever it answers."""
    head = tuple(range(width))
    kept = Selection(
        (tuple(KeptHead(number, head, head) for number in range(heads)),) * len(dense.widths.layers),
        (tuple(range(neurons)),) * len(dense.widths.feed_forward),
    )
    model = cut(dense.model, dense.model_spec, dense.widths, kept.heads, kept.neurons)
    return replace(dense, model=model, widths=kept.widths(dense.widths))


def operators(name: str, model: nn.Module, inputs: Inputs, passes: int = 60) -> None:
    """Print what operators themselves take by torch's profiler, of every call the median over passes."""
    with torch.inference_mode(), profile(activities=[ProfilerActivity.CPU]) as profiled:
        for _ in range(passes):
            model(**inputs)
    # Every pass makes the same calls: neighbours at work lengthen a few of them, which a median leaves out.
    events = sorted(profiled.events(), key=lambda event: event.time_range.start)
    calls = np.array([event.self_cpu_time_total for event in events]).reshape(passes, -1)
    medians: dict[str, float] = defaultdict(float)
    for event, microseconds in zip(events, np.median(calls, axis=0), strict=False):
        medians[GROUPS.get(event.key, "views, sums, copies and the rest")] += microseconds
    said = ", ".join(
        f"{group} {spent / 1e3:.2f}" for group, spent in sorted(medians.items(), key=lambda pair: -pair[1])
    )
    print(f"{name}: {calls.shape[1]} operators, {sum(medians.values()) / 1e3:.2f} ms: {said}", flush=True)


def parts(tokens: int, hidden: int, heads: int, batch: int) -> dict[str, Callable[[], object]]:
    """Products of one layer by their widths, and attention by the fused kernel and written out."""
    states = torch.randn(batch, tokens, hidden)
    found: dict[str, Callable[[], object]] = {}
    for width in (24, 48, 72, 96, 192, 384, 768):
        found[f"linear {hidden} to {width}"] = partial(functional.linear, states, *linear(hidden, width))
    for width in (24, 72):
        found[f"q, k, v of {width}, three calls"] = partial(_in_three, states, [linear(hidden, width) for _ in "qkv"])
        found[f"q, k, v of {width}, one call"] = partial(_in_one, states, linear(hidden, 3 * width))
    for some in (heads, heads // 2, 1):
        for width in (4, 8, 12, 16, 24, 32):
            query, key, value = (torch.randn(batch, tokens, some, width).transpose(1, 2) for _ in "qkv")
            name = f"attention, {some} heads of {width}"
            found[f"{name}, fused"] = partial(functional.scaled_dot_product_attention, query, key, value)
            found[f"{name}, written out"] = partial(written_out, query, key, value)
    return found


def _in_three(states: Tensor, maps: list[tuple[Tensor, Tensor]]) -> list[Tensor]:
    return [functional.linear(states, *each) for each in maps]


def _in_one(states: Tensor, together: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    return functional.linear(states, *together).chunk(3, -1)


def linear(inputs: int, outputs: int) -> tuple[Tensor, Tensor]:
    """Weight and bias of a linear map."""
    return torch.randn(outputs, inputs), torch.randn(outputs)


def written_out(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention by two products and a softmax."""
    return torch.softmax(query @ key.transpose(2, 3) * query.shape[-1] ** -0.5, -1) @ value


def _repeated(run: Callable[[], object], times: int = 10) -> Callable[[], object]:
    return lambda: [run() for _ in range(times)]


def main() -> None:
    """Print the tables that are asked for, of batches of one and of eight."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True, help="where features are kept, from run to run")
    parser.add_argument("--seconds", type=float, default=30.0, help="of timing, a table and batch size")
    parser.add_argument("--beside", type=Path, help="another pruned_layers.py to time the cuts with as well")
    parser.add_argument("--only", nargs="+", default=["models", "floor", "shapes", "operators", "parts"])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    setup = load_setup(
        arguments.model, arguments.data, arguments.cache, device="cpu", calibration_samples=512, measured_samples=None
    )
    bench, shape = Bench(setup, None), setup.described.shape
    stock = load_stock(arguments.model, setup.dense.model_spec).eval()
    cuts: dict[str, LoadedModel] = {}
    if {"models", "operators"} & set(arguments.only):
        cuts = {name: bench.cut(TIMED[name]) for name in CUTS}
    dense_flops = accounting.total_flops(shape, shape.dense)
    promises = {name: dense_flops / accounting.total_flops(shape, made.widths) for name, made in cuts.items()}
    models = {"dense, stock": stock, "dense": setup.dense.model}
    for name, made in cuts.items():
        models[name] = made.model
        if arguments.beside is not None:
            models[f"{name}, beside"] = with_layers(made, arguments.beside)
            promises[f"{name}, beside"] = promises[name]
    for model in models.values():
        model.requires_grad_(False)
    for batch in (1, 8):
        inputs = inputs_of(setup.split(Split.VALIDATION), batch, stock, setup.device)
        passes: dict[str, Callable[[], object]] = {}
        if "models" in arguments.only:
            for name, model in models.items():
                passes[name] = partial(model, **inputs)
                passes[f"{name}, without Python"] = traced(model, inputs)
                promises[f"{name}, without Python"] = promises.get(name, 1.0)
            compared(f"Models, batch {batch}", passes, arguments.seconds, promises)
        if "floor" in arguments.only:
            compared(f"Floor, batch {batch}", floors(bench, stock, inputs), arguments.seconds)
        if "shapes" in arguments.only:
            others = {name: shaped(setup.dense, *heads, neurons) for name, (heads, neurons) in SHAPES.items()}
            promises |= {
                name: dense_flops / accounting.total_flops(shape, other.widths) for name, other in others.items()
            }
            passes = {"dense, stock": partial(stock, **inputs)}
            passes |= {name: partial(other.model, **inputs) for name, other in others.items()}
            compared(f"Shapes, batch {batch}", passes, arguments.seconds, promises)
        if "operators" in arguments.only:
            print(f"\nOperators, batch {batch}\n")
            for name, model in models.items():
                operators(name, model, inputs)
        if "parts" in arguments.only:
            first = shape.attention[0]
            single = parts(first.queries, first.hidden, first.heads, batch)
            times = processor_times({name: _repeated(run) for name, run in single.items()}, arguments.seconds)
            print(f"\nParts of a layer, batch {batch}, {len(times)} rounds\n\n| | µs |\n|---|---:|")
            for name, spent in zip(single, np.median(times, axis=0) / 10 * 1e3, strict=True):
                print(f"| {name} | {spent:.0f} |")


if __name__ == "__main__":
    main()
