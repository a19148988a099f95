"""What the benchmark of memory makes of pages of a process, and of its runs."""

import os

import torch

from benchmarks.memory.page import page
from benchmarks.memory.shapes import SHAPES
from benchmarks.memory.watch import _pages, most


def test_pages_are_told_apart_and_a_process_that_ended_holds_none() -> None:
    held, resident = _pages(os.getpid())
    assert 0 < held < resident
    assert _pages(2**31 - 1) == (0, 0)


def test_a_page_says_what_was_held_beside_the_goal() -> None:
    gib = 2**30
    phase = {"held": gib, "resident": 3 * gib, "children": gib, "together": 2 * gib, "processor": 7.4}
    run = {
        "shape": "ast-base", "dtype": "float32", "weights": gib // 2, "goal": 2 * gib, "held": gib, "together": 2 * gib,
        "resident": 3 * gib, "said": {"host": gib}, "base": gib // 4, "tensor_bytes": gib,
        "phases": {"scoring": phase, "pruning": phase | {"held": gib // 4}},
    }  # fmt: skip
    assert most(run, "held") == gib
    written = page({"now": {"command": "python -m benchmarks.memory", "runs": [run]}})
    assert "| ast-base, float32 | 0.50 | 2.00 | 1.00 | 2.00 | 3.00 | 1.00 | 2.00 | 0.75 |" in written
    assert "| ast-base, pruning | 0.25 | 2.00 | 7 |" in written


def test_fewer_layers_are_fewer_of_an_encoder_and_of_a_decoder() -> None:
    config = SHAPES["whisper-large-v3"].cut_to(3).config
    assert (config["encoder_layers"], config["decoder_layers"], config["d_model"]) == (3, 3, 1280)
    assert SHAPES["ast-base"].cut_to(2).config["num_hidden_layers"] == 2
    assert SHAPES["whisper-large-v3"].dtype is torch.bfloat16
