"""Small random models of the families whose attention is more than scores and softmax, and what the tests do with them.

The reference is transformers' own class with zeros where something is to be cut: rows of q, k and v with their biases, columns of
o. Nothing of the code under test is in it.
"""

import copy
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import WhisperConfig

from api_schemas.families import family_of
from api_schemas.widths import AttentionWidths
from worker.engine.attention import AttentionBlock, attention_blocks
from worker.engine.checkpoint.load import Loaded
from worker.engine.data.split import Inputs
from worker.engine.models import Kind, build
from worker.engine.selection import HeadKeep, Keep, keep_all, widths_of
from worker.engine.surgery import cut


@dataclass(frozen=True)
class Case:
    """A family's class, small."""

    name: str
    config: Any
    inputs: Callable[[int, int], Inputs]
    """Samples and seed to a batch."""
    answers: Callable[[Any], Tensor]
    """Of the model's output."""
    call: dict[str, Any]
    """What else the model is called with."""

    @property
    def kind(self) -> Kind:
        family = family_of(self.config.model_type)
        assert family is not None
        return Kind(family, self.name)

    def __call__(self, model: nn.Module, inputs: Inputs) -> Tensor:
        return self.answers(model(**inputs, **self.call))


class Answering(nn.Module):
    """A model whose output's `logits` are the case's answers."""

    def __init__(self, case: Case, model: nn.Module) -> None:
        super().__init__()
        self.case, self.model = case, model

    def forward(self, **inputs: Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.case(self.model, inputs))


def normal(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


MELS, SOURCE, WORDS, TEXT = 8, 20, 60, 9


def whisper_inputs(samples: int, seed: int, tokens: int = TEXT) -> Inputs:
    ids = torch.randint(4, WORDS, (samples, tokens), generator=torch.Generator().manual_seed(seed))
    return {"input_features": normal((samples, MELS, 2 * SOURCE), seed), "decoder_input_ids": ids}


def whisper_config(**changes: Any) -> WhisperConfig:
    values = {
        "vocab_size": WORDS, "num_mel_bins": MELS, "encoder_layers": 2, "decoder_layers": 3, "encoder_attention_heads": 4,
        "decoder_attention_heads": 4, "d_model": 32, "encoder_ffn_dim": 48, "decoder_ffn_dim": 40, "init_std": 0.3,
        "max_source_positions": SOURCE, "max_target_positions": 72, "pad_token_id": 1, "bos_token_id": 1, "eos_token_id": 2,
        "decoder_start_token_id": 3, "begin_suppress_tokens": None,
    }  # fmt: skip
    return WhisperConfig(**{**values, **changes})


def _logits(output: Any) -> Tensor:
    found: Tensor = output.logits
    return found


def case(name: str, config: Any, inputs: Callable[[int, int], Inputs], answers: Any = _logits, **call: Any) -> Case:
    return Case(name, config, inputs, answers, call)


CASES = {
    "whisper": case("WhisperForConditionalGeneration", whisper_config(), whisper_inputs, use_cache=False),
    "whisper, untied": case(
        "WhisperForConditionalGeneration", whisper_config(tie_word_embeddings=False), whisper_inputs, use_cache=False
    ),
}


@cache
def _stock(name: str) -> Any:
    torch.manual_seed(0)
    model = CASES[name].kind.classes.stock(CASES[name].config).eval()
    for path, parameter in model.named_parameters():
        if parameter.ndim == 1 or "relative_position" in path or "rel_attn" in path or "gru_rel" in path:
            nn.init.normal_(parameter, std=0.2)
    return model


def stock(name: str) -> Any:
    """transformers' class with weights large enough for attention to be far from uniform, and biases that matter."""
    return copy.deepcopy(_stock(name))


def dense_widths(case: Case) -> AttentionWidths:
    layout = case.kind.layout(case.config.to_dict())
    sites = (((site.shape.head_dim,) * site.shape.heads,) * 2 for site in layout.attention)
    neurons = tuple(site.shape.neurons for site in layout.feed_forward)
    return AttentionWidths.of(layout.attention[0].shape.head_dim, sites, neurons)


def loaded(name: str) -> Loaded:
    """The same as the engine holds it."""
    case, widths = CASES[name], dense_widths(CASES[name])
    model = build(case.kind, case.config.to_dict(), widths, stock(name).state_dict())
    return Loaded(model, case.kind, widths, torch.float32)


def blocks_of(loaded: Loaded) -> tuple[AttentionBlock, ...]:
    return attention_blocks(loaded.model, loaded.kind, loaded.widths)


def smaller(loaded: Loaded, keep: Keep) -> Loaded:
    model = cut(loaded.model, loaded.kind, loaded.widths, keep)
    return replace(loaded, model=model, widths=widths_of(keep, loaded.widths))


def keeps(widths: AttentionWidths) -> dict[str, Keep]:
    """Ways of cutting: whole heads, heads of any widths, sides of unequal widths, attentions without heads."""
    draw = random.Random(0)
    every = keep_all(widths)
    width = widths.head_dim

    def channels(count: int) -> tuple[int, ...]:
        return tuple(sorted(draw.sample(range(width), count)))

    ragged = tuple(
        tuple(HeadKeep(h.head, channels(draw.randint(1, width)), channels(draw.randint(1, width))) for h in layer)
        for layer in every
    )
    unequal = tuple(tuple(HeadKeep(h.head, channels(2), channels(width - 1)) for h in layer) for layer in every)
    return {
        "nothing": every,
        "whole heads": tuple(layer[number % 2 :: 2] for number, layer in enumerate(every)),
        "ragged": ragged,
        "unequal sides": unequal,
        "some without heads": tuple(() if number % 3 == 0 else layer[1:] for number, layer in enumerate(ragged)),
        "others without heads": tuple(() if number % 3 else layer for number, layer in enumerate(ragged)),
        "no heads at all": tuple(() for _ in every),
    }


KEEPS = tuple(keeps(AttentionWidths.dense(1, 2, 8)))


def keep_of(name: str, how: str) -> Keep:
    return keeps(dense_widths(CASES[name]))[how]


def zeroed(name: str, keep: Keep) -> Any:
    """The stock model, whose weights are zero where `keep` leaves something out."""
    model, case = stock(name), CASES[name]
    sites = case.kind.layout(case.config.to_dict()).attention
    for site, layer in zip(sites, keep, strict=True):
        masks = {side: torch.zeros(site.shape.heads, site.shape.head_dim) for side in ("qk", "vo")}
        for head in layer:
            masks["qk"][head.head, list(head.qk)] = 1
            masks["vo"][head.head, list(head.vo)] = 1
        for side, path in site.projections().items():
            linear, mask = model.get_submodule(path), masks["qk" if side in "qk" else "vo"].flatten()
            with torch.no_grad():
                linear.weight.mul_(mask if side == "o" else mask[:, None])
                if side != "o" and linear.bias is not None:
                    linear.bias.mul_(mask)
    return model


def bound(expected: Tensor, share: float = 1e-5) -> float:
    return share * max(1.0, float(expected.abs().max()))
