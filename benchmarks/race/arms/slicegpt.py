"""A re-implementation of SliceGPT (Ashkboos et al., arXiv 2401.15024) for a pre-norm AST: the residual stream itself gets
narrower, attention and feed-forward blocks keep their widths. Not the authors' code.

- LayerNorm is RMSNorm of the stream without its mean, which its writers leave out (§3.1); scale and shift go into what reads
  it.
- Before every norm stands an orthogonal Q_l, the eigenvectors of Σ x xᵀ of what that norm puts out on the calibration samples,
  largest first; readers take Q_l in and writers the next one. Norms see no difference (theorem 1).
- The first D′ coordinates of each stay. Where Q changes, the residual path has a matrix Q_lᵀ Q_l+1 of its own (D′ × D′): two a
  layer, whose FLOPs count, and one narrow map before the classifier.

Variants: moments of the dense model rather than of the layers already sliced; D′ alike everywhere. It does not apply to
post-norm models (BERT, MiniLM) without change: there the sum itself is normalised and scaled, and a rotation does not pass
through a scale. Of a Llama: sliced_llama.py.
"""

from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from benchmarks.race.arms.arm import Arm
from benchmarks.race.arms.moments import BATCH
from benchmarks.race.setup import Setup, Unreachable
from checkpoints.sizes import accounting
from worker.engine.checkpoint.load import LoadedModel
from worker.engine.models.attention import linear_at

VERSION = 1


class Slices(NamedTuple):
    """Q of every norm of the encoder in the order in which they run, the last one's behind them: (D, D) each, most first."""

    bases: list[Tensor]


def basis(moment_DD: Tensor) -> Tensor:
    """Eigenvectors, a column each, of the largest eigenvalue first."""
    vectors_DD: Tensor = torch.linalg.eigh(moment_DD).eigenvectors
    return vectors_DD.flip(1)


def _norms(model: nn.Module) -> list[nn.LayerNorm]:
    encoder: Any = model.get_submodule("audio_spectrogram_transformer")
    found = [norm for layer in encoder.layers for norm in (layer.layernorm_before, layer.layernorm_after)]
    return [*found, encoder.layernorm]


@torch.no_grad()
def slices(setup: Setup, seed: int) -> Slices:
    """From the dense model's normalised streams, without scale and shift."""

    def gather() -> Slices:
        norms = _norms(setup.dense.model)
        width = norms[0].normalized_shape[0]
        sums = [torch.zeros(width, width, dtype=torch.float64) for _ in norms]

        def see(number: int, norm: nn.LayerNorm, x_BTD: Tensor) -> None:
            x_RD = F.layer_norm(x_BTD, (width,), eps=norm.eps).flatten(0, -2).double()
            sums[number] += x_RD.mT @ x_RD

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


