"""Where model and data of a job come from."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from api_schemas.base import Strict
from api_schemas.ids import DatasetId, ModelId, Name


class UploadedModel(Strict):
    """A model uploaded to this service."""

    type: Literal["upload"]
    id: ModelId


class Columns(Strict):
    """Which columns of the dataset are what. Left out, they are found by type and usual name."""

    input: Name | None = Field(
        None,
        description="What the checkpoint reads: audio, images, texts, or lists of words where every word has a label. "
        "Default: the only column of that type, or the one with a usual name (`text`, `tokens`).",
    )
    label: Name | None = Field(
        None,
        description="What it is to answer. Default: for classification `label`, else `labels`; for a label a word `tags`, else "
        "`ner_tags`; for speech recognition, what was said: `text`, `transcript`, `transcription` or `sentence`.",
    )
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
