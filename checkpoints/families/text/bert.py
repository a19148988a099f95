"""BERT (Devlin et al., arXiv 1810.04805) and RoBERTa (Liu et al., arXiv 1907.11692), as transformers implements them.

XLM-RoBERTa (Conneau et al., arXiv 1911.02116) and CamemBERT (Martin et al., arXiv 1911.03894) are RoBERTas with other
vocabularies.
"""

from dataclasses import replace

from api_schemas.enums import Head, Modality
from checkpoints.families.base import Architecture, Config, Family, Layout, UnusableConfigError
from checkpoints.families.config_fields import TEXT
from checkpoints.families.encoder import EncoderNames, EncoderSizes, encoder, head_width, label_count
from checkpoints.families.text.text_encoder import ENDS, OTHER_FILES, text_classes, text_padding, tokens, untied
from checkpoints.files.preprocessor_files import VOCABULARIES

DEFAULTS = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
}
REFUSED = {
    "is_decoder": (False, "decoders are not supported; only encoders (is_decoder false) are"),
    "add_cross_attention": (False, "cross-attention is not supported; only encoders without it are"),
    "position_embedding_type": ("absolute", "transformers 5 supports only absolute positions"),
    "chunk_size_feed_forward": (0, "chunked feed-forward is not supported; 0 gives the same results"),
}


def bert_names(prefix: str) -> EncoderNames:
    """Names in the module tree."""
    return EncoderNames(
        layer=f"{prefix}encoder.layer.{{layer}}",
        attention="attention.self",
        q="attention.self.query",
        k="attention.self.key",
        v="attention.self.value",
        o="attention.output.dense",
        first="intermediate.dense",
        second="output.dense",
        # Norms come last: what goes in is what the output is added to.
        attention_stream="attention.self",
        feed_forward_stream="intermediate",
    )


def _positions(config: Config, *, roberta: bool) -> int:
    """How long a text may be. RoBERTa counts from behind the padding token's number."""
    padding = config.get("pad_token_id")
    if roberta and padding is not None and padding < 0:
        raise UnusableConfigError(
            "pad_token_id", "positions are counted from it: it must be a whole number of at least 0"
        )
    before = (2 if padding is None else padding + 1) if roberta else 0
    positions: int = config["max_position_embeddings"] - before
    if positions < 1:
        raise UnusableConfigError("max_position_embeddings", "it leaves no position for a token")
    return positions


def _maps(architecture: Architecture, *, roberta: bool) -> tuple[list[str], list[str]]:
    """What comes after the layers: maps to the hidden size, and maps to the labels, to both ends or to the words (tied)."""
    pooler = f"{architecture.prefix}pooler.dense"
    match architecture.head:
        case Head.MASKED_LM:
            return ["lm_head.dense"] if roberta else ["cls.predictions.transform.dense"], []
        case Head.TOKEN_CLASSIFICATION:
            return [], ["classifier"]
        case Head.QUESTION_ANSWERING:
            return [], ["qa_outputs"]
        case Head.CLASSIFICATION:
            return (["classifier.dense"], ["classifier.out_proj"]) if roberta else ([pooler], ["classifier"])
        case _:
            return [pooler], []


def bert_layout(config: Config, architecture: Architecture, *, roberta: bool, further: int = 0) -> Layout:
    """BERT's blocks, or RoBERTa's, of a config that says everything. Raises UnusableConfigError.

    further: FLOPs of what comes after these classes.
    """
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    sizes = EncoderSizes(
        layers=config["num_hidden_layers"],
        hidden=hidden,
        heads=heads,
        head_dim=head_width(hidden, heads, "num_attention_heads"),
        neurons=config["intermediate_size"],
        tokens=tokens(architecture, _positions(config, roberta=roberta)),
    )
    square, labelling = _maps(architecture, roberta=roberta)
    if architecture.head is Head.MASKED_LM:
        rows = sizes.tokens * (hidden + config["vocab_size"])
    else:
        ends = architecture.head is Head.QUESTION_ANSWERING
        answers = sizes.tokens if ends or architecture.head is Head.TOKEN_CLASSIFICATION else 1
        rows = len(square) * hidden + len(labelling) * answers * (ENDS if ends else label_count(config))
    return encoder(sizes, bert_names(architecture.prefix), 2 * hidden * rows + further)


