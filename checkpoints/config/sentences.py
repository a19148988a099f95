"""The files that sentence-transformers adds to a text encoder, read as untrusted input: what runs after it, and what before.

A folder is one of theirs if it contains `modules.json`. Of its modules we support an encoder, a pooling, dense maps and a
normalization. Their settings are checked value by value, and the files of a result are written from the checked values.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from api_schemas.errors import ErrorCode, ErrorItem, SecateurError
from checkpoints.config.dense_modules import MOST, Dense, read_dense, refuse
from checkpoints.config.forbidden_fields import refuse_code
from checkpoints.config_rules import Boolean, Integer, OneOf, Rule, String
from checkpoints.files.preprocessor_files import (
    DENSE_FOLDERS,
    ENCODERS,
    GENERAL,
    MODULES,
    NORMALIZES,
    POOLING,
    SETTINGS,
)
from checkpoints.files.safe_json import UnsafeJsonError, load_list, load_object

MAX_BYTES = 2**20
MAX_PROMPTS = 64
MAX_PROMPT = 2048
MEAN = "mean"
POOLINGS = ("cls", "max", MEAN, "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
"""In the order in which they stand in an embedding, where older settings switch on several."""
_SWITCHES = {
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    MEAN: "pooling_mode_mean_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}
_MODULE = re.compile(r"sentence_transformers(?:\.[A-Za-z_]{1,64}){0,6}\.([A-Za-z_]{1,64})")
"""A class of the library itself; anything else would be code of the folder's."""
_KNOWN = ("Transformer", "Pooling", "Dense", "Normalize")
_ENCODER_RULES: Mapping[str, Rule] = {
    "max_seq_length": Integer(1, 2**20),
    "do_lower_case": Boolean(),
    "transformer_task": OneOf(("feature-extraction",), null=True),
    "module_output_name": OneOf(("token_embeddings",), null=True),
}
_TEXT_ALONE = {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}
_DIMENSIONS = ("word_embedding_dimension", "embedding_dimension")
_POOLING_RULES: Mapping[str, Rule] = {
    **dict.fromkeys(_DIMENSIONS, Integer(1, 2**20)),
    **dict.fromkeys((*_SWITCHES.values(), "include_prompt"), Boolean()),
}
_NORMALIZE_RULES: Mapping[str, Rule] = {
    f"module_{end}_name": OneOf(("sentence_embedding",), null=True) for end in ("input", "output")
}
_GENERAL_RULES: Mapping[str, Rule] = {
    "model_type": OneOf(("SentenceTransformer",), null=True),
    "default_prompt_name": String(),
    "similarity_fn_name": OneOf(("cosine", "dot", "euclidean", "manhattan"), null=True),
}

Settings = dict[str, Any]
Read = Callable[[str], bytes | None]
"""The bytes of a file by name, MAX_BYTES and one at most; None where it is not there."""


@dataclass(frozen=True)
class Sentences:
    """How a folder of sentence-transformers makes an embedding of a text."""

    pooling: tuple[str, ...]
    """Of POOLINGS, one or several that are put one after the other."""
    dense: tuple[Dense, ...] = ()
    """Maps of what was pooled, one after another."""
    longest: int | None = None
    """Tokens of a text that are read; None where the tokenizer says it."""
    lower_case: bool = False
    prompt: str = ""
    """Stands before every text."""
    files: Mapping[str, Any] = field(default_factory=dict)
    """Content by name, as checked: what the folder of a result carries."""
    unread: tuple[str, ...] = ()
    """Files with settings that are left out, as `file: key`."""


def read_sentences(read: Read) -> Sentences | None:
    """What the files say; None without modules.json, without which the library does not read the others either.

    Raises CONFIG_INVALID, CODE_REFUSED or FILE_MISSING.
    """
    data = read(MODULES)
    if data is None:
        return None
    files: dict[str, Any] = {MODULES: _modules(data)}
    named = [module["path"] for module in files[MODULES]]
    pooling = files[POOLING] = _needed(read, POOLING)
    modes = _pooling(pooling)
    encoder: Settings = {}
    for name in ENCODERS:
        if not encoder and (found := _object(read, name)):
            files[name] = encoder = _encoder(name, found)
    dense: list[Dense] = []
    for folder in (folder for folder in DENSE_FOLDERS if folder in named):
        module, files[f"{folder}/{SETTINGS}"] = read_dense(folder, _needed(read, f"{folder}/{SETTINGS}"))
        dense.append(module)
    for name in NORMALIZES:
        if name.partition("/")[0] in named and (found := _object(read, name)):
            _check(name, found, _NORMALIZE_RULES)
            files[name] = found
    prompt, unread = "", []
    if (found := _object(read, GENERAL)) is not None:
        files[GENERAL], prompt = _general(found)
        unread = [f"{GENERAL}: {key[:100]}" for key in found if key not in files[GENERAL]]
    if prompt and pooling.get("include_prompt") is False:
        refuse(POOLING, "include_prompt", f"it cannot be false together with the default prompt in {GENERAL}")
    return Sentences(
        pooling=modes,
        dense=tuple(dense),
        longest=encoder.get("max_seq_length"),
        lower_case=bool(encoder.get("do_lower_case")),
        prompt=prompt,
        files=files,
        unread=tuple(unread),
    )


