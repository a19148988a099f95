"""What a user asks for: the job request, and the spec the engine receives (the same without references to uploads).

Every field but model, dataset and a target has a default; a preset fills what the request leaves out.
"""

from math import ceil
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, ValidationInfo, field_validator, model_validator

from api_schemas.base import Strict
from api_schemas.enums import (
    Balance,
    Basis,
    Compensation,
    Criterion,
    ExportFormat,
    Granularity,
    LabelSource,
    Layout,
    Normalization,
    ScheduleShape,
    Scope,
    Split,
    TargetKind,
)
from api_schemas.ids import DatasetId, ModelId, Name
from api_schemas.presets import DEFAULT, FINETUNE, PRESETS, PresetName, filled

RAGGED = (Granularity.RAGGED, Granularity.HEAD_AND_CHANNEL)
"""These leave the heads of a layer unequal."""


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


Share = Annotated[float, Field(gt=0, lt=1)]


class Target(Strict):
    """How much to remove: exactly one share, in (0, 1), of what the original has."""

    attention_sparsity: Share | None = Field(
        None, description="Of the attention parameters (q, k, v, o; weights and biases)."
    )
    parameters: Share | None = Field(None, description="Of all parameters.")
    flops: Share | None = Field(None, description="Of the FLOPs of a forward pass.")
    latency: Share | None = Field(
        None, description="Of the time of a forward pass at the first batch size of `evaluate`, on the worker's device."
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        given = [kind.value for kind in TargetKind if getattr(self, kind) is not None]
        if len(given) != 1:
            names = ", ".join(TargetKind)
            raise ValueError(f"name exactly one of {names}; {len(given)} were given")
        return self

    @property
    def kind(self) -> TargetKind:
        """Which of the shares is set."""
        return next(kind for kind in TargetKind if getattr(self, kind) is not None)

    @property
    def share(self) -> float:
        """The share that is set."""
        return float(getattr(self, self.kind))


class Schedule(Strict):
    """How the target is approached: removal, recovery, removal, …"""

    steps: int | None = Field(None, ge=1, le=100, description="Number of steps. Default: as `largest_step` says.")
    largest_step: float = Field(
        0.1,
        ge=0.01,
        le=1,
        description="Largest share of the original that one step removes, where `steps` is not given.",
    )
    shape: ScheduleShape = ScheduleShape.LINEAR


class Calibration(Strict):
    """The samples on which criterion, basis and compensation are computed."""

    split: Literal[Split.TRAIN, Split.VALIDATION] = Split.VALIDATION
    samples: int | None = Field(None, ge=1, description="How many, drawn by seed; null takes the whole split.")
    labels: LabelSource = LabelSource.DATA
    draws: int = Field(
        1, ge=1, le=64, description="With labels `model`: passes over the samples, each with draws of its own."
    )


class Pruning(Strict):
    """What is removed, how it is chosen, and in how many steps. The defaults shown are those of the preset `best`."""

    preset: PresetName = DEFAULT
    target: Target
    granularity: Granularity = Granularity.HEAD_AND_CHANNEL
    criterion: Criterion = Criterion.FISHER_GATE
    scope: Scope = Scope.GLOBAL
    normalization: Normalization = Normalization.NONE
    basis: Basis = Basis.PRINCIPAL
    compensation: Compensation = Compensation.LEAST_SQUARES_FEED_FORWARD
    balance: Balance = Balance.JOINT
    layout: Layout = Layout.ANY
    align: Literal[1, 8, 16] = Field(1, description="Widths that are kept are multiples of this.")
    schedule: Schedule = Schedule(largest_step=0.25)
    calibration: Calibration = Calibration(split=Split.TRAIN, samples=512, labels=LabelSource.MODEL, draws=4)
    min_heads: int = Field(0, ge=0, description="Heads left in every layer; 0 lets a layer's attention go altogether.")
    min_channels: int = Field(1, ge=1, description="QK and VO channels, each, left in every surviving head.")
    exclude_layers: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        (), max_length=1024, description="Layers that are left as they are, counted from 0."
    )

    @field_validator("layout")
    @classmethod
    def _heads_can_be_equal(cls, layout: Layout, info: ValidationInfo) -> Layout:
        granularity = info.data.get("granularity")
        if layout is Layout.STOCK and granularity in RAGGED:
            equal = ", ".join(each.value for each in Granularity if each not in RAGGED)
            raise ValueError(
                f"a stock layout has equal heads in all layers, and {granularity.value} makes them differ; "
                f"ask for another granularity with it: {equal}"
            )
        return layout

    @field_validator("calibration")
    @classmethod
    def _labels_say_something(cls, calibration: Calibration, info: ValidationInfo) -> Calibration:
        if info.data.get("criterion") is Criterion.TAYLOR and calibration.labels is LabelSource.MODEL:
            raise ValueError(
                "taylor is a mean gradient, which is zero over the model's own labels; set labels to data, or take fisher_gate"
            )
        return calibration

    @field_validator("exclude_layers")
    @classmethod
    def _layers_can_be_equal(cls, layers: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        if layers and info.data.get("layout") is Layout.STOCK:
            raise ValueError("a stock layout cuts all layers alike; leave no layer out, or take layout any")
        return layers

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        name = data.get("preset", DEFAULT)
        return filled(PRESETS.get(name, {}) if isinstance(name, str) else {}, data)

    @property
    def steps(self) -> int:
        """Steps of the schedule; by default as few as take no more than `largest_step` each."""
        # Rounded first: 0.3 / 0.1 is 2.9999999999999996 in binary, and 0.7 / 0.1 is above 7.
        return self.schedule.steps or ceil(round(self.target.share / self.schedule.largest_step, 9))


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


class Distill(Strict):
    """Learning from the original model during recovery (Hinton et al., arXiv 1503.02531)."""

    weight: float = Field(0.5, ge=0, le=1, description="Of the original's softened logits; the labels get the rest.")
    temperature: float = Field(2.0, gt=0, le=100)
    attention: float = Field(
        0.0, ge=0, description="Weight of the mean squared error between the two models' attention outputs, by layer."
    )


class Finetune(Strict):
    """Recovery after every step."""

    epochs: int = Field(3, ge=1, le=1000)
    learning_rate: float = Field(3e-4, gt=0, le=1)
    batch_size: int = Field(32, ge=1, le=4096)
    weight_decay: float = Field(0.01, ge=0)
    warmup: float = Field(0.1, ge=0, lt=1, description="Share of the steps over which the learning rate rises.")
    lora: Lora = Lora()
    augment: Augment | None = Augment()
    distill: Distill | None = None
    only_if_better: bool = Field(
        False,
        description="Keep the cut model as it was where recovery made it worse on validation, by the task's metric.",
    )


class Evaluate(Strict):
    """What is measured after every step, beside the loss and the task's own metric."""

    batch_size: int = Field(32, ge=1, le=4096)
    latency_batch_sizes: tuple[Annotated[int, Field(ge=1, le=1024)], ...] = Field((1, 8), max_length=8)
    latency_runs: int = Field(30, ge=5, le=1000, description="Timed runs a batch size, dense and cut in turn.")
    sensitivity_samples: int | None = Field(
        128,
        ge=1,
        description="Before the first step, measure on so many validation samples what removing 25, 50 and 75% of each "
        "layer alone would cost; null leaves it out.",
    )


class Stop(Strict):
    """When a job ends before its target."""

    max_drop: float = Field(
        gt=0,
        lt=1,
        description="Largest drop of the task's metric on validation, absolute (0.01 is one point); the job ends at the last "
        "step within it.",
    )


class Work(Strict):
    """What both a job request and an engine spec carry."""

    pruning: Pruning
    finetune: Finetune | None = Field(Finetune(), description="null: one-shot, no recovery.")
    evaluate: Evaluate = Evaluate()
    exports: tuple[ExportFormat, ...] = Field(
        (),
        max_length=len(ExportFormat),
        description="Further files beside the result's weights, checked against them: `onnx`, and `onnx_int8` with its "
        "linear layers in eight bits. With `stop` every step gets them, since any may be the result.",
        json_schema_extra={"uniqueItems": True},
    )
    stop: Stop | None = None
    deterministic: bool = True
    seed: int = Field(0, ge=0, lt=2**31)

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, data: Any) -> Any:
        if not isinstance(data, dict) or not isinstance(data.get("pruning"), dict):
            return data
        preset, given = data["pruning"].get("preset", DEFAULT), data.get("finetune", {})
        if not isinstance(preset, str) or not isinstance(given, dict):
            return data
        return {**data, "finetune": filled(FINETUNE.get(preset, {}), given)}

    @field_validator("exports")
    @classmethod
    def _each_once(cls, exports: tuple[ExportFormat, ...]) -> tuple[ExportFormat, ...]:
        if len(set(exports)) != len(exports):
            raise ValueError("name each format once")
        return exports

    @field_validator("evaluate")
    @classmethod
    def _latency_can_be_met(cls, evaluate: Evaluate, info: ValidationInfo) -> Evaluate:
        pruning = info.data.get("pruning")
        if pruning is not None and pruning.target.latency is not None and not evaluate.latency_batch_sizes:
            raise ValueError("a latency target counts at the first of latency_batch_sizes; name one")
        return evaluate


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
            exports=self.exports,
            stop=self.stop,
            deterministic=self.deterministic,
            seed=self.seed,
            columns=self.dataset.columns,
            splits=self.dataset.splits,
            lineage=lineage,
        )
