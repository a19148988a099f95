"""Configuration of an Audio Spectrogram Transformer with structurally pruned attention (made by Secateur)."""

from transformers import ASTConfig


class PrunedASTConfig(ASTConfig):
    """An ASTConfig that also says how wide every attention head of every layer is.

    Args:
        attention_head_dim: head width of the original model; the softmax scale stays 1/sqrt(attention_head_dim).
        attention_widths: one entry a layer, `{"qk": [...], "vo": [...]}`, each list one width a head that was kept.
    """

    model_type = "pruned-audio-spectrogram-transformer"

    attention_head_dim: int | None = None
    attention_widths: list[dict[str, list[int]]] | None = None
