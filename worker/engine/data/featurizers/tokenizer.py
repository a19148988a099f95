"""The checkpoint's own tokenizer: a known class, files from its folder only, and no code from them."""

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import transformers

from checkpoints.config.forbidden_fields import refuse_code
from checkpoints.files.preprocessor_files import (
    BYTE_PAIRS,
    GENERIC,
    LLAMA_TOKENIZERS,
    TOKENIZER_CONFIG,
    TOKENIZER_FILES,
    WHOLE,
    named_tokenizer,
    tokenizer_classes,
)
from worker.engine.data.settings import (
    Settings,
    check_type,
    first_line,
    invalid,
    model_type,
    read_config,
    read_object,
)


def load_tokenizer(model_dir: Path, *, words: bool = False) -> Any:
    """A tokenizer of transformers. `words`: texts come as lists of words, each of which had a space before it.

    Raises CONFIG_INVALID or CODE_REFUSED.
    """
    kind = model_type(model_dir)
    path = model_dir / TOKENIZER_CONFIG
    settings = read_object(path) if path.is_file() else {}
    refuse_code(settings, TOKENIZER_CONFIG)
    named = named_tokenizer(kind, read_config(model_dir), settings)
    check_type(named, tokenizer_classes(kind))
    # RoBERTa's tokens know whether a space was before them; words in a list have had one.
    spaced = named in BYTE_PAIRS or (tokenizer_classes(kind)[0] in BYTE_PAIRS and named in GENERIC)
    options = {"add_prefix_space": True} if words and spaced else {}
    # Only files of known names, and of the settings nothing that names a file: old versions wrote paths of their own machines.
    with TemporaryDirectory(prefix="tokenizer-") as scratch:
        folder = Path(scratch)
        for name in TOKENIZER_FILES:
            if (model_dir / name).is_file():
                shutil.copyfile(model_dir / name, folder / name)
        plain = {key: value for key, value in settings.items() if not key.endswith(("_file", "_files", "_path"))}
        (folder / TOKENIZER_CONFIG).write_text(json.dumps(plain))
        try:
            if named in LLAMA_TOKENIZERS and (kind in ("mistral", "phi3") or _is_of_bytes(folder / WHOLE)):
                named = "TokenizersBackend"
            return getattr(transformers, named).from_pretrained(folder, local_files_only=True, **options)
        # What the tokenizers library raises on untrusted files is a plain Exception.
        except Exception as error:
            raise invalid(f"the tokenizer cannot be loaded: {first_line(error)}") from error


def _is_of_bytes(path: Path) -> bool:
    """Whether a tokenizer.json divides texts into bytes. Llama's class, which many folders name all the same, would do otherwise,
    and transformers' AutoTokenizer does not take it then."""
    if not path.is_file():
        return False
    steps = json.loads(path.read_bytes()).get("pre_tokenizer") or {}
    return any(step.get("type") == "ByteLevel" for step in (steps, *(steps.get("pretokenizers") or ())))


def vocabulary_size(config: Settings) -> int:
    """Ids from 0 up to this are the model's, whose full config it is. Raises CONFIG_INVALID."""
    size = config.get("vocab_size")
    if type(size) is not int or size < 1:
        raise invalid(f"vocab_size is {str(size)[:100]}; it must be a whole number of at least 1")
    return size
