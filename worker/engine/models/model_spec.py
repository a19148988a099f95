"""The engine's models: what a checkpoint becomes while it is being cut.

The engine always works on the pruned class, whose blocks may have any widths; in the dense model nothing is cut yet. All stages
use one class, and the code that is shipped with a cut checkpoint is the code that was measured.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import init_empty_weights
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.initialization import no_init_weights

from api_schemas.results.widths import AttentionWidths, LayerWidths, mask_of
from checkpoints.config.pruned_layout import ATTENTION, FEED_FORWARD
from checkpoints.families import AttentionSite, Family, FeedForwardSite, Layout, family_named
from checkpoints.families.base import Padding
from worker.engine.models import PrunedClasses, pruned_classes
from worker.engine.runtime import offload
from worker.engine.runtime.mapped import in_file


@dataclass(frozen=True)
class ModelSpec:
    """Which model it is: a family and one of its classes."""

    family: Family
    name: str
    """Of the class of transformers."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Families have functions that were made where they stand, which pickle cannot name.
        return spec_named, (self.family.name, self.name)

    @property
    def classes(self) -> PrunedClasses:
        return pruned_classes(self.name)

    @property
    def classifiers(self) -> tuple[str, ...]:
        """Modules that are trained as well during recovery."""
        return self.family.architectures[self.name].classifiers

    def layout(self, config: Mapping[str, Any]) -> Layout:
        """The blocks of a model with this configuration, stock or pruned."""
        return self.family.layout(config, self.family.architectures[self.name])

    def layout_of(self, model: PreTrainedModel) -> Layout:
        """The same, of a model in memory."""
        return self.layout(model.config.to_dict())

    def padding_of(self, model: PreTrainedModel) -> Padding | None:
        """How inputs of several lengths share a pass of a model in memory, if they may."""
        known = self.family.padding
        return None if known is None else known(model.config.to_dict(), self.family.architectures[self.name])


def spec_named(family: str, name: str) -> ModelSpec:
    """By the names of a family and of a class."""
    return ModelSpec(family_named(family), name)


def attention_entry(site: AttentionSite, widths: LayerWidths) -> dict[str, Any]:
    """What a pruned configuration says of one attention."""
    entry: dict[str, Any] = {
        "module": site.module,
        "kind": site.kind.value,
        **site.projections(),
        "qk": list(widths.qk),
        "vo": list(widths.vo),
        "heads": list(widths.numbers),
        "pairs": site.shape.pairs,
        "per_head": dict(site.per_head),
        **({} if site.shape.queries_per_head == 1 else {"queries": site.shape.queries_per_head}),
    }
    if site.shape.rotary:
        entry["rotary"] = [mask_of(own) for own in widths.rotary]
    if site.positions is not None:
        entry["positions"] = site.positions
    return entry if site.joined is None else {**entry, "joined": site.joined}


def feed_forward_entry(site: FeedForwardSite, neurons: int) -> dict[str, Any]:
    """What a pruned configuration says of one feed-forward block."""
    entry = {"first": site.first, "second": site.second, "neurons": neurons}
    further = {"up": site.up, "joined": site.joined}
    return entry | {key: path for key, path in further.items() if path is not None}


def width_entries(layout: Layout, widths: AttentionWidths) -> dict[str, Any]:
    """What a pruned configuration says of all blocks, by its keys."""
    return {
        ATTENTION: [attention_entry(site, layer) for site, layer in zip(layout.attention, widths.layers, strict=True)],
        FEED_FORWARD: [
            feed_forward_entry(site, neurons)
            for site, neurons in zip(layout.feed_forward, widths.feed_forward, strict=True)
        ],
    }


@contextmanager
def without_weights() -> Iterator[None]:
    """Models that are made in here have parameters without memory, on the meta device; their weights are assigned later.

    To draw all of them at random, only to overwrite them, takes seconds; and even on the meta device, where it draws nothing,
    going through all of transformers' initialization takes longer than the rest. Buffers are made as always, since a state dict
    lacks those that are not persistent (positions, say).
    """
    with no_init_weights(), init_empty_weights(include_buffers=False):
        yield


def build(
    model_spec: ModelSpec,
    config: Mapping[str, Any],
    widths: AttentionWidths,
    state: Mapping[str, Tensor],
    tied: Mapping[str, str] | None = None,
) -> PreTrainedModel:
    """A pruned-class model with these widths and weights, float32, in eval mode.

    Args:
        config: any configuration of the class, stock or pruned.
        state: in the names of the pruned class's module tree, whole (of a stock model: stock_tensors.as_pruned). It is copied,
            but for large tensors that lie in files of runtime/mapped.py: these are shared, and who writes to the model gives it
            its own first.
        tied: by name in it, the name whose weight it is. None: as class and configuration say, which files may contradict.
    """
    classes = model_spec.classes
    foreign = {"model_type", "auto_map", "architectures", "dtype", "transformers_version"}
    values = {key: value for key, value in model_spec.family.engaged(config).items() if key not in foreign}
    layout = model_spec.layout(config)
    values |= width_entries(layout, widths)
    with without_weights():
        model: PreTrainedModel = classes.engine_pruned(classes.config(**values))
    # Assigned tensors share their memory, which may be a user's file mapped into memory. That may have any alignment, and
    # products of some sizes then differ in their last bits.
    copies = {name: in_file(tensor) for name, tensor in state.items()}
    model.load_state_dict(copies, strict=True, assign=True)
    if tied is not None:
        model.all_tied_weights_keys = dict(tied)
    # Where two names are one weight, each has become a parameter of its own.
    model.tie_weights(recompute_mapping=False)
    compute_positions_anew(model)
    setattr(model, offload.LAYERS, tuple(path for stack in layout.stacks for path in stack))
    move_model(model, torch.float32).eval()
    return model


def compute_positions_anew(model: nn.Module) -> None:
    """Let a conformer's positions be as if each pass were the first.

    transformers' classes keep them from pass to pass. Those of a pass in half precision would stay rounded in all that follow,
    and those of one in inference mode would end a training pass.
    """
    for module in model.modules():
        if hasattr(module, "cached_rotary_positional_embedding"):
            module.register_forward_hook(_forget_angles)
        elif hasattr(module, "extend_pe"):
            module.register_forward_pre_hook(_keep_sines)
            module.register_forward_hook(_restore_sines)


def _forget_angles(module: Any, _args: object, _output: object) -> None:
    module.cached_sequence_length = None


def _keep_sines(module: Any, _args: object) -> None:
    module.__dict__["sines"] = module.pe


def _restore_sines(module: Any, _args: object, _output: object) -> None:
    module.pe = module.__dict__.pop("sines")


def rebuild(
    model: PreTrainedModel, model_spec: ModelSpec, widths: AttentionWidths, state: Mapping[str, Tensor]
) -> PreTrainedModel:
    """`model` with other widths and weights, as `build` has it, on its device. How it generates stays as it was."""
    other = build(model_spec, model.config.to_dict(), widths, state, model.all_tied_weights_keys)
    copy_generation_config(other, model)
    return move_model(other, model.device)


def copy_generation_config(model: PreTrainedModel, other: PreTrainedModel) -> None:
    """Give `model` the settings with which `other` generates, where it does: a checkpoint has them beside its config."""
    if other.can_generate():
        model.generation_config = other.generation_config


def move_model(model: PreTrainedModel, where: torch.device | torch.dtype) -> PreTrainedModel:
    """The same model, moved to a device (as far as runtime/offload.py lets it) or its tensors converted to a dtype."""
    if isinstance(where, torch.device):
        offload.place(model, where)
    else:
        nn.Module.to(model, where)
    return model
