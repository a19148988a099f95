"""Example bodies for the documentation; a test submits them."""

from typing import Any

from fastapi.openapi.models import Example

_MODEL = {"type": "upload", "id": "mdl_aaaaaaaaaaaaaaaaaaaaaaaaaa"}
_DATASET = {"type": "upload", "id": "dst_aaaaaaaaaaaaaaaaaaaaaaaaaa"}


def _example(summary: str, value: dict[str, Any]) -> Example:
    return {"summary": summary, "value": {"model": _MODEL, "dataset": _DATASET, **value}}


JOB_EXAMPLES: dict[str, Example] = {
    "least": _example(
        "Minimal: half of the attention, with the default preset", {"pruning": {"target": {"attention_sparsity": 0.5}}}
    ),
    "paper": _example(
        "The paper's method: whole heads by Fisher information, one step per 10%, LoRA after each",
        {"pruning": {"preset": "paper", "target": {"attention_sparsity": 0.5}}},
    ),
    "fast_enough": _example(
        "20% less latency, at most one point less accuracy, and ONNX files",
        {
            "pruning": {"target": {"latency": 0.2}, "align": 8},
            "stop": {"max_drop": 0.01},
            "exports": ["onnx", "onnx_int8"],
        },
    ),
    "one_step": _example(
        "One cut of whole heads by magnitude, without recovery",
        {
            "name": "quick look",
            "pruning": {
                "preset": "paper",
                "target": {"attention_sparsity": 0.3},
                "granularity": "entire_head",
                "criterion": "magnitude",
                "schedule": {"steps": 1},
            },
            "finetune": None,
        },
    ),
    "channels": _example(
        "Channels of every head, QK and VO separately, with longer recovery",
        {
            "pruning": {
                "preset": "paper",
                "target": {"attention_sparsity": 0.6},
                "granularity": "per_head",
                "criterion": "fisher",
                "scope": "local",
            },
            "finetune": {"epochs": 5, "learning_rate": 3e-4, "lora": {"rank": 16}},
            "seed": 1,
        },
    ),
}


SWEEP_EXAMPLES: dict[str, Example] = {
    "paper": _example(
        "The paper's twelve methods, one cut each, without recovery",
        {
            "methods": "paper",
            "base": {
                "pruning": {"target": {"attention_sparsity": 0.5}, "schedule": {"steps": 1}},
                "finetune": None,
            },
        },
    ),
    "grid": _example(
        "A grid of targets and granularities",
        {
            "grid": {
                "pruning.target.attention_sparsity": [0.25, 0.5, 0.75],
                "pruning.granularity": ["head_and_width", "entire_head"],
            },
            "max_parallel": 2,
        },
    ),
    "specs": _example(
        "A list of specs",
        {
            "base": {"finetune": {"epochs": 1}},
            "specs": [
                {"name": "half of the attention", "pruning": {"target": {"attention_sparsity": 0.5}}},
                {
                    "name": "half of everything",
                    "pruning": {"target": {"flops": 0.5}, "parts": ["attention", "feed_forward"]},
                },
            ],
        },
    ),
}
