"""The files of an uploaded checkpoint that define its inputs: settings of the feature extractor, and the tokenizer's."""

from collections.abc import Mapping
from typing import Any

from api_schemas.errors import ErrorCode, ErrorItem, SecateurError
from api_schemas.results.metrics import JobWarning
from checkpoints.config.architectures import without_code_map
from checkpoints.config.forbidden_fields import refuse_code
from checkpoints.config.generation_fields import check_generation
from checkpoints.config.input_sizes import misfit
from checkpoints.config.preprocessor_fields import PREPROCESSOR_FIELDS, UNREAD, used_settings
from checkpoints.config.pruned_layout import stock_config
from checkpoints.describe import Checkpoint
from checkpoints.files.preprocessor_files import (
    GENERATION,
    TOKENIZER_CONFIG,
    WHOLE,
    named_tokenizer,
    needs_tokenizer,
    preprocessor_type,
    tokenizer_classes,
    vocabularies,
)

# Of log-mel features, whose values are tens at most; and std is divided by.
MAX_STATISTIC = 1e6
MIN_STD = 1e-6
SAMPLING_RATES = range(1_000, 384_001)
CONFIG = "config.json"
PIECES = "vocab.json"

Config = Mapping[str, Any]


def check_preprocessor(checkpoint: Checkpoint, config: Config, settings: Config, file: str) -> tuple[JobWarning, ...]:
    """The extractor or image processor is the family's own, and makes inputs of the size the model was built for.

    Returns what of the settings is not used. Raises CONFIG_INVALID.
    """
    family = checkpoint.family

    def wrong(key: str, reason: str) -> SecateurError:
        return invalid(file, key, reason)

    rules = PREPROCESSOR_FIELDS[family.modality]
    for key, value in settings.items():
        if key in rules and not rules[key].allows(value):
            raise wrong(key, f"must be {rules[key].needed}")
    given, settings = settings, used_settings(family, settings)
    kind = preprocessor_type(settings)
    if kind not in family.preprocessors:
        wanted = " or ".join(family.preprocessors)
        raise wrong("feature_extractor_type", f"must be {wanted}, but is {str(kind)[:100]!r}")
    rate = settings.get("sampling_rate", SAMPLING_RATES.start)
    if type(rate) is not int or rate not in SAMPLING_RATES:
        raise wrong("sampling_rate", f"must be a rate from {SAMPLING_RATES.start} to {SAMPLING_RATES.stop - 1} Hz")
    for key, least in (("mean", -MAX_STATISTIC), ("std", MIN_STD), ("padding_value", -MAX_STATISTIC)):
        value = settings.get(key, 1.0)
        if type(value) not in (int, float) or not least <= value <= MAX_STATISTIC:
            raise wrong(key, f"must be a number from {least:g} to {MAX_STATISTIC:g}")
    for key in family.preprocessor_fields:
        model, features = family.value(config, key), settings.get(key, family.defaults[key])
        if type(features) is not int or features != model:
            raise wrong(key, f"config.json has {model}, but this file has {str(features)[:100]}")
    if (found := misfit(str(kind), family.part_config(config), settings, family.largest_side)) is not None:
        raise wrong(*found)
    unread = sorted(key for key in given if key not in rules and key not in UNREAD)
    if not unread:
        return ()
    shown = ", ".join(f"`{key[:100]}`" for key in unread[:10]) + (
        f" and {len(unread) - 10} more" if len(unread) > 10 else ""
    )
    detail = f"{file} has settings that {kind} does not use: {shown}. Inputs are prepared without them."
    return (JobWarning(code="settings_ignored", pointer=f"/{file}", detail=detail),)


def check_tokenizer(checkpoint: Checkpoint, config: Config, settings: Config | None, names: Mapping[str, int]) -> None:
    """A checkpoint that reads or writes text has a tokenizer that can be its own, and the files which that one reads.

    `settings`: tokenizer_config.json.

    Raises FILE_MISSING or CONFIG_INVALID.
    """
    if not needs_tokenizer(checkpoint.family.modality, checkpoint.architecture.head):
        return
    model_type = str(config.get("model_type"))
    allowed, named = tokenizer_classes(model_type), named_tokenizer(model_type, config, settings or {})
    if named not in allowed:
        one_of = " or ".join(each for each in allowed if not each.endswith("TokenizerFast"))
        raise invalid(TOKENIZER_CONFIG, "tokenizer_class", f"must be {one_of}, but is {str(named)[:100]!r}")
    ways = vocabularies(named)
    if not any(all(name in names for name in way) for way in ways):
        one_of = " or ".join(" with ".join(way) for way in ways)
        item = ErrorItem.at(ways[0][0], code=ErrorCode.FILE_MISSING, detail="required, but missing")
        detail = (
            f"{one_of} is missing: {checkpoint.name} needs its tokenizer, a {named}. Declare and upload it with the "
            "other files."
        )
        raise SecateurError(ErrorCode.FILE_MISSING, detail, (item,))


def check_settings(name: str, value: dict[str, Any]) -> None:
    """No setting of a JSON file brings code, and those of generation are such as transformers can read. The words of a vocabulary
    are no settings, whatever they spell.

    Raises CODE_REFUSED or CONFIG_INVALID.
    """
    if name == PIECES:
        entries = [
            entry for words in value.values() for entry in (words.values() if isinstance(words, dict) else (words,))
        ]
        if not all(type(entry) is int and entry >= 0 for entry in entries):
            item = ErrorItem.at(name, code=ErrorCode.CONFIG_INVALID, detail="an entry is not a whole number")
            raise SecateurError(ErrorCode.CONFIG_INVALID, f"{name} does not map every token to a number.", (item,))
        return
    if name == CONFIG:
        refuse_code(without_code_map(stock_config(value)[0]), name)
        return
    model = value.get("model")
    if name == WHOLE and isinstance(model, dict):
        value = value | {"model": {key: child for key, child in model.items() if key not in ("vocab", "merges")}}
    refuse_code(value, name)
    if name == GENERATION:
        check_generation(value)


def invalid(file: str, key: str, reason: str) -> SecateurError:
    """CONFIG_INVALID for one key of a file."""
    item = ErrorItem.at(file, key, code=ErrorCode.CONFIG_INVALID, detail=reason)
    return SecateurError(ErrorCode.CONFIG_INVALID, f"{file}: `{key}`: {reason}.", (item,))
