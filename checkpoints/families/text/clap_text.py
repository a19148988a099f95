"""CLAP's text encoder (Wu et al., arXiv 2211.06687): RoBERTa's, with a projection of its pooled first token."""

from api_schemas.enums import Head, Modality
from checkpoints.families.base import Architecture, Config, Family, Layout
from checkpoints.families.config_fields import CLAP_TEXT as CONFIG_KEYS
from checkpoints.families.tensor_shapes import Shapes, linear
from checkpoints.families.text.bert import DEFAULTS, REFUSED, bert_layout, bert_tensors
from checkpoints.families.text.text_encoder import TEXT_FILES, text_padding
from checkpoints.files.preprocessor_files import VOCABULARIES


def _layout(config: Config, architecture: Architecture) -> Layout:
    full = CLAP_TEXT.filled(config)
    projection = full["projection_dim"]
    products = projection * (full["hidden_size"] + projection)
    return bert_layout(full, architecture, roberta=True, further=2 * products)


def _other_tensors(config: Config, architecture: Architecture, labels: int) -> Shapes:
    full = CLAP_TEXT.filled(config)
    projection = full["projection_dim"]
    return {
        **bert_tensors(full, architecture, labels, roberta=True),
        **linear("text_projection.linear1", projection, full["hidden_size"]),
        **linear("text_projection.linear2", projection, projection),
    }


CLAP_TEXT = Family(
    name="clap_text",
    model_types=("clap_text_model",),
    modality=Modality.TEXT,
    architectures={
        "ClapTextModelWithProjection": Architecture(
            task="feature-extraction", head=Head.EMBEDDING, auto_class="AutoModel", prefix="text_model."
        ),
    },
    layout=_layout,
    defaults={
        **DEFAULTS,
        "vocab_size": 50265,
        "max_position_embeddings": 514,
        "type_vocab_size": 1,
        "projection_dim": 512,
    },
    config_fields=CONFIG_KEYS,
    required_files=("config.json", VOCABULARIES),
    # None of sentence-transformers: its library loads no such class.
    optional_files=TEXT_FILES,
    other_tensors=_other_tensors,
    # No neurons_key: transformers has no auto class of it, and a result without code would load with none.
    refused=REFUSED,
    never_null=("pad_token_id",),
    padding_row=True,
    padding=text_padding,
)
