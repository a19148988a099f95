"""What the engine runs of a larger model: the encoder and the projection behind it, where the whole has them, and nothing else.

Both modules are transformers' own, under the names that they have in the whole model, so that a tensor has one name everywhere.
"""

import sys
from typing import Any

from torch import Tensor, nn
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from checkpoints.families import Part
from worker.engine.models.pruned_layers import narrow


def _name(path: str) -> str:
    """Of a module in the one that has it, which is the first name of the path."""
    return path.partition(".")[2]


class Heard(nn.Module):
    """From a spectrogram to what the rest of the whole model reads in the place of words."""

    def __init__(self, config: Any, part: Part, projection: Any) -> None:
        super().__init__()
        self.part = part
        setattr(self, _name(part.encoder), AutoModel.from_config(getattr(config, part.config_key)))
        # A result has the original's, so nothing trains it either.
        setattr(self, _name(part.projection), projection(config).requires_grad_(False))

    def forward(self, input_features: Tensor, **kwargs: Any) -> BaseModelOutput:
        """Hidden states of every token, as wide as the language model: (B, T, D) of (B, mels, frames)."""
        encoder, projection = (getattr(self, _name(path)) for path in (self.part.encoder, self.part.projection))
        return BaseModelOutput(last_hidden_state=projection(encoder(input_features, **kwargs).last_hidden_state))


def part_class(whole: Any, part: Part, config_class: type[PreTrainedConfig], *, pruned: bool) -> type[PreTrainedModel]:
    """The class of a part, of transformers' class of the `whole`; `pruned`: with blocks as wide as the configuration says."""
    base: Any = whole.__bases__[0]
    projection = getattr(sys.modules[whole.__module__], part.projection_class)

    class PartOfModel(base):  # type: ignore[misc]
        main_input_name = "input_features"

        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.model = Heard(config, part, projection)
            if pruned:
                narrow(self, config.pruned_attention or [], config.pruned_feed_forward or [])
            self.post_init()

        def forward(self, input_features: Tensor, **kwargs: Any) -> BaseModelOutput:
            return self.model(input_features, **kwargs)  # type: ignore[no-any-return]

    PartOfModel.config_class = config_class
    made: type[PreTrainedModel] = PartOfModel
    return made
