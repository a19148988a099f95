"""ModernBERT (Warner et al., arXiv 2412.13663), as transformers implements it: rotary positions, gated feed-forward blocks, and
local attention in most layers."""

from api_schemas.enums import Head, Modality
from checkpoints.config_rules import Integer, ListOf, Number, ObjectOf, OneOf
from checkpoints.families.base import (
    Architecture,
    AttentionKind,
    AttentionSite,
    Config,
    Family,
    FeedForwardSite,
    Layout,
    Padding,
    UnusableConfigError,
)
from checkpoints.families.config_fields import ACTIVATION, FLAG, RATE, SCALE, SHORT, TOKEN
from checkpoints.families.encoder import MAX_LAYERS, head_width, label_count
from checkpoints.families.text.text_encoder import OTHER_FILES, TOKENS, tokens, untied
from checkpoints.files.preprocessor_files import VOCABULARIES
from checkpoints.sizes.shape import AttentionShape, FeedForwardShape

GLOBAL, LOCAL = "full_attention", "sliding_attention"
"""transformers' names of the two types of layers."""
PADDING = 50283
"""The padding token's number where a config says none."""
THETA = Number(1.0, 1e12)
"""Of rotary positions: the base of their wavelengths."""


def _types(config: Config) -> tuple[str, ...]:
    """Of each layer, as the class reads them: by name, or every so many a global one."""
    layers, said = config["num_hidden_layers"], config.get("layer_types")
    if layers > MAX_LAYERS:
        raise UnusableConfigError("num_hidden_layers", f"at most {MAX_LAYERS} layers are supported")
    if said is None:
        return tuple(LOCAL if layer % config["global_attn_every_n_layers"] else GLOBAL for layer in range(layers))
    if len(said) != layers:
        raise UnusableConfigError("layer_types", f"must have as many entries as num_hidden_layers, {layers}")
    return tuple(said)


def _layout(config: Config, architecture: Architecture) -> Layout:
    config = MODERNBERT.filled(config)
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    head_dim = head_width(hidden, heads, "num_attention_heads")
    if head_dim % 2:
        raise UnusableConfigError(
            "num_attention_heads", f"heads are {head_dim} wide, but rotary positions require an even width"
        )
    padding = config.get("pad_token_id", PADDING)
    if padding is not None and padding >= config["vocab_size"]:
        raise UnusableConfigError("pad_token_id", f"{padding} is not a token of a vocabulary of {config['vocab_size']}")
    if config["local_attention"] < 2:
        raise UnusableConfigError("local_attention", "must be a window of at least 2 tokens")
    length, types = tokens(architecture, config["max_position_embeddings"]), _types(config)
    attention, feed_forward = [], []
    for number in range(config["num_hidden_layers"]):
        at = f"{architecture.prefix}layers.{number}"
        attention.append(
            AttentionSite(
                module=f"{at}.attn",
                q=f"{at}.attn.Wqkv.q",
                k=f"{at}.attn.Wqkv.k",
                v=f"{at}.attn.Wqkv.v",
                o=f"{at}.attn.Wo",
                joined=f"{at}.attn.Wqkv",
                # Norms come first; the first layer's does nothing.
                stream=f"{at}.attn_norm",
                kind=AttentionKind.ROTARY,
                shape=AttentionShape(
                    layer=number,
                    heads=heads,
                    head_dim=head_dim,
                    hidden=hidden,
                    source=hidden,
                    q_bias=config["attention_bias"],
                    k_bias=config["attention_bias"],
                    v_bias=config["attention_bias"],
                    o_bias=config["attention_bias"],
                    queries=length,
                    keys=length,
                    # Also where a layer sees a window: the others are masked, which spares torch's kernels nothing.
                    pairs=length**2,
                    rotary=head_dim,
                ),
            )
        )
        feed_forward.append(
            FeedForwardSite(
                first=f"{at}.mlp.Wi.gate",
                up=f"{at}.mlp.Wi.up",
                second=f"{at}.mlp.Wo",
                joined=f"{at}.mlp.Wi",
                stream=f"{at}.mlp_norm",
                shape=FeedForwardShape(
                    layer=number,
                    hidden=hidden,
                    neurons=config["intermediate_size"],
                    tokens=length,
                    first_bias=config["mlp_bias"],
                    second_bias=config["mlp_bias"],
                    gated=True,
                ),
            )
        )
    # One more map to the hidden size stands before labels and words.
    rows = {
        Head.EMBEDDING: 0,
        Head.CLASSIFICATION: hidden + label_count(config),
        Head.TOKEN_CLASSIFICATION: length * (hidden + label_count(config)),
        Head.MASKED_LM: length * (hidden + config["vocab_size"]),
    }[architecture.head]
    stack = tuple(f"{architecture.prefix}layers.{number}" for number in range(config["num_hidden_layers"]))
    return Layout(tuple(attention), tuple(feed_forward), (stack,), 2 * hidden * rows, types=(types,))


