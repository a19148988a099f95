"""Latency of the dense model and of two cuts, by batch size and dtype: benchmarks.latency with the default's widths."""

from collections.abc import Mapping
from typing import Any

import torch

from benchmarks.gpu.sizes import Size
from benchmarks.latency import contestants
from benchmarks.latency import measure as measure_cuts

CUTS: Mapping[str, Mapping[str, Any]] = {
    f"{share:.0%} of attention": {
        "granularity": "head_and_width", "align": 8, "min_heads": 0, "target": {"attention_sparsity": share},
    }
    for share in (0.5, 0.75)
}  # fmt: skip
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def measure(size: Size, device: torch.device) -> list[dict[str, Any]]:
    """One entry a dtype, length and batch size, as benchmarks.latency has it; `shape tiny` is cut to any width."""
    cuts = CUTS if size.shape == "base" else {name: {**cut, "align": 1} for name, cut in CUTS.items()}
    cases = []
    for name, dtype in DTYPES.items():
        for tokens in size.latency_tokens:
            found = contestants(size.shape, tokens, cuts, device, dtype)
            config = found[0].model.config
            for batch in size.latency_batches:
                generator = torch.Generator().manual_seed(batch)
                features = torch.randn(batch, config.max_length, config.num_mel_bins, generator=generator)
                inputs = {"input_values": features.to(device, dtype)}
                cases.append({"dtype": name, **measure_cuts(found, tokens, batch, inputs, size.latency_seconds)})
    return cases
