"""The JSON files beside a checkpoint that define its inputs: read from its own folder, checked, never executed."""

import json
from pathlib import Path
from typing import Any

from api_schemas.errors import ErrorCode, SecateurError
from checkpoints.config.checkpoint_config import without_nulls
from checkpoints.config.preprocessor_fields import used_settings
from checkpoints.config.pruned_layout import stock_config
from checkpoints.describe import describe_folder
from checkpoints.families import family_of
from checkpoints.files.preprocessor_files import PREPROCESSOR, PROCESSOR, preprocessor_settings

CONFIG = "config.json"

Settings = dict[str, Any]


def read_config(model_dir: Path) -> Settings:
    """config.json without nulls, of a result in the layout of our own as its stock class has it. Raises CONFIG_INVALID."""
    config = stock_config(read_object(model_dir / CONFIG))[0]
    return without_nulls(family_of(str(config.get("model_type"))), config)


def full_config(model_dir: Path) -> Settings:
    """That, with the family's defaults where it says nothing; of a part that is worked on, its own. Raises CONFIG_INVALID."""
    config, family = read_config(model_dir), family_of(model_type(model_dir))
    if family is not None and family.part is not None:
        return family.inner[family.part.config_key].filled(family.part_config(config))
    return config if family is None else family.filled(config)


def model_type(model_dir: Path) -> str:
    """`model_type` of config.json, or where it says none the one that the weights make plain. Raises as `describe_folder`."""
    said = read_config(model_dir).get("model_type")
    return describe_folder(model_dir).family.model_types[0] if said is None else str(said)


def read_preprocessor(model_dir: Path) -> Settings:
    """Settings of the feature extractor or image processor, those that it reads. Raises CONFIG_INVALID where there are none."""
    both = [
        read_object(model_dir / name) if (model_dir / name).is_file() else None for name in (PROCESSOR, PREPROCESSOR)
    ]
    settings = preprocessor_settings(*both)
    if settings is None:
        raise invalid(f"there is no {PREPROCESSOR}; upload the checkpoint's own")
    family = family_of(model_type(model_dir))
    return dict(settings) if family is None else used_settings(family, settings)


def read_object(path: Path) -> Settings:
    """Raises CONFIG_INVALID where the file is not there or is not a JSON object."""
    try:
        settings = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise invalid(f"there is no {path.name}; upload the checkpoint's own") from None
    except (ValueError, OSError, RecursionError) as error:
        raise invalid(f"{path.name} is not JSON: {error}") from error
    if not isinstance(settings, dict):
        raise invalid(f"{path.name} is not a JSON object")
    return settings


def check_type(named: Any, allowed: tuple[str, ...]) -> None:
    """The class that settings name is one of `allowed`. Raises CONFIG_INVALID."""
    if named not in allowed:
        raise invalid(f"they are of type {str(named)[:100]!r}, but only {' or '.join(allowed)} is supported")


def number(settings: Settings, key: str, default: int, most: int, least: int = 1) -> int:
    """A whole number from `least` to `most`: libraries allocate by these before anybody looks. Raises CONFIG_INVALID."""
    value = settings.get(key, default)
    if type(value) is not int or not least <= value <= most:
        raise invalid(f"{key} is {str(value)[:100]}; it must be a whole number from {least} to {most}")
    return value


def first_line(error: Exception) -> str:
    """What a library says of settings it cannot use, short enough for a sentence."""
    return str(error).split("\n")[0][:200] or type(error).__name__


def invalid(reason: str) -> SecateurError:
    """CONFIG_INVALID; the reason is a clause without a full stop."""
    return SecateurError(ErrorCode.CONFIG_INVALID, f"The checkpoint's inputs cannot be prepared: {reason}.")
