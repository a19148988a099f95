"""What a user asks for: the job request, and the spec the engine receives (the same without references to uploads).

Every field but model, dataset and a target has a default; a preset fills what the request leaves out.
"""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationInfo, field_validator, model_validator

from api_schemas.base import StrictModel
from api_schemas.enums import ExportFormat, TargetKind
from api_schemas.ids import Name
from api_schemas.spec.inputs import Columns, HubDataset, ModelReference, Splits, UploadedDataset
from api_schemas.spec.job_limits import JobLimits
from api_schemas.spec.labels import Labels
from api_schemas.spec.presets import DEFAULT, FINETUNE, filled
from api_schemas.spec.pruning import Pruning
from api_schemas.spec.recovery import Finetune
from api_schemas.validation_messages import worded


class Evaluate(StrictModel):
    """What is measured after every step, beside the loss and the task's own metric."""

    batch_size: int = Field(32, ge=1, le=4096)
    """Samples of one pass while scores are measured."""
    latency_batch_sizes: tuple[Annotated[int, Field(ge=1, le=1024)], ...] = Field((1, 8), max_length=8)
    """The sizes at which the latency of a pass is measured, original and cut in turn; none: it is not."""
    latency_runs: int = Field(
        30,
        ge=5,
        le=1000,
        description="Timed rounds a batch size, original and cut once in each. Where the machine is too busy to tell after so "
        "many, there are more: up to ten times as many, within `latency_seconds`. Where passes are so long that they take over "
        "half a minute, there are fewer, six at least: until it can be told, or a minute and a half have passed.",
    )
    latency_seconds: float = Field(
        10.0, ge=0, le=3600, description="Time a batch size for rounds beyond `latency_runs`."
    )
    sensitivity_samples: int | None = Field(
        128,
        ge=1,
        le=10_000_000,
        description="Before the first step, measure on so many validation samples what removing 25, 50 and 75% of each "
        "layer alone would cost; null leaves it out.",
    )


class Speech(StrictModel):
    """What is asked of a model that writes what it hears in many languages (Whisper)."""

    language: str | None = Field(
        None,
        max_length=32,
        pattern=worded(r"^[A-Za-z][A-Za-z ]*$", "a language's code or English name is needed, `de` or `german`"),
        description="Of the transcripts: a code (`de`) or an English name (`german`). Default: what generation_config.json says, "
        "else what it or config.json forces, else what the tokenizer's settings say.",
        examples=["de"],
    )
    task: Literal["transcribe", "translate"] | None = Field(
        None,
        description="Whether transcripts are in the language of the recordings, or in English. Default: as for the language, "
        "else transcribe.",
    )


class Stop(StrictModel):
    """When a job ends before its target."""

    max_drop: float = Field(
        gt=0,
        lt=1,
        description="Largest drop of the task's metric on validation, absolute (0.01 is one point; of a word error rate, a "
        "rise by as much); the job ends at the last step within it.",
    )


def _leave_recovery_to_the_preset(schema: dict[str, Any]) -> None:
    field = schema["properties"]["finetune"]
    del field["default"]
    field["description"] += " Default: the object, with its own defaults and what the preset says."


class JobSettings(StrictModel):
    """What both a job request and an engine spec carry."""

    model_config = ConfigDict(json_schema_extra=_leave_recovery_to_the_preset)

    pruning: Pruning
    finetune: Finetune | None = Field(Finetune(), description="null: one-shot, no recovery.")
    evaluate: Evaluate = Evaluate()
    exports: tuple[ExportFormat, ...] = Field(
        (),
        max_length=len(ExportFormat),
        description="Further files beside the result's weights, checked against them: `onnx`, and `onnx_int8` with its "
        "linear layers in eight bits; `torchao_int8`, a folder for transformers with torchao whose linear layers are in eight "
        "bits, activations too, and `torchao_int8_weights`, weights alone. With a bound on the drop every step gets them, since "
        "any may be the result.",
        json_schema_extra={"uniqueItems": True},
    )
    stop: Stop | None = None
    speech: Speech = Speech()
    deterministic: bool = True
    """The same inputs give the same bytes, on CUDA too, where that costs some speed."""
    seed: int = Field(0, ge=0, lt=2**31)
    """Of everything that is drawn: held-out splits, calibration samples, order of the data, adapters."""

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

    @field_validator("stop")
    @classmethod
    def _one_bound(cls, stop: Stop | None, info: ValidationInfo) -> Stop | None:
        pruning = info.data.get("pruning")
        if stop is not None and pruning is not None and pruning.target.max_drop is not None:
            raise ValueError("the target is a bound on the drop already (pruning.target.max_drop); leave stop out")
        return stop

    @field_validator("evaluate")
    @classmethod
    def _latency_can_be_met(cls, evaluate: Evaluate, info: ValidationInfo) -> Evaluate:
        pruning = info.data.get("pruning")
        if pruning is not None and pruning.target.kind is TargetKind.LATENCY and not evaluate.latency_batch_sizes:
            raise ValueError("a latency target counts at the first of latency_batch_sizes; name one")
        return evaluate

    @property
    def max_drop(self) -> float | None:
        """The bound on the drop, whether it is the target or ends the job before it; None where there is none."""
        return self.pruning.target.max_drop if self.stop is None else self.stop.max_drop


class EngineSpec(JobSettings):
    """`spec.json`: what the engine is told. Local files only; nothing in it names the service."""

    columns: Columns = Columns()
    splits: Splits = Splits()
    lineage: dict[str, str] = Field(
        default_factory=dict, description="Where model and data came from; copied to pruning.json."
    )


class JobRequest(JobSettings):
    """`POST /v1/jobs`."""

    name: Name | None = None
    """For people."""
    model: ModelReference
    """The checkpoint: uploaded, a step of an earlier job, on the Hugging Face hub, or in a bucket that the operator named."""
    dataset: Annotated[UploadedDataset | HubDataset, Field(discriminator="type")]
    """What to calibrate, recover and measure on: uploaded, or on the Hugging Face hub."""
    priority: int = Field(
        0,
        ge=-10,
        le=10,
        description="Higher goes first. Between equal ones tenants take turns, then the older goes first.",
    )
    limits: JobLimits = JobLimits()
    labels: Labels = Field(
        {},
        description="Up to 16, for selecting jobs by. Keys: 1 to 63 of a-z, 0-9, `.`, `_`, `-`, `/`; values: up to 128 "
        "characters.",
    )

    def engine_spec(self, lineage: dict[str, str]) -> EngineSpec:
        """The part of the request that the engine acts on."""
        settings = {name: getattr(self, name) for name in JobSettings.model_fields}
        return EngineSpec(**settings, columns=self.dataset.columns, splits=self.dataset.splits, lineage=lineage)


def spec_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a job request, for editors: `secateur schema`, docs/reference/spec.schema.json."""
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Secateur: a pruning job",
        "description": "The body of POST /v1/jobs. Every field but model, dataset and a target has a default.",
    }
    return head | {name: value for name, value in JobRequest.model_json_schema().items() if name not in head}
