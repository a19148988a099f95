"""The fields of the form for a new job, as query parameters."""

from typing import Literal

from pydantic import BaseModel

from api_schemas.enums import Part, TargetKind
from api_schemas.ids import DatasetId, JobId, ModelId

MOST_STEPS = 12
MOST_SHARE = 95
"""Percent, where the slider ends (static/new/limits.js)."""
OF_PARTS = (TargetKind.PARAMETERS, TargetKind.FLOPS, TargetKind.LATENCY)
"""Targets that do not say by themselves what is cut."""
PARTS: dict[str, tuple[Part, ...]] = {
    "both": (Part.ATTENTION, Part.FEED_FORWARD),
    "attention": (Part.ATTENTION,),
    "feed_forward": (Part.FEED_FORWARD,),
}


class Filled(BaseModel):
    """What the address fills in: fields of the form, and uploads that are to go on."""

    model_from: str = "upload"
    model: str = ""
    model_step: str = ""
    model_hub: str = ""
    model_revision: str = ""
    model_bucket: str = ""
    model_prefix: str = ""
    dataset_from: str = "upload"
    dataset: str = ""
    dataset_hub: str = ""
    dataset_revision: str = ""
    dataset_config: str = ""
    preset: str = "best"
    kind: str = "attention_sparsity"
    parts: str = "both"
    only: str = ""
    share: str = "50"
    goal: str = "share"
    within: str = ""
    steps: str = "0"
    epochs: str = ""
    drop: str = ""
    layout: str = ""
    exports: str = ""
    granularity: str = ""
    criterion: str = ""
    basis: str = ""
    calibration_split: str = ""
    calibration_samples: str = ""
    calibration_answers: str = ""
    columns_input: str = ""
    columns_input_pair: str = ""
    columns_label: str = ""
    columns_group: str = ""
    splits_train: str = ""
    splits_validation: str = ""
    splits_test: str = ""
    name: str = ""
    labels: str = ""
    rest: str = ""
    """JSON: fields of a request that the form lacks."""
    rest_of: JobId | Literal[""] = ""
    """The job that they are of."""
    like: JobId | Literal[""] = ""
    """A job whose request fills in what the address does not."""
    # The page calls addresses with these in them, with the rights of the session: nothing but an identifier may come through.
    model_upload: ModelId | Literal[""] = ""
    dataset_upload: DatasetId | Literal[""] = ""
