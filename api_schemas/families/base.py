"""What Secateur needs to know of a model family, as data: where attention is, what it is called, what it costs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Config = Mapping[str, Any]


@dataclass(frozen=True)
class FileNames:
    """How one way of saving names the projections in the safetensors file. `{layer}` stands for the layer's number."""

    query: str
    key: str
    value: str
    output: str

    def projections(self, layer: int) -> dict[str, str]:
        """Name of each projection's module in the file, without `.weight` or `.bias`."""
        names = {"q": self.query, "k": self.key, "v": self.value, "o": self.output}
        return {side: name.format(layer=layer) for side, name in names.items()}


@dataclass(frozen=True)
class Family:
    """One family of checkpoints. Adding one is adding a file to this folder."""

    name: str
    model_types: tuple[str, ...]
    """`model_type` in config.json."""
    architectures: Mapping[str, str]
    """Supported classes of transformers and the task of each."""
    layer_modules: str
    """Path of a transformer layer in the module tree, `{layer}` for its number. Its input is the residual stream."""
    feed_forward_outputs: str
    """Path of a layer's second feed-forward projection, which writes to the residual stream."""
    attention_modules: str
    """Path of a layer's attention in the module tree, `{layer}` for its number."""
    projections: Mapping[str, str]
    """q, k, v, o: attribute names inside the attention module."""
    file_names: tuple[FileNames, ...]
    """Every way in which transformers has saved this family; the first is the module tree of transformers 5."""
    classifier_modules: tuple[str, ...]
    """Heads that are trained as well during recovery."""
    heads_key: str
    layers_key: str
    hidden_key: str
    head_dim_key: str | None
    """Config key of the head width, where the stock class reads one: then uniform results load without custom code."""
    bias_key: str | None
    """Config key that says whether q, k and v have biases; None where they always have."""
    tokens: Callable[[Config], int]
    """Sequence length of one input, special tokens included. ValueError where the config leaves no room for one."""
    other_flops: Callable[[Config], int]
    """FLOPs outside attention for one input."""
    required_files: tuple[str, ...]
    """Files a checkpoint folder must have beside its safetensors."""
    optional_files: tuple[str, ...]
    feature_extractors: tuple[str, ...]
    """`feature_extractor_type`s in preprocessor_config.json that make this family's inputs."""
    preprocessor_keys: tuple[str, ...]
    """Keys that config.json and preprocessor_config.json must agree on: the size of an input."""
    defaults: Mapping[str, Any]
    """Values of config keys that config.json may leave out."""
    other_tensors: Callable[[Config, int], Mapping[tuple[str, ...], tuple[int, ...]]]
    """Every tensor outside q, k, v, o, given the number of labels: the names it may have in the file, and its shape."""

    def value(self, config: Config, key: str) -> Any:
        """A config value, or the family's default for it. KeyError where there is neither."""
        return config[key] if key in config else self.defaults[key]
