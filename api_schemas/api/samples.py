"""A few rows of a dataset, as they are shown to people: `GET /v1/datasets/{id}/samples`."""

from api_schemas.base import FrozenModel
from api_schemas.enums import Modality


class SampleMedia(FrozenModel):
    """A recording or an image of a row, made smaller for a page. The dataset's own bytes stay as they are."""

    url: str
    type: str
    """`audio/wav`: the first five seconds, channels averaged, 16 bits, at most 16 kHz. `image/png`: RGB, at most
    96 × 96 pixels."""
    size: int
    """In bytes."""
    seconds: float | None = None
    """Duration of the whole recording."""
    width: int | None = None
    """Of the whole image, in pixels, turned as its EXIF data says."""
    height: int | None = None


class DatasetSample(FrozenModel):
    """One row."""

    number: int
    """Position in `items`, from 0."""
    split: str
    row: int
    """Index of the row in its split, from 0."""
    kind: Modality
    text: str | None = None
    """The text, the question, or the words joined by spaces; texts are cut after 300 characters. Null for recordings
    and images."""
    text_pair: str | None = None
    """The second text of a pair."""
    label: str | None = None
    """Its label, several joined by commas, its transcript, or the answers to its question, joined by semicolons and empty if the
    text has none. Null if it has none of these."""
    media: SampleMedia | None = None
    """Null for texts, and for a recording or image from which no sample could be made."""


class DatasetSamples(FrozenModel):
    """Rows at even distances from every split, nine at most."""

    items: tuple[DatasetSample, ...]
    """Empty until the dataset is `ready`, and for datasets completed by earlier versions: upload the same files again to get
    samples; bytes that the server has are not sent twice."""
