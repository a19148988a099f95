"""What a user asks for: the job request, and the spec the engine receives (the same without references to uploads).

Every field but model, dataset and a target has a default; a preset fills what the request leaves out.
"""

from math import ceil
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, model_validator

from api_schemas.base import Strict
from api_schemas.enums import Balance, Criterion, Granularity, Layout, Scope, Split
from api_schemas.ids import DatasetId, ModelId, Name
from api_schemas.presets import PRESETS


class UploadedModel(Strict):
    """A model uploaded to this service."""

    type: Literal["upload"]
    id: ModelId


class Columns(Strict):
    """Which columns of the dataset are what. Left out, they are found by type and usual name."""

    input: Name | None = Field(None, description="Audio column. Default: the only column of type Audio.")
    label: Name | None = Field(None, description="Label column. Default: `label`, else `labels`.")
    group: Name | None = Field(None, description="Held-out splits keep rows of one group (a speaker, say) together.")


class Splits(Strict):
    """Names of the dataset's splits by role, no two the same. A role without a split is held out of train, by seed."""

    train: Name = "train"
    validation: Name = "validation"
    test: Name = "test"


class UploadedDataset(Strict):
    """A dataset uploaded to this service."""

    type: Literal["upload"]
    id: DatasetId
    columns: Columns = Columns()
    splits: Splits = Splits()


class HubDataset(Strict):
    """A dataset on the Hugging Face hub, at one commit. Dataset scripts are never run."""

    type: Literal["hf"]
    id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}$")]
    revision: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]
    config: Name | None = Field(None, description="Name of the dataset's configuration, where it has several.")
    columns: Columns = Columns()
    splits: Splits = Splits()


class Target(Strict):
    """How much to remove."""

    attention_sparsity: float = Field(
        gt=0,
        lt=1,
        description="Share of the attention parameters (q, k, v, o; weights and biases) to remove, of the original's.",
    )


class Schedule(Strict):
    """How the target is approached: removal, recovery, removal, …"""

    steps: int | None = Field(
        None, ge=1, le=100, description="Number of steps. Default: one for every 10% of the attention parameters."
    )
    shape: Literal["linear"] = "linear"


class Calibration(Strict):
    """The samples on which the criterion is computed."""

    split: Literal[Split.TRAIN, Split.VALIDATION] = Split.VALIDATION
    samples: int | None = Field(None, ge=1, description="How many, drawn by seed; null takes the whole split.")


class Pruning(Strict):
    """What is removed, how it is chosen, and in how many steps."""

    preset: Literal["paper"] = "paper"
    target: Target
    granularity: Granularity = Granularity.ENTIRE_HEAD
    criterion: Criterion = Criterion.FISHER
    scope: Scope = Scope.GLOBAL
    balance: Balance = Balance.JOINT
    layout: Layout = Layout.ANY
    schedule: Schedule = Schedule()
    calibration: Calibration = Calibration()
    min_heads: int = Field(1, ge=1, description="Heads left in every layer.")
    min_channels: int = Field(1, ge=1, description="QK and VO channels, each, left in every surviving head.")

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        preset = PRESETS.get(data["preset"], {}) if isinstance(data.get("preset"), str) else PRESETS["paper"]
        filled = {**preset, **data}
        for key, inner in preset.items():
            # Half of an object leaves the other half to the preset too.
            if isinstance(inner, dict) and isinstance(data.get(key), dict):
                filled[key] = {**inner, **data[key]}
        return filled

    @property
    def steps(self) -> int:
        """Steps of the schedule; by default the paper's: each removes at most 10% of the original."""
        # Rounded first: 0.3 / 0.1 is 2.9999999999999996 in binary, and 0.7 / 0.1 is above 7.
        return self.schedule.steps or ceil(round(self.target.attention_sparsity * 10, 9))


class Lora(Strict):
    """Low-rank adapters (Hu et al., arXiv 2106.09685), on q, k, v and o; merged before the next step."""

    rank: int = Field(16, ge=1, le=1024, description="Capped at each projection's current width.")
    alpha: float = Field(32.0, gt=0)
    dropout: float = Field(0.05, ge=0, lt=1)


class Augment(Strict):
    """SpecAugment (Park et al., arXiv 1904.08779) and time shift, on the features, while fine-tuning."""

    time_mask: float = Field(0.1, ge=0, lt=1, description="Longest time mask, as a share of the frames.")
    frequency_mask: float = Field(0.1, ge=0, lt=1, description="Longest frequency mask, as a share of the mel bins.")
    time_shift: float = Field(0.1, ge=0, lt=1, description="Longest shift either way, as a share of the frames.")


class Finetune(Strict):
    """Recovery after every step."""

    epochs: int = Field(3, ge=1, le=1000)
    learning_rate: float = Field(3e-4, gt=0, le=1)
    batch_size: int = Field(32, ge=1, le=4096)
    weight_decay: float = Field(0.01, ge=0)
    warmup: float = Field(0.1, ge=0, lt=1, description="Share of the steps over which the learning rate rises.")
    lora: Lora = Lora()
    augment: Augment | None = Augment()


class Evaluate(Strict):
    """What is measured after every step, beside the loss and the task's own metric."""

    batch_size: int = Field(32, ge=1, le=4096)
    latency_batch_sizes: tuple[Annotated[int, Field(ge=1, le=1024)], ...] = Field((1, 8), max_length=8)
    latency_runs: int = Field(30, ge=5, le=1000, description="Timed runs a batch size, dense and cut in turn.")


class Work(Strict):
    """What both a job request and an engine spec carry."""

    pruning: Pruning
    finetune: Finetune | None = Finetune()
    evaluate: Evaluate = Evaluate()
    deterministic: bool = True
    seed: int = Field(0, ge=0, lt=2**31)


class EngineSpec(Work):
    """`spec.json`: what the engine is told. Local files only; nothing in it names the service."""

    columns: Columns = Columns()
    splits: Splits = Splits()
    lineage: dict[str, str] = Field(
        default_factory=dict, description="Where model and data came from; copied to pruning.json."
    )


class JobRequest(Work):
    """`POST /v1/jobs`."""

    name: Name | None = None
    model: UploadedModel
    dataset: Annotated[UploadedDataset | HubDataset, Field(discriminator="type")]

    def engine_spec(self, lineage: dict[str, str]) -> EngineSpec:
        """The part of the request that the engine acts on."""
        return EngineSpec(
            pruning=self.pruning,
            finetune=self.finetune,
            evaluate=self.evaluate,
            deterministic=self.deterministic,
            seed=self.seed,
            columns=self.dataset.columns,
            splits=self.dataset.splits,
            lineage=lineage,
        )
