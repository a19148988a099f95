"""Sample rows of a dataset that its inspector keeps for display, and the limits that both sides check.

Samples are made from untrusted bytes by libraries that an attacker may have taken over, so the receiver checks these limits
again.
"""

from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field

from api_schemas.base import FrozenModel
from api_schemas.enums import Modality

MOST_SAMPLES = 9
"""Three of each of the three usual splits."""
MAX_TEXT = 300
MAX_MEDIA_BYTES = 200_000
MEDIA_TYPES: Mapping[Modality, str] = {Modality.AUDIO: "audio/wav", Modality.IMAGE: "image/png"}
"""Never by what the bytes are: a browser that is told so shows nothing else."""
WITHOUT_NUL = r"^[^\x00]*$"
"""Which PostgreSQL takes in no text."""
_MAGIC = (b"RIFF", b"\x89PNG\r\n\x1a\n")


def _begins_as_media(data: bytes) -> bytes:
    if not data.startswith(_MAGIC):
        raise ValueError("neither WAV nor PNG")
    return data


ShownText = Annotated[str, Field(max_length=MAX_TEXT, pattern=WITHOUT_NUL)]
Media = Annotated[bytes, Field(max_length=MAX_MEDIA_BYTES), AfterValidator(_begins_as_media)]


class FoundSample(FrozenModel):
    """One row, as the inspector tells it."""

    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    split: str = Field(max_length=128, pattern=WITHOUT_NUL)
    row: int = Field(ge=0)
    text: ShownText | None = None
    text_pair: ShownText | None = None
    label: ShownText | None = None
    media: Media | None = None
    """WAV or PNG, made anew."""
    seconds: float | None = Field(None, ge=0, allow_inf_nan=False)
    """Of the whole clip."""
    width: int | None = Field(None, ge=0, lt=2**31)
    """Of the whole image, in pixels, as it is shown."""
    height: int | None = Field(None, ge=0, lt=2**31)
