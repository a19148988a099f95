"""Inputs of image encoders: RGB images of the model's size, by the checkpoint's own image processor."""

import io
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch.nn import functional

from api_schemas.errors import ErrorCode, ErrorItem, SecateurError
from checkpoints.config.preprocessor_fields import MAX_SIDE
from checkpoints.data.clip_flaws import Flaw
from checkpoints.data.media import IMAGE_FORMATS, MAX_IMAGE_BYTES, MAX_PIXELS
from checkpoints.families import family_of
from checkpoints.families.patch_encoder import FRACTIONS, processors
from checkpoints.files.preprocessor_files import preprocessor_type
from worker.engine.data.featurizers.base import Value, file_bytes
from worker.engine.data.settings import (
    Settings,
    check_type,
    first_line,
    full_config,
    invalid,
    model_type,
    read_preprocessor,
)

LINES = ("ViT", "DeiT", "CLIP", "Siglip", "Bit")
"""How the classes' names begin."""
_SIZE_KEYS = ("size", "crop_size", "pad_size")
MAX_RESIZED = 2**24
"""Pixels of an image once its shorter side is as long as the settings say: a strip becomes as much longer."""

Pixels = NDArray[np.float32]


class ImageFeaturizer:
    """The featurizer of images: pixel_values float32 [channels, height, width]."""

    pad_value = 0.0

    def __init__(self, model_dir: Path) -> None:
        """Raises CONFIG_INVALID where the settings are unusable, or make images unlike those config.json describes."""
        import transformers

        self.flaws: list[Flaw] = []
        settings, config = read_preprocessor(model_dir), full_config(model_dir)
        kind = preprocessor_type(settings)
        check_type(kind, (*processors(*LINES), *FRACTIONS))
        for key in _SIZE_KEYS:
            _check_size(settings, key)
        # Always Pillow's: it is there on every machine, and the tensor backend rounds otherwise.
        lines = {name: line for line in LINES for name in processors(line)}
        make: Any = (
            _ByFractions if kind in FRACTIONS else getattr(transformers, f"{lines[kind]}ImageProcessorPil").from_dict
        )
        family = family_of(model_type(model_dir))
        largest, (height, width) = family.largest_side if family else None, _pair(config["image_size"])
        self._shape = (config["num_channels"], height, width)
        try:
            self._process: Any = make(settings)
            self._resizes: bool = self._process.do_resize
            made = self._pixels(Image.new("RGB", (MAX_SIDE // 64, MAX_SIDE // 128)))
        except (ValueError, TypeError, AttributeError, ArithmeticError, KeyError, IndexError) as error:
            raise invalid(first_line(error)) from error
        if largest is not None:
            least = max(_pair(config["patch_size"]))
            if made.ndim != len(self._shape) or not all(least <= side <= largest for side in made.shape[1:]):
                raise invalid(f"images have shape {list(made.shape)}, but sides must be from {least} to {largest}")
            self._shape = (self._shape[0], *made.shape[1:])
        if made.shape != self._shape or not np.isfinite(made).all():
            raise invalid(f"images have shape {list(made.shape)}, but config.json expects {list(self._shape)}")

    def decode(self, value: Value, where: str) -> Pixels:
        """Raises IMAGE_UNDECODABLE, naming `where`."""
        image = decode_rgb(file_bytes(value, where, undecodable), where)
        short = self._process.size.shortest_edge
        if short and self._resizes and short**2 * max(image.size) > MAX_RESIZED * min(image.size):
            # Before the middle is cut out of it, if it is.
            long = short * max(image.size) // min(image.size)
            raise undecodable(where, f"resized it would have {short} × {long} pixels; the maximum is {MAX_RESIZED}")
        return self._pixels(image)

    def __call__(self, decoded: Sequence[Any], places: Sequence[str]) -> dict[str, Any]:
        """Raises IMAGE_UNDECODABLE where an image does not become one of the model's size."""
        for pixels, where in zip(decoded, places, strict=True):
            if pixels.shape != self._shape:
                raise undecodable(
                    where, f"its shape is {list(pixels.shape)}, but the checkpoint expects {list(self._shape)}"
                )
        return {"pixel_values": np.stack(decoded)}

    def _pixels(self, image: Image.Image) -> Pixels:
        pixels: Pixels = np.asarray(self._process(image, return_tensors="np")["pixel_values"][0], dtype=np.float32)
        return pixels


class _ByFractions:
    """DINOv3's processor, which resizes an image once its values are fractions, with the operations of torchvision's tensors.

    transformers has it with torchvision alone, which nothing else here needs. What comes out is the same, bit for bit.
    """

    modes: Mapping[int, str] = {Image.Resampling.BILINEAR: "bilinear", Image.Resampling.BICUBIC: "bicubic"}

    def __init__(self, settings: Settings) -> None:
        import transformers

        # Another's class for the settings, which all read alike; these two are the class's own.
        own = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
        self.said: Any = transformers.ViTImageProcessorPil.from_dict({**own, **settings})

    @property
    def size(self) -> Any:
        """As transformers' processors have it."""
        return self.said.size

    @property
    def do_resize(self) -> bool:
        """Likewise."""
        return bool(self.said.do_resize)

    def __call__(self, image: Image.Image, *, return_tensors: str) -> dict[str, list[Pixels]]:
        """`return_tensors` is there for the others' sake. Raises ValueError for settings that make no image."""
        del return_tensors
        said = self.said
        pixels_CHW = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous() * said.rescale_factor
        if said.do_resize:
            size, mode = self._size(pixels_CHW), self.modes[said.resample]
            if size != tuple(pixels_CHW.shape[1:]):
                resized = functional.interpolate(pixels_CHW[None], size, mode=mode, align_corners=False, antialias=True)
                pixels_CHW = resized[0]
        if said.do_center_crop:
            pixels_CHW = self._middle(pixels_CHW)
        if said.do_normalize:
            mean, std = (torch.tensor(each).float().reshape(-1, 1, 1) for each in (said.image_mean, said.image_std))
            pixels_CHW = (pixels_CHW - mean) / std
        return {"pixel_values": [pixels_CHW.numpy()]}

    def _size(self, pixels_CHW: torch.Tensor) -> tuple[int, int]:
        """What the image is resized to: height and width, or what makes its shorter side so long."""
        size = self.said.size
        if size.shortest_edge and not size.longest_edge:
            height, width = pixels_CHW.shape[1:]
            long = int(size.shortest_edge * max(height, width) / min(height, width))
            return (size.shortest_edge, long) if height <= width else (long, size.shortest_edge)
        if size.height and size.width:
            return size.height, size.width
        raise ValueError(f"size must have height and width, or shortest_edge, but is {size}")

    def _middle(self, pixels_CHW: torch.Tensor) -> torch.Tensor:
        """The middle of the image that is cut out of it; a smaller image gets zeros around it."""
        size = self.said.crop_size
        spare = [have - wanted for have, wanted in zip(pixels_CHW.shape[1:], (size.height, size.width), strict=True)]
        # Left and right, then above and below.
        missing = [max(0, -side) for side in reversed(spare)]
        pixels_CHW = functional.pad(pixels_CHW, [part for side in missing for part in (side // 2, side - side // 2)])
        top, left = (max(0, side) // 2 for side in spare)
        return pixels_CHW[:, top : top + size.height, left : left + size.width]


def decode_rgb(data: bytes, where: str) -> Image.Image:
    """The image, of an animation its first frame, turned as its Exif data says, in three channels.

    Raises IMAGE_UNDECODABLE, naming `where`.
    """
    if len(data) > MAX_IMAGE_BYTES:
        raise undecodable(where, f"it has {len(data)} bytes; the maximum is {MAX_IMAGE_BYTES}")
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data), formats=IMAGE_FORMATS) as image:
            # By the header, before a pixel is unpacked.
            if not 0 < image.width * image.height <= MAX_PIXELS:
                raise undecodable(
                    where, f"its header gives {image.width} × {image.height}; the maximum is {MAX_PIXELS} pixels"
                )
            return ImageOps.exif_transpose(image).convert("RGB")
    except SecateurError:
        raise
    # What Pillow raises on untrusted files is not a closed list.
    except Exception as error:
        raise undecodable(
            where, str(error).split("<", 1)[0].strip()[:200].rstrip(".") or type(error).__name__
        ) from None


def undecodable(where: str, reason: str) -> SecateurError:
    """IMAGE_UNDECODABLE for the image at `where`, as the upload's inspector words it."""
    detail = f"The image at {where} cannot be decoded: {reason}. Send PNG, JPEG, WebP, GIF or BMP."
    item = ErrorItem.at(where, code=ErrorCode.IMAGE_UNDECODABLE, detail=reason)
    return SecateurError(ErrorCode.IMAGE_UNDECODABLE, detail, (item,))


def _pair(size: Any) -> tuple[Any, Any]:
    return (size[0], size[1]) if isinstance(size, list) and len(size) == 2 else (size, size)


def _check_size(settings: Settings, key: str) -> None:
    """Every number in it is a side of an image: memory is taken by these."""
    value = settings.get(key)
    sides = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
    for side in sides:
        if side is not None and (type(side) is not int or not 1 <= side <= MAX_SIDE):
            raise invalid(f"{key} is {str(value)[:100]}; sides must be from 1 to {MAX_SIDE}")
