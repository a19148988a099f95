"""What encoders of text share: their files, the length that costs are counted for, and their three classes."""

from api_schemas.enums import Head
from checkpoints.families.base import Architecture
from checkpoints.files.preprocessor_files import PROCESSOR, SENTENCE_FILES, TOKENIZER_FILES

TOKENS = 128
"""A text may have any length up to the model's positions: costs are those of a paragraph of so many tokens."""

OTHER_FILES = ("README.md", PROCESSOR, *TOKENIZER_FILES, *SENTENCE_FILES)


def text_classes(
    stock: str, prefix: str, classifiers: tuple[str, ...], *, pooled: bool = False
) -> dict[str, Architecture]:
    """The classes whose names start with `stock`: classifiers of texts and of tokens, and the plain encoder.

    Args:
        prefix: before the encoder's names in the classifiers; the plain encoder has none.
        classifiers: modules after the encoder of the classifier of texts.
        pooled: that one reads the encoder's pooler. No other class does, embeddings being means over tokens.
    """
    pooler = r"(\w+\.)?pooler\.dense\.(weight|bias)"
    return {
        f"{stock}ForSequenceClassification": Architecture(
            task="text-classification",
            head=Head.CLASSIFICATION,
            auto_class="AutoModelForSequenceClassification",
            classifiers=classifiers,
            prefix=prefix,
            dispensable=None if pooled else pooler,
        ),
        f"{stock}ForTokenClassification": Architecture(
            task="token-classification",
            head=Head.TOKEN_CLASSIFICATION,
            auto_class="AutoModelForTokenClassification",
            classifiers=("classifier",),
            prefix=prefix,
            dispensable=pooler,
        ),
        f"{stock}Model": Architecture(
            task="feature-extraction", head=Head.EMBEDDING, auto_class="AutoModel", dispensable=pooler
        ),
    }
