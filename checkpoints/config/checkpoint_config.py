"""config.json, checked: its family, the location of its blocks, and the names of its classes."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, NoReturn

from api_schemas.enums import Head
from api_schemas.errors import ErrorCode, ErrorItem, SecateurError
from api_schemas.results.metrics import JobWarning
from api_schemas.results.widths import AttentionWidths
from checkpoints.config import architectures
from checkpoints.config.forbidden_fields import ATTENTION_FIELDS, refuse_code
from checkpoints.config.pruned_layout import SaidWidths, stock_config
from checkpoints.config_rules import Number
from checkpoints.families import Architecture, Family, Layout, UnusableConfigError
from checkpoints.families.config_fields import ANY, ANYWHERE, NOTES
from checkpoints.families.text.text_encoder import ENDS

NULL_SAYS = (
    *("bos_token_id", "eos_token_id", "pad_token_id", "begin_suppress_tokens", "sliding_window"),
    *("attn_logit_softcapping", "final_logit_softcapping", "position_embeddings_type"),
)
"""Where null is not the class's own value: there is no such token, no window, no cap, no positions."""
EVERYWHERE = "eager"
"""The implementation of attention that every class has on every machine."""
MAX_SIZE = 2**20
MAX_PARTS = 64
MAX_LABELS = 65_536
MAX_LABEL_LENGTH = 256
LABELLED = (Head.CLASSIFICATION, Head.TOKEN_CLASSIFICATION)
"""Heads whose classes config.json names."""
EMPTY: tuple[Any, ...] = (None, [], {}, "")
PROBLEM_TYPES = ("single_label_classification", "multi_label_classification")


@dataclass(frozen=True)
class CheckpointConfig:
    """What was read from config.json, each value checked."""

    family: Family
    name: str
    """Of the class of transformers."""
    architecture: Architecture
    layout: Layout
    """Its blocks before any pruning."""
    pruned: AttentionWidths | None
    """How wide they are, where the config is of a result in the layout of our own."""
    labels: tuple[str, ...]
    """Empty where the head has none. Two classes may have one name."""
    multi_label: bool
    warnings: tuple[JobWarning, ...] = ()
    """What of it is not used, and what cannot be had for it."""


def read_config(config: Mapping[str, Any], names: Collection[str] = ()) -> CheckpointConfig:
    """What the config says, and where it does not say which class it is of, the `names` of the weights in the module tree.

    Raises CODE_REFUSED, ARCHITECTURE_UNSUPPORTED or CONFIG_INVALID.
    """
    config, widths = stock_config(config)
    refuse_code(architectures.without_code_map(config))
    said = architectures.said_by(config)
    if said is None and architectures.is_silent(config):
        said = _by_weights(config, names)
    if said is None:
        raise architectures.unsupported(config)
    return _read_of(config, widths, *said)


