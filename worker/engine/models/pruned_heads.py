"""How channels of heads of many widths are laid out for the attention kernel, and rotated by position (made by Secateur).

Shapes: B batch, T tokens, H heads, C channels of all heads, K width of one head, P rotated pairs of one head. Where several heads
of queries share one of keys and values, H counts heads of what the shape is of.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch.nn import functional

# What decides how heads of unequal width share calls of the attention kernel; measured, docs/results/latency.md.
SOFTMAX_CHANNELS = 12  # a head's softmax takes the time of this many channels
CALL_FLOPS = 64_000_000  # one more call, and a head in it, is worth this many floating-point operations
ALIGN, NARROWEST = 8, 16  # kernels are slower at other multiples, and no faster below


class HeadGroup(NamedTuple):
    """Heads that go through the attention kernel together, each padded with zeros to `width`."""

    heads: tuple[int, ...]
    width: int


def head_groups(qk: Sequence[int], vo: Sequence[int], pairs: int) -> tuple[HeadGroup, ...]:
    """The calls of the attention kernel that one attention makes: which heads share one, and how wide all of them are in it.

    The fused kernels want one width for query, key and value of all heads; with unequal widths torch falls back to a kernel
    two to three times slower. Few calls pad much, many calls start much: the cheapest split of the heads, sorted by width,
    is taken, at 4·pairs·(width + SOFTMAX_CHANNELS) a head and CALL_FLOPS a call; `pairs` are the query-key pairs of one input.
    """
    widest = [max(pair) for pair in zip(qk, vo, strict=True)]
    if len(set(qk)) == len(set(vo)) == 1 and widest[0] % 4 == 0:
        return (HeadGroup(tuple(range(len(qk))), widest[0]),)  # little to copy, or nothing, beats a better width
    order = sorted(range(len(widest)), key=lambda head: (widest[head], head))
    padded = [max(NARROWEST, -(-widest[head] // ALIGN) * ALIGN) for head in order]
    # best[n]: cost of the n narrowest heads and where their last group starts.
    best: list[tuple[int, int]] = [(0, 0)]
    for end in range(1, len(order) + 1):
        head_cost = 4 * pairs * (padded[end - 1] + SOFTMAX_CHANNELS)
        best.append(min((best[start][0] + CALL_FLOPS + (end - start) * head_cost, start) for start in range(end)))
    groups: list[HeadGroup] = []
    end = len(order)
    while end:
        start = best[end][1]
        groups.insert(0, HeadGroup(tuple(sorted(order[start:end])), padded[end - 1]))
        end = start
    return tuple(groups)


def cached_width(qk: Sequence[int], vo: Sequence[int]) -> int:
    """How wide all heads are in a cache of keys and values: as the widest, padded."""
    return -(-max([NARROWEST, *qk, *vo]) // ALIGN) * ALIGN


class Call(NamedTuple):
    """One call of the attention function: its heads, and how wide they are in it."""

    heads: tuple[int, ...]
    qk: int
    vo: int


def split_heads(states_BTC: torch.Tensor, widths: list[int], heads: tuple[int, ...], padded: int) -> torch.Tensor:
    """(B, T, C) -> (B, H, T, K), K = padded: some of the heads, with zeros where a head is narrower.

    Zeros change neither the dot products nor the values that are kept.
    """
    if not heads:
        batch, tokens, _ = states_BTC.shape
        return states_BTC.new_zeros(batch, 0, tokens, padded)
    first, width = heads[0], widths[heads[0]]
    if heads == tuple(range(first, first + len(heads))) and len(set(widths[first : first + len(heads)])) == 1:
        if len(heads) < len(widths):
            start = sum(widths[:first])
            states_BTC = states_BTC[..., start : start + width * len(heads)]
        states_BTHK = states_BTC.view(*states_BTC.shape[:-1], len(heads), width)
        if width < padded:
            states_BTHK = functional.pad(states_BTHK, (0, padded - width))
        return states_BTHK.transpose(1, 2)
    # One copy: heads and zeros in turn. An index would be simpler, and takes three times as long; its gradient, five.
    own = torch.split_with_sizes(states_BTC, widths, dim=-1)
    zero_BT1 = torch.zeros_like(states_BTC[..., :1])
    parts = []
    for head in heads:
        parts.append(own[head])
        if widths[head] < padded:
            parts.append(zero_BT1.expand(-1, -1, padded - widths[head]))
    joined_BTHK: torch.Tensor = torch.cat(parts, dim=-1).unflatten(-1, (len(heads), padded))
    return joined_BTHK.transpose(1, 2)


def join_heads(contexts_BTHK: list[torch.Tensor], widths: list[int], calls: Sequence[Call]) -> torch.Tensor:
    """Each call's (B, T, H, K) -> (B, T, C): the heads in their order again, without the padding."""
    if len(calls) == 1 and len(set(widths)) == 1:
        context_BTHK = contexts_BTHK[0]
        return (context_BTHK if context_BTHK.shape[-1] == widths[0] else context_BTHK[..., : widths[0]]).flatten(-2)
    own = {
        head: context_BTHK[:, :, place, : widths[head]]
        for context_BTHK, call in zip(contexts_BTHK, calls, strict=True)
        for place, head in enumerate(call.heads)
    }
    return torch.cat([own[head] for head in range(len(widths))], dim=-1)


