"""What the benchmark of memory makes of pages of a process, and of its runs."""

import os
from pathlib import Path

import psutil
import torch

from benchmarks.memory.page import page
from benchmarks.memory.service import Watched, growth
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


def test_a_page_says_what_the_processes_of_a_service_held_and_by_how_much_the_api_grew() -> None:
    mib = 2**20

    def row(held: int) -> dict[str, object]:
        return {
            "seconds": 12.3,
            "api": {"held": held * mib, "resident": 2 * held * mib, "children": 0},
            "maintenance": {"held": 90 * mib, "resident": 95 * mib, "children": 80 * mib},
        }

    found = {"idle": row(120), "uploading the model": row(170), "downloading the step": row(150)}
    assert growth(found) == 50 * mib
    run = {"shape": "tiny", "dtype": "bfloat16", "weights": 3 * 2**30, "shards": 4, "service": found}
    written = page({"through": {"command": "python -m benchmarks.memory --service", "runs": [run]}})
    assert "tiny, bfloat16: 3.00 GiB in 4 files. What the API held grew by 50 MiB at most." in written
    assert "| uploading the model | 12.3 | 170 | 340 | 90 | 80 |" in written


def test_processes_are_watched_by_what_is_being_done() -> None:
    own = psutil.Process()
    watched = Watched(own, own)
    with watched.looking():
        for what in ("uploading", "downloading", "uploading"):
            watched.begin(what)
            for process, peaks in watched.of.values():
                peaks.look(process)
    found = watched.found()
    assert list(found) == ["idle", "uploading", "downloading"]
    assert all(each["seconds"] >= 0 for each in found.values())
    assert 0 < found["uploading"]["api"]["held"] < found["uploading"]["api"]["resident"]


def test_a_shape_is_written_in_shards(tmp_path: Path) -> None:
    SHAPES["tiny"].write(tmp_path, "100KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    assert (tmp_path / "model.safetensors.index.json").is_file()
