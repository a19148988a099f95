"""Tokens may go between the layers of a cut model as between those of the original: the page on it, and which classes bear it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.families.examples import Example
from benchmarks.families.reference import answer, assert_near, cut_by, dense, keeps, masked
from benchmarks.families.tiny_models import MODELS
from tests.support.snippets import ROOT, blocks

BY_ID = {tiny.id: tiny for tiny in MODELS}
PAGE: dict[str, Any] = {}
for _block in blocks(ROOT / "docs" / "howto" / "fewer-tokens.md"):
    if "def " in _block.text:
        exec(_block.text.partition("\n\n\ndense = ")[0], PAGE)


def first_half(_module: nn.Module, _inputs: object, output: Any) -> Any:
    """A hook between two layers."""
    states: Tensor = output[0] if isinstance(output, tuple) else output
    fewer = states[:, : 1 + states.shape[1] // 2]
    return (fewer, *output[1:]) if isinstance(output, tuple) else fewer


def same_function(tiny: Example, place: Callable[[nn.Module], nn.Module], hook: Callable[..., Any]) -> None:
    """Cut and masked model give the same answers with the hook, and others without."""
    kind, stock, inputs = tiny.model_spec, tiny.stock(), tiny.inputs(3)
    whole = dense(kind, stock)
    kept = keeps(whole.widths)["no heads first"]
    narrow = cut_by(whole, kept).model
    with torch.inference_mode():
        all_tokens = answer(narrow, inputs)
        handles = [place(model).register_forward_hook(hook) for model in (stock, narrow)]
        with masked(kind, stock, kept):
            expected = answer(stock, inputs)
        assert_near(answer(narrow, inputs), expected)
        assert expected.shape == all_tokens.shape
        assert (expected - all_tokens).abs().max() > 1e-3
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize(
    ("name", "special"),
    [("ASTForAudioClassification", 2), ("DeiTForImageClassification", 2), ("ViTForImageClassification", 1)],
)
def test_behind_the_embeddings(name: str, special: int) -> None:
    same_function(BY_ID[name], lambda model: model.base_model.embeddings, PAGE["keep_tokens"](0.5, special))


def first_layer(tiny: Example) -> Callable[[nn.Module], nn.Module]:
    path = tiny.model_spec.layout(dict(tiny.stock().config.to_dict())).stacks[0][0]
    return lambda model: model.get_submodule(path)


@pytest.mark.parametrize(
    "name",
    [
        "ASTForAudioClassification",
        "ViTForImageClassification",
        *(f"{stock}ForSequenceClassification" for stock in ("Bert", "Roberta", "DistilBert")),
        *(f"{stock}ForSequenceClassification" for stock in ("Wav2Vec2", "Hubert", "Data2VecAudio", "SEW")),
        "WhisperForConditionalGeneration",
    ],
)
def test_between_two_layers(name: str) -> None:
    same_function(BY_ID[name], first_layer(BY_ID[name]), first_half)


@pytest.mark.parametrize("name", ["WavLMForSequenceClassification", "ClapAudioModel"])
def test_positions_between_tokens_do_not_bear_it(name: str) -> None:
    with pytest.raises((RuntimeError, ValueError)):
        same_function(BY_ID[name], first_layer(BY_ID[name]), first_half)


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_what_the_page_counts_is_what_torch_counts(share: float) -> None:
    tiny = BY_ID["ASTForAudioClassification"]
    whole = dense(tiny.model_spec, tiny.stock())
    narrow = cut_by(whole, keeps(whole.widths)["equal, neurons too"])
    narrow.model.set_attn_implementation("eager")
    narrow.model.base_model.embeddings.register_forward_hook(PAGE["keep_tokens"](share, 2))
    layers, counter = narrow.widths.layers, FlopCounterMode(display=False)
    with counter, torch.inference_mode():
        states = narrow.model.base_model(**tiny.inputs(1)).last_hidden_state
    of_stack = sum(
        sum(found.values())
        for name, found in counter.get_flop_counts().items()
        if name.endswith(tuple(f".layers.{number}" for number in range(len(layers))))
    )
    config = narrow.model.config
    expected = sum(
        PAGE["layer_flops"](states.shape[1], config.hidden_size, layer.qk_total, layer.vo_total, neurons)
        for layer, neurons in zip(layers, narrow.widths.feed_forward, strict=True)
    )
    assert of_stack == expected