def in_order(weights_BHTS: list[torch.Tensor], calls: Sequence[Call]) -> torch.Tensor:
    """Each call's weights of its heads -> those of all heads, in their order, (B, H, T, S)."""
    if len(calls) == 1:
        return weights_BHTS[0]
    order = [head for call in calls for head in call.heads]
    return take_heads(torch.cat(weights_BHTS, dim=1), [order.index(head) for head in range(len(order))], 1)


def of_queries(heads: Sequence[int], queries: int) -> tuple[int, ...]:
    """The heads of queries that belong to heads of keys and values, which each have so many, one after another."""
    return tuple(queries * head + query for head in heads for query in range(queries))


def take_heads(states: torch.Tensor, heads: Sequence[int], dim: int) -> torch.Tensor:
    """These heads, one at least, along `dim`. Not by a list as index: a GPU is sent that at every call, while the host waits."""
    if list(heads) == list(range(heads[0], heads[0] + len(heads))):
        return states.narrow(dim, heads[0], len(heads))
    return torch.stack([states.select(dim, head) for head in heads], dim)


def pairs_of(said: str | Sequence[int]) -> list[int]:
    """The rotated pairs of a head, of which a configuration says a hexadecimal number with their bits, or a list."""
    bits = int(said, 16) if isinstance(said, str) else sum(1 << pair for pair in said)
    return [pair for pair in range(bits.bit_length()) if bits >> pair & 1]


def of_keys(scores_BHTP: torch.Tensor) -> torch.Tensor:
    """Scores of queries with relative positions, P = 2 T - 1 from the furthest before to the furthest behind -> with keys, (B, H,
    T, T): each query's row is shifted by one against the last's (Dai et al., arXiv 1901.02860, appendix B)."""
    batch, heads, tokens, positions = scores_BHTP.shape
    padded = functional.pad(scores_BHTP, (1, 0)).view(batch, heads, positions + 1, tokens)
    return padded[:, :, 1:].reshape(batch, heads, tokens, positions)[..., :tokens]


class Turns(NamedTuple):
    """Cosines and sines of the angles by which heads' pairs turn, (B, T, H, P): H is 1 where those of all heads are the same.

    Where heads have pairs of different numbers: (B, T, all pairs), `counts` how many each head has.
    """

    cos: torch.Tensor
    sin: torch.Tensor
    counts: tuple[int, ...] = ()

    def each(self, queries: int) -> "Turns":
        """The same of heads that stand there so many times, one after another: those of queries that share a head."""
        if queries == 1 or (not self.counts and self.cos.shape[-2] == 1):
            return self
        if not self.counts:
            return Turns(self.cos.repeat_interleave(queries, dim=-2), self.sin.repeat_interleave(queries, dim=-2))
        own = (torch.split_with_sizes(angles, list(self.counts), dim=-1) for angles in (self.cos, self.sin))
        cos, sin = (torch.cat([angles for angles in of_heads for _ in range(queries)], dim=-1) for of_heads in own)
        return Turns(cos, sin, tuple(count for count in self.counts for _ in range(queries)))


