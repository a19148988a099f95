"""Recovery: how a cut model is trained after every step, the `finetune` part of a spec."""

from pydantic import ConfigDict, Field

from api_schemas.base import StrictModel
from api_schemas.enums import FinetuneMethod
from api_schemas.spec.presets import FINETUNE, tell


class Lora(StrictModel):
    """Low-rank adapters (Hu et al., arXiv 2106.09685), on q, k, v and o; merged before the next step."""

    rank: int = Field(16, ge=1, le=1024, description="Capped at each projection's current width.")
    alpha: float = Field(32.0, gt=0, le=65_536)
    """The adapters count `alpha / rank` times."""
    dropout: float = Field(0.05, ge=0, lt=1)
    """Of what goes into the adapters, while they are trained."""


class Augment(StrictModel):
    """SpecAugment (Park et al., arXiv 1904.08779) and time shift, while fine-tuning, on the spectrograms of a classifier.

    Other inputs stay as they are; a step's metrics say whether anything was augmented.
    """

    time_mask: float = Field(0.1, ge=0, lt=1, description="Longest time mask, as a share of the frames.")
    frequency_mask: float = Field(0.1, ge=0, lt=1, description="Longest frequency mask, as a share of the mel bins.")
    time_shift: float = Field(0.1, ge=0, lt=1, description="Longest shift either way, as a share of the frames.")


class Distill(StrictModel):
    """Learning from the original model during recovery (Hinton et al., arXiv 1503.02531)."""

    weight: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Of the original's softened logits; the labels get the rest. Of embeddings and hidden states, both are the "
        "original's.",
    )
    temperature: float = Field(
        2.0, gt=0, le=100, description="Embeddings and hidden states have none: it is ignored for them."
    )
    attention: float = Field(
        0.0,
        ge=0,
        le=1_000_000,
        description="Weight of the mean squared error between the two models' attention outputs, by layer.",
    )


class Finetune(StrictModel):
    """Recovery after every step."""

    model_config = ConfigDict(json_schema_extra=lambda schema: tell(schema, FINETUNE))

    method: FinetuneMethod = Field(
        FinetuneMethod.LORA,
        description="`lora`: adapters on the projections, and the classifier; `full`: all weights, which takes the memory of "
        "three copies of the model more, and mostly wants a lower `learning_rate`.",
    )
    epochs: int = Field(3, ge=1, le=1000)
    """Passes over the training split, after every step."""
    learning_rate: float = Field(3e-4, gt=0, le=1)
    """The highest; it rises to it and falls to zero again."""
    batch_size: int = Field(32, ge=1, le=4096)
    """Samples of one step of the optimizer."""
    weight_decay: float = Field(0.01, ge=0, le=100)
    """Of AdamW."""
    warmup: float = Field(0.1, ge=0, lt=1, description="Share of the steps over which the learning rate rises.")
    lora: Lora = Field(Lora(), description="Of the method `lora`; `full` has none.")
    augment: Augment | None = Augment()
    distill: Distill | None = None
    only_if_better: bool = Field(
        False,
        description="Keep the cut model as it was where recovery made it worse on validation, by the task's metric.",
    )
