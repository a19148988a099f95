"""What must hold of a cut model of any family, as functions of a stock model of transformers and its inputs."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from benchmarks.families.reference import answer, assert_near, cut_by, dense, keeps, masked, shape_of
from checkpoints.sizes import accounting
from worker.engine.data.split import Inputs
from worker.engine.models import pruned_layers
from worker.engine.models.model_spec import ModelSpec
from worker.engine.models.stock_tensors import as_pruned


def check_cut(kind: ModelSpec, stock: PreTrainedModel, inputs: Inputs, name: str, mask: Tensor | None = None) -> None:
    """A cut model says what the masked stock model says, fused and eager, alone and with padding: of tokens that are no padding,
    since what a token says whose whole window is padding differs between transformers' own ways of attention.
    """
    loaded = dense(kind, stock)
    kept = keeps(loaded.widths)[name]
    model = cut_by(loaded, kept).model
    calls = [inputs] if mask is None else [inputs, {**inputs, "attention_mask": mask}]
    with torch.inference_mode():
        for call in calls:
            with masked(kind, stock, kept) as reference:
                expected = answer(reference, call)
            # Some compute attention in one way only, whatever they are told.
            for way in ("sdpa", "eager") if model._supports_sdpa else ("eager",):
                model.set_attn_implementation(way)
                found = answer(model, call)
                real = call["attention_mask"].bool() if "attention_mask" in call else None
                if real is not None and real.shape == expected.shape[:2]:
                    found, said = found[real], expected[real]
                else:
                    said = expected
                assert_near(found, said)
            if name != "nothing cut":  # the zeros are real: the dense model says something else
                assert (answer(stock, call) - expected).abs().max() > 1e-2
    if mask is not None:
        with torch.inference_mode():
            padded, whole = (answer(stock, call) for call in reversed(calls))
        assert (padded[1] - whole[1]).abs().max() > 1e-3, "the mask changes nothing"


def check_gradients(kind: ModelSpec, stock: PreTrainedModel, inputs: Inputs, name: str) -> None:
    """Every weight that stays gets the gradient that it has in the masked stock model."""
    loaded = dense(kind, stock)
    kept = keeps(loaded.widths)[name]
    direction = torch.randn(answer(stock, inputs).shape, generator=torch.Generator().manual_seed(5))
    stock.zero_grad()
    with masked(kind, stock, kept) as reference:
        (answer(reference, inputs) * direction).sum().backward()
    layout = kind.layout(stock.config.to_dict())
    given = {path: parameter.grad for path, parameter in stock.named_parameters()}
    found = as_pruned({path: grad for path, grad in given.items() if grad is not None}, layout, loaded.widths)
    expected: dict[str, Any] = given | found
    for site, layer in zip(layout.attention, kept.heads, strict=True):
        for side, path in site.projections().items():
            # Of a projection of queries, or back from them, as many heads in a row as share one of keys.
            times = site.shape.queries_per_head if side in "qo" else 1
            rows = [
                (h.head * times + query) * site.shape.head_dim + channel
                for h in layer
                for query in range(times)
                for channel in (h.qk if side in "qk" else h.vo)
            ]
            for what in ("weight", "bias"):
                gradient = expected.get(f"{path}.{what}")
                if gradient is None or (side == "o" and what == "bias"):
                    continue
                expected[f"{path}.{what}"] = gradient[:, rows] if side == "o" else gradient[rows]
        if site.positions is not None and f"{site.positions}.weight" in expected:
            rows = [h.head * site.shape.head_dim + channel for h in layer for channel in h.qk]
            expected[f"{site.positions}.weight"] = expected[f"{site.positions}.weight"][rows]
    for pair, neurons in zip(layout.feed_forward, kept.neurons, strict=True):
        inner = [f"{path}.{what}" for path in (pair.first, pair.up) if path for what in ("weight", "bias")]
        for path in (path for path in inner if path in expected):
            expected[path] = expected[path][list(neurons)]
        expected[f"{pair.second}.weight"] = expected[f"{pair.second}.weight"][:, list(neurons)]
    for site, layer in zip(layout.attention, kept.heads, strict=True):
        for entry, dimension in site.per_head.items():
            path, heads = f"{site.module}.{entry}", torch.tensor([h.head for h in layer], dtype=torch.long)
            expected[path] = expected[path].index_select(dimension, heads)
    model = cut_by(loaded, kept).model
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


def check_flops(kind: ModelSpec, stock: PreTrainedModel, inputs: Inputs, name: str) -> None:
    """FLOPs and parameters of the accounts are those that torch counts. `inputs`: one, of the nominal length."""
    loaded, shape = dense(kind, stock), shape_of(kind, stock)
    smaller = cut_by(loaded, keeps(loaded.widths)[name])
    assert accounting.total_parameters(shape, smaller.widths) == sum(p.numel() for p in smaller.model.parameters())
    # The fused kernel's widths are padded. What is not eager gets the eager calls, and a kernel that takes them.
    smaller.model.set_attn_implementation("eager")
    for module in smaller.model.modules():
        if isinstance(module, pruned_layers.PrunedAttention):
            module.fused_calls = module.eager_calls
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        answer(smaller.model, inputs)
    assert accounting.total_flops(shape, smaller.widths) == counter.get_total_flops()


def _taps(part: nn.Module, name: str, given: dict[str, Tensor], handed_on: dict[str, Any]) -> list[RemovableHandle]:
    def enter(_module: nn.Module, args: Any, kwargs: Any) -> None:
        given[name] = args[0] if args else kwargs["hidden_states"]

    def leave(_module: nn.Module, _args: Any, output: Any) -> None:
        handed_on[name] = output

    return [part.register_forward_pre_hook(enter, with_kwargs=True), part.register_forward_hook(leave)]


def check_streams(kind: ModelSpec, stock: PreTrainedModel, inputs: Inputs) -> None:
    """What a block writes, added to what enters its stream module, is what the next norm reads or the layer hands on."""
    # The engine's model, whose projections all are modules that are called.
    layout, model = kind.layout(stock.config.to_dict()), dense(kind, stock).model
    for layer in (path for stack in layout.stacks for path in stack):
        sites = [(site.o, site.stream) for site in layout.attention if site.o.startswith(f"{layer}.")]
        sites += [(site.second, site.stream) for site in layout.feed_forward if site.second.startswith(f"{layer}.")]
        assert sites, layer
        given: dict[str, Tensor] = {}
        handed_on: dict[str, Any] = {}
        module = model.get_submodule(layer)
        handles = []
        for name, part in module.named_modules(prefix=layer):
            handles += _taps(part, name, given, handed_on)
        with torch.inference_mode():
            answer(model, inputs)
        for handle in handles:
            handle.remove()
        parts = module.named_modules(prefix=layer)
        norms = [given[name] for name, part in parts if type(part).__name__.endswith(("LayerNorm", "RMSNorm"))]
        output = handed_on[layer]
        # OPT takes the tokens of all samples as one list between its norm and its output.
        # In Phi's layers, whose blocks lie beside one another, both write to the stream at once, and one is fitted to it.
        beside = [handed_on[path].flatten(0, -2) for path, stream in sites if stream is None]
        sums = [one.flatten(0, -2) for one in (*norms, output[0] if isinstance(output, tuple) else output)]
        for path, stream in sites:
            if stream is None:
                continue
            total = (handed_on[path] + given[stream]).flatten(0, -2)
            totals = [total, *(total + other for other in beside if other.shape == total.shape)]
            assert any(
                own.shape == one.shape and torch.allclose(own, one, atol=1e-5) for own in totals for one in sums
            ), (
                path,
                stream,
            )