def _modules(data: bytes) -> list[Settings]:
    """An encoder, a pooling, perhaps dense maps and a normalization, each in its place."""
    try:
        listed = load_list(data, MAX_BYTES)
    except UnsafeJsonError as error:
        refuse(MODULES, "", str(error))
    found: list[Settings] = []
    for place, entry in enumerate(listed):
        if not isinstance(entry, dict):
            refuse(MODULES, place, "must be an object")
        refuse_code(entry, MODULES)
        said = entry.get("type")
        match = _MODULE.fullmatch(said) if isinstance(said, str) else None
        if match is None:
            detail = f"{str(said)[:100]!r} is not a module of sentence-transformers, and other code is not run"
            item = ErrorItem.at(MODULES, place, "type", code=ErrorCode.CODE_REFUSED, detail=detail)
            raise SecateurError(ErrorCode.CODE_REFUSED, f"{MODULES}: {detail}.", (item,))
        if match[1] not in _KNOWN:
            refuse(
                MODULES,
                place,
                f"the module {match[1]} is not supported: only Pooling, Dense and Normalize may follow the encoder. "
                "Without the files of sentence-transformers the model is pruned as a plain encoder, whose embedding "
                "is the mean over its tokens",
            )
        if entry.get("kwargs"):
            refuse(MODULES, place, "`kwargs` are not supported")
        found.append({"idx": place, "name": str(place), "path": entry.get("path"), "type": said})
    classes = [each["type"].rpartition(".")[2] for each in found]
    after = classes[2:-1] if classes[-1:] == ["Normalize"] else classes[2:]
    if classes[:2] != list(_KNOWN[:2]) or after not in [["Dense"] * count for count in range(MOST + 1)]:
        reason = f"expected a Transformer, a Pooling, up to {MOST} Dense and at most one Normalize, in this order"
        refuse(MODULES, "", reason)
    for place, (module, name) in enumerate(zip(found, classes, strict=True)):
        path = "" if place == 0 else f"{place}_{name}"
        if module["path"] != path:
            refuse(MODULES, place, f"`path` must be {path!r} for the module {name} at this position")
    return found


def _pooling(settings: Settings) -> tuple[str, ...]:
    """The ways of pooling. `pooling_mode` counts, where it is there, and the switches of older versions where it is not."""
    said = settings.get("pooling_mode")
    _check(POOLING, {key: value for key, value in settings.items() if key != "pooling_mode"}, _POOLING_RULES)
    if said is None:
        return tuple(mode for mode in POOLINGS if settings.get(_SWITCHES[mode])) or (MEAN,)
    modes = tuple(said) if isinstance(said, list) else (said,)
    if not 1 <= len(modes) <= len(POOLINGS) or not all(isinstance(mode, str) and mode in POOLINGS for mode in modes):
        refuse(POOLING, "pooling_mode", f"must be one of {', '.join(POOLINGS)}, or a list of them")
    return modes


def _encoder(name: str, settings: Settings) -> Settings:
    """What of them changes nothing is left out: empty ones, and a modality that says text alone."""
    kept = {
        key: value
        for key, value in settings.items()
        if value not in (None, {}, []) and not (key == "modality_config" and value == _TEXT_ALONE)
    }
    if kept.get("unpad_inputs") is False:
        del kept["unpad_inputs"]
    _check(name, kept, _ENCODER_RULES)
    # The two go together: who reads one of them asks for the other.
    return {**kept, **({"modality_config": _TEXT_ALONE} if "module_output_name" in kept else {})}


def _general(settings: Settings) -> tuple[Settings, str]:
    """What a result carries of it, and the prompt that stands before every text."""
    for key, rule in _GENERAL_RULES.items():
        if not rule.allows(settings.get(key)):
            refuse(GENERAL, key, f"must be {rule.needed}")
    prompts, version = settings.get("prompts") or {}, settings.get("__version__") or {}
    text, short = String(MAX_PROMPT), String(64)
    usable = isinstance(prompts, dict) and len(prompts) <= MAX_PROMPTS
    if not usable or not all(len(name) <= MAX_PROMPT and text.allows(value) for name, value in prompts.items()):
        refuse(
            GENERAL, "prompts", f"must be an object of at most {MAX_PROMPTS} texts of at most {MAX_PROMPT} characters"
        )
    if not isinstance(version, dict) or len(version) > MAX_PROMPTS or not all(map(short.allows, version.values())):
        refuse(GENERAL, "__version__", "must be an object of short texts")
    name = settings.get("default_prompt_name")
    if name is not None and name not in prompts:
        refuse(GENERAL, "default_prompt_name", "`prompts` has no entry of this name")
    kept = {key: settings[key] for key in (*_GENERAL_RULES, "prompts", "__version__") if key in settings}
    return kept, (prompts[name] or "") if name is not None else ""


def _needed(read: Read, name: str) -> Settings:
    found = _object(read, name)
    if found is None:
        item = ErrorItem.at(name, code=ErrorCode.FILE_MISSING, detail="required, but missing")
        detail = f"{name} is missing, but {MODULES} refers to it. Declare and upload it with the other files."
        raise SecateurError(ErrorCode.FILE_MISSING, detail, (item,))
    return found


def _object(read: Read, name: str) -> Settings | None:
    data = read(name)
    if data is None:
        return None
    try:
        found = load_object(data, MAX_BYTES)
    except UnsafeJsonError as error:
        refuse(name, "", str(error))
    refuse_code(found, name)
    return found


def _check(name: str, settings: Mapping[str, Any], rules: Mapping[str, Rule]) -> None:
    """Every setting is known, and is what it may be."""
    for key, value in settings.items():
        if key not in rules:
            refuse(name, key[:100], "this setting is not supported; remove it")
        if not rules[key].allows(value):
            refuse(name, key, f"must be {rules[key].needed}")
