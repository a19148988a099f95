"""Example responses for the documentation, by operation. Built from the models, so they cannot go stale."""

from typing import Any

from pydantic import BaseModel

from api_schemas.api.resources import (
    CheckpointFile,
    CheckpointResource,
    DatasetContents,
    DatasetResource,
    JobResource,
    ModelLayout,
    ModelResource,
    Page,
    UploadedFile,
)
from api_schemas.api.samples import DatasetSample, DatasetSamples, SampleMedia
from api_schemas.enums import ColumnKind, Granularity, JobState, Modality, Phase, UploadState
from api_schemas.results.estimate import JobEstimate, JobPreview
from api_schemas.results.events import JobEvent, Loss, PhaseChanged, StateChanged
from api_schemas.spec.job import JobRequest
from checkpoints.planning.estimates import estimated_steps
from checkpoints.planning.feasibility import max_sparsity
from checkpoints.sizes import accounting
from checkpoints.sizes.shape import AttentionShape, FeedForwardShape, ModelShape
from service.openapi.examples.account_answers import ANSWERS as OTHERS
from service.openapi.examples.job import FIRST_STEP, JOB, NOON
from service.openapi.examples.requests import JOB_EXAMPLES
from service.openapi.examples.sweep import ANSWERS as OF_SWEEPS

_SHAPE = ModelShape(
    attention=tuple(
        AttentionShape(
            layer=layer, heads=3, head_dim=32, hidden=96, source=96, q_bias=True, k_bias=True, v_bias=True, o_bias=True,
            queries=146, keys=146, pairs=146**2,
        )
        for layer in range(2)
    ),
    feed_forward=tuple(
        FeedForwardShape(layer=layer, hidden=96, neurons=192, tokens=146, first_bias=True, second_bias=True)
        for layer in range(2)
    ),
    other_parameters=75_736,
    other_flops=7_300_000,
    bytes_per_parameter=4,
)  # fmt: skip
_WEIGHTS = accounting.weight_bytes(_SHAPE, _SHAPE.dense)


def _files(*sizes: tuple[str, int], sent: bool) -> tuple[UploadedFile, ...]:
    return tuple(UploadedFile(name=name, size=size, sha256="ab" * 32, uploaded=sent) for name, size in sizes)


_MODEL_FILES = (("config.json", 2301), ("preprocessor_config.json", 297), ("model.safetensors", _WEIGHTS + 5_952))
_OPEN_MODEL = ModelResource(
    id="mdl_aaaaaaaaaaaaaaaaaaaaaaaaaa",
    name="my-ast",
    state=UploadState.OPEN,
    created_at=NOON,
    expires_at=NOON.replace(day=12),
    files=_files(*_MODEL_FILES, sent=False),
)
_MODEL = _OPEN_MODEL.model_copy(
    update={
        "state": UploadState.READY,
        "expires_at": None,
        "files": _files(*_MODEL_FILES, sent=True),
        "layout": ModelLayout(
            family="ast",
            architecture="ASTForAudioClassification",
            task="audio-classification",
            labels=("no", "yes"),
            multi_label=False,
            widths=_SHAPE.dense,
            attention_parameters=accounting.attention_parameters(_SHAPE, _SHAPE.dense),
            feed_forward_parameters=accounting.feed_forward_parameters(_SHAPE, _SHAPE.dense),
            total_parameters=accounting.total_parameters(_SHAPE, _SHAPE.dense),
            flops=accounting.total_flops(_SHAPE, _SHAPE.dense),
            weight_bytes=_WEIGHTS,
            max_sparsity={each: max_sparsity(_SHAPE, _SHAPE.dense, each) for each in Granularity},
        ),
    }
)
_DATASET_FILES = (("train.parquet", 28_026_768), ("validation.parquet", 9_515_424), ("test.parquet", 9_495_103))
_OPEN_DATASET = DatasetResource(
    id="dst_aaaaaaaaaaaaaaaaaaaaaaaaaa",
    name="spoken-commands",
    state=UploadState.OPEN,
    created_at=NOON,
    expires_at=NOON.replace(day=12),
    files=_files(*_DATASET_FILES, sent=False),
)
_DATASET = _OPEN_DATASET.model_copy(
    update={
        "state": UploadState.READY,
        "expires_at": None,
        "files": _files(*_DATASET_FILES, sent=True),
        "contents": DatasetContents(
            rows={"train": 7200, "validation": 2400, "test": 2400},
            labels=("no", "yes"),
            multi_label=False,
            label_counts={
                "train": {"no": 3600, "yes": 3600},
                "validation": {"no": 1200, "yes": 1200},
                "test": {"no": 1200, "yes": 1200},
            },
            columns=("audio", "label"),
            kinds={"audio": ColumnKind.AUDIO, "label": ColumnKind.LABEL},
            input_column="audio",
            label_column="label",
            seconds=11_890.0,
            sampling_rates=(16_000,),
        ),
    }
)