def bert_tensors(
    config: Config, architecture: Architecture, labels: int, *, roberta: bool
) -> dict[str, tuple[int, ...]]:
    """Every tensor outside the blocks, as `Family.other_tensors` has them, of a config that says everything."""
    hidden, prefix = config["hidden_size"], architecture.prefix
    tables = {"word": "vocab_size", "position": "max_position_embeddings", "token_type": "type_vocab_size"}
    shapes: dict[str, tuple[int, ...]] = {
        f"{prefix}embeddings.{table}_embeddings.weight": (config[key], hidden) for table, key in tables.items()
    }
    layers = [bert_names(prefix).layer.format(layer=layer) for layer in range(config["num_hidden_layers"])]
    writers = [f"{layer}.{block}" for layer in layers for block in ("attention.output", "output")]
    for path in (f"{prefix}embeddings", *writers):
        shapes |= {f"{path}.LayerNorm.{kind}": (hidden,) for kind in ("weight", "bias")}
    square, labelling = _maps(architecture, roberta=roberta)
    answers = ENDS if architecture.head is Head.QUESTION_ANSWERING else labels
    for paths, rows in ((square, hidden), (labelling, answers)):
        for path in paths:
            shapes |= {f"{path}.weight": (rows, hidden), f"{path}.bias": (rows,)}
    if architecture.head is Head.MASKED_LM:
        norm, bias = ("lm_head.layer_norm", "lm_head.bias") if roberta else (_BERT_NORM, "cls.predictions.bias")
        shapes |= {f"{norm}.{kind}": (hidden,) for kind in ("weight", "bias")}
        shapes[bias] = (config["vocab_size"],)
        shapes |= untied(config, architecture, shapes)
    return shapes


def _family(name: str, architectures: dict[str, Architecture], words: int, *, roberta: bool) -> Family:
    """`words`: the vocabulary's size where a config says none."""

    def layout(config: Config, architecture: Architecture) -> Layout:
        return bert_layout(family.filled(config), architecture, roberta=roberta)

    def other_tensors(config: Config, architecture: Architecture, labels: int) -> dict[str, tuple[int, ...]]:
        return bert_tensors(family.filled(config), architecture, labels, roberta=roberta)

    family = Family(
        name=name,
        model_types=(name,),
        modality=Modality.TEXT,
        architectures=architectures,
        layout=layout,
        defaults=DEFAULTS | {"vocab_size": words},
        config_fields=TEXT,
        required_files=("config.json", VOCABULARIES),
        optional_files=OTHER_FILES,
        other_tensors=other_tensors,
        refused=REFUSED,
        neurons_key="intermediate_size",
        # RoBERTa counts positions from behind the padding token's number.
        never_null=("pad_token_id",) if roberta else (),
        padding_row=True,
        padding=text_padding,
    )
    return family


_BERT_NORM = "cls.predictions.transform.LayerNorm"
BERT = _family(
    "bert",
    text_classes(
        "Bert",
        "bert.",
        ("classifier",),
        tied={
            "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
            "cls.predictions.decoder.bias": "cls.predictions.bias",
        },
        # Whether one sentence follows another, which was pretrained as well.
        spare=r"cls\.seq_relationship\.(weight|bias)",
        pooled=True,
    ),
    30522,
    roberta=False,
)


def _as_roberta(name: str, stock: str, words: int) -> Family:
    classes = text_classes(
        stock,
        "roberta.",
        ("classifier",),
        tied={
            "lm_head.decoder.weight": "roberta.embeddings.word_embeddings.weight",
            "lm_head.decoder.bias": "lm_head.bias",
        },
    )
    return _family(name, classes, words, roberta=True)


ROBERTA = _as_roberta("roberta", "Roberta", 50265)
# These compute what RoBERTa does, under the same names of weights: they differ in their tokenizers.
XLM_ROBERTA = replace(_as_roberta("xlm-roberta", "XLMRoberta", 30522), twin=True)
CAMEMBERT = replace(_as_roberta("camembert", "Camembert", 30522), twin=True)
