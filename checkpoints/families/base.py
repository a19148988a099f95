"""What Secateur needs to know of a model family, as data: where its blocks are, their names, their costs."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from api_schemas.enums import Head, Modality
from api_schemas.results.widths import AttentionWidths
from checkpoints.config_rules import Rule
from checkpoints.sizes.shape import AttentionShape, FeedForwardShape, whole_widths

Config = Mapping[str, Any]


class UnusableConfigError(ValueError):
    """A config describes no model of the family: the key and what is wrong with it."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"{key}: {reason}")
        self.key, self.reason = key, reason


class AttentionKind(StrEnum):
    """How an attention is computed between its projections; each has its own forward in the code that travels."""

    SELF = "self"
    """Scores q·k, softmax, nothing else."""
    CACHED = "cached"
    """The same in a decoder: keys and values may be kept from token to token, or come from an encoder."""
    GATED_POSITIONS = "gated_positions"
    """WavLM: relative positions, gated by the layer's input, are added to the scores."""
    ROTARY = "rotary"
    """Channels of q and k are rotated in pairs, by angles that grow with the token's place; not those of tokens that come before
    the first angles."""
    ROTARY_CACHED = "rotary_cached"
    """The same in a decoder, whose keys and values may be kept from token to token."""
    NORMED_ROTARY_CACHED = "normed_rotary_cached"
    """The same, where q and k are normed over the channels of each head before they are rotated."""
    WINDOWED = "windowed"
    """Swin: a table of relative positions is added to the scores, inside windows."""
    SHARED_POSITIONS = "shared_positions"
    """MPNet: relative positions, which the encoder gives to all layers, are added to the scores."""
    RELATIVE_POSITIONS = "relative_positions"
    """Conformers: dot products of queries and relative positions are added to the scores."""
    ROTATED_INPUT = "rotated_input"
    """Wav2Vec2-Conformer: what goes into the projections of q and k is rotated by position; what comes out of them is not."""


@dataclass(frozen=True)
class AttentionSite:
    """One attention: paths in the module tree, and its shape."""

    module: str
    """The module that computes it, whose forward is replaced once it is cut."""
    q: str
    k: str
    v: str
    o: str
    stream: str | None
    """The module whose input is what the attention's output is added to: a norm where norms come first, else itself. None:
    the stream's tokens come in another order than the attention's."""
    shape: AttentionShape
    kind: AttentionKind = AttentionKind.SELF
    per_head: Mapping[str, int] = field(default_factory=dict)
    """Parameters of `module` beside the projections that have an entry for every head: name and dimension."""
    joined: str | None = None
    """The one map that the stock class has in the place of q, k and v, whose outputs are theirs in this order; q, k and v are
    then paths in the pruned class alone, all inside of it or none."""
    norms: Mapping[str, str] = field(default_factory=dict)
    """Of q and k, paths of the norms over the channels of each head that their outputs go through (`AttentionShape.qk_whole`)."""
    positions: str | None = None
    """The map, without a bias, of relative positions to what queries are multiplied by, as by keys: its rows are k's. What it has
    and costs is in `head_parameters` and `head_flops` (`AttentionShape.qk_whole`)."""

    def projections(self) -> dict[str, str]:
        """Path of each projection, by side."""
        return {"q": self.q, "k": self.k, "v": self.v, "o": self.o}


@dataclass(frozen=True)
class FeedForwardSite:
    """One feed-forward block: paths of its two maps, of the module whose input it is added to, and its shape."""

    first: str
    """Its output goes through the activation."""
    second: str
    stream: str | None
    shape: FeedForwardShape
    up: str | None = None
    """Of a gated block, the map by whose output the activation's is multiplied."""
    joined: str | None = None
    """Likewise, in the place of `first` and `up`."""
    before_attention: bool = False
    """It runs before the attention of its layer, where others run behind it."""


