"""Recovery: how a cut model is trained after every step, the `finetune` part of a spec."""

from pydantic import ConfigDict, Field

from api_schemas.base import StrictModel
from api_schemas.enums import FinetuneMethod
from api_schemas.spec.presets import FINETUNE, tell


class Lora(StrictModel):
    """Low-rank adapters (Hu et al., arXiv 2106.09685) on q, k, v and o, merged before the next step."""

    rank: int = Field(16, ge=1, le=1024, description="Rank, capped at each projection's current width.")
    alpha: float = Field(32.0, gt=0, le=65_536)
    """The adapters are scaled by `alpha / rank`."""
    dropout: float = Field(0.05, ge=0, lt=1)
    """Dropout on the adapters' inputs during training."""


class Augment(StrictModel):
    """SpecAugment (Park et al., arXiv 1904.08779) and time shift on the spectrograms of classifiers during recovery.

    Other inputs are not augmented; a step's metrics say whether anything was.
    """

    time_mask: float = Field(0.1, ge=0, lt=1, description="Longest time mask, as a share of the frames.")
    frequency_mask: float = Field(0.1, ge=0, lt=1, description="Longest frequency mask, as a share of the mel bins.")
    time_shift: float = Field(
        0.1, ge=0, lt=1, description="Longest shift in either direction, as a share of the frames."
    )


class Distill(StrictModel):
    """Distillation from the original model during recovery (Hinton et al., arXiv 1503.02531)."""

    weight: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Weight of the original's softened logits; the labels get the rest. For embeddings and hidden states, the "
        "original provides both.",
    )
    temperature: float = Field(
        2.0, gt=0, le=100, description="Softmax temperature. Ignored for embeddings and hidden states, which have none."
    )
    attention: float = Field(
        0.0,
        ge=0,
        le=1_000_000,
        description="Weight of the mean squared error between the attention outputs of the two models, by layer.",
    )


class Finetune(StrictModel):
    """Recovery training after every step."""

    model_config = ConfigDict(json_schema_extra=lambda schema: tell(schema, FINETUNE))

    method: FinetuneMethod = Field(
        FinetuneMethod.LORA,
        description="`lora`: adapters on the projections, and the classifier; `full`: all weights, which takes additional "
        "memory for three copies of the model and usually needs a lower `learning_rate`.",
    )
    epochs: int = Field(3, ge=1, le=1000)
    """Passes over the training split after every step."""
    learning_rate: float = Field(3e-4, gt=0, le=1)
    """Peak learning rate; it rises to this value and then decays to zero."""
    batch_size: int = Field(32, ge=1, le=4096)
    """Samples per optimizer step."""
    weight_decay: float = Field(0.01, ge=0, le=100)
    """Weight decay of AdamW."""
    warmup: float = Field(0.1, ge=0, lt=1, description="Share of the steps during which the learning rate rises.")
    lora: Lora = Field(Lora(), description="Settings of the method `lora`; not used by `full`.")
    augment: Augment | None = Augment()
    distill: Distill | None = None
    only_if_better: bool = Field(
        False,
        description="Discard a recovery that made the pruned model worse on validation, by the task's metric.",
    )