def _read_of(config: Mapping[str, Any], widths: SaidWidths | None, family: Family, name: str) -> CheckpointConfig:
    _check_values(family, config)
    ignored = _ignored(family, config)
    _check_numbered(config)
    architecture = family.architectures[name]
    try:
        layout = family.layout(config, architecture)
        pruned = None if widths is None else widths.read(layout)
    except UnusableConfigError as error:
        _refuse(error.key, error.reason)
    except (ArithmeticError, KeyError, TypeError, ValueError) as error:
        raise SecateurError(
            ErrorCode.CONFIG_INVALID, "config.json describes an input that yields no usable sequence."
        ) from error
    problem = config.get("problem_type") or None
    if problem is not None and problem not in PROBLEM_TYPES:
        _refuse("problem_type", f"must be null or one of {', '.join(PROBLEM_TYPES)}")
    multi_label = architecture.head is Head.CLASSIFICATION and problem == "multi_label_classification"
    labels = _labels(config) if architecture.head in LABELLED else ()
    blank = config.get("pad_token_id")
    if architecture.head is Head.CTC and blank is not None and not 0 <= blank < family.value(config, "vocab_size"):
        _refuse("pad_token_id", "it is the CTC blank: it must be a whole number from 0 to vocab_size - 1")
    if architecture.head is Head.CLASSIFICATION and len(labels) == 1 and not multi_label:
        # transformers takes it for a regression, whether problem_type says so or not.
        reason = (
            "a single output is a number, not a class: regression is not supported, and at least two labels are "
            "required. If the number means yes or no, as a cross-encoder's score of a pair of texts does, set "
            '"problem_type": "multi_label_classification" in config.json: its sigmoid is then the score of one '
            "label, which a row has or does not have"
        )
        _refuse("num_labels" if config.get("id2label") is None else "id2label", reason)
    if architecture.head is Head.QUESTION_ANSWERING and len(_labels(config)) != ENDS:
        # Those of transformers read the two as where an answer begins and where it ends, and fail with another number.
        reason = f"{name} has {ENDS} outputs, the start and the end of the answer: leave this out, or set it to {ENDS}"
        _refuse("num_labels" if config.get("id2label") is None else "id2label", reason)
    found = CheckpointConfig(
        family=family,
        name=name,
        architecture=architecture,
        layout=layout,
        pruned=pruned,
        labels=labels,
        multi_label=multi_label,
    )
    return replace(
        found,
        warnings=(
            *_of_keys(name, ignored),
            *_of_names(config, labels),
            *_of_labels(labels),
            *_of_class(config, family, name),
        ),
    )


def _ignored(family: Family, config: Mapping[str, Any]) -> list[str]:
    """Keys that are left out; of an inner configuration with its key before them. Nothing is lost with what is empty."""
    used = used_values(family, config)
    found = [key for key, value in config.items() if key not in used and value not in EMPTY]
    for key, inner in family.inner.items():
        found += [f"{key}.{each}" for each in _ignored(inner, config.get(key) or {})]
    return found


def used_values(family: Family, config: Mapping[str, Any]) -> dict[str, Any]:
    """The checked values of a config that `read_config` has accepted; all others must not be read or passed on.

    Of one in the layout of our own, what `stock_config` makes of it. A note of its author's stays where it is well formed.
    """
    allowed, rules = allowed_fields(family), {**ANY, **family.config_fields}

    def is_used(key: str, value: Any) -> bool:
        if key in ("dtype", "torch_dtype") and value == "auto":
            return False
        # How outputs are returned is for the caller to choose, and empty values mean nothing.
        if key in ("return_dict", "quantization_config") and not value:
            return False
        # What a machine has for attention is that machine's: with flash attention in it a result would load nowhere else.
        if key in ATTENTION_FIELDS and value != EVERYWHERE:
            return False
        return key in allowed and (key not in NOTES or rules[key].allows(value))

    def as_read(key: str, value: Any) -> Any:
        """Where a fraction may be, transformers takes no whole number."""
        return float(value) if isinstance(rules.get(key), Number) and type(value) is int else value

    found = {key: as_read(key, value) for key, value in without_nulls(family, config).items() if is_used(key, value)}
    inner = {key: each for key, each in family.inner.items() if config.get(key) is not None}
    return found | {
        key: {**used_values(each, config[key]), "model_type": each.model_types[0]} for key, each in inner.items()
    }


def without_nulls(family: Family | None, config: Mapping[str, Any]) -> dict[str, Any]:
    """The config without what it says null of, which is no more than a key that is not there: transformers' classes take none of
    most numbers and truths. Tokens of which there are none stay, where the class can do without.
    """
    kept = () if family is None else [key for key in NULL_SAYS if key not in family.never_null]
    return {key: value for key, value in config.items() if value is not None or key in kept}


def plain_values(family: Family, config: Mapping[str, Any]) -> dict[str, Any]:
    """The subset of these from which a transformers class is built: the attention implementation and the folder's former name
    are for the loader to choose.
    """
    left_out = {*ATTENTION_FIELDS, "_name_or_path", "name_or_path"}
    return {key: value for key, value in used_values(family, config).items() if key not in left_out}


