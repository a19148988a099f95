"""How fast a device is, measured in about a second: encoder layers of several sizes, forward and backward, and a float64 product.

    python -m worker.engine.runtime.device_speed --device auto --threads 2

prints a line of JSON (checkpoints/sizes/device_speed.py). Of each the shortest of several calls counts, and on a single thread
its processor time: whatever else runs on the machine only makes calls longer. Shapes: B batch, T tokens, D model width.
"""

import argparse
import os
import sys
import threading
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from checkpoints.sizes.device_speed import DeviceSpeed, LayerTime
from worker.engine.runtime.precision import moment_dtype

SIZES = {"cpu": ((1, 8, 32), (8, 64, 96), (4, 128, 384)), "cuda": ((1, 8, 32), (8, 128, 384), (32, 256, 1024))}
"""(B, T, D) of the layers by kind of device: calls that cost little but being made, and products that fill the device."""
HEAD = 16
ROUNDS = 4
"""How often all of it is measured, one after another: a neighbour's burst of work then spoils one round alone."""
SECONDS = 0.03
"""Of each thing in a round, but at least CALLS calls."""
CALLS = 2
PRODUCT = (2048, 256)
"""Rows and columns of what is multiplied in float64, like the states of one batch in second moments."""


class Layer(nn.Module):
    """An encoder layer as most families have it, norms before the blocks."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.heads = hidden // HEAD
        self.norms = nn.ModuleList([nn.LayerNorm(hidden), nn.LayerNorm(hidden)])
        self.q, self.k, self.v, self.o = (nn.Linear(hidden, hidden) for _ in "qkvo")
        self.first, self.second = nn.Linear(hidden, 4 * hidden), nn.Linear(4 * hidden, hidden)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """(B, T, D) to the same."""
        split = (*x_BTD.shape[:2], self.heads, HEAD)
        normed = self.norms[0](x_BTD)
        query, key, value = (each(normed).view(split).transpose(1, 2) for each in (self.q, self.k, self.v))
        mixed = functional.scaled_dot_product_attention(query, key, value)
        x_BTD = x_BTD + self.o(mixed.transpose(1, 2).reshape(x_BTD.shape))
        hidden: Tensor = self.second(functional.gelu(self.first(self.norms[1](x_BTD))))
        return x_BTD + hidden


def layer_flops(batch: int, tokens: int, hidden: int) -> float:
    """Of a forward pass, counted as in checkpoints/sizes/accounting.py."""
    return float(batch * tokens * (24 * hidden**2 + 4 * tokens * hidden))


def shortest(run: Callable[[], object], device: torch.device, clock: Callable[[], float] | None = None) -> float:
    """Seconds of the shortest call, after one that is not counted."""
    if clock is None:
        alone = device.type == "cpu" and torch.get_num_threads() == 1
        clock = time.process_time if alone else time.perf_counter

    def timed() -> float:
        begun = clock()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return clock() - begun

    timed()
    times: list[float] = []
    while len(times) < CALLS or sum(times) < SECONDS:
        times.append(timed())
    return min(times)


def layer_calls(batch: int, tokens: int, hidden: int, device: torch.device) -> tuple[Callable[[], object], ...]:
    """A layer of this size, forward, and forward and backward."""
    layer, x_BTD = Layer(hidden).to(device), torch.randn(batch, tokens, hidden, device=device)

    def forward() -> None:
        with torch.inference_mode():
            layer(x_BTD)

    def training() -> None:
        layer.zero_grad(set_to_none=True)
        layer(x_BTD).sum().backward()

    return forward, training


def measure(device: torch.device) -> DeviceSpeed:
    """Everything, with as many threads as torch has now."""
    host, sizes = torch.device("cpu"), SIZES[device.type]
    rows, columns = PRODUCT
    matrix = torch.randn(rows, columns, dtype=moment_dtype(device), device=device)
    calls = [(run, device) for size in sizes for run in layer_calls(*size, device)]
    calls += [(lambda: matrix.mT @ matrix, device), (layer_calls(*SIZES["cpu"][0], host)[0], host)]
    rounds = [[shortest(run, where) for run, where in calls] for _ in range(ROUNDS)]
    *of_layers, product, host_call = map(min, zip(*rounds, strict=True))
    return DeviceSpeed(
        layers=tuple(
            LayerTime(flops=layer_flops(*size), forward=forward, training=training)
            for size, forward, training in zip(sizes, of_layers[::2], of_layers[1::2], strict=True)
        ),
        float64_flops=2.0 * rows * columns**2 / product,
        host_call=host_call,
    )


def follow_parent() -> None:
    """End this process, at once, when the pipe on its standard input is closed by its parent's death: a device that does not
    answer would keep it forever."""

    def wait() -> None:
        # Not sys.stdin: a thread that waits inside its lock makes the interpreter abort when it ends.
        while os.read(0, 1):
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True, name="parent-watch").start()


def main(arguments: list[str]) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--watch-stdin", action="store_true", help="exit when stdin closes: the parent is gone")
    given = parser.parse_args(arguments)
    if given.watch_stdin:
        follow_parent()
    torch.set_num_threads(given.threads)
    name = given.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    sys.stdout.write(measure(torch.device(name)).model_dump_json() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
