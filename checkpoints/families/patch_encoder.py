"""What patch encoders share (AST, ViT, DeiT), as transformers 5 implements them: names in the module tree and in files, and
norms."""

from collections.abc import Iterable
from typing import Any

from checkpoints.families.encoder import EncoderNames

PROCESSORS = ("ImageProcessor", "ImageProcessorFast", "ImageProcessorPil", "FeatureExtractor")
FRACTIONS = ("DINOv3ViTImageProcessor", "DINOv3ViTImageProcessorFast")
"""Those that resize an image once its values are fractions; others resize bytes, and round."""

# Of pretraining, or of the plain encoder's pooler: neither a class of an image nor a hidden state is computed with either.
UNREAD = r"(\w+\.)?(pooler\.dense\.(weight|bias)|embeddings\.mask_token)"

# Before transformers 5, and still when it saves.
OLD_NAMES = (
    # A plain encoder has nothing before.
    (r"(^|\.)layers\.(\d+)\.", r"\1encoder.layer.\2."),
    (r"attention\.o_proj", "attention.output.dense"),
    (r"attention\.q_proj", "attention.attention.query"),
    (r"attention\.k_proj", "attention.attention.key"),
    (r"attention\.v_proj", "attention.attention.value"),
    (r"mlp\.fc1", "intermediate.dense"),
    (r"mlp\.fc2", "output.dense"),
)


def names(prefix: str) -> EncoderNames:
    """Names in the module tree."""
    return EncoderNames(
        layer=f"{prefix}layers.{{layer}}",
        attention="attention",
        q="attention.q_proj",
        k="attention.k_proj",
        v="attention.v_proj",
        o="attention.o_proj",
        first="mlp.fc1",
        second="mlp.fc2",
        attention_stream="layernorm_before",
        feed_forward_stream="layernorm_after",
    )


def processors(*lines: str) -> tuple[str, ...]:
    """Image processors of these lines of classes, under every name that transformers has saved them by."""
    return tuple(f"{line}{kind}" for line in lines for kind in PROCESSORS)


def pair(size: Any) -> tuple[int, int]:
    """Height and width, of one number or two."""
    height, width = (size, size) if isinstance(size, int) else size
    return height, width


def norms(prefix: str, layers: int, hidden: int, others: Iterable[str] = ()) -> dict[str, tuple[int, ...]]:
    """Weights and biases of the norms of every layer, of the last one and of `others`."""
    paths = [f"{prefix}layernorm", *others]
    paths += [f"{prefix}layers.{layer}.layernorm_{where}" for layer in range(layers) for where in ("before", "after")]
    return {f"{path}.{kind}": (hidden,) for path in paths for kind in ("weight", "bias")}
