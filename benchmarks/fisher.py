"""What a pass of observation costs: time and memory beside a plain forward and backward pass of the same samples.

A randomly initialised AST-base (12 layers, 768 wide, 12 heads), random inputs. Passes run in turn, round by round, and
each is divided by the plain pass of its own round; printed is the median over rounds. On the CPU the time is the process's
own (user and system), so that neighbours do not count; on a GPU it is the clock's. Memory is the growth of a fresh process's
peak over what it holds with model and inputs loaded. `plain` holds every parameter's gradient and the activations that they
take; `bare` is the same backward pass without any of them, so what a pass has over `bare` is kept for the observation alone.

    python -m benchmarks.fisher [--tokens 146 1214] [--batch 8 1] [--device cuda --autocast bfloat16] [--quick]
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import ASTConfig, ASTForAudioClassification, PreTrainedModel

from api_schemas.results.widths import AttentionWidths
from benchmarks.latency import SHAPES
from checkpoints.families.audio.ast import AST
from worker.engine.data.split import Inputs
from worker.engine.models.attention import AttentionBlock, attention_blocks, projections_by_name
from worker.engine.models.model_spec import ModelSpec, build, move_model
from worker.engine.runtime.precision import moment_dtype
from worker.engine.scoring import Statistic, observe
from worker.engine.tasks import Classification

CLASSES = 35
OBSERVED: dict[str, frozenset[Statistic]] = {
    "fisher": frozenset({Statistic.FISHER}),
    "gates": frozenset({Statistic.GATES}),
    "saliency": frozenset({Statistic.FISHER, Statistic.SALIENCY}),
    "moments": frozenset({Statistic.QK_MOMENTS, Statistic.CONTEXT}),
    "everything": frozenset(Statistic),
}
"""Passes of `observe`, by what they gather."""


class Case:
    """A model and samples, and the passes over them."""

    def __init__(
        self,
        tokens: int,
        batch: int,
        *,
        device: torch.device,
        autocast: torch.dtype | None = None,
        batches: int = 1,
        shape: str = "base",
    ) -> None:
        torch.manual_seed(0)
        self.device, self.batch, self.autocast = device, batch, autocast
        # 12 patches high, at a stride of 10 mel bins; two special tokens.
        frames = ((tokens - 2) // 12 - 1) * 10 + 16
        sizes = {"max_length": frames, "id2label": {n: str(n) for n in range(CLASSES)}, **SHAPES[shape]}
        config: ASTConfig = ASTConfig.from_dict(sizes)
        kind = ModelSpec(AST, "ASTForAudioClassification")
        layers, heads = config.num_hidden_layers, config.num_attention_heads
        widths = AttentionWidths.dense(layers, heads, config.hidden_size // heads, (config.intermediate_size,) * layers)
        stock = ASTForAudioClassification(config)
        self.model: PreTrainedModel = move_model(build(kind, config.to_dict(), widths, stock.state_dict()), self.device)
        self.blocks: tuple[AttentionBlock, ...] = attention_blocks(self.model, kind, widths)
        samples = batch * batches
        self.x = torch.randn(samples, frames, config.num_mel_bins, device=self.device)
        self.y = torch.randint(CLASSES, (samples,), device=self.device)

    def batches(self, size: int) -> list[tuple[Inputs, Tensor]]:
        """The samples in order."""
        parts = zip(self.x.split(size), self.y.split(size), strict=True)
        return [({"input_values": x}, y) for x, y in parts]

    @staticmethod
    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        """One loss a sample."""
        return Classification(several=False).loss(logits, targets)

    def backward(self, x: Inputs, y: Tensor) -> None:
        """Forward and backward."""
        with torch.autocast(self.device.type, self.autocast, enabled=self.autocast is not None):
            total = self.loss(self.model(**x).logits.float(), y).sum()
        total.backward()

    def plain(self) -> None:
        """Forward and backward, every parameter asking for its gradient."""
        self.model.requires_grad_(True)
        for x, y in self.batches(self.batch):
            self.model.zero_grad(set_to_none=True)
            self.backward(x, y)

    def bare(self) -> None:
        """Forward and backward without a parameter's gradient, from the first projections on, as an observation does."""
        self.model.requires_grad_(False)

        def begin(_module: nn.Module, args: tuple[Tensor, ...]) -> None:
            if not args[0].requires_grad:
                args[0].requires_grad_(True)

        handle = self.blocks[0].projections["q"].register_forward_pre_hook(begin)
        for x, y in self.batches(self.batch):
            self.backward(x, y)
        handle.remove()

    def loop(self) -> None:
        """Samples one by one, autograd's own gradients of the attention squared and added up."""
        linears = projections_by_name(self.blocks).values()
        self.model.requires_grad_(False)
        parameters = [p.requires_grad_(True) for linear in linears for p in linear.parameters()]
        sums = [torch.zeros_like(p) for p in parameters]
        for x, y in self.batches(1):
            self.model.zero_grad(set_to_none=True)
            self.backward(x, y)
            for total, parameter in zip(sums, parameters, strict=True):
                if parameter.grad is not None:
                    total.addcmul_(parameter.grad, parameter.grad)

    def observe(self, name: str) -> None:
        """One pass of observation."""
        wanted, moments = OBSERVED[name], moment_dtype(self.device)
        batches = self.batches(self.batch)
        observe(
            self.model,
            self.blocks,
            batches,
            self.loss,
            wanted,
            autocast=self.autocast,
            moments=moments,
            device=self.device,
        )

    def passes(self) -> dict[str, Callable[[], None]]:
        """Everything there is to time, by name."""
        observed = {name: (lambda name=name: self.observe(name)) for name in OBSERVED}
        return {"plain": self.plain, "bare": self.bare, **observed, "batch-1 loop": self.loop}

    def seconds(self, run: Callable[[], None]) -> float:
        """Time of one pass, the device's work included."""
        clock = time.process_time if self.device.type == "cpu" else time.perf_counter
        self.wait()
        start = clock()
        run()
        self.wait()
        taken = clock() - start
        self.model.zero_grad(set_to_none=True)
        return taken

    def wait(self) -> None:
        """Until the device has done what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def _case(arguments: argparse.Namespace, tokens: int, batch: int) -> Case:
    autocast = getattr(torch, arguments.autocast) if arguments.autocast else None
    device = torch.device(arguments.device)
    return Case(tokens, batch, device=device, autocast=autocast, batches=arguments.batches)


def resident(field: str) -> int:
    """VmRSS or VmHWM of this process in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(field)).split()[1])


