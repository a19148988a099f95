"""Config fields that make a loader run code, fetch something or read another file. All of them are refused."""

from collections.abc import Iterator, Mapping
from typing import Any

from api_schemas.errors import ErrorCode, ErrorItem, SecateurError
from checkpoints.families.config_fields import ATTENTION

# Read by transformers: each names code, asks for the permission to run it, or redirects what is loaded.
CODE_FIELDS = frozenset(
    {
        "auto_map",
        "code_revision",
        "custom_code",
        "custom_generate",
        "custom_pipelines",
        "kernel_config",
        "transformers_weights",
        "trust_remote_code",
        "use_kernels",
    }
)
# An attention implementation may be a hub repository with compiled kernels; only the built-in ones are let through.
ATTENTION_FIELDS = frozenset({"attn_implementation", "_attn_implementation", "_attn_implementation_internal"})
# Weights stored in a form that cannot be cut; adapters without their base model.
STORAGE_KEYS = frozenset({"compression_config", "peft_config", "peft_type", "quantization_config"})


def refuse_code(config: Mapping[str, Any], file_name: str = "config.json") -> None:
    """Raise CODE_REFUSED or CONFIG_INVALID where `config`, at any depth, holds such a key with a value."""
    code: list[ErrorItem] = []
    storage: list[ErrorItem] = []
    for path, key, value in _entries(config, (file_name,)):
        if value is None or value is False or value == {}:
            continue
        if key in CODE_FIELDS or (key in ATTENTION_FIELDS and value not in ATTENTION):
            code.append(ErrorItem.at(*path, code=ErrorCode.CODE_REFUSED, detail=f"`{key}` is not allowed"))
        elif key in STORAGE_KEYS:
            storage.append(ErrorItem.at(*path, code=ErrorCode.CONFIG_INVALID, detail=f"`{key}` is not supported"))
    if code:
        names = ", ".join(item.pointer.removeprefix("/") for item in code)
        detail = f"Checkpoints with custom code are not accepted: {names}. Remove it and use a stock architecture."
        raise SecateurError(ErrorCode.CODE_REFUSED, detail, tuple(code))
    if storage:
        names = ", ".join(item.pointer.removeprefix("/") for item in storage)
        detail = f"Quantized, compressed and adapter checkpoints cannot be pruned: {names}. Upload plain weights."
        raise SecateurError(ErrorCode.CONFIG_INVALID, detail, tuple(storage))


def _entries(value: Any, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], str, Any]]:
    if isinstance(value, Mapping):
        for key, child in value.items():
            child_path = (*path, str(key)[:100])
            yield child_path, str(key), child
            yield from _entries(child, child_path)
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from _entries(child, (*path, index))
