"""Surgery: takes a model and the channels to keep, returns a smaller model. Rows and columns are removed; nothing is masked."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from api_schemas.results.widths import AttentionWidths
from worker.engine.models.attention import AttentionBlock, attention_blocks
from worker.engine.models.feed_forward import Neurons, all_neurons, feed_forward_blocks
from worker.engine.models.model_spec import ModelSpec, rebuild
from worker.engine.pruning.selection import KeptHead, KeptHeads, Selection
from worker.engine.runtime.mapped import in_file, mapped_copy


def _indices(block: AttentionBlock, side: str, keep_of_layer: Sequence[KeptHead]) -> Tensor:
    """The rows of q, k or v, or the columns of o, of all channels that are kept."""
    kept = ((h.head, h.qk if side in "qk" else h.vo) for h in keep_of_layer)
    return torch.tensor([row for h, channels in kept for row in block.places(side, h, channels)], dtype=torch.long)


def cut(
    model: PreTrainedModel,
    model_spec: ModelSpec,
    widths: AttentionWidths,
    keep: KeptHeads,
    neurons: Neurons | None = None,
) -> PreTrainedModel:
    """A new model with only what `keep` and `neurons` list. `widths` are those of `model`, which is not changed.

    Without `neurons` all of them are kept.

    Rows of q, k and v (with their biases) and columns of o are sliced, rows of a map of positions with k's, and so are other
    parameters with an entry per head. The output bias stays, and so does the softmax scale of the original model.
    """
    state = dict(model.state_dict())
    sites = model_spec.layout_of(model).attention
    for site, block, layer in zip(sites, attention_blocks(model, model_spec, widths), keep, strict=True):
        for side, name in block.names.items():
            kept_rows = _indices(block, side, layer).to(block.projections[side].weight.device)
            weight = state[f"{name}.weight"]
            # Each goes to its file at once: all of them together would be as large as a model.
            state[f"{name}.weight"] = in_file(weight.index_select(1 if side == "o" else 0, kept_rows))
            if f"{name}.bias" in state:
                bias = state[f"{name}.bias"]
                # Compensation writes to o's bias, which would otherwise be shared with the original.
                state[f"{name}.bias"] = mapped_copy(bias) if side == "o" else bias.index_select(0, kept_rows)
        if site.positions is not None:
            rows_of_k = _indices(block, "k", layer).to(block.projections["k"].weight.device)
            weight = state[f"{site.positions}.weight"]
            state[f"{site.positions}.weight"] = in_file(weight.index_select(0, rows_of_k))
        for name, dimension in site.per_head.items():
            table = state[f"{site.module}.{name}"]
            heads = torch.tensor([head.head for head in layer], dtype=torch.long, device=table.device)
            state[f"{site.module}.{name}"] = table.index_select(dimension, heads)
    kept = Selection(keep, all_neurons(widths) if neurons is None else neurons)
    for pair, stay in zip(feed_forward_blocks(model, model_spec, widths), kept.neurons, strict=True):
        first, second, *up = pair.names
        rows = torch.tensor(stay, dtype=torch.long, device=pair.first.weight.device)
        for inner in (first, *up):
            state[f"{inner}.weight"] = in_file(state[f"{inner}.weight"].index_select(0, rows))
            if f"{inner}.bias" in state:
                state[f"{inner}.bias"] = state[f"{inner}.bias"].index_select(0, rows)
        if f"{second}.bias" in state:
            state[f"{second}.bias"] = mapped_copy(state[f"{second}.bias"])
        state[f"{second}.weight"] = in_file(state[f"{second}.weight"].index_select(1, rows))
    return rebuild(model, model_spec, kept.widths(widths), state)