def linear_of(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A map with these, in float32."""
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    made.weight = nn.Parameter(weight.float())
    if bias is not None:
        made.bias = nn.Parameter(bias.float())
    return made


class _SlicedBlock(nn.Module):
    """Norm, what it feeds, and the residual path around both. `inner` maps (B, T, C) of several maps to what `out` reads."""

    def __init__(
        self, norm: nn.LayerNorm, before: Tensor, after: Tensor, reads: list[nn.Linear], writes: nn.Linear
    ) -> None:
        super().__init__()
        self.width, self.eps = before.shape[0], norm.eps
        scale, shift = norm.weight.double(), norm.bias.double()
        self.reads = nn.ModuleList()
        for linear in reads:
            weight = linear.weight.double()
            self.reads.append(linear_of(weight * scale @ before, linear.bias.double() + weight @ shift))
        weight, bias = writes.weight.double(), writes.bias.double()
        # The mean over channels is left out of what is written.
        weight, bias = weight - weight.mean(0), bias - bias.mean()
        self.writes = linear_of(after.mT @ weight, after.mT @ bias)
        self.residual = linear_of(after.mT @ before, None)

    def normed(self, x_BTd: Tensor) -> Tensor:
        return x_BTd * (x_BTd.square().sum(-1, keepdim=True) / self.width + self.eps).rsqrt()


class SlicedAttention(_SlicedBlock):
    def __init__(self, norm: nn.LayerNorm, before: Tensor, after: Tensor, attention: Any) -> None:
        super().__init__(norm, before, after, [attention.q_proj, attention.k_proj, attention.v_proj], attention.o_proj)
        self.heads, self.scale = attention.num_attention_heads, attention.softmax_scale()

    def forward(self, x_BTd: Tensor) -> Tensor:
        normed = self.normed(x_BTd)
        query, key, value = (each(normed).unflatten(-1, (self.heads, -1)).transpose(1, 2) for each in self.reads)
        weights = (query @ key.mT * self.scale).softmax(-1)
        written: Tensor = self.writes((weights @ value).transpose(1, 2).flatten(-2))
        kept: Tensor = self.residual(x_BTd)
        return written + kept


class SlicedFeedForward(_SlicedBlock):
    def __init__(self, norm: nn.LayerNorm, before: Tensor, after: Tensor, mlp: Any) -> None:
        super().__init__(norm, before, after, [mlp.fc1], mlp.fc2)
        self.act = mlp.activation_fn

    def forward(self, x_BTd: Tensor) -> Tensor:
        written: Tensor = self.writes(self.act(self.reads[0](self.normed(x_BTd))))
        kept: Tensor = self.residual(x_BTd)
        return written + kept


class SlicedAST(nn.Module):
    """An AST whose residual stream is `width` wide."""

    def __init__(self, dense: PreTrainedModel, found: Slices, width: int) -> None:
        super().__init__()
        encoder: Any = dense.get_submodule("audio_spectrogram_transformer")
        self.config = dense.config
        bases = [each[:, :width] for each in found.bases]
        embeddings = encoder.embeddings
        patches = embeddings.patch_embeddings.projection
        weight = patches.weight.double().flatten(1)
        start, bias = bases[0], patches.bias.double()
        self.patches = nn.Conv2d(1, width, patches.kernel_size, patches.stride)
        self.patches.weight = nn.Parameter(
            (start.mT @ (weight - weight.mean(0))).view(width, *patches.weight.shape[1:]).float()
        )
        self.patches.bias = nn.Parameter((start.mT @ (bias - bias.mean())).float())
        positions = embeddings.position_embeddings.double()[0]
        first = torch.cat([embeddings.cls_token, embeddings.distillation_token], 1).double()[0] + positions[:2]
        centred = [part - part.mean(-1, keepdim=True) for part in (first, positions[2:])]
        self.first, self.positions = (nn.Parameter((part @ start).float()) for part in centred)
        self.blocks = nn.ModuleList()
        for number, layer in enumerate(encoder.layers):
            one, two, three = bases[2 * number : 2 * number + 3]
            self.blocks.append(SlicedAttention(layer.layernorm_before, one, two, layer.attention))
            self.blocks.append(SlicedFeedForward(layer.layernorm_after, two, three, layer.mlp))
        norm = encoder.layernorm
        self.last_eps, self.last_width = norm.eps, len(bases[-1])
        self.last = linear_of(norm.weight.double()[:, None] * bases[-1], norm.bias.double())
        self.classifier = dense.get_submodule("classifier")

    def set_attn_implementation(self, _name: str) -> None:
        """There is one: attention is written out."""

    def forward(self, input_values: Tensor) -> SequenceClassifierOutput:
        patches_BTd = self.patches(input_values.unsqueeze(1).transpose(2, 3)).flatten(2).transpose(1, 2)
        x_BTd = torch.cat([self.first.expand(len(patches_BTd), -1, -1), patches_BTd + self.positions], 1)
        for block in self.blocks:
            x_BTd = block(x_BTd)
        # The model reads two tokens; the rest need no last map.
        two_B2d = x_BTd[:, :2]
        two_B2d = two_B2d * (two_B2d.square().sum(-1, keepdim=True) / self.last_width + self.last_eps).rsqrt()
        return SequenceClassifierOutput(logits=self.classifier(self.last(two_B2d.mean(1))))


def flops(setup: Setup, width: int) -> int:
    """Of a model sliced to `width`, by its maps; the race counts what really runs."""
    shape, total = setup.described.shape, 0
    hidden = shape.attention[0].hidden
    for block in shape.attention:
        channels = 2 * block.heads * block.head_dim
        total += 2 * channels * (2 * block.queries * width + block.pairs) + 2 * block.queries * width**2
    for pair in shape.feed_forward:
        total += 4 * pair.tokens * width * pair.neurons + 2 * pair.tokens * width**2
    classifier = 2 * hidden * linear_at(setup.dense.model, "classifier.dense").out_features
    patches = (shape.other_flops - classifier) * width // hidden
    return total + patches + 2 * hidden * width + classifier


def _cut(setup: Setup, seed: int, target: float) -> LoadedModel:
    if setup.dense.model_spec.name != "ASTForAudioClassification":
        raise Unreachable("written for the pre-norm AST")
    shape = setup.described.shape
    dense = accounting.total_flops(shape, shape.dense)
    width = min(range(1, shape.attention[0].hidden + 1), key=lambda w: abs(1 - flops(setup, w) / dense - target))
    model: Any = SlicedAST(setup.dense.model, slices(setup, seed), width).eval()
    return replace(setup.dense, model=model)


def arms() -> tuple[Arm, ...]:
    """One arm."""
    return (Arm("slicegpt/slicegpt", "slicegpt", _cut, VERSION, {}),)
