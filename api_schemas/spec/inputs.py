"""Where model and data of a job come from."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from api_schemas.base import StrictModel
from api_schemas.ids import DatasetId, JobId, ModelId, Name
from api_schemas.validation_messages import worded

Repository = Annotated[
    str,
    StringConstraints(
        pattern=worded(
            r"^[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}$",
            "a repository's name is needed, `owner/name`, each 1 to 96 letters, digits, `_`, `.` and `-`",
        )
    ),
    Field(description="`owner/name` on the Hugging Face hub.", examples=["MIT/ast-finetuned-speech-commands-v2"]),
]
Commit = Annotated[
    str,
    StringConstraints(pattern=worded(r"^[0-9a-f]{40}$", "a whole commit is needed: 40 of 0-9 and a-f")),
    Field(description="A full commit hash. Branches and tags move, and a result must record its exact source."),
]


class UploadedModel(StrictModel):
    """A model uploaded to this service."""

    type: Literal["upload"]
    id: ModelId
    """The id returned by `POST /v1/models`."""


class StepModel(StrictModel):
    """A checkpoint of an earlier job, in either layout.

    It is treated as an original: targets, sparsities and drops are measured against it.
    """

    type: Literal["step"]
    job: JobId
    """A job of the same tenant that has this step."""
    step: int = Field(ge=1, le=10_000, description="Step number of one of the job's checkpoints.")


class HubModel(StrictModel):
    """A model on the Hugging Face hub, at one commit. Only safetensors, JSON and vocabulary files are fetched."""

    type: Literal["hf"]
    id: Repository
    revision: Commit


class BucketModel(StrictModel):
    """A folder in a bucket that the operator has configured."""

    type: Literal["s3"]
    bucket: Annotated[
        str,
        StringConstraints(
            pattern=worded(r"^[a-z0-9][a-z0-9._-]{0,62}$", "1 to 63 of a-z, 0-9, `.`, `_` and `-` are needed")
        ),
    ] = Field(description="The operator's name for the bucket; `GET /v1/limits` lists the names.")
    prefix: Annotated[
        str,
        StringConstraints(
            max_length=180,
            pattern=worded(
                r"^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$",
                "a folder is needed: names of letters, digits, `.`, `_` and `-`, with `/` between them and not at the ends",
            ),
        ),
    ] = Field(description="The folder, without a trailing slash.")


ModelReference = Annotated[UploadedModel | StepModel | HubModel | BucketModel, Field(discriminator="type")]


class Columns(StrictModel):
    """Column names of the dataset. Columns that are not named are found by type and usual name."""

    input: Name | None = Field(
        None,
        description="The model's input: audio, images, texts, or lists of words for one label per word. For question "
        "answering, the questions. Default: the only column of that type, or the one with a usual name (`text`, `tokens`, "
        "`question`).",
    )
    input_pair: Name | None = Field(
        None,
        description="The second text of every row, for checkpoints that classify pairs: the model reads both, `input` first. "
        "For question answering, the contexts that contain the answers (default: `context`). Default: detected together with "
        "`input` by usual names (`sentence1` and `sentence2`, `premise` and `hypothesis`, `question` and `sentence`, `text` "
        "and `text_pair`, …, docs/data.md) unless `input` is given.",
    )
    label: Name | None = Field(
        None,
        description="The labels. Default: for classification `label`, else `labels`; for one label per word `tags`, else "
        "`ner_tags`; for speech recognition the transcript: `text`, `transcript`, `transcription` or `sentence`; for question "
        "answering `answers`, with texts and their start positions in the context, in SQuAD's format.",
    )
    label_ids: bool = Field(
        False,
        description="Read labels as the checkpoint's class numbers, counted from 0, whatever the labels or classes are named: "
        "integers, their digits as text, or ids of a ClassLabel. By default this is done only for numbers that are no class's "
        "name, with a warning; everything else is matched by name.",
    )
    group: Name | None = Field(
        None, description="Held-out splits keep rows with the same value (such as a speaker) together."
    )

    def named(self) -> dict[str, str]:
        """The columns that are named, by what they are to be."""
        return {role: name for role, name in self.model_dump().items() if isinstance(name, str)}


class Splits(StrictModel):
    """Names of the dataset's splits by role, all different. A role without a split is held out of train, by seed."""

    train: Name = "train"
    """Used for recovery."""
    validation: Name = "validation"
    """Used for decisions: scores, `stop`, the better of two models."""
    test: Name = "test"
    """Measured once, for the result."""


class UploadedDataset(StrictModel):
    """A dataset uploaded to this service."""

    type: Literal["upload"]
    id: DatasetId
    """The id returned by `POST /v1/datasets`."""
    columns: Columns = Columns()
    splits: Splits = Splits()


class HubDataset(StrictModel):
    """A dataset on the Hugging Face hub, at one commit. Dataset scripts are never run."""

    type: Literal["hf"]
    id: Repository
    revision: Commit
    config: Name | None = Field(None, description="Name of the dataset's configuration, if it has several.")
    columns: Columns = Columns()
    splits: Splits = Splits()
