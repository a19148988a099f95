"""Whether a preprocessor makes inputs, and whether their size matches config.json, as far as both state it."""

from collections.abc import Mapping
from typing import Any

from checkpoints.families.patch_encoder import FRACTIONS

Settings = Mapping[str, Any]
Misfit = tuple[str, str]
"""The setting, and what is wrong with it."""
MAX_CLIP_SECONDS = 120
MAX_MELS = 1024
MAX_WINDOW = 2**16
MAX_STRIDE = 64
MAX_VALUES = 2**24
"""Of one clip's features: 64 MiB."""
CROPPED = ("DeiT", "CLIP", "Bit")
"""Image processors that cut a square out of the middle, unless they are told not to."""
IMAGES = ("ViT", "Siglip", "DINOv3ViT", *CROPPED)
BY_THE_SHORTER = ("CLIP", "Bit")
"""Of these, those that make the shorter side of an image 224 long."""
OF_FRACTIONS = (2, 3)
"""Of Pillow's numbers for ways to resize, bilinear and bicubic: those that fractions are resized by as bytes are."""
PADDINGS = ("repeatpad", "repeat", "pad")
TRUNCATIONS = ("fusion", "rand_trunc")


def misfit(kind: str, config: Settings, settings: Settings, largest: int | None = None) -> Misfit | None:
    """The first setting of a preprocessor of class `kind` that makes inputs of another size; defaults are transformers' own.

    largest: of images that may have any size, the longest side.
    """
    if kind == "Wav2Vec2FeatureExtractor":
        return _unlike("feature_size", settings.get("feature_size", 1), 1, "the class reads mono audio")
    if kind == "WhisperFeatureExtractor":
        mels, positions = config.get("num_mel_bins", 80), config.get("max_source_positions", 1500)
        numbers = {"feature_size": 80, "n_fft": 400, "hop_length": 160, "chunk_length": 30, "sampling_rate": 16_000}
        numbers |= {key: settings[key] for key in numbers if key in settings}
        found = _unlike("feature_size", numbers["feature_size"], mels, f"config.json has num_mel_bins {mels}")
        if (found := found or _unusable(numbers, "chunk_length")) is not None:
            return found
        frames = numbers["chunk_length"] * numbers["sampling_rate"] // numbers["hop_length"]
        said = f"it gives {frames} frames, but config.json's max_source_positions {positions} requires {2 * positions}"
        return _unlike("chunk_length", frames, 2 * positions, said)
    if kind == "SeamlessM4TFeatureExtractor":
        return _seamless(config, settings)
    if kind == "ClapFeatureExtractor":
        return _clap(config, settings)
    return _image(kind, config, settings, largest) if kind.startswith(IMAGES) else None


def _seamless(config: Settings, settings: Settings) -> Misfit | None:
    mels, stride = settings.get("num_mel_bins", 80), settings.get("stride", 2)
    for key, value, most in (("num_mel_bins", mels, MAX_MELS), ("stride", stride, MAX_STRIDE)):
        if type(value) is not int or not 1 <= value <= most:
            return key, f"must be a whole number from 1 to {most}"
    width = config.get("feature_projection_input_dim", 160)
    found = _unlike("feature_size", settings.get("feature_size", 80), mels, f"must be num_mel_bins, {mels}")
    said = f"{stride} frames of {mels} bins are {stride * mels} numbers, but config.json has feature_projection_input_dim {width}"
    return found or _unlike("stride", stride * mels, width, said)


