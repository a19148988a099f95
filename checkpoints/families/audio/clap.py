"""CLAP's audio encoder (Wu et al., arXiv 2211.06687): HTS-AT, a Swin transformer over a spectrogram folded to a square.

Its stages differ in width, heads and tokens. Attention stays inside square windows, which are shifted by half a window in every
second layer.
"""

from typing import NamedTuple

from api_schemas.enums import Head, Modality
from checkpoints.families.audio.waveform_encoder import REQUIRED_FILES
from checkpoints.families.base import (
    Architecture,
    AttentionKind,
    AttentionSite,
    Config,
    Family,
    FeedForwardSite,
    Layout,
    UnusableConfigError,
)
from checkpoints.families.config_fields import CLAP as CONFIG_KEYS
from checkpoints.families.encoder import MAX_LAYERS, head_width
from checkpoints.families.patch_encoder import pair
from checkpoints.families.tensor_shapes import Shapes, linear, norm
from checkpoints.families.text.text_encoder import OTHER_FILES
from checkpoints.sizes.shape import AttentionShape, FeedForwardShape


class _Stage(NamedTuple):
    """Layers between two merges of patches: all see `side`² tokens of the same width."""

    hidden: int
    heads: int
    head_dim: int
    side: int
    depth: int


def _side(config: Config) -> int:
    """Patches along an edge of the square."""
    size, patch = CLAP.value(config, "spec_size"), pair(CLAP.value(config, "patch_size"))
    stride = CLAP.value(config, "patch_stride")
    if len(stride) != 2 or stride[0] != stride[1] or patch != tuple(stride) or size % stride[0]:
        raise UnusableConfigError("patch_stride", "patches must be square, must not overlap and must tile spec_size")
    if size % CLAP.value(config, "num_mel_bins"):
        raise UnusableConfigError("spec_size", "must be a multiple of num_mel_bins")
    return int(size // stride[0])


def _stages(config: Config) -> list[_Stage]:
    depths, heads = CLAP.value(config, "depths"), CLAP.value(config, "num_attention_heads")
    first, side, window = (
        CLAP.value(config, "patch_embeds_hidden_size"),
        _side(config),
        CLAP.value(config, "window_size"),
    )
    if len(depths) != len(heads):
        raise UnusableConfigError("num_attention_heads", "must have one number per stage, as many as depths has")
    if sum(depths) > MAX_LAYERS:
        raise UnusableConfigError("depths", f"at most {MAX_LAYERS} layers are supported")
    if CLAP.value(config, "hidden_size") != first << (len(depths) - 1):
        raise UnusableConfigError(
            "hidden_size", "must be the width of the last stage: each stage is twice as wide as the one before"
        )
    found: list[_Stage] = []
    for number, depth in enumerate(depths):
        if side % (1 << number) or (side >> number) % window:
            # A remainder would be filled with zeros, which attend and are attended to.
            reason = f"windows of {window}² do not tile the {side >> number}² patches of stage {number}"
            raise UnusableConfigError("window_size", reason)
        hidden = first << number
        width = head_width(hidden, heads[number], "num_attention_heads")
        if found and width != found[0].head_dim:
            reason = f"all heads must have the same width, but these are {found[0].head_dim} and {width} wide"
            raise UnusableConfigError("num_attention_heads", reason)
        found.append(_Stage(hidden, heads[number], width, side >> number, depth))
    return found


def _layout(config: Config, architecture: Architecture) -> Layout:
    window, bias = CLAP.value(config, "window_size"), CLAP.value(config, "qkv_bias")
    ratio = config.get("mlp_ratio", 4.0)
    if type(ratio) not in (int, float) or not 0 < ratio <= 64:
        raise UnusableConfigError("mlp_ratio", "must be greater than 0 and at most 64")
    stages = _stages(config)
    if int(ratio * stages[0].hidden) < 1:
        raise UnusableConfigError("mlp_ratio", "it leaves a feed-forward block without neurons")
    attention: list[AttentionSite] = []
    feed_forward: list[FeedForwardSite] = []
    stacks: list[tuple[str, ...]] = []
    for number, stage in enumerate(stages):
        at, tokens = f"{architecture.prefix}audio_encoder.layers.{number}", stage.side**2
        stacks.append(tuple(f"{at}.blocks.{block}" for block in range(stage.depth)))
        for block in stacks[-1]:
            layer, module = len(attention), f"{block}.attention.self"
            shape = AttentionShape(
                layer=layer,
                heads=stage.heads,
                head_dim=stage.head_dim,
                hidden=stage.hidden,
                source=stage.hidden,
                q_bias=bias,
                k_bias=bias,
                v_bias=bias,
                o_bias=True,
                queries=tokens,
                keys=tokens,
                pairs=tokens * window**2,
                head_parameters=(2 * window - 1) ** 2,
            )
            attention.append(
                AttentionSite(
                    module=module,
                    q=f"{module}.query",
                    k=f"{module}.key",
                    v=f"{module}.value",
                    o=f"{block}.attention.output.dense",
                    # Inside windows tokens come in another order than in the stream.
                    stream=None,
                    shape=shape,
                    kind=AttentionKind.WINDOWED,
                    per_head={"relative_position_bias_table": 1},
                )
            )
            feed_forward.append(
                FeedForwardSite(
                    first=f"{block}.intermediate.dense",
                    second=f"{block}.output.dense",
                    stream=f"{block}.layernorm_after",
                    shape=FeedForwardShape(
                        layer=layer,
                        hidden=stage.hidden,
                        neurons=int(ratio * stage.hidden),
                        tokens=tokens,
                        first_bias=True,
                        second_bias=True,
                    ),
                )
            )
    return Layout(tuple(attention), tuple(feed_forward), tuple(stacks), _other_flops(config, architecture, stages))


def _other_flops(config: Config, architecture: Architecture, stages: list[_Stage]) -> int:
    """Patches; merges of four neighbours, 4 D numbers to 2 D; the projection."""
    height, width = pair(CLAP.value(config, "patch_size"))
    products = stages[0].hidden * height * width * stages[0].side ** 2
    products += sum(8 * stage.hidden**2 * (stage.side // 2) ** 2 for stage in stages[:-1])
    if architecture.prefix:
        projection = CLAP.value(config, "projection_dim")
        products += projection * (stages[-1].hidden + projection)
    return 2 * int(products)


def _other_tensors(config: Config, architecture: Architecture, labels: int) -> Shapes:
    del labels
    at, stages = f"{architecture.prefix}audio_encoder", _stages(config)
    mels, positions = CLAP.value(config, "num_mel_bins"), (2 * CLAP.value(config, "window_size") - 1) ** 2
    shapes: Shapes = {
        f"{at}.patch_embed.proj.weight": (stages[0].hidden, 1, *pair(CLAP.value(config, "patch_size"))),
        f"{at}.patch_embed.proj.bias": (stages[0].hidden,),
        f"{at}.batch_norm.running_mean": (mels,),
        f"{at}.batch_norm.running_var": (mels,),
        **norm(f"{at}.batch_norm", mels),
        **norm(f"{at}.norm", stages[-1].hidden),
    }
    if CLAP.value(config, "enable_patch_layer_norm"):
        shapes |= norm(f"{at}.patch_embed.norm", stages[0].hidden)
    for number, stage in enumerate(stages):
        for block in range(stage.depth):
            layer = f"{at}.layers.{number}.blocks.{block}"
            shapes |= norm(f"{layer}.layernorm_before", stage.hidden) | norm(f"{layer}.layernorm_after", stage.hidden)
            shapes[f"{layer}.attention.self.relative_position_bias_table"] = (positions, stage.heads)
        if stage is not stages[-1]:
            shapes[f"{at}.layers.{number}.downsample.reduction.weight"] = (2 * stage.hidden, 4 * stage.hidden)
            shapes |= norm(f"{at}.layers.{number}.downsample.norm", 4 * stage.hidden)
    if architecture.prefix:
        projection = CLAP.value(config, "projection_dim")
        shapes |= linear("audio_projection.linear1", projection, stages[-1].hidden)
        shapes |= linear("audio_projection.linear2", projection, projection)
    return shapes


CLAP = Family(
    name="clap",
    model_types=("clap_audio_model",),
    modality=Modality.AUDIO,
    architectures={
        "ClapAudioModelWithProjection": Architecture(
            task="feature-extraction", head=Head.EMBEDDING, auto_class="AutoModel", prefix="audio_model."
        ),
        "ClapAudioModel": Architecture(task="feature-extraction", head=Head.EMBEDDING, auto_class="AutoModel"),
    },
    layout=_layout,
    defaults={
        "hidden_size": 768,
        "patch_embeds_hidden_size": 96,
        "depths": (2, 2, 6, 2),
        "num_attention_heads": (4, 8, 16, 32),
        "window_size": 8,
        "spec_size": 256,
        "num_mel_bins": 64,
        "patch_size": 4,
        "patch_stride": (4, 4),
        "projection_dim": 512,
        "qkv_bias": True,
        "enable_patch_layer_norm": True,
    },
    config_fields=CONFIG_KEYS,
    required_files=REQUIRED_FILES,
    optional_files=OTHER_FILES,
    preprocessors=("ClapFeatureExtractor",),
    other_tensors=_other_tensors,
    refused={
        "enable_fusion": (
            False,
            "fusion of long clips is not supported, because it reads four crops of a clip; "
            "laion/clap-htsat-unfused has no fusion",
        ),
        "flatten_patch_embeds": (True, "only patches in a row are supported, as in every published CLAP"),
        "patch_embed_input_channels": (1, "only one channel is supported, as the feature extractor produces it"),
    },
)