def _by_weights(config: Mapping[str, Any], names: Collection[str]) -> tuple[Family, str]:
    """The class whose every tensor the file holds: of several, the one that leaves least of it. Raises as `read_config`."""
    file, found = set(names), []
    for family, name in architectures.candidates(config) if file else ():
        architecture = family.architectures[name]
        try:
            _check_values(family, config)
            first = family.layout(config, architecture).first_tensor()
            ways = product(range(len(family.saved_names)), ("", *family.prefixes(architecture)))
            # Looked for before all names are made: a config may ask for a thousand layers.
            here = [way for way in ways if way[1] + family.saved_as(way[0], first) in file]
            needed = family.tensors(config, architecture, 1) if here else {}
        except (SecateurError, ArithmeticError, KeyError, TypeError, ValueError):
            continue
        for naming, prefix in here:
            named = {prefix + family.saved_as(naming, each): each for each in needed}
            if all(each in file or architecture.dispenses_with(own) for each, own in named.items()):
                found.append((len(file & named.keys()), family, name))
    most = max((held for held, _, _ in found), default=0)
    best = {name: family for held, family, name in found if held == most}
    if len(best) != 1:
        raise architectures.unsupported(config)
    ((name, family),) = best.items()
    return family, name


def _of_keys(name: str, ignored: list[str]) -> tuple[JobWarning, ...]:
    """Of keys that were left out, in one warning; of code, in one of its own."""
    found: list[JobWarning] = []
    if "auto_map" in ignored:
        detail = (
            f"config.json refers to custom code in `auto_map`. It is ignored: the model is read as the {name} of "
            "transformers, and so is the result."
        )
        found.append(JobWarning(code="code_ignored", pointer="/config.json/auto_map", detail=detail))
    others = sorted(set(ignored) - {"auto_map"})
    if others:
        shown = ", ".join(f"`{key[:100]}`" for key in others[:10])
        more = f" and {len(others) - 10} more" if len(others) > 10 else ""
        detail = f"config.json has entries that {name} does not use: {shown}{more}. They are left out of the result."
        found.append(JobWarning(code="config_ignored", pointer="/config.json", detail=detail))
    return tuple(found)


def repeated(labels: Collection[str]) -> list[str]:
    """Names that more than one class has, in order."""
    return sorted(label for label, classes in Counter(labels).items() if classes > 1)


def check_names(labels: Sequence[str], used: Collection[str], pointer: str) -> None:
    """Labels of data, which are matched by name, each mean one class of a checkpoint. Raises LABELS_MISMATCH."""
    unclear = sorted(set(used) & set(repeated(labels)))
    if not unclear:
        return
    said = "; ".join(
        f"{label!r} is the name of the classes {', '.join(str(n) for n, each in enumerate(labels) if each == label)}"
        for label in unclear[:10]
    )
    detail = (
        f"The data uses labels that several classes of the checkpoint share: {said}. Give these classes different "
        "names in id2label and label2id of config.json, and use these names in the data; or write every label as its "
        "class number."
    )
    item = ErrorItem(pointer=pointer, code=ErrorCode.LABELS_MISMATCH, detail=said)
    raise SecateurError(ErrorCode.LABELS_MISMATCH, detail, (item,))


def _of_names(config: Mapping[str, Any], labels: tuple[str, ...]) -> tuple[JobWarning, ...]:
    if not (labels and _contradicts(config)):
        return ()
    detail = (
        f"id2label has {len(config['id2label'])} names, but num_labels is {len(labels)}. As in transformers, "
        f"num_labels wins and the names are dropped: the classes are {labels[0]} to {labels[-1]}. Make the two agree "
        "to keep the names."
    )
    return (JobWarning(code="config_ignored", pointer="/config.json/id2label", detail=detail),)