@dataclass(frozen=True)
class Layout:
    """The blocks of one model, in the order in which they run."""

    attention: tuple[AttentionSite, ...]
    feed_forward: tuple[FeedForwardSite, ...]
    stacks: tuple[tuple[str, ...], ...]
    """Paths of the layers that feed one another directly, hidden states to hidden states; not so from stack to stack."""
    other_flops: int
    """FLOPs outside the blocks for one input."""
    carries: str | None = None
    """Name of an argument that every layer gets from the second output of the one before."""
    transposed: bool = False
    """The stock class has the blocks' maps as transformers' `Conv1D`, whose weights are (inputs, outputs); the pruned class has
    linear maps."""
    types: tuple[tuple[str, ...], ...] = ()
    """By stack and layer, of which type it is, where layers of different types are called with different masks or positions."""

    def first_tensor(self, widths: AttentionWidths | None = None) -> str:
        """Of the names in `tensors` the one by which a file is known."""
        site = self.attention[0]
        return f"{site.q if widths is not None or site.joined is None else site.joined}.weight"

    def joined(self, widths: AttentionWidths) -> dict[str, dict[str, int]]:
        """By path of each linear map that the stock class has for several, these in the order of its outputs: paths, and how many
        outputs they have in a model of these widths."""
        found: dict[str, dict[str, int]] = {}
        for site, layer in zip(self.attention, widths.layers, strict=True):
            if site.joined is not None:
                queries = site.shape.queries_per_head * layer.qk_total
                found[site.joined] = {site.q: queries, site.k: layer.qk_total, site.v: layer.vo_total}
        for pair, neurons in zip(self.feed_forward, widths.feed_forward, strict=True):
            if pair.joined is not None and pair.up is not None:
                found[pair.joined] = {pair.first: neurons, pair.up: neurons}
        return found

    def tensors(self, widths: AttentionWidths | None = None) -> dict[str, tuple[int, ...]]:
        """By name in the module tree, the shape of every weight and bias of the blocks; without `widths`, the stock class's."""
        if widths is None:
            return self._stock_tensors()
        shapes: dict[str, tuple[int, ...]] = {}

        def add(name: str, rows: int, columns: int, bias: bool) -> None:
            shapes[f"{name}.weight"] = (rows, columns)
            if bias:
                shapes[f"{name}.bias"] = (rows,)

        for site, layer in zip(self.attention, widths.layers, strict=True):
            block, qk, vo = site.shape, layer.qk_total, layer.vo_total
            add(site.q, block.queries_per_head * qk, block.hidden, block.q_bias)
            add(site.k, qk, block.source, block.k_bias)
            add(site.v, vo, block.source, block.v_bias)
            add(site.o, block.hidden, block.queries_per_head * vo, block.o_bias)
        for pair, neurons in zip(self.feed_forward, widths.feed_forward, strict=True):
            for path in filter(None, (pair.first, pair.up)):
                add(path, neurons, pair.shape.hidden, pair.shape.first_bias)
            add(pair.second, pair.shape.hidden, neurons, pair.shape.second_bias)
        return shapes

    def _stock_tensors(self) -> dict[str, tuple[int, ...]]:
        whole = AttentionWidths(
            head_dim=self.attention[0].shape.head_dim,
            layers=whole_widths([site.shape for site in self.attention]),
            feed_forward=tuple(pair.shape.neurons for pair in self.feed_forward),
        )
        shapes = self.tensors(whole)
        for path, parts in self.joined(whole).items():
            first = next(iter(parts))
            for kind in ("weight", "bias"):
                if f"{first}.{kind}" in shapes:
                    shapes[f"{path}.{kind}"] = (sum(parts.values()), *shapes[f"{first}.{kind}"][1:])
            for part in parts:
                shapes.pop(f"{part}.weight")
                shapes.pop(f"{part}.bias", None)
        if self.transposed:
            shapes = {name: shape[::-1] for name, shape in shapes.items()}
        return shapes


@dataclass(frozen=True)
class Architecture:
    """One class of transformers that is supported."""

    task: str
    """The hub's name of the task."""
    head: Head
    auto_class: str
    classifiers: tuple[str, ...] = ()
    """Modules that are trained as well during recovery, where the model has them."""
    prefix: str = ""
    """What stands before the encoder's own names in the module tree, with its dot."""
    dispensable: str | None = None
    """A pattern of names in the module tree: tensors on which no answer depends, and which published files may lack or add."""
    tied: Mapping[str, str] = field(default_factory=dict)
    """Tensors that are another's, unless `tie_word_embeddings` is false: a file may hold a copy, which counts for nothing."""

    def dispenses_with(self, name: str) -> bool:
        """Whether a file may lack this tensor, or have it where the class does not."""
        return self.dispensable is not None and re.fullmatch(self.dispensable, name) is not None


