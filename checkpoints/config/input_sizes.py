"""Whether the inputs that a preprocessor makes are of the size that config.json describes, as far as both say it."""

from collections.abc import Mapping
from typing import Any

Settings = Mapping[str, Any]
Misfit = tuple[str, str]
"""The setting, and what is wrong with it."""


def misfit(kind: str, config: Settings, settings: Settings) -> Misfit | None:
    """The first setting of a preprocessor of class `kind` that makes inputs of another size; defaults are transformers' own."""
    if kind == "Wav2Vec2FeatureExtractor":
        return _unlike("feature_size", settings.get("feature_size", 1), 1, "the class reads waves of one channel")
    if kind == "WhisperFeatureExtractor":
        mels, positions = config.get("num_mel_bins", 80), config.get("max_source_positions", 1500)
        seconds, hop = settings.get("chunk_length", 30), settings.get("hop_length", 160)
        found = _unlike("feature_size", settings.get("feature_size", 80), mels, f"config.json says num_mel_bins {mels}")
        if found is not None or not all(type(each) is int and each > 0 for each in (seconds, hop, positions)):
            return found
        frames = seconds * settings.get("sampling_rate", 16_000) // hop
        said = f"it makes {frames} frames, and config.json's max_source_positions {positions} are for {2 * positions}"
        return _unlike("chunk_length", frames, 2 * positions, said)
    if kind == "ClapFeatureExtractor":
        mels = config.get("num_mel_bins", 64)
        return _unlike("feature_size", settings.get("feature_size", 64), mels, f"config.json says num_mel_bins {mels}")
    return _image(kind, config, settings) if kind.startswith(("ViT", "DeiT")) else None


def _image(kind: str, config: Settings, settings: Settings) -> Misfit | None:
    wide = kind.startswith("DeiT")
    cropped = settings.get("do_center_crop", wide)
    if not cropped and settings.get("do_resize") is False:
        return None
    key = "crop_size" if cropped else "size"
    found, wanted = (
        _sides(settings.get(key, 256 if wide and not cropped else 224)),
        _sides(config.get("image_size", 224)),
    )
    if found is None or wanted is None:
        return None
    made, read = (f"{height} × {width}" for height, width in (found, wanted))
    return _unlike(key, found, wanted, f"images become {made}, and config.json says image_size {read}")


def _sides(size: Any) -> tuple[int, int] | None:
    if isinstance(size, Mapping):
        size = [size.get("height"), size.get("width")]
    sides = (size, size) if type(size) is int else tuple(size) if isinstance(size, list | tuple) else ()
    return (sides[0], sides[1]) if len(sides) == 2 and all(type(side) is int for side in sides) else None


def _unlike(key: str, found: Any, wanted: Any, reason: str) -> Misfit | None:
    return None if found is None or found == wanted else (key, reason)