def _of_labels(labels: tuple[str, ...]) -> tuple[JobWarning, ...]:
    shared = repeated(labels)
    if not shared:
        return ()
    shown = ", ".join(repr(label) for label in shared[:10])
    detail = (
        f"id2label gives several classes the same name: {shown}. Data with one of these names is rejected, because it "
        "is unclear which class is meant: write labels as class numbers, or rename the classes."
    )
    return (JobWarning(code="labels_repeated", pointer="/config.json/id2label", detail=detail),)


def _of_class(config: Mapping[str, Any], family: Family, name: str) -> tuple[JobWarning, ...]:
    if config.get("architectures") == [name] and config.get("model_type") in family.model_types:
        return ()
    detail = f"config.json does not name the model class. It is read as {name}, because the weights match that class."
    return (JobWarning(code="architecture_assumed", pointer="/config.json/architectures", detail=detail),)


def _check_values(family: Family, config: Mapping[str, Any]) -> None:
    """Every key the family reads has a usable value, so that its formulas neither divide by zero nor overflow."""
    for key, default in family.defaults.items():
        _check_value(key, config.get(key, default), default)
    rules = {**ANYWHERE, **ANY, **family.config_fields}
    for key in config:
        rule = None if key in family.defaults or key in NOTES else rules.get(key)
        if rule is not None and not rule.allows(config[key]):
            _refuse(key, f"must be {rule.needed}")
    for key, meant in family.aliases.items():
        same = family.value(config, meant)
        # 16.0 is not 16 to transformers' classes.
        if config.get(key) is not None and (config[key] != same or type(config[key]) is not type(same)):
            _refuse(key, f"it is another name for `{meant}`, but has a different value")
    padding = config.get("pad_token_id")
    if family.padding_row and padding is not None:
        words = family.value(config, "vocab_size")
        if not -words <= padding < words:
            _refuse("pad_token_id", f"it is not a token of a vocabulary of {words}")
    for key, (supported, reason) in family.refused.items():
        value = config.get(key)
        # 0 is not false to transformers' classes.
        if value is not None and (value != supported or type(value) is not type(supported)):
            _refuse(key, reason)
    said = config.get(family.head_dim_key) if family.head_dim_key else None
    if said is not None and (type(said) is not int or not 1 <= said <= MAX_SIZE):
        _refuse(str(family.head_dim_key), f"must be a whole number from 1 to {MAX_SIZE}")
    for key, inner in family.inner.items():
        if config.get(key) is not None:
            _check_inner(key, inner, config[key])


def _check_inner(key: str, family: Family, config: Any) -> None:
    """A configuration inside of another. What is wrong with it is told with its key."""
    if not isinstance(config, Mapping):
        _refuse(key, "must be an object")
    if config.get("model_type", family.model_types[0]) not in family.model_types:
        _refuse(f"{key}.model_type", f"must be {' or '.join(family.model_types)}")
    try:
        _check_values(family, config)
        _check_numbered(config)
    except SecateurError as error:
        detail = error.detail.replace("config.json: `", f"config.json: `{key}.", 1)
        items = tuple(
            item.model_copy(update={"pointer": item.pointer.replace("/config.json/", f"/config.json/{key}/", 1)})
            for item in error.errors
        )
        raise SecateurError(error.code, detail, items) from None


def allowed_fields(family: Family) -> frozenset[str]:
    """Every key of a configuration that is read by somebody, or that transformers itself writes."""
    head_dim = {family.head_dim_key} if family.head_dim_key else set()
    own = (*family.config_fields, *family.defaults, *family.refused, *family.aliases, *family.inner, *head_dim)
    return frozenset({*ANY, *own, "id2label"})