@dataclass(frozen=True)
class Padding:
    """How inputs of several lengths share a pass: the shorter ones are filled up behind, and a mask says what is real.

    What a model answers to the real part is then what it answers without padding (docs/adr/0037-padding.md).
    """

    fills: Mapping[str, float]
    """By keyword of an input, what stands behind a shorter row."""
    mask: str
    """Keyword of the mask, int64 [B, T]: ones, and zeros where a row was filled up."""
    usual: int
    """Length of the inputs that costs are counted for, or less: a pass holds no more than so much a row of the batch size that
    was asked for, so that its memory is what `tensor_bytes` grows with."""


@dataclass(frozen=True)
class Part:
    """The part of a larger model that is worked on: an encoder, and the projection behind it, whose outputs the rest reads.

    The engine loads and runs these two alone. What lies outside of them, and the projection, is copied into a result as it is.
    """

    config_key: str
    """Key of config.json under which the encoder's configuration stands; `Family.inner` has its family."""
    encoder: str
    """Path in the whole model's module tree."""
    projection: str
    """Likewise."""
    projection_class: str
    """Of the module there, by its name in transformers' module of the whole class."""
    rest: str
    """What the whole model has beside them, in words."""

    def holds(self, name: str) -> bool:
        """Whether a tensor of the whole model, by its name in the module tree, is of the two."""
        return name.startswith((f"{self.encoder}.", f"{self.projection}."))


