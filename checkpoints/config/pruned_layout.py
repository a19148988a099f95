"""The custom layout, in which a result states the width of each of its blocks: recognised, and its widths read and checked.

Only numbers are taken from such a config. The code beside the weights is never read: Secateur loads the checkpoint with its own
code, and a result gets that code again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from api_schemas.results.widths import AttentionWidths, LayerWidths, numbers_of
from checkpoints.families import ALL_FAMILIES, Layout, UnusableConfigError
from checkpoints.sizes.shape import AttentionShape

PREFIX = "Pruned"
"""Stands before the name of a class of transformers in the name of the class that has its blocks narrower."""
ATTENTION = "pruned_attention"
FEED_FORWARD = "pruned_feed_forward"
WITHOUT_CODE = "pruned: load it with trust_remote_code=True"
"""Stands in a configuration as the implementation of attention, so that a stock class says it when it refuses to load, instead of
filling layers whose shape is another with random numbers where `ignore_mismatched_sizes` lets it."""
_OLDER_TYPE = "pruned-"
"""Stood before the `model_type` of older results."""
_CLASSES = {f"{PREFIX}{name}": name for family in ALL_FAMILIES for name in family.architectures}


@dataclass(frozen=True)
class SaidWidths:
    """What such a config has of its blocks, as it stands there: nothing of it is checked yet."""

    attention: Any
    feed_forward: Any

    def read(self, layout: Layout) -> AttentionWidths:
        """The widths, of a model whose blocks before any pruning are `layout`'s. Raises UnusableConfigError."""
        sites = layout.attention
        entries = _entries(ATTENTION, self.attention, [site.module for site in sites], "module")
        layers = tuple(
            _layer(number, entry, site.shape) for number, (entry, site) in enumerate(zip(entries, sites, strict=True))
        )
        blocks = layout.feed_forward
        neurons = tuple(block.shape.neurons for block in blocks)
        if self.feed_forward is not None:
            found = _entries(FEED_FORWARD, self.feed_forward, [block.first for block in blocks], "first")
            neurons = tuple(
                _neurons(number, entry, most) for number, (entry, most) in enumerate(zip(found, neurons, strict=True))
            )
        return AttentionWidths(head_dim=sites[0].shape.head_dim, layers=layers, feed_forward=neurons)


def stock_config(config: Mapping[str, Any]) -> tuple[dict[str, Any], SaidWidths | None]:
    """A config as its stock class has it and, where it is one of ours, what it says of widths; of any other, itself and None.

    Ours names one of our classes, and its widths. Its code map is left out with them, and only it: what else of it names code is
    refused like anybody's.
    """
    names = config.get("architectures")
    known = (
        _CLASSES.get(names[0]) if isinstance(names, list) and len(names) == 1 and isinstance(names[0], str) else None
    )
    if known is None or config.get(ATTENTION) is None:
        return dict(config), None
    plain = {key: value for key, value in config.items() if key not in ("auto_map", ATTENTION, FEED_FORWARD)}
    plain["architectures"] = [known]
    if plain.get("_attn_implementation") == WITHOUT_CODE:
        del plain["_attn_implementation"]
    if isinstance(plain.get("model_type"), str):
        plain["model_type"] = plain["model_type"].removeprefix(_OLDER_TYPE)
    return plain, SaidWidths(config[ATTENTION], config.get(FEED_FORWARD))


def _entries(key: str, said: Any, paths: Sequence[str], of: str) -> list[Mapping[str, Any]]:
    """One entry a block, in their order."""
    if not isinstance(said, list) or len(said) != len(paths):
        raise UnusableConfigError(
            key, f"must be a list of {len(paths)} entries, one for each block that the other keys describe"
        )
    for number, (entry, path) in enumerate(zip(said, paths, strict=True)):
        if not isinstance(entry, dict) or entry.get(of) != path:
            raise UnusableConfigError(key, f"entry {number} must be an object whose `{of}` is {path!r}")
    return said


def _layer(number: int, entry: Mapping[str, Any], shape: AttentionShape) -> LayerWidths:
    heads, head_dim = shape.heads, shape.head_dim
    at = f"of entry {number} must be"
    lists: dict[str, list[int]] = {}
    for key, least, most in (("qk", 1, head_dim), ("vo", 1, head_dim), ("heads", 0, heads - 1)):
        said = entry.get(key)
        if not _numbers(said, least, most, heads):
            needed = f"a list of at most {heads} whole numbers from {least} to {most}"
            raise UnusableConfigError(ATTENTION, f"`{key}` {at} {needed}")
        lists[key] = said
    qk, vo, numbers = lists.values()
    if not len(qk) == len(vo) == len(numbers):
        raise UnusableConfigError(ATTENTION, f"`qk`, `vo` and `heads` of entry {number} must have the same length")
    if numbers != sorted(set(numbers)):
        raise UnusableConfigError(ATTENTION, f"`heads` {at} increasing numbers")
    if shape.qk_whole and any(width != head_dim for width in qk):
        raise UnusableConfigError(
            ATTENTION, f"`qk` {at} {head_dim} for every head, because their norms or positions need all channels"
        )
    rotary = _pairs(number, entry, qk, shape) if shape.rotary else ()
    return LayerWidths(qk=tuple(qk), vo=tuple(vo), numbers=tuple(numbers), rotary=rotary, qk_whole=shape.qk_whole)


def _pairs(
    number: int, entry: Mapping[str, Any], qk: Sequence[int], shape: AttentionShape
) -> tuple[tuple[int, ...], ...]:
    """Of each head that is left, the pairs of QK channels that positions rotate."""
    said, most, others = _unpacked(entry.get("rotary")), shape.rotary // 2, shape.head_dim - shape.rotary
    if not (
        isinstance(said, list)
        and len(said) == len(qk)
        and all(_numbers(own, 0, most - 1, most) and own == sorted(set(own)) for own in said)
    ):
        needed = f"a list with, for each head in `heads`, the bits of whole numbers from 0 to {most - 1} in hexadecimal"
        raise UnusableConfigError(ATTENTION, f"`rotary` of entry {number} must be {needed}")
    for width, own in zip(qk, said, strict=True):
        left = width - 2 * len(own)
        if left % 2 or not 0 <= left <= others:
            needed = f"two channels for each pair in `rotary`, plus an even number of at most {others} more"
            raise UnusableConfigError(ATTENTION, f"`qk` of entry {number} must be {needed}")
    return tuple(map(tuple, said))


def _unpacked(said: Any) -> Any:
    """With lists of numbers for masks of them; what is no mask stays as it is, and None stands for one that is wrong."""
    if not isinstance(said, list):
        return said
    found = []
    for own in said:
        try:
            found.append(list(numbers_of(own)) if isinstance(own, str) else own)
        except ValueError:
            found.append(None)
    return found


def _neurons(number: int, entry: Mapping[str, Any], most: int) -> int:
    said = [entry.get("neurons")]
    if not _numbers(said, 1, most, 1):
        raise UnusableConfigError(FEED_FORWARD, f"`neurons` of entry {number} must be a whole number from 1 to {most}")
    return said[0]


def _numbers(said: Any, least: int, most: int, longest: int) -> TypeGuard[list[int]]:
    return (
        isinstance(said, list)
        and len(said) <= longest
        and all(type(each) is int and least <= each <= most for each in said)
    )