def memory_of(case: Case, name: str) -> float:
    """Growth of the peak while one pass runs, in MB; on a GPU, of the device's memory."""
    case.model(case.x[:1])
    if case.device.type == "cuda":
        case.wait()
        torch.cuda.reset_peak_memory_stats(case.device)
        before = torch.cuda.memory_allocated(case.device)
        case.passes()[name]()
        return (torch.cuda.max_memory_allocated(case.device) - before) / 1e6
    # Building the model peaked higher than what is to be measured: the mark is set back (proc(5), clear_refs).
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    case.passes()[name]()
    return (resident("VmHWM") - before) / 1e6


def memory(arguments: argparse.Namespace, tokens: int, batch: int, names: list[str]) -> dict[str, float]:
    """Each pass in a fresh process of its own: a peak cannot be taken back."""
    found = {}
    for name in dict.fromkeys(names):
        command = [sys.executable, "-m", "benchmarks.fisher", "--tokens", str(tokens), "--batch", str(batch)]
        command += ["--batches", str(arguments.batches), "--device", arguments.device, "--memory-of", name]
        command += ["--threads", str(arguments.threads)]
        command += ["--autocast", arguments.autocast] if arguments.autocast else []
        # Freed tensors go back to the system at once; kept for reuse, they would hide what is allocated next.
        environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
        printed = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
        found[name] = float(printed.splitlines()[-1])
    return found


def measure(arguments: argparse.Namespace, tokens: int, batch: int) -> dict[str, object]:
    """Time and memory of one shape, printed as a table."""
    case = _case(arguments, tokens, batch)
    passes = {name: run for name, run in case.passes().items() if name in ESSENTIAL or not arguments.quick}
    case.bare()
    taken: dict[str, list[float]] = {name: [] for name in passes}
    for number in range(arguments.rounds):
        names = list(passes)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            taken[name].append(case.seconds(passes[name]))
    del case
    used = memory(arguments, tokens, batch, [name for name in ("bare", *passes) if name != "batch-1 loop"])
    ratios = {
        name: statistics.median(t / p for t, p in zip(taken[name], taken["plain"], strict=True)) for name in passes
    }
    print(f"\n{tokens} tokens, batches of {batch}, {arguments.batches} a pass, {arguments.rounds} rounds\n")
    print("| pass | seconds (median) | of plain | peak MB | over plain | over bare |\n|---|---:|---:|---:|---:|---:|")
    for name in passes:
        over = [used[name] - used[base] for base in ("plain", "bare")] if name in used else []
        peak = f"{used[name]:.0f} | {over[0]:+.0f} | {over[1]:+.0f}" if over else "| |"
        print(f"| {name} | {statistics.median(taken[name]):.2f} | {ratios[name]:.2f} | {peak} |", flush=True)
    return {
        "tokens": tokens,
        "batch": batch,
        "plain_seconds": round(statistics.median(taken["plain"]), 4),
        "ratio": {name: round(ratio, 3) for name, ratio in ratios.items()},
        "peak_mb": {name: round(value, 1) for name, value in used.items()},
        "over_bare_mb": {name: round(value - used["bare"], 1) for name, value in used.items()},
    }


ESSENTIAL = ("plain", "fisher", "everything", "batch-1 loop")
"""What is timed with --quick."""


def main() -> None:
    """Print a table a shape, and everything as JSON on the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, nargs="+", default=[146, 1214], help="12 n + 2: 146 is a second of sound")
    parser.add_argument("--batch", type=int, nargs="+", default=[8, 1], help="one for each of --tokens")
    parser.add_argument("--batches", type=int, default=1, help="batches a pass")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--autocast", help="bfloat16, say")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="three rounds, the first shape, the main passes")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.memory_of:
        case = _case(arguments, arguments.tokens[0], arguments.batch[0])
        print(memory_of(case, arguments.memory_of))
        return
    if arguments.quick:
        arguments.rounds = 3
        arguments.tokens, arguments.batch = arguments.tokens[:1], arguments.batch[:1]
    shapes = zip(arguments.tokens, arguments.batch, strict=True)
    gpu = torch.cuda.get_device_name() if arguments.device.startswith("cuda") else None
    head = {"torch": torch.__version__, "threads": arguments.threads, "machine": gpu or platform.machine()}
    cases = [measure(arguments, tokens, batch) for tokens, batch in shapes]
    print(json.dumps({**head, "device": arguments.device, "autocast": arguments.autocast, "cases": cases}))


if __name__ == "__main__":
    main()