def _other_tensors(config: Config, architecture: Architecture, labels: int) -> dict[str, tuple[int, ...]]:
    config = MODERNBERT.filled(config)
    hidden, words, prefix = config["hidden_size"], config["vocab_size"], architecture.prefix
    layers = range(config["num_hidden_layers"])
    norms = [f"{prefix}layers.{layer}.{norm}" for layer in layers for norm in ("attn_norm", "mlp_norm")][1:]
    norms += [f"{prefix}embeddings.norm", f"{prefix}final_norm"]
    shapes: dict[str, tuple[int, ...]] = {f"{prefix}embeddings.tok_embeddings.weight": (words, hidden)}
    if architecture.head is not Head.EMBEDDING:
        norms.append("head.norm")
        shapes["head.dense.weight"] = (hidden, hidden)
        shapes |= {"head.dense.bias": (hidden,)} if config["classifier_bias"] else {}
    for norm in norms:
        shapes[f"{norm}.weight"] = (hidden,)
        shapes |= {f"{norm}.bias": (hidden,)} if config["norm_bias"] else {}
    if architecture.head is Head.MASKED_LM:
        shapes |= {"decoder.bias": (words,)} if config["decoder_bias"] else {}
        shapes |= untied(config, architecture, shapes)
    elif architecture.head is not Head.EMBEDDING:
        shapes |= {"classifier.weight": (labels, hidden), "classifier.bias": (labels,)}
    return shapes


def _padding(config: Config, _architecture: Architecture) -> Padding:
    """Padding tokens, which nothing attends to."""
    padding = config.get("pad_token_id")
    words = MODERNBERT.value(config, "vocab_size")
    filler = padding if isinstance(padding, int) and 0 <= padding < words else 0
    return Padding({"input_ids": filler}, "attention_mask", TOKENS)


_CLASSES = {
    "ModernBertForSequenceClassification": Architecture(
        task="text-classification",
        head=Head.CLASSIFICATION,
        auto_class="AutoModelForSequenceClassification",
        classifiers=("head", "classifier"),
        prefix="model.",
    ),
    "ModernBertForTokenClassification": Architecture(
        task="token-classification",
        head=Head.TOKEN_CLASSIFICATION,
        auto_class="AutoModelForTokenClassification",
        classifiers=("head", "classifier"),
        prefix="model.",
    ),
    # Its head is left as it is in recovery: most often another comes in its place.
    "ModernBertForMaskedLM": Architecture(
        task="fill-mask",
        head=Head.MASKED_LM,
        auto_class="AutoModelForMaskedLM",
        prefix="model.",
        tied={"decoder.weight": "model.embeddings.tok_embeddings.weight"},
    ),
    "ModernBertModel": Architecture(task="feature-extraction", head=Head.EMBEDDING, auto_class="AutoModel"),
}
_POSITIONS = ObjectOf(
    {layers: ObjectOf({"rope_type": OneOf(("default",)), "rope_theta": THETA}) for layers in (GLOBAL, LOCAL)}
)
"""How either type of layer rotates q and k. Other kinds than the default stretch positions beyond what was trained."""

MODERNBERT = Family(
    name="modernbert",
    model_types=("modernbert",),
    modality=Modality.TEXT,
    architectures=_CLASSES,
    layout=_layout,
    defaults={
        "vocab_size": 50368,
        "hidden_size": 768,
        "intermediate_size": 1152,
        "num_hidden_layers": 22,
        "num_attention_heads": 12,
        "max_position_embeddings": 8192,
        "local_attention": 128,
        "global_attn_every_n_layers": 3,
        "attention_bias": False,
        "mlp_bias": False,
        "norm_bias": False,
        "decoder_bias": True,
        "classifier_bias": False,
    },
    config_fields={
        "layer_types": ListOf(OneOf((GLOBAL, LOCAL)), MAX_LAYERS),
        "rope_parameters": _POSITIONS,
        "global_rope_theta": THETA,
        "local_rope_theta": THETA,
        **dict.fromkeys(("hidden_activation", "classifier_activation"), ACTIVATION),
        "classifier_pooling": OneOf(("cls", "mean")),
        **dict.fromkeys(("embedding_dropout", "attention_dropout", "mlp_dropout", "norm_eps"), RATE),
        "initializer_cutoff_factor": SCALE,
        **dict.fromkeys(
            ("deterministic_flash_attn", "reference_compile", "repad_logits_with_grad", "sparse_prediction"), FLAG
        ),
        "sparse_pred_ignore_index": Integer(-(2**24), 2**24),
        "cls_token_id": TOKEN,
        "position_embedding_type": SHORT,
    },
    refused={"head_dim": (None, "the head width follows from hidden_size and num_attention_heads; leave this out")},
    required_files=("config.json", VOCABULARIES),
    optional_files=OTHER_FILES,
    other_tensors=_other_tensors,
    neurons_key="intermediate_size",
    padding=_padding,
)
