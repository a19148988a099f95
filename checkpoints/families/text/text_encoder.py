"""What text encoders share: their files, the length for which costs are counted, and their classes."""

from collections.abc import Mapping

from api_schemas.enums import Head
from checkpoints.families.base import Architecture, Config, Padding
from checkpoints.files.preprocessor_files import PROCESSOR, SENTENCE_FILES, TOKENIZER_FILES

TOKENS = 128
"""A text may have any length up to the model's positions: costs are those of a paragraph of so many tokens."""
WINDOW = 384
"""A question and the part of a context that is read with it have so many at most, as in transformers' example (run_qa.py); costs
are those of a full one."""
ENDS = 2
"""What says where an answer begins, and where it ends."""

POOLER = r"(\w+\.)?pooler\.dense\.(weight|bias)"

TEXT_FILES = ("README.md", PROCESSOR, *TOKENIZER_FILES)
OTHER_FILES = (*TEXT_FILES, *SENTENCE_FILES)


def text_classes(
    stock: str,
    prefix: str,
    classifiers: tuple[str, ...],
    *,
    tied: Mapping[str, str],
    spare: str = "",
    pooled: bool = False,
) -> dict[str, Architecture]:
    """The classes whose names start with `stock`: classifiers of texts and of tokens, what answers questions from a context, what
    fills in masked words, and the plain encoder.

    Args:
        prefix: before the encoder's names in the classifiers; the plain encoder has none.
        classifiers: modules after the encoder of the classifier of texts.
        tied: of the head for masked words, what is another's: the embeddings of words read the other way.
        spare: a pattern of names beside that head: of another that was pretrained together with it.
        pooled: that one reads the encoder's pooler. No other class does, embeddings being means over tokens.
    """
    return {
        f"{stock}ForSequenceClassification": Architecture(
            task="text-classification",
            head=Head.CLASSIFICATION,
            auto_class="AutoModelForSequenceClassification",
            classifiers=classifiers,
            prefix=prefix,
            dispensable=None if pooled else POOLER,
        ),
        f"{stock}ForTokenClassification": Architecture(
            task="token-classification",
            head=Head.TOKEN_CLASSIFICATION,
            auto_class="AutoModelForTokenClassification",
            classifiers=("classifier",),
            prefix=prefix,
            dispensable=POOLER,
        ),
        f"{stock}ForQuestionAnswering": Architecture(
            task="question-answering",
            head=Head.QUESTION_ANSWERING,
            auto_class="AutoModelForQuestionAnswering",
            classifiers=("qa_outputs",),
            prefix=prefix,
            dispensable=POOLER,
        ),
        # Its head is left as it is in recovery: most often another comes in its place.
        f"{stock}ForMaskedLM": Architecture(
            task="fill-mask",
            head=Head.MASKED_LM,
            auto_class="AutoModelForMaskedLM",
            prefix=prefix,
            dispensable=f"{POOLER}|{spare}" if spare else POOLER,
            tied=tied,
        ),
        f"{stock}Model": Architecture(
            task="feature-extraction", head=Head.EMBEDDING, auto_class="AutoModel", dispensable=POOLER
        ),
    }


def text_padding(config: Config, architecture: Architecture) -> Padding:
    """Padding tokens, which nothing attends to. Another id says as much: what stands there reaches no real token."""
    padding, words = config.get("pad_token_id"), config.get("vocab_size")
    filler = padding if isinstance(padding, int) and isinstance(words, int) and 0 <= padding < words else 0
    usual = WINDOW if architecture.head is Head.QUESTION_ANSWERING else TOKENS
    return Padding({"input_ids": filler, "token_type_ids": 0}, "attention_mask", usual)


def tokens(architecture: Architecture, positions: int) -> int:
    """How long the input is whose costs are counted; the model has so many positions."""
    return min(WINDOW if architecture.head is Head.QUESTION_ANSWERING else TOKENS, positions)


def untied(
    config: Config, architecture: Architecture, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[int, ...]]:
    """What the class ties, where the configuration makes of each a weight of its own. `shapes`: of what it would be tied to."""
    if config.get("tie_word_embeddings", True) is not False:
        return {}
    return {name: shapes[source] for name, source in architecture.tied.items()}
