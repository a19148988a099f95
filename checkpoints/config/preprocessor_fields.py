"""The allowed fields of feature extractor and image processor settings, with their allowed values; others are dropped.

They are those that transformers 4 and 5 write. What a family requires of them beyond their type is checked beside the config.
"""

from collections.abc import Mapping
from typing import Any

from api_schemas.enums import Modality
from checkpoints.config_rules import AnyOf, Boolean, Integer, ListOf, Number, OneOf, Rule, Sides, String
from checkpoints.families import Family
from checkpoints.files.preprocessor_files import preprocessor_type

_ANY: Mapping[str, Rule] = {
    **dict.fromkeys(
        ("feature_extractor_type", "image_processor_type", "processor_class", "_processor_class"), String()
    ),
    **dict.fromkeys(("input_data_format", "data_format"), String()),
    **dict.fromkeys(("do_normalize", "return_attention_mask"), Boolean()),
}
_SIZE = Integer(0, 2**24)
MAX_SIDE = 4096
"""Of an image: memory is taken by these."""
_NUMBER = Number(-1e9, 1e9, null=True)

PREPROCESSOR_FIELDS: Mapping[Modality, Mapping[str, Rule]] = {
    Modality.AUDIO: {
        **_ANY,
        **dict.fromkeys(("feature_size", "sampling_rate", "num_mel_bins", "max_length", "hop_length", "n_fft"), _SIZE),
        **dict.fromkeys(("chunk_length", "n_samples", "nb_max_frames", "nb_max_samples", "nb_frequency_bins"), _SIZE),
        "stride": _SIZE,
        **dict.fromkeys(("fft_window_size", "max_length_s", "chunk_length_s"), _SIZE),
        **dict.fromkeys(
            ("mean", "std", "padding_value", "dither", "top_db", "frequency_min", "frequency_max"), _NUMBER
        ),
        **dict.fromkeys(("padding", "truncation"), AnyOf(String(32), Boolean())),
        "padding_side": OneOf(("left", "right"), null=True),
        # Whisper's filters, before they were computed.
        "mel_filters": ListOf(ListOf(Number(-1e3, 1e3), 1024), 1024),
    },
    Modality.IMAGE: {
        **_ANY,
        **dict.fromkeys(("do_resize", "do_rescale", "do_center_crop", "do_convert_rgb", "do_pad"), Boolean()),
        **dict.fromkeys(("default_to_square", "disable_grouping", "use_fast"), Boolean()),
        **dict.fromkeys(("size", "crop_size", "pad_size"), Sides(MAX_SIDE)),
        "resample": Integer(0, 5),
        "rescale_factor": _NUMBER,
        **dict.fromkeys(("image_mean", "image_std"), AnyOf(_NUMBER, ListOf(Number(-1e9, 1e9), 4))),
        "device": String(32),
        "image_seq_length": _SIZE,
    },
    Modality.TEXT: {},
}
"""By what the checkpoint reads; text has a tokenizer instead."""

NULL_SAYS = ("padding", "truncation")
"""Where null is not the class's own value, beside truths."""
UNREAD = frozenset({"_valid_processor_keys", "do_feature_extract", "return_tensors"})
"""Written by some versions of transformers and tools, and read by none, so they are dropped without a warning."""


def named_settings(family: Family, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings, with the family's own class where they name none, as up to transformers 4.5 (of images up to 4.24)."""
    if preprocessor_type(settings) is not None or not family.preprocessors:
        return dict(settings)
    key = "image_processor_type" if family.modality is Modality.IMAGE else "feature_extractor_type"
    return {**settings, key: family.preprocessors[0]}


def used_settings(family: Family, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Of `named_settings` what the class reads; null of a number or a name is no more than a key that is not there."""
    known = PREPROCESSOR_FIELDS[family.modality]

    def is_said(key: str, value: Any) -> bool:
        return value is not None or key in NULL_SAYS or isinstance(known[key], Boolean)

    return {
        key: value for key, value in named_settings(family, settings).items() if key in known and is_said(key, value)
    }
