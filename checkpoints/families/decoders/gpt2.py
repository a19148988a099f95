"""GPT-2 (Radford et al. 2019), as transformers implements it: one map for q, k and v, and transposed weights."""

from dataclasses import replace

from api_schemas.enums import Modality
from checkpoints.families.base import Architecture, AttentionKind, Config, Family, Layout
from checkpoints.families.config_fields import GPT2 as CONFIG_KEYS
from checkpoints.families.decoders.causal import (
    CAUSAL_FILES,
    WHILE_ENGAGED,
    block_tokens,
    causal_class,
    causal_padding,
)
from checkpoints.families.encoder import EncoderNames, EncoderSizes, encoder, head_width
from checkpoints.families.tensor_shapes import Shapes, norm
from checkpoints.families.text.text_encoder import untied
from checkpoints.files.preprocessor_files import VOCABULARIES


def _names(prefix: str) -> EncoderNames:
    return EncoderNames(
        layer=f"{prefix}h.{{layer}}",
        attention="attn",
        q="attn.q_proj",
        k="attn.k_proj",
        v="attn.v_proj",
        o="attn.c_proj",
        first="mlp.c_fc",
        second="mlp.c_proj",
        attention_stream="ln_1",
        feed_forward_stream="ln_2",
    )


def _layout(config: Config, architecture: Architecture) -> Layout:
    hidden, heads = GPT2.value(config, "n_embd"), GPT2.value(config, "n_head")
    sizes = EncoderSizes(
        layers=GPT2.value(config, "n_layer"),
        hidden=hidden,
        heads=heads,
        head_dim=head_width(hidden, heads, "n_head"),
        neurons=config.get("n_inner") or 4 * hidden,
        tokens=block_tokens(GPT2.value(config, "n_positions"), "n_positions"),
        layers_key="n_layer",
    )
    words = 2 * sizes.tokens * hidden * GPT2.value(config, "vocab_size")
    layout = encoder(sizes, _names(architecture.prefix), words, AttentionKind.CACHED)
    attention = tuple(replace(site, joined=f"{site.module}.c_attn") for site in layout.attention)
    return replace(layout, attention=attention, transposed=True)


def _other_tensors(config: Config, architecture: Architecture, labels: int) -> Shapes:
    del labels
    hidden, prefix = GPT2.value(config, "n_embd"), architecture.prefix
    shapes: Shapes = {
        f"{prefix}wte.weight": (GPT2.value(config, "vocab_size"), hidden),
        f"{prefix}wpe.weight": (GPT2.value(config, "n_positions"), hidden),
        **norm(f"{prefix}ln_f", hidden),
    }
    for layer in range(GPT2.value(config, "n_layer")):
        for name in ("ln_1", "ln_2"):
            shapes |= norm(f"{prefix}h.{layer}.{name}", hidden)
    return shapes | untied(config, architecture, shapes)


GPT2 = Family(
    name="gpt2",
    model_types=("gpt2",),
    modality=Modality.TEXT,
    architectures={
        # Older files have the causal mask of every layer beside its weights.
        "GPT2LMHeadModel": causal_class("transformer.", "wte", r"(transformer\.)?h\.\d+\.attn\.(masked_)?bias")
    },
    layout=_layout,
    defaults={"vocab_size": 50257, "n_positions": 1024, "n_embd": 768, "n_layer": 12, "n_head": 12},
    config_fields=CONFIG_KEYS,
    aliases={
        "hidden_size": "n_embd",
        "max_position_embeddings": "n_positions",
        "num_attention_heads": "n_head",
        "num_hidden_layers": "n_layer",
    },
    required_files=("config.json", VOCABULARIES),
    optional_files=CAUSAL_FILES,
    other_tensors=_other_tensors,
    # The first files of GPT-2 are of the model without its head.
    saved_names=((), ((r"^transformer\.", ""),)),
    no_torchao="Stock GPT-2 uses its own kind of linear layer (Conv1D), which torchao does not quantize.",
    neurons_key="n_inner",
    padding=causal_padding,
    while_engaged=WHILE_ENGAGED,
)