def turns_of(
    angles: tuple[torch.Tensor, torch.Tensor], pairs: list[list[int]], columns: torch.Tensor, widths: list[int]
) -> Turns:
    """What heads turn by that have these `pairs` of the original's: the `columns` of cosines and sines, head after head."""
    whole = angles[0].shape[-1] // 2
    even = len(set(widths)) == 1
    if even and all(own == list(range(whole)) for own in pairs):
        cos, sin = (each[..., None, :whole] for each in angles)
        return Turns(cos, sin)
    cos, sin = (each.index_select(-1, columns) for each in angles)
    counts = tuple(map(len, pairs))
    if even and len(set(counts)) == 1:
        return Turns(*(each.unflatten(-1, (len(counts), counts[0])) for each in (cos, sin)))
    return Turns(cos, sin, counts)


def behind(angles: tuple[torch.Tensor, torch.Tensor], states_BTD: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines, (…, T, R), where a stock class has them of the last tokens alone: those before turn by nothing."""
    cos, sin = angles
    before = (0, 0, states_BTD.shape[-2] - cos.shape[-2], 0)
    return (functional.pad(cos, before, value=1.0), functional.pad(sin, before)) if before[2] else angles


def rotate(states_BTC: torch.Tensor, widths: list[int], turns: Turns) -> torch.Tensor:
    """Rotary positions: of each head channels p and p + P, taken as a point in the plane, turn by the angle of pair p.

    Su et al. (arXiv 2104.09864), eq. 34, with the channels as Llama has them. What is behind channel 2 P stays as it is.
    """
    if not turns.counts:
        return _turned(states_BTC.unflatten(-1, (len(widths), widths[0])), turns.cos, turns.sin).flatten(-2)
    own = torch.split_with_sizes(states_BTC, widths, dim=-1)
    angles = (torch.split_with_sizes(each, list(turns.counts), dim=-1) for each in (turns.cos, turns.sin))
    return torch.cat([_turned(*parts) for parts in zip(own, *angles, strict=True)], dim=-1)


def _turned(states: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """(…, K), by cosines and sines of (…, P). In single precision, as transformers does it."""
    pairs = cos.shape[-1]
    first, second = states[..., :pairs].float(), states[..., pairs : 2 * pairs].float()
    parts = [first * cos - second * sin, second * cos + first * sin]
    if 2 * pairs < states.shape[-1]:
        parts.append(states[..., 2 * pairs :])
    return torch.cat(parts, dim=-1).to(states.dtype)


def dropout_of(module: Any) -> float:
    """The rate of dropout on attention weights, now. Stock modules keep it under three names, as a number or a module."""
    if not module.training:
        return 0.0
    names = ("attention_dropout", "attn_dropout", "dropout")
    rate: Any = next(getattr(module, name) for name in names if getattr(module, name, None) is not None)
    return float(getattr(rate, "p", rate))


def eager_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    softcap: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Softmax attention written out, (B, H, T, K) each; returns (B, T, H, K) and the weights (B, H, T, T).

    Where several queries share a head of keys and values, the module's `queries` says how many: query has so many times the H.
    `softcap`: scores beyond it are bent back to it, c·tanh(score / c), before what is masked is left out.
    """
    if module.queries > 1:
        key, value = (states.repeat_interleave(module.queries, dim=1) for states in (key, value))
    scores = query @ key.transpose(2, 3) * scaling
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = functional.dropout(functional.softmax(scores, dim=-1), p=dropout, training=module.training)
    return (weights @ value).transpose(1, 2).contiguous(), weights
