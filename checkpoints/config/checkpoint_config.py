"""config.json, checked: which family it is, where its blocks are, and what its classes are called."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from api_schemas.enums import Head
from api_schemas.errors import ErrorCode, ErrorItem, SecateurError
from checkpoints.config.forbidden_fields import ATTENTION_FIELDS, refuse_code
from checkpoints.families import FAMILIES, Architecture, Family, Layout, UnusableConfigError, family_of
from checkpoints.families.config_fields import ANY

MAX_SIZE = 2**20
MAX_PARTS = 64
MAX_LABELS = 65_536
MAX_LABEL_LENGTH = 256
LABELLED = (Head.CLASSIFICATION, Head.TOKEN_CLASSIFICATION)
"""Heads whose classes config.json names."""
NEAREST = {
    "clap": "Of a CLAP the audio encoder can be pruned: save it alone, as ClapAudioModelWithProjection. ",
}
"""What to do instead, where a part of a model is supported."""
PROBLEM_TYPES = ("single_label_classification", "multi_label_classification")


@dataclass(frozen=True)
class CheckpointConfig:
    """What was read from config.json, each value checked."""

    family: Family
    name: str
    """Of the class of transformers."""
    architecture: Architecture
    layout: Layout
    labels: tuple[str, ...]
    """Empty where the head has none."""
    multi_label: bool


def read_config(config: Mapping[str, Any]) -> CheckpointConfig:
    """Raises CODE_REFUSED, ARCHITECTURE_UNSUPPORTED or CONFIG_INVALID."""
    refuse_code(config)
    family, name = _family(config)
    _check_keys(family, config)
    _check_values(family, config)
    architecture = family.architectures[name]
    try:
        layout = family.layout(config, architecture)
    except UnusableConfigError as error:
        _refuse(error.key, error.reason)
    except (ArithmeticError, KeyError, TypeError, ValueError) as error:
        raise SecateurError(
            ErrorCode.CONFIG_INVALID, "config.json describes an input that gives no usable sequence."
        ) from error
    problem = config.get("problem_type")
    if problem is not None and problem not in PROBLEM_TYPES:
        _refuse("problem_type", f"null or one of {', '.join(PROBLEM_TYPES)} is needed")
    return CheckpointConfig(
        family=family,
        name=name,
        architecture=architecture,
        layout=layout,
        labels=_labels(config) if architecture.head in LABELLED else (),
        multi_label=architecture.head is Head.CLASSIFICATION and problem == "multi_label_classification",
    )


def plain_values(config: Mapping[str, Any]) -> dict[str, Any]:
    """Of a config that `read_config` has judged, what a class of transformers is built from: how attention runs, and under what
    name the folder once lay, is for whoever loads it to say.
    """
    return {
        key: value for key, value in config.items() if key not in {*ATTENTION_FIELDS, "_name_or_path", "name_or_path"}
    }


def _family(config: Mapping[str, Any]) -> tuple[Family, str]:
    model_type, architectures = config.get("model_type"), config.get("architectures")
    family = family_of(model_type) if isinstance(model_type, str) else None
    known = ", ".join(sorted(name for family in FAMILIES for name in family.architectures))
    if family is None:
        near = NEAREST.get(model_type, "") if isinstance(model_type, str) else ""
        detail = f"config.json says model_type {str(model_type)[:100]!r}. {near}Supported architectures: {known}."
    elif not isinstance(architectures, list) or architectures not in [[name] for name in family.architectures]:
        nearest = ", ".join(family.architectures)
        detail = (
            f"config.json says architectures {str(architectures)[:200]}; exactly one is needed. Of model_type {model_type!r} "
            f"these can be pruned: {nearest}. Of all: {known}."
        )
    else:
        return family, str(architectures[0])
    raise SecateurError(ErrorCode.ARCHITECTURE_UNSUPPORTED, detail)


def _check_values(family: Family, config: Mapping[str, Any]) -> None:
    """Every key the family reads has a usable value, so that its formulas neither divide by zero nor overflow."""
    for key, default in family.defaults.items():
        _check_value(key, config.get(key, default), default)
    rules = {**ANY, **family.config_fields}
    for key in config:
        rule = None if key in family.defaults else rules.get(key)
        if rule is not None and not rule.allows(config[key]):
            _refuse(key, f"{rule.needed} is needed")
    for key, (supported, reason) in family.refused.items():
        if config.get(key, supported) not in (supported, None):
            _refuse(key, reason)
    said = config.get(family.head_dim_key) if family.head_dim_key else None
    if said is not None and (type(said) is not int or not 1 <= said <= MAX_SIZE):
        _refuse(str(family.head_dim_key), f"a whole number from 1 to {MAX_SIZE} is needed")


def _check_keys(family: Family, config: Mapping[str, Any]) -> None:
    """Nothing but what is known: what a loader might do with another key is not ours to guess."""
    unknown = sorted(set(config) - allowed_fields(family))
    if unknown:
        items = tuple(
            ErrorItem.at("config.json", key[:100], code=ErrorCode.CONFIG_INVALID, detail="not a key of this family")
            for key in unknown
        )
        names = ", ".join(f"`{key[:100]}`" for key in unknown[:10])
        detail = f"config.json has keys that {family.name} checkpoints do not have: {names}. Remove them; nothing reads them."
        raise SecateurError(ErrorCode.CONFIG_INVALID, detail, items)


def allowed_fields(family: Family) -> frozenset[str]:
    """Every key that a configuration of this family may have."""
    head_dim = {family.head_dim_key} if family.head_dim_key else set()
    return frozenset({*ANY, *family.config_fields, *family.defaults, *family.refused, *head_dim, "id2label"})


def _check_value(key: str, value: Any, default: Any) -> None:
    """`value` is of the type of `default`, within bounds. A tuple stands for a list of numbers; 0 for a number that may be 0."""
    if isinstance(default, bool):
        if not isinstance(value, bool):
            _refuse(key, "true or false is needed")
        return
    if isinstance(default, str):
        if not isinstance(value, str) or len(value) > MAX_LABEL_LENGTH:
            _refuse(key, "a short text is needed")
        return
    parts = value if isinstance(value, list | tuple) else [value]
    if isinstance(default, tuple):
        usable = isinstance(value, list | tuple) and 1 <= len(value) <= MAX_PARTS
    else:
        usable = value is parts[0] or (key in ("image_size", "patch_size") and len(parts) == 2)
    least = 0 if default == 0 else 1
    if not usable or not all(type(part) is int and least <= part <= MAX_SIZE for part in parts):
        many = f"a list of 1 to {MAX_PARTS} whole numbers" if isinstance(default, tuple) else "a whole number"
        _refuse(key, f"{many} from {least} to {MAX_SIZE} is needed")


def _labels(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Label names by id. Without id2label: LABEL_0, LABEL_1, …, two of them unless num_labels says otherwise."""
    id2label, count = config.get("id2label"), config.get("num_labels")
    if count is not None and (type(count) is not int or not 1 <= count <= MAX_LABELS):
        _refuse("num_labels", f"a whole number from 1 to {MAX_LABELS} is needed")
    if id2label is None:
        return tuple(f"LABEL_{index}" for index in range(2 if count is None else count))
    if not isinstance(id2label, dict) or not 1 <= len(id2label) <= MAX_LABELS:
        _refuse("id2label", f"an object of 1 to {MAX_LABELS} labels is needed")
    if set(id2label) != {str(index) for index in range(len(id2label))}:
        _refuse("id2label", "its keys must be the ids from 0 to their count less one")
    labels = tuple(id2label[str(index)] for index in range(len(id2label)))
    if not all(isinstance(label, str) and 0 < len(label) <= MAX_LABEL_LENGTH for label in labels):
        _refuse("id2label", f"every label must be a text of 1 to {MAX_LABEL_LENGTH} characters")
    if len(set(labels)) != len(labels):
        _refuse("id2label", "labels are matched with the dataset's by name: no two may be the same")
    if count is not None and count != len(labels):
        _refuse("num_labels", f"it says {count}, id2label has {len(labels)}")
    _check_label_ids(config, labels)
    return labels


def _check_label_ids(config: Mapping[str, Any], labels: tuple[str, ...]) -> None:
    """`label2id` says the same as `id2label`, as far as it says anything: who reads it would be told another class.

    `LABEL_3` as number 3 is what transformers leaves there when `id2label` alone was given names, and says nothing.
    """
    label2id: Mapping[str, int | str] = config.get("label2id") or {}
    for label, number in label2id.items():
        if not str(number).isdecimal():
            _refuse("label2id", f"{label[:100]!r} has the id {str(number)[:100]!r}, which is no number")
        index = int(number)
        named = labels[index] if index < len(labels) else None
        if label not in (named, f"LABEL_{index}"):
            told = f"calls that {named!r}" if named is not None else "has no such id"
            _refuse("label2id", f"it gives {label[:100]!r} the id {index}, and id2label {told}; write both alike")


def _refuse(key: str, reason: str) -> NoReturn:
    item = ErrorItem.at("config.json", key, code=ErrorCode.CONFIG_INVALID, detail=reason)
    raise SecateurError(ErrorCode.CONFIG_INVALID, f"config.json: `{key}`: {reason}.", (item,))