@dataclass(frozen=True)
class Family:
    """One family of checkpoints. Adding one is adding a file to this folder's `text`, `vision` or `audio` (docs/families.md)."""

    name: str
    model_types: tuple[str, ...]
    """`model_type` in config.json."""
    modality: Modality
    architectures: Mapping[str, Architecture]
    """By class of transformers."""
    layout: Callable[[Config, Architecture], Layout]
    """Raises UnusableConfigError."""
    defaults: Mapping[str, Any]
    """The config fields that are read, and their values where config.json leaves them out, whose types are asked for."""
    other_tensors: Callable[[Config, Architecture, int], Mapping[str, tuple[int, ...]]]
    """Every tensor outside the blocks but integers and what is tied, given the number of labels: its name in the module tree, and
    its shape."""
    required_files: tuple[str | tuple[str, ...], ...]
    """Files a checkpoint folder must have beside its safetensors; of those in a tuple, one."""
    optional_files: tuple[str, ...] = ()
    preprocessors: tuple[str, ...] = ()
    """Types in preprocessor_config.json that make this family's inputs; empty where it needs no such file."""
    preprocessor_fields: tuple[str, ...] = ()
    """Keys that config.json and preprocessor_config.json must agree on: the size of an input."""
    saved_names: tuple[tuple[tuple[str, str], ...], ...] = ((),)
    """Every way in which transformers has named this family's tensors in files: replacements (pattern, by what) in the names of
    the module tree, in turn. The first is none: the module tree of transformers 5."""
    no_export: str = ""
    """Why its models cannot be written as an ONNX graph, where they cannot."""
    no_torchao: str = ""
    """Why torchao cannot write their linear maps in eight bits, where it cannot."""
    heads_key: str | None = None
    """With `head_dim_key`: config fields of number and width of heads, where the stock class reads a width: then uniform results
    load without custom code."""
    head_dim_key: str | None = None
    neurons_key: str | None = None
    """Config key of the number of neurons, where one key says it of all feed-forward blocks: then blocks that were cut alike load
    without custom code, with attention as it was or uniform."""
    groups_keys: tuple[str, str, str] | None = None
    """Config keys of the numbers of heads of queries and of keys, and of their width, where positions rotate heads of that width:
    then attention that is left with equally many whole heads in every layer loads without custom code, where the first number
    divides the hidden size."""
    refused: Mapping[str, tuple[Any, str]] = field(default_factory=dict)
    """Config fields with the one value that is supported, and what to say of any other."""
    config_fields: Mapping[str, Rule] = field(default_factory=dict)
    """Config fields that nothing here reads and the class does, beside those of any class, with what each may be."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Other names by which the class reads a field of `defaults` (its `attribute_map`): both must say the same."""
    never_null: tuple[str, ...] = ()
    """Tokens that there cannot be none of: the class computes with their numbers, and null is read as its default."""
    padding: Callable[[Config, Architecture], Padding | None] | None = None
    """How inputs of several lengths share a pass; None: they are of one length, or the model's answers would change."""
    padding_row: bool = False
    """The class's embeddings of words keep the row of `pad_token_id` at zero, so that there has to be one."""
    needs: str = "5.10"
    """The first version of transformers in which its classes have the names in the module tree that are here."""
    largest_side: int | None = None
    """Of images that may have any size: pixels of the longest side that is read. None: they have the config's size."""
    ways: Mapping[str, str] = field(default_factory=dict)
    """Of classes of transformers that are not here: which of those that are is nearest, where its name would say another."""
    twin: bool = False
    """Its classes compute what another family's do, under the same names of weights: where a config does not say which, the other
    is assumed."""
    while_engaged: Mapping[str, Any] = field(default_factory=dict)
    """Config values that hold while the engine has the model, and that no file gets: what would make training unrepeatable."""
    part: Part | None = None
    """Of a model that is worked on in part: which. The blocks of its layout are that part's."""
    inner: Mapping[str, "Family"] = field(default_factory=dict)
    """Config keys of objects that are other families' configurations: each is judged by that family's rules."""

    @property
    def files(self) -> frozenset[str]:
        """Every file a checkpoint folder of this family may have beside its safetensors."""
        entries = (*self.required_files, *self.optional_files)
        return frozenset(name for entry in entries for name in ((entry,) if isinstance(entry, str) else entry))

    def saved_as(self, naming: int, name: str) -> str:
        """A tensor's name in a file that uses one of `saved_names`, from its name in the module tree."""
        for pattern, by in self.saved_names[naming]:
            name = re.sub(pattern, by, name)
        return name

    def tensors(
        self, config: Config, architecture: Architecture, labels: int, widths: AttentionWidths | None = None
    ) -> dict[str, tuple[int, ...]]:
        """All tensors of a class, as `other_tensors` has them, those of its blocks included. Raises UnusableConfigError.

        widths: of the blocks, where they are not the stock class's.
        """
        layout = self.layout(config, architecture)
        shapes = {**layout.tensors(widths), **self.other_tensors(config, architecture, labels)}
        for site, layer in zip(layout.attention, () if widths is None else widths.layers, strict=widths is not None):
            for name, dimension in site.per_head.items():
                whole = list(shapes[f"{site.module}.{name}"])
                whole[dimension] = layer.heads
                shapes[f"{site.module}.{name}"] = tuple(whole)
        for number, site in enumerate(layout.attention):
            if site.positions is not None:
                rows = site.shape.heads * site.shape.head_dim if widths is None else widths.layers[number].qk_total
                shapes[f"{site.positions}.weight"] = (rows, site.shape.hidden)
        return shapes

    def prefixes(self, architecture: Architecture) -> list[str]:
        """What may stand before the encoder's names in a file of a class that has nothing there: the other classes' prefixes."""
        return [] if architecture.prefix else sorted({each.prefix for each in self.architectures.values()} - {""})

    def value(self, config: Config, key: str) -> Any:
        """A config value, or the family's default for it. KeyError where there is neither."""
        found = config.get(key)
        return self.defaults[key] if found is None else found

    def ties(self, config: Config) -> bool:
        """Whether what `Architecture.tied` names is tied, as the config says or else the class."""
        said = config.get("tie_word_embeddings")
        return bool(self.defaults.get("tie_word_embeddings", True) if said is None else said)

    def part_config(self, config: Config) -> Config:
        """The configuration of the part that is worked on; of any other model all of it."""
        return config if self.part is None else config.get(self.part.config_key) or {}

    def engaged(self, config: Config) -> dict[str, Any]:
        """The config with the values of `while_engaged`, of a part with those of the part's family in its own configuration."""
        inner = {key: family.engaged(config.get(key) or {}) for key, family in self.inner.items()}
        return {**config, **inner, **self.while_engaged}

    def filled(self, config: Config) -> dict[str, Any]:
        """The config with the family's defaults where it says nothing."""
        return {**config, **{key: self.value(config, key) for key in self.defaults}}
