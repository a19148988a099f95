"""What causal language models share: their files, the length of their inputs, and their class."""

from collections.abc import Mapping

from api_schemas.enums import Head
from checkpoints.families.base import Architecture, Config, Padding, UnusableConfigError
from checkpoints.families.text.text_encoder import TEXT_FILES, TOKENS
from checkpoints.files.preprocessor_files import CHAT_TEMPLATE, GENERATION

BLOCK = 512
"""A text is read in blocks of so many tokens, where the model has as many positions; costs are those of a full one."""

CAUSAL_FILES = (*TEXT_FILES, GENERATION, CHAT_TEMPLATE)
WHILE_ENGAGED: Mapping[str, bool] = {"use_cache": False}
"""A pass over whole texts needs no keys and values for a next one, which every layer would keep."""


def causal_class(prefix: str, embeddings: str, dispensable: str | None = None) -> Architecture:
    """A model with a head for the next token, whose weight is the word `embeddings`' unless its config says otherwise.

    The head is no module that is trained as well in recovery: it is the embeddings, which every layer rests on.
    """
    return Architecture(
        task="text-generation",
        head=Head.CAUSAL_LM,
        auto_class="AutoModelForCausalLM",
        prefix=prefix,
        dispensable=dispensable,
        tied={"lm_head.weight": f"{prefix}{embeddings}.weight"},
    )


def causal_padding(config: Config, architecture: Architecture) -> Padding:  # noqa: ARG001 - all are padded alike
    """Any token, behind a text: none looks ahead, so what stands there reaches no token of the text."""
    padding, words = config.get("pad_token_id"), config.get("vocab_size")
    filler = padding if isinstance(padding, int) and isinstance(words, int) and 0 <= padding < words else 0
    # A pass holds as many tokens as one of the same batch size does of other texts: a full block's logits are the largest tensor.
    return Padding({"input_ids": filler}, "attention_mask", TOKENS)


def block_tokens(positions: int, key: str) -> int:
    """How long a full block is of a model with so many positions. Raises UnusableConfigError where it cannot be two tokens."""
    if positions < 2:
        raise UnusableConfigError(key, "predicting the next token requires at least two positions")
    return min(BLOCK, positions)
