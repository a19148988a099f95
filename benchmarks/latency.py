"""What a cut buys in time, beside what its FLOPs promise: dense and cut models in turn, in one run.

A random AST (12 layers, 768 wide, 12 heads of 64, or 6 layers, 192 wide, 6 heads of 32 with `--shape small`) is cut by 50% of
its attention parameters at every granularity, globally, and with `--halved` of all its FLOPs, by one ranking of attention's
channels and feed-forward neurons. Scores are random too, but as uneven as real ones: every layer,
side and head has its own scale, so a global ranking leaves widths that differ between layers, between QK and VO and, where
heads may be ragged, between heads. In every round all models run once, in changing order, and each is divided into the
stock dense model's time of that round; printed is the median over rounds, with its 95% interval. The engine's own class,
dense, is the noise floor: a cut whose interval meets its is not measurably faster or slower. With
one thread the process's own time stands
beside the clock's: neighbours disturb it less.

    python -m benchmarks.latency [--threads 1] [--batch 1 8] [--tokens 146 1214] [--shape base] [--device cpu] [--quick]
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import ASTConfig, ASTForAudioClassification, PreTrainedModel

from api_schemas.enums import Granularity
from api_schemas.results.widths import AttentionWidths
from api_schemas.spec.pruning import Pruning
from benchmarks.race.machine import describe
from checkpoints.families.audio.ast import AST
from checkpoints.sizes import accounting
from checkpoints.sizes.shape import ModelShape
from worker.engine.data.split import Inputs
from worker.engine.latency.paired import median_interval
from worker.engine.latency.timing import forward, timing_mode
from worker.engine.models.model_spec import ModelSpec, build, move_model
from worker.engine.pruning.surgery import cut
from worker.engine.pruning.targets import selection_for
from worker.engine.scoring import LayerScores, NeuronScores

SPARSITY = 0.5
GOAL = 0.85
"""Least speed-up over what the FLOPs promise, for GOVERNED, at every batch size."""
GOVERNED = (Granularity.ENTIRE_HEAD, Granularity.PER_HEAD)
SPREAD = {"layer": 0.25, "head": 0.8}
"""Standard deviation of the logarithm of scales: of a layer's QK or VO side, and of a head."""
SHAPES = {
    "base": {"num_hidden_layers": 12, "hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072},
    "tiny": {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 48},
    "small": {"num_hidden_layers": 6, "hidden_size": 192, "num_attention_heads": 6, "intermediate_size": 768},
}
HALVED: Mapping[str, Any] = {
    "granularity": "per_head", "target": {"flops": SPARSITY}, "parts": ["attention", "feed_forward"], "align": 8,
}  # fmt: skip
MIN_ROUNDS, MAX_ROUNDS = 3, 40


@dataclass(frozen=True)
class Contestant:
    """A model to time, and how many times fewer FLOPs than the dense one it has."""

    name: str
    model: PreTrainedModel
    promise: float
    widths: AttentionWidths


def uneven_scores(widths: AttentionWidths, seed: int) -> tuple[LayerScores, ...]:
    """Scores of single channels: exponential draws, times a scale of their layer and side, times one of their head.

    One head in ten says next to nothing.
    """
    draw = np.random.default_rng(seed)

    def side(of_heads: Sequence[int], heads: NDArray[np.float64]) -> tuple[Tensor, ...]:
        scale = np.exp(heads + draw.normal(scale=SPREAD["layer"]))
        return tuple(torch.from_numpy(s * draw.exponential(size=n)) for s, n in zip(scale, of_heads, strict=True))

    scores = []
    for layer in widths.layers:
        heads = draw.normal(scale=SPREAD["head"], size=layer.heads) - 5.0 * (draw.random(layer.heads) < 0.1)
        scores.append(LayerScores(side(layer.qk, heads), side(layer.vo, heads)))
    return tuple(scores)


def uneven_neurons(widths: AttentionWidths, seed: int) -> tuple[NeuronScores, ...]:
    """Scores of neurons: exponential draws, times a scale of their block."""
    draw = np.random.default_rng(seed)
    scales = np.exp(draw.normal(scale=SPREAD["layer"], size=len(widths.feed_forward)))
    blocks = (scale * draw.exponential(size=count) for scale, count in zip(scales, widths.feed_forward, strict=True))
    return tuple(NeuronScores(LayerScores((), (torch.from_numpy(block),))) for block in blocks)


def contestants(
    shape: str, tokens: int, cuts: Mapping[str, Mapping[str, Any]], device: torch.device, dtype: torch.dtype
) -> list[Contestant]:
    """The stock dense model first, then the engine's class dense, and cut in each of the ways of `cuts`."""
    torch.manual_seed(0)
    # 12 patches high, at a stride of 10 mel bins; two special tokens.
    frames = ((tokens - 2) // 12 - 1) * 10 + 16
    config = ASTConfig.from_dict({"max_length": frames, "id2label": dict.fromkeys(range(35), "word"), **SHAPES[shape]})
    stock = ASTForAudioClassification(config).eval()
    kind = ModelSpec(AST, "ASTForAudioClassification")
    layout = kind.layout(config.to_dict())
    inside = sum(p.numel() for name, p in stock.named_parameters() if ".attention." in name or ".mlp." in name)
    described = ModelShape(
        attention=tuple(site.shape for site in layout.attention),
        feed_forward=tuple(site.shape for site in layout.feed_forward),
        other_parameters=sum(p.numel() for p in stock.parameters()) - inside,
        other_flops=layout.other_flops,
        bytes_per_parameter=4,
    )
    assert described.attention[0].queries == tokens, f"{tokens} tokens are not 12 n + 2"
    dense_widths = described.dense
    dense = build(kind, config.to_dict(), dense_widths, stock.state_dict())
    found = [Contestant("dense, stock", stock, 1.0, dense_widths), Contestant("dense", dense, 1.0, dense_widths)]
    scores, neurons = uneven_scores(dense_widths, seed=0), uneven_neurons(dense_widths, seed=0)
    for name, asked in cuts.items():
        pruning = Pruning.model_validate({"preset": "paper", "criterion": "random", **asked})
        kept = selection_for(scores, dense_widths, described, pruning, share=pruning.target.share, neurons=neurons)
        widths = kept.widths(dense_widths)
        promise = accounting.total_flops(described, dense_widths) / accounting.total_flops(described, widths)
        model = cut(dense, kind, dense_widths, kept.heads, kept.neurons)
        found.append(Contestant(name, model, promise, widths))
    for each in found:
        move_model(move_model(each.model, dtype), device)
    return found


def timed(models: Sequence[nn.Module], inputs: Inputs, seconds: float) -> NDArray[np.float64]:
    """Clock and process time in milliseconds, (rounds, models, 2): as many rounds as fit, within limits."""
    passes: list[Callable[[], object]] = [forward(model, inputs) for model in models]
    rounds: list[list[tuple[float, float]]] = []
    with timing_mode(*models):
        for run in passes:  # kernels are chosen, caches filled
            run()
        until = time.monotonic() + seconds
        while len(rounds) < MIN_ROUNDS or (time.monotonic() < until and len(rounds) < MAX_ROUNDS):
            row = [(0.0, 0.0)] * len(passes)
            for turn in range(len(passes)):
                which = (turn + len(rounds)) % len(passes)
                start = time.perf_counter(), time.process_time()
                passes[which]()
                row[which] = ((time.perf_counter() - start[0]) * 1e3, (time.process_time() - start[1]) * 1e3)
            rounds.append(row)
    return np.array(rounds)


def measure(found: Sequence[Contestant], tokens: int, batch: int, inputs: Inputs, seconds: float) -> dict[str, Any]:
    """One batch size, printed as a table."""
    times = timed([each.model for each in found], inputs, seconds)
    with_cpu = next(iter(inputs.values())).device.type == "cpu" and torch.get_num_threads() == 1
    clocks = ("wall", "cpu") if with_cpu else ("wall",)
    print(f"\n{tokens} tokens, batch {batch}, {len(times)} rounds\n")
    print("| model | ms (median) | FLOPs promise | " + " | ".join(f"speed-up, {c} | of promise" for c in clocks) + " |")
    print("|---|" + "---:|" * (2 + 2 * len(clocks)))
    rows = []
    for number, each in enumerate(found):
        milliseconds = np.median(times[:, number], axis=0)
        ratios = times[:, 0] / times[:, number]
        row: dict[str, Any] = {
            "model": each.name,
            "ms": round(float(milliseconds[0]), 2),
            "promise": round(each.promise, 3),
        }
        cells = []
        for which, clock in enumerate(clocks):
            value, (low, high) = float(np.median(ratios[:, which])), median_interval(ratios[:, which])
            row |= {f"speedup_{clock}": round(value, 3), f"ratio_{clock}": round(value / each.promise, 3)}
            row[f"interval_{clock}"] = [round(low, 3), round(high, 3)]
            cells.append(f"{value:.2f} ({low:.2f} to {high:.2f}) | {value / each.promise:.2f}")
        rows.append(row)
        print(f"| {each.name} | {milliseconds[0]:.1f} | {each.promise:.2f} | " + " | ".join(cells) + " |", flush=True)
    return {"tokens": tokens, "batch": batch, "rounds": len(times), "models": rows}


def main() -> None:
    """Print a table a case, the widths that were cut to, and everything as JSON on the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--tokens", type=int, nargs="+", default=[146, 1214], help="12 n + 2: 146 is a second of sound")
    parser.add_argument("--shape", choices=SHAPES, default="base")
    parser.add_argument("--granularity", type=Granularity, nargs="+", default=list(Granularity))
    parser.add_argument("--align", type=int, nargs="+", choices=[1, 4, 8, 16], default=[1])
    parser.add_argument("--halved", action="store_true", help="also a cut to half of all FLOPs")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--seconds", type=float, default=120.0, help="of timing, a case")
    parser.add_argument("--quick", action="store_true", help="146 tokens, 20 seconds a case")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.quick:
        arguments.tokens, arguments.seconds = [146], 20.0
    device, dtype = torch.device(arguments.device), getattr(torch, arguments.dtype)
    cases = []
    half = {"target": {"attention_sparsity": SPARSITY}}
    cuts: dict[str, Mapping[str, Any]] = {
        name.value if align == 1 else f"{name.value}, align {align}": half | {"granularity": name, "align": align}
        for name in arguments.granularity
        for align in arguments.align
    }
    if arguments.halved:
        cuts["halved"] = HALVED
    for tokens in arguments.tokens:
        found = contestants(arguments.shape, tokens, cuts, device, dtype)
        for each in found[2:]:
            pairs = (f"{layer.heads}h {layer.qk_total}/{layer.vo_total}" for layer in each.widths.layers)
            print(f"{each.name}: heads, QK/VO channels by layer: {', '.join(pairs)}")
        config = found[0].model.config
        for batch in arguments.batch:
            generator = torch.Generator().manual_seed(batch)
            features = torch.randn(batch, config.max_length, config.num_mel_bins, generator=generator)
            inputs = {"input_values": features.to(device, dtype)}
            cases.append(measure(found, tokens, batch, inputs, arguments.seconds))
    rows = [row for case in cases for row in case["models"]]
    clock = "cpu" if "ratio_cpu" in rows[0] else "wall"
    governed = [row[f"ratio_{clock}"] for row in rows if row["model"] in [each.value for each in GOVERNED]]
    least = min(governed, default=None)
    slowest = min(row[f"speedup_{clock}"] for row in rows if not row["model"].startswith("dense"))
    print(f"\nby {clock} time: least speed-up over promise of entire_head and per_head {least} (goal {GOAL}),", end=" ")
    print(f"least speed-up of any cut {slowest}")
    print(
        json.dumps(
            {
                "shape": arguments.shape, "dtype": arguments.dtype, "machine": describe(device), "cases": cases,
                "clock": clock, "least_ratio": least, "goal": GOAL, "goal_met": least and least >= GOAL,
                "least_speedup": slowest,
            }
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