def _clap(config: Settings, settings: Settings) -> Misfit | None:
    mels = config.get("num_mel_bins", 64)
    for key, usual, known in (("padding", "repeatpad", PADDINGS), ("truncation", "fusion", TRUNCATIONS)):
        if settings.get(key, usual) not in known:
            return key, f"must be one of {', '.join(known)}"
    numbers = {
        "feature_size": 64,
        "fft_window_size": 1024,
        "hop_length": 480,
        "max_length_s": 10,
        "sampling_rate": 48_000,
    }
    numbers |= {key: settings[key] for key in numbers if key in settings}
    found = _unlike("feature_size", numbers["feature_size"], mels, f"config.json has num_mel_bins {mels}")
    if (found := found or _unusable(numbers, "max_length_s")) is not None:
        return found
    if numbers["fft_window_size"] % 2:
        # transformers counts the frames of an even one.
        return "fft_window_size", "must be an even number"
    lowest, highest = settings.get("frequency_min", 0), settings.get("frequency_max", 14_000)
    return (
        None
        if 0 <= lowest < highest
        else ("frequency_max", "must be greater than frequency_min, which must be at least 0")
    )


def _unusable(numbers: Mapping[str, Any], seconds: str) -> Misfit | None:
    """The first of the `numbers` of a spectrogram that cannot be: libraries allocate by these before anybody looks.

    seconds: the key of a clip's length.
    """
    for key, value in numbers.items():
        most = MAX_CLIP_SECONDS if key == seconds else MAX_MELS if key == "feature_size" else MAX_WINDOW
        if key != "sampling_rate" and (type(value) is not int or not 1 <= value <= most):
            return key, f"must be a whole number from 1 to {most}"
    if numbers[seconds] * numbers["sampling_rate"] // numbers["hop_length"] * numbers["feature_size"] > MAX_VALUES:
        return seconds, f"the features of one clip would have more than {MAX_VALUES} values"
    return None


def _image(kind: str, config: Settings, settings: Settings, largest: int | None) -> Misfit | None:
    if kind in FRACTIONS and settings.get("do_rescale", True) is False:
        return "do_rescale", "must be true: this class resizes and normalizes fractions, and bytes would not be"
    if kind in FRACTIONS and settings.get("do_resize", True) and settings.get("resample", 2) not in OF_FRACTIONS:
        return "resample", "must be 2 (bilinear) or 3 (bicubic) for this class"
    cropped = settings.get("do_center_crop", kind.startswith(CROPPED))
    if not cropped and not settings.get("do_resize", True):
        return (
            "do_resize",
            "images would keep their own sizes, but the model reads one size: set this or do_center_crop to true",
        )
    for name in ("image_mean", "image_std") if settings.get("do_normalize", True) else ():
        said = settings.get(name, 0.5)
        parts, channels = said if isinstance(said, list) else [said], config.get("num_channels", 3)
        if isinstance(said, list) and len(said) != channels:
            return name, f"must be one number, or one for each of {channels} channels"
        if name == "image_std" and not all(parts):
            return name, "it is a divisor, so it must not contain 0"
    key = "crop_size" if cropped else "size"
    usual: Any = 224 if cropped or not kind.startswith("DeiT") else 256
    if not cropped and kind.startswith(BY_THE_SHORTER):
        usual = {"shortest_edge": 224}
    found, wanted = _sides(settings.get(key, usual)), _sides(config.get("image_size", 224))
    if found is None and not cropped:
        return (
            key,
            "images would have different sizes, but the model reads one size: set height and width, or do_center_crop",
        )
    if largest is not None and found is not None:
        return None if max(found) <= largest else (key, f"images would be larger than {largest} pixels on a side")
    if found is None or wanted is None:
        return None
    made, read = (f"{height} × {width}" for height, width in (found, wanted))
    return _unlike(key, found, wanted, f"images would be {made}, but config.json has image_size {read}")


def _sides(size: Any) -> tuple[int, int] | None:
    if isinstance(size, Mapping):
        size = [size.get("height"), size.get("width")]
    sides = (size, size) if type(size) is int else tuple(size) if isinstance(size, list | tuple) else ()
    return (sides[0], sides[1]) if len(sides) == 2 and all(type(side) is int for side in sides) else None


def _unlike(key: str, found: Any, wanted: Any, reason: str) -> Misfit | None:
    return None if found is None or found == wanted else (key, reason)
