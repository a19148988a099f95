"""Limits of clips, images and texts in a dataset: the inspector and the engine must accept the same."""

from api_schemas.enums import ColumnKind

SAMPLING_RATES = range(1_000, 768_001)
MAX_CHANNELS = 64
MAX_SAMPLES_A_SECOND = 2**22
"""Of all channels: five at the highest rate, all 64 at 65 kHz. Half a minute of it is 0.5 GB once decoded."""
SAMPLES_A_BYTE = 8_192
"""Of one channel, at most: a frame of FLAC, which packs tightest of what is read, has up to 65,535 samples and takes 8 bytes."""

NOT_FINITE = "it contains samples that are not finite numbers"
"""What is said of a clip with a NaN or an infinity in it."""

IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
"""By Pillow's names. Of an animation the first frame counts."""
MAX_IMAGE_BYTES = 64 * 2**20
MAX_PIXELS = 2**26
"""Judged by the header, before a pixel is unpacked: 201 MB in three bytes a pixel, more than any camera's picture."""
MAX_CHARACTERS = 100_000
"""Of one text, and of all words of a row."""

MAGIC_BYTES = 12
_AUDIO_MAGIC = (b"RIFF", b"RIFX", b"RF64", b"riff", b"fLaC", b"OggS", b"ID3", b"FORM", b"caff", b".snd")
_IMAGE_MAGIC = (b"\x89PNG\r\n", b"\xff\xd8\xff", b"GIF8", b"BM")


def looks_like_image(head: bytes) -> bool:
    """Whether a file that begins so (12 bytes are enough) is an image of IMAGE_FORMATS."""
    return head.startswith(_IMAGE_MAGIC) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")


def looks_like_audio(head: bytes) -> bool:
    """Likewise of recordings. An mp3 may begin with its first frame: eleven bits that are set."""
    return head.startswith(_AUDIO_MAGIC) or (len(head) > 1 and head[0] == 0xFF and head[1] >= 0xE0)


def kind_of_files(head: bytes, *, raw: bool) -> ColumnKind:
    """What a column of bytes holds whose first value begins so. `raw`: nothing says that they are files; they may be anything."""
    if looks_like_image(head):
        return ColumnKind.IMAGE
    return ColumnKind.OTHER if raw and not looks_like_audio(head) else ColumnKind.AUDIO


def clip_trouble(rate: int, channels: int) -> str | None:
    """What is wrong with a clip's header, in a clause; None where nothing is. Asked before anything is decoded."""
    usable = rate in SAMPLING_RATES and 1 <= channels <= MAX_CHANNELS and rate * channels <= MAX_SAMPLES_A_SECOND
    return None if usable else f"its header gives {rate} Hz and {channels} channels, which is not supported"


def frames_trouble(frames: int, file_bytes: int) -> str | None:
    """Likewise of its length: that many samples a channel do not fit into so many bytes."""
    if frames <= SAMPLES_A_BYTE * file_bytes:
        return None
    return f"its header gives {frames} samples, which do not fit in {file_bytes} bytes"
