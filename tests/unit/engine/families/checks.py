"""What must hold for every model family, as functions of a stock model of transformers and its inputs.

The reference of a cut is the stock dense model with hooks: what is cut is zeroed where it leaves q and k, and where it enters o.
Nothing of the code under test is in it.
"""

import json
import random
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from api_schemas import accounting
from api_schemas.shape import ModelShape
from api_schemas.widths import AttentionWidths
from worker.engine.attention import attention_blocks
from worker.engine.checkpoint.load import Loaded
from worker.engine.data.split import Inputs
from worker.engine.models import Kind, build
from worker.engine.selection import HeadKeep, Keep, keep_all, widths_of
from worker.engine.surgery import cut


def answer(model: nn.Module, inputs: Inputs) -> Tensor:
    """Whatever a model answers with: logits, or what its embedding is made of."""
    output = model(**inputs)
    for name in ("logits", "audio_embeds", "last_hidden_state"):
        found: Tensor | None = getattr(output, name, None)
        if found is not None:
            return found
    raise AssertionError(f"{type(model).__name__} answers with {list(output)}")


def shape_of(kind: Kind, stock: PreTrainedModel) -> ModelShape:
    """The accounts of a stock model in memory."""
    layout = kind.layout(stock.config.to_dict())
    empty = ModelShape(
        attention=tuple(site.shape for site in layout.attention),
        feed_forward=tuple(site.shape for site in layout.feed_forward),
        other_parameters=0,
        other_flops=layout.other_flops,
        bytes_per_parameter=4,
    )
    blocks = accounting.total_parameters(empty, empty.dense)
    return empty.model_copy(update={"other_parameters": sum(p.numel() for p in stock.parameters()) - blocks})


def dense(kind: Kind, stock: PreTrainedModel) -> Loaded:
    """The engine's model of the same function: nothing is cut."""
    widths = shape_of(kind, stock).dense
    return Loaded(build(kind, stock.config.to_dict(), widths, stock.state_dict()), kind, widths, torch.float32)


def cut_by(loaded: Loaded, keep: Keep) -> Loaded:
    """A new one, smaller."""
    model = cut(loaded.model, loaded.kind, loaded.widths, keep)
    return replace(loaded, model=model, widths=widths_of(keep, loaded.widths))


def keeps(widths: AttentionWidths) -> dict[str, Keep]:
    """Every kind of cut, by name, of a dense model with these widths."""
    draw = random.Random(0)
    whole = keep_all(widths)

    def head(kept: HeadKeep, qk: int, vo: int) -> HeadKeep:
        return HeadKeep(kept.head, tuple(sorted(draw.sample(kept.qk, qk))), tuple(sorted(draw.sample(kept.vo, vo))))

    def ragged(layer: tuple[HeadKeep, ...]) -> tuple[HeadKeep, ...]:
        return tuple(head(kept, draw.randint(1, len(kept.qk)), draw.randint(1, len(kept.vo))) for kept in layer)

    def equal(layer: tuple[HeadKeep, ...], qk: int, vo: int) -> tuple[HeadKeep, ...]:
        return tuple(head(kept, qk, vo) for kept in layer)

    return {
        "whole heads": tuple(layer[number % 2 :: 2] for number, layer in enumerate(whole)),
        "ragged": tuple(map(ragged, whole)),
        "unequal sides": tuple(equal(layer, 3, 5) for layer in whole),
        "heads and channels": tuple(ragged(layer[1:]) for layer in whole),
        "no heads first": tuple(() if number == 0 else ragged(layer) for number, layer in enumerate(whole)),
        "no heads last": tuple(() if number == len(whole) - 1 else layer for number, layer in enumerate(whole)),
        "no heads at all": tuple(() for _ in whole),
        "equal": tuple(equal(layer[:3], 5, 5) for layer in whole),
        "nothing cut": whole,
    }


@contextmanager
def masked(kind: Kind, stock: PreTrainedModel, keep: Keep) -> Iterator[PreTrainedModel]:
    """The stock model with hooks that zero what `keep` leaves out, while the block lasts."""
    handles = []
    for site, kept in zip(kind.layout(stock.config.to_dict()).attention, keep, strict=True):
        qk_HK, vo_HK = torch.zeros(2, site.shape.heads, site.shape.head_dim)
        for h in kept:
            qk_HK[h.head, list(h.qk)] = 1
            vo_HK[h.head, list(h.vo)] = 1
        for path in (site.q, site.k):
            module = stock.get_submodule(path)
            handles.append(module.register_forward_hook(lambda _m, _i, out, mask=qk_HK: out * mask.flatten()))
        module = stock.get_submodule(site.o)
        handles.append(module.register_forward_pre_hook(lambda _m, args, mask=vo_HK: (args[0] * mask.flatten(),)))
    try:
        yield stock
    finally:
        for handle in handles:
            handle.remove()


def assert_near(found: Tensor, expected: Tensor, share: float = 1e-5) -> None:
    """The project's bound: a share of max(1, largest absolute value)."""
    assert found.shape == expected.shape
    error, bound = (found - expected).abs().max().item(), share * max(1.0, expected.abs().max().item())
    assert error <= bound, f"error {error:.3g}, bound {bound:.3g}"