def _check_value(key: str, value: Any, default: Any) -> None:
    """`value` is of the type of `default`, within bounds. A tuple stands for a list of numbers; 0 for a number that may be 0."""
    if isinstance(default, bool):
        if not isinstance(value, bool):
            _refuse(key, "must be true or false")
        return
    if isinstance(default, str):
        if not isinstance(value, str) or len(value) > MAX_LABEL_LENGTH:
            _refuse(key, "must be a short text")
        return
    parts = value if isinstance(value, list | tuple) else [value]
    if isinstance(default, tuple):
        usable = isinstance(value, list | tuple) and 1 <= len(value) <= MAX_PARTS
    else:
        usable = not isinstance(value, list | tuple) or (key in ("image_size", "patch_size") and len(parts) == 2)
    least = 0 if default == 0 else 1
    if not usable or not all(type(part) is int and least <= part <= MAX_SIZE for part in parts):
        many = f"a list of 1 to {MAX_PARTS} whole numbers" if isinstance(default, tuple) else "a whole number"
        _refuse(key, f"must be {many} from {least} to {MAX_SIZE}")


def _labels(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Label names by id, as transformers has them: LABEL_0, LABEL_1, …, two of them unless num_labels says otherwise, without
    id2label and where that has another number of them than num_labels. A whole number is called by its digits.
    """
    id2label, count = config.get("id2label"), config.get("num_labels")
    if count is not None and (type(count) is not int or not 1 <= count <= MAX_LABELS):
        _refuse("num_labels", f"must be a whole number from 1 to {MAX_LABELS}")
    if id2label is None:
        return tuple(f"LABEL_{index}" for index in range(2 if count is None else count))
    if not isinstance(id2label, dict) or not 1 <= len(id2label) <= MAX_LABELS:
        _refuse("id2label", f"must be an object of 1 to {MAX_LABELS} labels")
    if set(id2label) != {str(index) for index in range(len(id2label))}:
        _refuse("id2label", "its keys must be the ids from 0 to the number of labels - 1")
    if _contradicts(config):
        return tuple(f"LABEL_{index}" for index in range(count or 0))
    said = (id2label[str(index)] for index in range(len(id2label)))
    labels = tuple(str(label) if type(label) is int else label for label in said)
    if not all(isinstance(label, str) and 0 < len(label) <= MAX_LABEL_LENGTH for label in labels):
        _refuse("id2label", f"every label must be a text of 1 to {MAX_LABEL_LENGTH} characters")
    _check_label_ids(config, labels)
    return labels


def _check_numbered(config: Mapping[str, Any]) -> None:
    """Of a class without labels as well, transformers makes numbers of what id2label has on the left."""
    id2label = config.get("id2label")
    if id2label is not None and not (isinstance(id2label, dict) and all(each.isdecimal() for each in id2label)):
        _refuse("id2label", "must be an object that maps ids to labels")


def _contradicts(config: Mapping[str, Any]) -> bool:
    """Whether num_labels and id2label say two numbers of labels: transformers believes num_labels and drops the names."""
    count, id2label = config.get("num_labels"), config.get("id2label")
    return count is not None and isinstance(id2label, dict) and len(id2label) != count


def _check_label_ids(config: Mapping[str, Any], labels: tuple[str, ...]) -> None:
    """`label2id` says the same as `id2label`, as far as it says anything: who reads it would be told another class.

    `LABEL_3` as number 3 is what transformers leaves there when `id2label` alone was given names, and says nothing.
    """
    label2id: Mapping[str, int | str] = config.get("label2id") or {}
    for label, number in label2id.items():
        if not str(number).isdecimal():
            _refuse("label2id", f"{label[:100]!r} has the id {str(number)[:100]!r}, which is not a number")
        index = int(number)
        named = labels[index] if index < len(labels) else None
        if label not in (named, f"LABEL_{index}"):
            told = f"calls this id {named!r}" if named is not None else "has no such id"
            _refuse("label2id", f"it gives {label[:100]!r} the id {index}, but id2label {told}; make them agree")


def _refuse(key: str, reason: str) -> NoReturn:
    # Of an inner configuration its key comes first.
    item = ErrorItem.at("config.json", *key.split("."), code=ErrorCode.CONFIG_INVALID, detail=reason)
    raise SecateurError(ErrorCode.CONFIG_INVALID, f"config.json: `{key}`: {reason}.", (item,))
