"""Named starting points of a pruning spec, as plain data: they fill what the request leaves out."""

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    # arXiv 2509.26207: native channels, Fisher information on validation data, one global threshold, whole heads, steps of
    # 10% of the original attention parameters with LoRA between.
    "paper": {
        "granularity": "entire_head",
        "criterion": "fisher",
        "scope": "global",
        "balance": "joint",
        "schedule": {"shape": "linear"},
        "calibration": {"split": "validation", "samples": None},
    },
}