def check_cut(kind: Kind, stock: PreTrainedModel, inputs: Inputs, name: str, mask: Tensor | None = None) -> None:
    """A cut model says what the masked stock model says, fused and eager, alone and with padding."""
    loaded = dense(kind, stock)
    keep = keeps(loaded.widths)[name]
    model = cut_by(loaded, keep).model
    calls = [inputs] if mask is None else [inputs, {**inputs, "attention_mask": mask}]
    with torch.inference_mode():
        for call in calls:
            with masked(kind, stock, keep) as reference:
                expected = answer(reference, call)
            model.set_attn_implementation("sdpa")
            assert_near(answer(model, call), expected)
            model.set_attn_implementation("eager")
            assert_near(answer(model, call), expected)
            if name != "nothing cut":  # the hooks are real: the dense model says something else
                assert (answer(stock, call) - expected).abs().max() > 1e-2
    if mask is not None:
        padded, whole = (answer(stock, call) for call in reversed(calls))
        assert (padded[1] - whole[1]).abs().max() > 1e-3, "the mask changes nothing"


def check_gradients(kind: Kind, stock: PreTrainedModel, inputs: Inputs, name: str) -> None:
    """Every weight that stays gets the gradient that it has in the masked stock model."""
    loaded = dense(kind, stock)
    keep = keeps(loaded.widths)[name]
    direction = torch.randn(answer(stock, inputs).shape, generator=torch.Generator().manual_seed(5))
    stock.zero_grad()
    with masked(kind, stock, keep) as reference:
        (answer(reference, inputs) * direction).sum().backward()
    expected = {path: parameter.grad for path, parameter in stock.named_parameters()}
    for block, layer in zip(attention_blocks(stock, kind, loaded.widths), keep, strict=True):
        for side, path in block.names.items():
            kept = [
                block.rows(side, h.head).start + channel for h in layer for channel in (h.qk if side in "qk" else h.vo)
            ]
            for what in ("weight", "bias"):
                gradient = expected.get(f"{path}.{what}")
                if gradient is None or (side == "o" and what == "bias"):
                    continue
                expected[f"{path}.{what}"] = gradient[:, kept] if side == "o" else gradient[kept]
    model = cut_by(loaded, keep).model
    (answer(model, inputs) * direction).sum().backward()
    largest = max(
        gradient.abs().max().item() for gradient in expected.values() if gradient is not None and gradient.numel()
    )
    for path, parameter in model.named_parameters():
        wanted = expected[path]
        if wanted is None:
            assert parameter.grad is None, path
            continue
        # Without heads, what only attention saw gets no gradient at all; the masked model's is zero.
        found = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        assert torch.allclose(found, wanted, rtol=0, atol=1e-5 * max(1.0, largest)), path


def check_flops(kind: Kind, stock: PreTrainedModel, inputs: Inputs, name: str) -> None:
    """FLOPs and parameters of the accounts are those that torch counts. `inputs`: one, of the nominal length."""
    loaded, shape = dense(kind, stock), shape_of(kind, stock)
    smaller = cut_by(loaded, keeps(loaded.widths)[name])
    assert accounting.total_parameters(shape, smaller.widths) == sum(p.numel() for p in smaller.model.parameters())
    smaller.model.set_attn_implementation("eager")  # the fused kernel's widths are padded
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        answer(smaller.model, inputs)
    assert accounting.total_flops(shape, smaller.widths) == counter.get_total_flops()


@dataclass(frozen=True)
class Packaged:
    """A folder that a stranger is to load, and what he should get."""

    folder: Path
    auto_class: str
    inputs: Inputs
    expected: Tensor


STRANGER = """
import json, sys
import torch, transformers
from safetensors.torch import load_file
torch.set_num_threads(1)
for line in sys.stdin.read().splitlines():
    folder, auto_class = json.loads(line)
    probe = load_file(folder + "/probe.safetensors")
    expected = probe.pop("expected")
    code = "auto_map" in json.load(open(folder + "/config.json"))
    try:
        model, info = getattr(transformers, auto_class).from_pretrained(
            folder, trust_remote_code=code, local_files_only=True, dtype=torch.float32, output_loading_info=True)
        problems = {kind: sorted(map(str, names)) for kind, names in info.items() if names}
        with torch.inference_mode():
            output = model.eval()(**probe)
        found = next(output[name] for name in ("logits", "audio_embeds", "last_hidden_state") if name in output)
        result = {"error": (found - expected).abs().max().item(), "problems": problems, "code": code}
    except Exception as error:
        result = {"error": None, "problems": repr(error), "code": code}
    print(json.dumps([folder, result]))
"""


def load_as_strangers(packages: Sequence[Packaged], scratch: Path) -> Mapping[str, dict[str, Any]]:
    """One fresh, isolated process loads every folder with transformers alone: largest error, complaints, whether code was needed."""
    for package in packages:
        probe = {**package.inputs, "expected": package.expected}
        save_file({name: tensor.contiguous() for name, tensor in probe.items()}, package.folder / "probe.safetensors")
    run = subprocess.run(
        [sys.executable, "-I", "-c", STRANGER],
        input="\n".join(json.dumps([str(package.folder), package.auto_class]) for package in packages),
        env={"HOME": str(scratch), "HF_HOME": str(scratch), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    results = dict(json.loads(line) for line in run.stdout.splitlines() if line.startswith("["))
    for package in packages:
        found = results[str(package.folder)]
        assert not found["problems"], (package.folder.name, found)
        bound = 1e-5 * max(1.0, package.expected.abs().max().item())
        assert found["error"] <= bound, (package.folder.name, found)
    return results
