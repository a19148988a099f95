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
    Field(description="A commit, whole: branches and tags move, and a result must say what it came from."),
]


class UploadedModel(StrictModel):
    """A model uploaded to this service."""

    type: Literal["upload"]
    id: ModelId
    """As `POST /v1/models` gave it."""


class StepModel(StrictModel):
    """A step of an earlier job, to go on from, in either layout.

    It counts as an original of its own: targets, sparsities and drops are measured against it.
    """

    type: Literal["step"]
    job: JobId
    """One of the caller's, with that step."""
    step: int = Field(ge=1, le=10_000, description="One of the job's checkpoints.")


class HubModel(StrictModel):
    """A model on the Hugging Face hub, at one commit. Only safetensors, JSON and vocabularies are fetched."""

    type: Literal["hf"]
    id: Repository
    revision: Commit


class BucketModel(StrictModel):
    """A folder of a bucket that the operator has named."""

    type: Literal["s3"]
    bucket: Annotated[
        str,
        StringConstraints(
            pattern=worded(r"^[a-z0-9][a-z0-9._-]{0,62}$", "1 to 63 of a-z, 0-9, `.`, `_` and `-` are needed")
        ),
    ] = Field(description="The operator's name for it; `GET /v1/limits` lists them.")
    prefix: Annotated[
        str,
        StringConstraints(
            max_length=180,
            pattern=worded(
                r"^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$",
                "a folder is needed: names of letters, digits, `.`, `_` and `-`, with `/` between them and not at the ends",
            ),
        ),
    ] = Field(description="The folder, without a slash at its end.")


ModelReference = Annotated[UploadedModel | StepModel | HubModel | BucketModel, Field(discriminator="type")]


class Columns(StrictModel):
    """Which columns of the dataset are what. Left out, they are found by type and usual name."""

    input: Name | None = Field(
        None,
        description="What the checkpoint reads: audio, images, texts, or lists of words where every word has a label. "
        "For question answering, the questions. Default: the only column of that type, or the one with a usual name (`text`, "
        "`tokens`, `question`).",
    )
    input_pair: Name | None = Field(
        None,
        description="The second text of every row, for a checkpoint that classifies pairs: both are read, `input` first. For "
        "question answering, the texts that the answers stand in (default: `context`). "
        "Default: found with `input` by usual names (`sentence1` and `sentence2`, `premise` and `hypothesis`, `question` "
        "and `sentence`, `text` and `text_pair`, …, docs/data.md) unless `input` is named.",
    )
    label: Name | None = Field(
        None,
        description="What it is to answer. Default: for classification `label`, else `labels`; for a label a word `tags`, else "
        "`ner_tags`; for speech recognition, what was said: `text`, `transcript`, `transcription` or `sentence`; for question "
        "answering `answers`, with their texts and where in the context each begins, as SQuAD has them.",
    )
    label_ids: bool = Field(
        False,
        description="Whether labels are the checkpoint's class numbers, counted from 0, whatever they or its classes are "
        "called: whole numbers, their digits as text, or ids of a ClassLabel. By default numbers that no class is called by are, "
        "with a warning, and everything else is matched by name.",
    )
    group: Name | None = Field(None, description="Held-out splits keep rows of one group (a speaker, say) together.")

    def named(self) -> dict[str, str]:
        """The columns that are named, by what they are to be."""
        return {role: name for role, name in self.model_dump().items() if isinstance(name, str)}


class Splits(StrictModel):
    """Names of the dataset's splits by role, no two the same. A role without a split is held out of train, by seed."""

    train: Name = "train"
    """To recover on."""
    validation: Name = "validation"
    """To decide by: scores, `stop`, the better of two."""
    test: Name = "test"
    """Measured once, for the result."""


class UploadedDataset(StrictModel):
    """A dataset uploaded to this service."""

    type: Literal["upload"]
    id: DatasetId
    """As `POST /v1/datasets` gave it."""
    columns: Columns = Columns()
    splits: Splits = Splits()


class HubDataset(StrictModel):
    """A dataset on the Hugging Face hub, at one commit. Dataset scripts are never run."""

    type: Literal["hf"]
    id: Repository
    revision: Commit
    config: Name | None = Field(None, description="Name of the dataset's configuration, where it has several.")
    columns: Columns = Columns()
    splits: Splits = Splits()
