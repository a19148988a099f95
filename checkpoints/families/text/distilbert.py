"""DistilBERT (Sanh et al., arXiv 1910.01108), as transformers implements it."""

from api_schemas.enums import Head, Modality
from checkpoints.families.base import Architecture, Config, Family, Layout
from checkpoints.families.config_fields import DISTILLED, TEXT
from checkpoints.families.encoder import EncoderNames, EncoderSizes, encoder, head_width, label_count
from checkpoints.families.text.text_encoder import ENDS, OTHER_FILES, text_classes, text_padding, tokens, untied
from checkpoints.files.preprocessor_files import VOCABULARIES


def _names(prefix: str) -> EncoderNames:
    return EncoderNames(
        layer=f"{prefix}transformer.layer.{{layer}}",
        attention="attention",
        q="attention.q_lin",
        k="attention.k_lin",
        v="attention.v_lin",
        o="attention.out_lin",
        first="ffn.lin1",
        second="ffn.lin2",
        # Norms come last: what goes in is what the output is added to.
        attention_stream="attention",
        feed_forward_stream="ffn",
    )


def _layout(config: Config, architecture: Architecture) -> Layout:
    hidden, heads = DISTILBERT.value(config, "dim"), DISTILBERT.value(config, "n_heads")
    sizes = EncoderSizes(
        layers=DISTILBERT.value(config, "n_layers"),
        hidden=hidden,
        heads=heads,
        head_dim=head_width(hidden, heads, "n_heads"),
        neurons=DISTILBERT.value(config, "hidden_dim"),
        tokens=tokens(architecture, DISTILBERT.value(config, "max_position_embeddings")),
        layers_key="n_layers",
    )
    rows = {
        # One more map of the first token stands before the classifier.
        Head.CLASSIFICATION: hidden + label_count(config),
        Head.TOKEN_CLASSIFICATION: sizes.tokens * label_count(config),
        Head.QUESTION_ANSWERING: sizes.tokens * ENDS,
        Head.EMBEDDING: 0,
        Head.MASKED_LM: sizes.tokens * (hidden + DISTILBERT.value(config, "vocab_size")),
    }[architecture.head]
    return encoder(sizes, _names(architecture.prefix), 2 * hidden * rows)


def _other_tensors(config: Config, architecture: Architecture, labels: int) -> dict[str, tuple[int, ...]]:
    hidden, prefix = DISTILBERT.value(config, "dim"), architecture.prefix
    shapes: dict[str, tuple[int, ...]] = {
        f"{prefix}embeddings.word_embeddings.weight": (DISTILBERT.value(config, "vocab_size"), hidden),
        f"{prefix}embeddings.position_embeddings.weight": (
            DISTILBERT.value(config, "max_position_embeddings"),
            hidden,
        ),
    }
    layers = [_names(prefix).layer.format(layer=layer) for layer in range(DISTILBERT.value(config, "n_layers"))]
    norms = [f"{layer}.{norm}_layer_norm" for layer in layers for norm in ("sa", "output")]
    for path in (f"{prefix}embeddings.LayerNorm", *norms):
        shapes |= {f"{path}.{kind}": (hidden,) for kind in ("weight", "bias")}
    for path in architecture.classifiers:
        rows = {"pre_classifier": hidden, "qa_outputs": ENDS}.get(path, labels)
        shapes |= {f"{path}.weight": (rows, hidden), f"{path}.bias": (rows,)}
    if architecture.head is Head.MASKED_LM:
        shapes |= {"vocab_transform.weight": (hidden, hidden), "vocab_transform.bias": (hidden,)}
        shapes |= {f"vocab_layer_norm.{kind}": (hidden,) for kind in ("weight", "bias")}
        shapes["vocab_projector.bias"] = (DISTILBERT.value(config, "vocab_size"),)
        shapes |= untied(config, architecture, shapes)
    return shapes


DISTILBERT = Family(
    name="distilbert",
    model_types=("distilbert",),
    modality=Modality.TEXT,
    architectures=text_classes(
        "DistilBert",
        "distilbert.",
        ("pre_classifier", "classifier"),
        tied={"vocab_projector.weight": "distilbert.embeddings.word_embeddings.weight"},
    ),
    layout=_layout,
    padding_row=True,
    defaults={
        "vocab_size": 30522,
        "dim": 768,
        "n_layers": 6,
        "n_heads": 12,
        "hidden_dim": 3072,
        "max_position_embeddings": 512,
    },
    config_fields={**TEXT, **DISTILLED},
    aliases={"hidden_size": "dim", "num_attention_heads": "n_heads", "num_hidden_layers": "n_layers"},
    required_files=("config.json", VOCABULARIES),
    optional_files=OTHER_FILES,
    other_tensors=_other_tensors,
    neurons_key="hidden_dim",
    padding=text_padding,
    refused={
        "chunk_size_feed_forward": (0, "chunked feed-forward is not supported; 0 gives the same results"),
    },
)