_SAMPLE = DatasetSample(
    number=0,
    split="train",
    row=1200,
    kind=Modality.AUDIO,
    label="no",
    media=SampleMedia(url=f"/v1/datasets/{_DATASET.id}/samples/0/media", type="audio/wav", size=32_044, seconds=1.0),
)

_QUEUED = JOB.model_copy(
    update={
        "state": JobState.QUEUED, "started_at": None, "attempts": 0, "queue_position": 3, "progress": None, "data": None,
        "metrics": (),
    }
)  # fmt: skip
_REQUEST = JobRequest.model_validate(JOB_EXAMPLES["least"]["value"])
_ESTIMATE = JobEstimate(
    steps=estimated_steps(_SHAPE, _REQUEST.pruning, _WEIGHTS + 5_952),
    seconds=741.3,
    phase_seconds={Phase.SCORING: 61.0, Phase.FINETUNING: 589.7, Phase.EVALUATING: 66.2, Phase.PACKAGING: 11.8},
    host_memory_bytes=1_240_000_000,
    device_memory_bytes=None,
    device="cpu",
    jobs_observed=4,
    reason=None,
)
_CHECKPOINT = CheckpointResource(
    step=1,
    created_at=NOON.replace(minute=5),
    metrics=FIRST_STEP,
    files=(
        CheckpointFile(
            name="model.safetensors",
            size=855_904,
            sha256="cd" * 32,
            url=f"/v1/jobs/{JOB.id}/checkpoints/1/files/model.safetensors",
        ),
    ),
    archive_url=f"/v1/jobs/{JOB.id}/checkpoints/1/archive",
)
_EVENTS = tuple(
    JobEvent(seq=seq, created_at=NOON.replace(second=seq), body=body)
    for seq, body in enumerate(
        (
            StateChanged(state=JobState.QUEUED),
            StateChanged(state=JobState.RUNNING),
            PhaseChanged(phase=Phase.FINETUNING, step=1, steps=2),
            Loss(step=1, epoch=1, epochs=3, train_loss=0.214, points=(0.253, 0.208, 0.181)),
        ),
        start=1,
    )
)

_ANSWERS: dict[str, BaseModel] = {
    "create_model": _OPEN_MODEL,
    "list_models": Page[ModelResource](items=(_MODEL,)),
    "get_model": _MODEL,
    "complete_model": _MODEL,
    "upload_model_file": _MODEL.files[0],
    "create_dataset": _OPEN_DATASET,
    "list_datasets": Page[DatasetResource](items=(_DATASET,)),
    "get_dataset": _DATASET,
    "complete_dataset": _DATASET,
    "upload_dataset_file": _DATASET.files[0],
    "list_dataset_samples": DatasetSamples(items=(_SAMPLE,)),
    "create_job": _QUEUED,
    "list_jobs": Page[JobResource](items=(_QUEUED,), next_cursor="MjAyNi0wMS0wNVQxMjowMA"),
    "estimate_job": _ESTIMATE,
    "get_job": JOB,
    "cancel_job": JOB.model_copy(update={"state": JobState.CANCELLING}),
    "pause_job": JOB.model_copy(update={"pause_requested": True}),
    "resume_job": _QUEUED.model_copy(update={"attempts": 1, "queue_position": 1}),
    "list_job_events": Page[JobEvent](items=_EVENTS),
    "list_checkpoints": Page[CheckpointResource](items=(_CHECKPOINT,)),
    "get_checkpoint": _CHECKPOINT,
}


def answers() -> dict[str, Any]:
    """By operation id, the JSON of its first success."""
    return {operation: answer.model_dump(mode="json") for operation, answer in (_ANSWERS | OF_SWEEPS | OTHERS).items()}


PREVIEW: dict[str, Any] = JobPreview(request=_REQUEST, estimate=_ESTIMATE).model_dump(mode="json")
"""`validate_only`."""
