"""ELECTRA (Clark et al., arXiv 2003.10555), as transformers implements it: a BERT whose embeddings may be narrower than its
layers."""

from api_schemas.enums import Head, Modality
from checkpoints.families.base import Architecture, Config, Family, Layout
from checkpoints.families.config_fields import ELECTRA as CONFIG_KEYS
from checkpoints.families.encoder import EncoderSizes, encoder, head_width, label_count
from checkpoints.families.tensor_shapes import Shapes, linear, norm
from checkpoints.families.text.bert import DEFAULTS, REFUSED, bert_names
from checkpoints.families.text.text_encoder import ENDS, OTHER_FILES, text_classes, text_padding, tokens, untied
from checkpoints.files.preprocessor_files import VOCABULARIES


def _layout(config: Config, architecture: Architecture) -> Layout:
    full = ELECTRA.filled(config)
    hidden, width, heads = full["hidden_size"], full["embedding_size"], full["num_attention_heads"]
    sizes = EncoderSizes(
        layers=full["num_hidden_layers"],
        hidden=hidden,
        heads=heads,
        head_dim=head_width(hidden, heads, "num_attention_heads"),
        neurons=full["intermediate_size"],
        tokens=tokens(architecture, full["max_position_embeddings"]),
    )
    products = {
        # One more map of the first token stands before the labels.
        Head.CLASSIFICATION: hidden * (hidden + label_count(config)),
        Head.TOKEN_CLASSIFICATION: sizes.tokens * hidden * label_count(config),
        Head.QUESTION_ANSWERING: sizes.tokens * hidden * ENDS,
        Head.EMBEDDING: 0,
        Head.MASKED_LM: sizes.tokens * width * (hidden + full["vocab_size"]),
    }[architecture.head]
    if width != hidden:
        products += sizes.tokens * width * hidden
    return encoder(sizes, bert_names(architecture.prefix), 2 * products)


def _other_tensors(config: Config, architecture: Architecture, labels: int) -> Shapes:
    full, prefix = ELECTRA.filled(config), architecture.prefix
    hidden, width, words = full["hidden_size"], full["embedding_size"], full["vocab_size"]
    tables = {"word": words, "position": full["max_position_embeddings"], "token_type": full["type_vocab_size"]}
    shapes: Shapes = {f"{prefix}embeddings.{table}_embeddings.weight": (rows, width) for table, rows in tables.items()}
    shapes |= norm(f"{prefix}embeddings.LayerNorm", width)
    if width != hidden:
        shapes |= linear(f"{prefix}embeddings_project", hidden, width)
    for layer in range(full["num_hidden_layers"]):
        at = bert_names(prefix).layer.format(layer=layer)
        shapes |= norm(f"{at}.attention.output.LayerNorm", hidden) | norm(f"{at}.output.LayerNorm", hidden)
    match architecture.head:
        case Head.CLASSIFICATION:
            shapes |= linear("classifier.dense", hidden, hidden) | linear("classifier.out_proj", labels, hidden)
        case Head.TOKEN_CLASSIFICATION:
            shapes |= linear("classifier", labels, hidden)
        case Head.QUESTION_ANSWERING:
            shapes |= linear("qa_outputs", ENDS, hidden)
        case Head.MASKED_LM:
            shapes |= linear("generator_predictions.dense", width, hidden)
            shapes |= norm("generator_predictions.LayerNorm", width)
            shapes["generator_lm_head.bias"] = (words,)
            shapes |= untied(config, architecture, shapes)
    return shapes


ELECTRA = Family(
    name="electra",
    model_types=("electra",),
    modality=Modality.TEXT,
    architectures=text_classes(
        "Electra",
        "electra.",
        ("classifier",),
        tied={"generator_lm_head.weight": "electra.embeddings.word_embeddings.weight"},
    ),
    layout=_layout,
    padding_row=True,
    defaults={
        **DEFAULTS,
        "hidden_size": 256,
        "num_attention_heads": 4,
        "intermediate_size": 1024,
        "embedding_size": 128,
        "vocab_size": 30522,
    },
    config_fields=CONFIG_KEYS,
    required_files=("config.json", VOCABULARIES),
    optional_files=OTHER_FILES,
    other_tensors=_other_tensors,
    refused=REFUSED,
    neurons_key="intermediate_size",
    padding=text_padding,
    # What tells replaced words from others has no head for words: its encoder is what others build on.
    ways={"ElectraForPreTraining": "ElectraModel"},
)
