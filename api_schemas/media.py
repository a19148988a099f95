"""Bounds of images and texts in a dataset: the inspector and the engine must agree on what they take."""

IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
"""By Pillow's names. Of an animation the first frame counts."""
MAX_IMAGE_BYTES = 64 * 2**20
MAX_PIXELS = 2**26
"""Judged by the header, before a pixel is unpacked: 201 MB in three bytes a pixel, more than any camera's picture."""
MAX_CHARACTERS = 100_000
"""Of one text, and of all words of a row."""

_IMAGE_MAGIC = (b"\x89PNG\r\n", b"\xff\xd8\xff", b"GIF8", b"BM")


def looks_like_image(head: bytes) -> bool:
    """Whether a file that begins so (12 bytes are enough) is an image of IMAGE_FORMATS."""
    return head.startswith(_IMAGE_MAGIC) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
