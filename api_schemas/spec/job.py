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
    """What is measured after every step, besides the loss and the task's metric."""

    batch_size: int = Field(32, ge=1, le=4096)
    """Samples per forward pass during evaluation."""
    latency_batch_sizes: tuple[Annotated[int, Field(ge=1, le=1024)], ...] = Field((1, 8), max_length=8)
    """Batch sizes at which latency is measured, original and pruned model in turn; empty to measure no latency."""
    latency_runs: int = Field(
        30,
        ge=5,
        le=1000,
        description="Timed rounds per batch size; each runs the original and the pruned model once. If the machine is too "
        "busy for a clear result, there are more rounds: up to ten times as many, within `latency_seconds`. If the rounds "
        "would take over half a minute, there are fewer, at least six: until the result is clear, or a minute and a half have "
        "passed.",
    )
    latency_seconds: float = Field(
        10.0, ge=0, le=3600, description="Time per batch size for rounds beyond `latency_runs`."
    )
    sensitivity_samples: int | None = Field(
        128,
        ge=1,
        le=10_000_000,
        description="Before the first step, measure on this many validation samples what removing 25, 50 and 75% of each "
        "layer alone would cost; null to skip this.",
    )


class Speech(StrictModel):
    """Language and task of a multilingual speech recognition model (Whisper)."""

    language: str | None = Field(
        None,
        max_length=32,
        pattern=worded(r"^[A-Za-z][A-Za-z ]*$", "a language's code or English name is needed, `de` or `german`"),
        description="Language of the transcripts: a code (`de`) or an English name (`german`). Default: the setting in "
        "generation_config.json, else the language forced there or in config.json, else the tokenizer's setting.",
        examples=["de"],
    )
    task: Literal["transcribe", "translate"] | None = Field(
        None,
        description="Whether transcripts are in the language of the recordings or in English. Default: found like the "
        "language, else transcribe.",
    )


class Stop(StrictModel):
    """A condition that ends a job before its target."""

    max_drop: float = Field(
        gt=0,
        lt=1,
        description="Largest drop of the task's metric on validation, absolute: 0.01 is one point; for word error rate, a "
        "rise of one point. The job ends at the last step within this bound.",
    )


def _leave_recovery_to_the_preset(schema: dict[str, Any]) -> None:
    field = schema["properties"]["finetune"]
    del field["default"]
    field["description"] += " Default: an object with its own defaults and the preset's values."


class JobSettings(StrictModel):
    """What both a job request and an engine spec carry."""

    model_config = ConfigDict(json_schema_extra=_leave_recovery_to_the_preset)

    pruning: Pruning
    finetune: Finetune | None = Field(Finetune(), description="null: one-shot pruning without recovery.")
    evaluate: Evaluate = Evaluate()
    exports: tuple[ExportFormat, ...] = Field(
        (),
        max_length=len(ExportFormat),
        description="Additional files beside the result's weights, verified against them. `onnx`; `onnx_int8`, with linear "
        "layers in 8 bits; `torchao_int8`, a folder for transformers with torchao, with weights and activations of linear "
        "layers in 8 bits; `torchao_int8_weights`, with weights only. If the job has a bound on the drop, every step is "
        "exported, because any may be the result.",
        json_schema_extra={"uniqueItems": True},
    )
    stop: Stop | None = None
    speech: Speech = Speech()
    deterministic: bool = True
    """The same inputs give the same bytes, on CUDA too, where this costs some speed."""
    seed: int = Field(0, ge=0, lt=2**31)
    """Seed of all random choices: held-out splits, calibration samples, data order, adapters."""

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
            raise ValueError("the target already bounds the drop (pruning.target.max_drop); leave out stop")
        return stop

    @field_validator("evaluate")
    @classmethod
    def _latency_can_be_met(cls, evaluate: Evaluate, info: ValidationInfo) -> Evaluate:
        pruning = info.data.get("pruning")
        if pruning is not None and pruning.target.kind is TargetKind.LATENCY and not evaluate.latency_batch_sizes:
            raise ValueError("a latency target is measured at the first of latency_batch_sizes; give at least one")
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
    """A label for people."""
    model: ModelReference
    """The checkpoint: an upload, a step of an earlier job, a model on the Hugging Face hub, or a folder in a bucket that the
    operator has configured."""
    dataset: Annotated[UploadedDataset | HubDataset, Field(discriminator="type")]
    """The data for calibration, recovery and evaluation: an upload, or a dataset on the Hugging Face hub."""
    priority: int = Field(
        0,
        ge=-10,
        le=10,
        description="Higher priority runs first. At equal priority tenants take turns, then older jobs run first.",
    )
    limits: JobLimits = JobLimits()
    labels: Labels = Field(
        {},
        description="Up to 16 labels, for filtering jobs. Keys: 1 to 63 of a-z, 0-9, `.`, `_`, `-`, `/`; values: up to 128 "
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
