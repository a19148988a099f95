"""SliceGPT (Ashkboos et al., arXiv 2401.15024) of a Llama, re-implemented; not the authors' code. What is said in slicegpt.py
holds here, too. A Llama is what the paper is written for: RMSNorm has no mean to leave out, and its maps no bias.

Before every norm stands an orthogonal Q_l, the eigenvectors of Σ x xᵀ of what the norm puts out, without its scale, on the
calibration samples. The embeddings become narrower by Q_1 and the map to the vocabulary by the last Q: they are untied by it, and
neither counts where shares are of the blocks' parameters. The maps in the residual path, Q_lᵀ Q_l+1, two a layer, do count.

Variants: moments of the dense model rather than of the layers already sliced; the same width everywhere.
"""

import copy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from benchmarks.race.arms.arm import Arm
from benchmarks.race.arms.moments import BATCH
from benchmarks.race.arms.slicegpt import Slices, basis, linear_of
from benchmarks.race.setup import Setup, Unreachable, block_parameters
from worker.engine.checkpoint.load import LoadedModel

VERSION = 1


def _norms(model: nn.Module) -> list[Any]:
    body: Any = model.get_submodule("model")
    found = [norm for layer in body.layers for norm in (layer.input_layernorm, layer.post_attention_layernorm)]
    return [*found, body.norm]


@torch.no_grad()
def slices(setup: Setup, seed: int) -> Slices:
    """From the dense model's normalised streams, without scale."""

    def gather() -> Slices:
        norms = _norms(setup.dense.model)
        width = len(norms[0].weight)
        sums = [torch.zeros(width, width, dtype=torch.float64) for _ in norms]

        def see(number: int, norm: Any, x_BTD: Tensor) -> None:
            x_RD = F.rms_norm(x_BTD, (width,), eps=norm.variance_epsilon).flatten(0, -2)
            sums[number] += (x_RD.mT @ x_RD).double()

        handles = [
            norm.register_forward_pre_hook(lambda module, args, number=number: see(number, module, args[0]))
            for number, norm in enumerate(norms)
        ]
        try:
            for inputs, _ in setup.batches(setup.calibration(seed), BATCH):
                setup.dense.model(**inputs)
        finally:
            for handle in handles:
                handle.remove()
        return Slices([basis(each) for each in sums])

    return setup.once(("slicegpt", seed), gather)


class _SlicedBlock(nn.Module):
    """Norm, what it feeds, and the residual path around both."""

    def __init__(self, norm: Any, before: Tensor, after: Tensor, reads: list[nn.Linear], writes: nn.Linear) -> None:
        super().__init__()
        self.width, self.eps = before.shape[0], norm.variance_epsilon
        scale = norm.weight.detach().double()
        maps = [each.weight.detach().double() * scale @ before for each in reads]
        self.reads = nn.ModuleList([linear_of(each, None) for each in maps])
        self.writes = linear_of(after.mT @ writes.weight.detach().double(), None)
        self.residual = linear_of(after.mT @ before, None)

    def normed(self, x_BTd: Tensor) -> Tensor:
        # The mean square is that of a stream of the original width, of which the rest is taken to be nothing.
        normed: Tensor = x_BTd * (x_BTd.square().sum(-1, keepdim=True) / self.width + self.eps).rsqrt()
        return normed


class SlicedAttention(_SlicedBlock):
    def __init__(self, norm: Any, before: Tensor, after: Tensor, attention: Any, head_dim: int) -> None:
        super().__init__(norm, before, after, [attention.q_proj, attention.k_proj, attention.v_proj], attention.o_proj)
        self.head_dim = head_dim

    def forward(self, x_BTd: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        normed = self.normed(x_BTd)
        query, key, value = (each(normed).unflatten(-1, (-1, self.head_dim)).transpose(1, 2) for each in self.reads)
        query, key = apply_rotary_pos_emb(query, key, cos, sin)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
        written: Tensor = self.writes(mixed.transpose(1, 2).flatten(-2))
        kept: Tensor = self.residual(x_BTd)
        return written + kept


class SlicedFeedForward(_SlicedBlock):
    def __init__(self, norm: Any, before: Tensor, after: Tensor, mlp: Any) -> None:
        super().__init__(norm, before, after, [mlp.gate_proj, mlp.up_proj], mlp.down_proj)
        self.act = mlp.act_fn

    def forward(self, x_BTd: Tensor, _cos: Tensor, _sin: Tensor) -> Tensor:
        normed = self.normed(x_BTd)
        written: Tensor = self.writes(self.act(self.reads[0](normed)) * self.reads[1](normed))
        kept: Tensor = self.residual(x_BTd)
        return written + kept


class SlicedLlama(nn.Module):
    """A Llama whose residual stream is `width` wide. Reads whole texts, unpadded, from their first position on."""

    def __init__(self, dense: PreTrainedModel, found: Slices, width: int, head_dim: int) -> None:
        super().__init__()
        body: Any = dense.get_submodule("model")
        self.config = dense.config
        bases = [each[:, :width] for each in found.bases]
        self.embed = nn.Embedding.from_pretrained((body.embed_tokens.weight.detach().double() @ bases[0]).float())
        self.rotary = copy.deepcopy(body.rotary_emb)
        self.blocks = nn.ModuleList()
        for number, layer in enumerate(body.layers):
            one, two, three = bases[2 * number : 2 * number + 3]
            self.blocks.append(SlicedAttention(layer.input_layernorm, one, two, layer.self_attn, head_dim))
            self.blocks.append(SlicedFeedForward(layer.post_attention_layernorm, two, three, layer.mlp))
        head: Any = dense.get_submodule("lm_head")
        self.last_width, self.last_eps = len(bases[-1]), body.norm.variance_epsilon
        weight = head.weight.detach().double() * body.norm.weight.detach().double()
        self.lm_head = linear_of(weight @ bases[-1], None)

    def set_attn_implementation(self, _name: str) -> None:
        """There is one."""

    def forward(self, input_ids: Tensor) -> CausalLMOutput:
        x_BTd = self.embed(input_ids)
        cos, sin = self.rotary(x_BTd, torch.arange(input_ids.shape[1], device=input_ids.device)[None])
        for block in self.blocks:
            x_BTd = block(x_BTd, cos, sin)
        x_BTd = x_BTd * (x_BTd.square().sum(-1, keepdim=True) / self.last_width + self.last_eps).rsqrt()
        return CausalLMOutput(logits=self.lm_head(x_BTd))


def parameters(setup: Setup, width: int) -> int:
    """Of the blocks of a model sliced to `width`."""
    shape = setup.described.shape
    blocks = block_parameters(shape, shape.dense) // shape.attention[0].hidden * width
    return blocks + 2 * len(shape.attention) * width**2


def _cut(setup: Setup, seed: int, target: float) -> LoadedModel:
    if setup.dense.model_spec.name != "LlamaForCausalLM" or setup.dense.model.config.attention_bias:
        raise Unreachable("written for Llama without biases")
    shape = setup.described.shape
    dense = block_parameters(shape, shape.dense)
    widths = range(1, shape.attention[0].hidden + 1)
    width = min(widths, key=lambda each: abs(1 - parameters(setup, each) / dense - target))
    model: Any = SlicedLlama(setup.dense.model, slices(setup, seed), width, setup.dense.widths.head_dim).eval()
    return replace(setup.dense, model=model)


def arms() -> tuple[Arm, ...]:
    """One arm."""
    return (Arm("slicegpt/slicegpt", "slicegpt", _cut, VERSION, {}),)
