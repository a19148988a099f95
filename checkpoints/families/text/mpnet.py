"""MPNet (Song et al., arXiv 2004.09297), as transformers implements it: all layers add the same relative position bias to their
scores."""

from dataclasses import replace

from api_schemas.enums import Head, Modality
from checkpoints.families.base import Architecture, AttentionKind, Config, Family, Layout, UnusableConfigError
from checkpoints.families.config_fields import TEXT
from checkpoints.families.encoder import EncoderNames, EncoderSizes, encoder, head_width, label_count
from checkpoints.families.tensor_shapes import Shapes, linear, norm
from checkpoints.families.text.text_encoder import ENDS, OTHER_FILES, text_classes, text_padding, tokens, untied
from checkpoints.files.preprocessor_files import FIRST_POSITION_OF_MPNET, VOCABULARIES

BUCKETS = 32
"""Distances between tokens fall into so many, whatever the config says of their table's size."""


def _names(prefix: str) -> EncoderNames:
    return EncoderNames(
        layer=f"{prefix}encoder.layer.{{layer}}",
        attention="attention.attn",
        q="attention.attn.q",
        k="attention.attn.k",
        v="attention.attn.v",
        o="attention.attn.o",
        first="intermediate.dense",
        second="output.dense",
        # Norms come last: what goes in is what the output is added to.
        attention_stream="attention.attn",
        feed_forward_stream="intermediate",
    )


def _layout(config: Config, architecture: Architecture) -> Layout:
    full = MPNET.filled(config)
    hidden, heads = full["hidden_size"], full["num_attention_heads"]
    if full["max_position_embeddings"] <= FIRST_POSITION_OF_MPNET:
        raise UnusableConfigError("max_position_embeddings", "it leaves no position for a token")
    if full["relative_attention_num_buckets"] < BUCKETS:
        raise UnusableConfigError(
            "relative_attention_num_buckets",
            f"must be at least {BUCKETS}, because the class always looks up {BUCKETS} buckets",
        )
    if full["vocab_size"] < FIRST_POSITION_OF_MPNET:
        raise UnusableConfigError("vocab_size", "is too small: the class always uses the second token as padding")
    sizes = EncoderSizes(
        layers=full["num_hidden_layers"],
        hidden=hidden,
        heads=heads,
        head_dim=head_width(hidden, heads, "num_attention_heads"),
        neurons=full["intermediate_size"],
        tokens=tokens(architecture, full["max_position_embeddings"] - FIRST_POSITION_OF_MPNET),
    )
    rows = {
        # One more map of the first token stands before the labels.
        Head.CLASSIFICATION: hidden + label_count(config),
        Head.TOKEN_CLASSIFICATION: sizes.tokens * label_count(config),
        Head.QUESTION_ANSWERING: sizes.tokens * ENDS,
        # The pooler maps the first token.
        Head.EMBEDDING: hidden,
        Head.MASKED_LM: sizes.tokens * (hidden + full["vocab_size"]),
    }[architecture.head]
    layout = encoder(sizes, _names(architecture.prefix), 2 * hidden * rows)
    sites = (replace(site, kind=AttentionKind.SHARED_POSITIONS) for site in layout.attention)
    return replace(layout, attention=tuple(sites))


def _other_tensors(config: Config, architecture: Architecture, labels: int) -> Shapes:
    """The table of relative positions stays whole: layers keep heads of their own."""
    full, prefix = MPNET.filled(config), architecture.prefix
    hidden, words = full["hidden_size"], full["vocab_size"]
    shapes: Shapes = {
        f"{prefix}embeddings.word_embeddings.weight": (words, hidden),
        f"{prefix}embeddings.position_embeddings.weight": (full["max_position_embeddings"], hidden),
        f"{prefix}encoder.relative_attention_bias.weight": (
            full["relative_attention_num_buckets"],
            full["num_attention_heads"],
        ),
        **norm(f"{prefix}embeddings.LayerNorm", hidden),
    }
    for layer in range(full["num_hidden_layers"]):
        at = _names(prefix).layer.format(layer=layer)
        shapes |= norm(f"{at}.attention.LayerNorm", hidden) | norm(f"{at}.output.LayerNorm", hidden)
    match architecture.head:
        case Head.CLASSIFICATION:
            shapes |= linear("classifier.dense", hidden, hidden) | linear("classifier.out_proj", labels, hidden)
        case Head.TOKEN_CLASSIFICATION:
            shapes |= linear("classifier", labels, hidden)
        case Head.QUESTION_ANSWERING:
            shapes |= linear("qa_outputs", ENDS, hidden)
        case Head.MASKED_LM:
            shapes |= linear("lm_head.dense", hidden, hidden) | norm("lm_head.layer_norm", hidden)
            shapes["lm_head.bias"] = (words,)
            shapes |= untied(config, architecture, shapes)
        case _:
            shapes |= linear("pooler.dense", hidden, hidden)
    return shapes


MPNET = Family(
    name="mpnet",
    model_types=("mpnet",),
    modality=Modality.TEXT,
    architectures=text_classes(
        "MPNet",
        "mpnet.",
        ("classifier",),
        tied={
            "lm_head.decoder.weight": "mpnet.embeddings.word_embeddings.weight",
            "lm_head.decoder.bias": "lm_head.bias",
        },
    ),
    layout=_layout,
    defaults={
        "vocab_size": 30527,
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "max_position_embeddings": 512,
        "relative_attention_num_buckets": BUCKETS,
    },
    config_fields=TEXT,
    required_files=("config.json", VOCABULARIES),
    optional_files=OTHER_FILES,
    other_tensors=_other_tensors,
    neurons_key="intermediate_size",
    padding=text_padding,
)
