"""Dense modules of sentence-transformers, linear maps between an embedding's pooling and its normalization, read as untrusted
input.

Their activation is one of a list, by name: nothing is imported for it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from api_schemas.errors import ErrorCode, ErrorItem, SecateurError
from checkpoints.config_rules import Boolean, Integer, OneOf, Rule
from checkpoints.files.preprocessor_files import DENSE_FOLDERS, SETTINGS
from checkpoints.files.safetensors_header import TensorInfo
from checkpoints.files.shards import WEIGHTS_NAME

MOST = len(DENSE_FOLDERS)
MAX_WIDTH = 2**16
TANH = "Tanh"
"""What the library takes where the settings name none."""
ACTIVATIONS = (TANH, "Identity", "ReLU", "GELU", "SiLU", "Sigmoid")
_PATHS = {
    f"torch.nn.{part}{name}": name
    for name in ACTIVATIONS
    for part in ("", "modules.linear." if name == "Identity" else "modules.activation.")
}
_RULES: Mapping[str, Rule] = {
    "in_features": Integer(1, MAX_WIDTH),
    "out_features": Integer(1, MAX_WIDTH),
    "bias": Boolean(),
    "activation_function": OneOf(tuple(_PATHS), null=True),
    "module_input_name": OneOf(("sentence_embedding",), null=True),
    "module_output_name": OneOf(("sentence_embedding",), null=True),
    "use_residual": Boolean(),
}
_FLOATS = ("F64", "F32", "F16", "BF16")
_KEYS = ("in_features", "out_features", "bias", "activation_function")

Header = Callable[[str], Mapping[str, TensorInfo] | None]
"""The header of a file of weights by name; None where it is not there."""


@dataclass(frozen=True)
class Dense:
    """One of them. `activation`: of ACTIVATIONS, a module of torch.nn."""

    folder: str
    width_in: int
    width_out: int
    bias: bool
    activation: str

    @property
    def settings_file(self) -> str:
        return f"{self.folder}/{SETTINGS}"

    @property
    def weights_file(self) -> str:
        return f"{self.folder}/{WEIGHTS_NAME}"

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of its tensors, by their names in the file."""
        shapes: dict[str, tuple[int, ...]] = {"linear.weight": (self.width_out, self.width_in)}
        return shapes | ({"linear.bias": (self.width_out,)} if self.bias else {})


def read_dense(folder: str, settings: Mapping[str, Any]) -> tuple[Dense, dict[str, Any]]:
    """What the settings say, and what of them a result carries. Raises CONFIG_INVALID."""
    name = f"{folder}/{SETTINGS}"
    for key, value in settings.items():
        if key not in _RULES:
            refuse(name, key[:100], "this setting is not supported; remove it")
        if not _RULES[key].allows(value):
            refuse(name, key, f"must be {_RULES[key].needed}")
    if settings.get("use_residual"):
        refuse(name, "use_residual", "a Dense module with a residual connection is not supported")
    for key in _KEYS[:3]:
        if settings.get(key, True if key == "bias" else None) is None:
            refuse(name, key, f"must be {_RULES[key].needed}")
    said = settings.get("activation_function", f"torch.nn.{TANH}")
    dense = Dense(
        folder=folder,
        width_in=settings["in_features"],
        width_out=settings["out_features"],
        bias=settings.get("bias", True),
        activation="Identity" if said is None else _PATHS[said],
    )
    return dense, {key: settings[key] for key in _KEYS if key in settings}


def check_dense(modules: Sequence[Dense], width: int, header: Header) -> None:
    """They follow one another from an embedding of this width, and their files hold what they say.

    Raises CONFIG_INVALID, FILE_MISSING or WEIGHTS_MISMATCH, and what `header` raises.
    """
    for dense in modules:
        if dense.width_in != width:
            refuse(dense.settings_file, "in_features", f"must be {width}, the output width of the module before it")
        width = dense.width_out
        tensors = header(dense.weights_file)
        if tensors is None:
            item = ErrorItem.at(dense.weights_file, code=ErrorCode.FILE_MISSING, detail="required, but missing")
            detail = (
                f"{dense.weights_file} is missing. If the folder has a pickle file instead, load it with "
                "`SentenceTransformer` and save it again."
            )
            raise SecateurError(ErrorCode.FILE_MISSING, detail, (item,))
        found = {name: info.shape for name, info in tensors.items()}
        odd = [name for name, info in tensors.items() if info.dtype not in _FLOATS]
        if found != dense.shapes or odd:
            detail = (
                f"{dense.weights_file} contains {_listed(found)}; expected floating-point tensors "
                f"{_listed(dense.shapes)}."
            )
            item = ErrorItem.at(dense.weights_file, code=ErrorCode.WEIGHTS_MISMATCH, detail=detail)
            raise SecateurError(ErrorCode.WEIGHTS_MISMATCH, detail, (item,))


def _listed(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name[:100]} {list(shape)}" for name, shape in list(shapes.items())[:4]) or "nothing"


def refuse(name: str, key: str | int, reason: str) -> NoReturn:
    """CONFIG_INVALID for a key of a file of sentence-transformers; for the whole of it where `key` is empty."""
    item = ErrorItem.at(name, *([] if key == "" else [key]), code=ErrorCode.CONFIG_INVALID, detail=reason)
    said = "" if key == "" else f" `{key}`:"
    raise SecateurError(ErrorCode.CONFIG_INVALID, f"{name}:{said} {reason}.", (item,))
