"""The checkpoint's own tokenizer: a known class, files from its folder alone, nothing in them run."""

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import transformers

from worker.engine.data.settings import (
    Settings,
    first_line,
    invalid,
    read_config,
    read_object,
    without_code,
)

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
)
# By model_type; the settings may name another class of its line.
_CLASSES = {
    "bert": ("BertTokenizer", "BertTokenizerFast"),
    "distilbert": ("DistilBertTokenizer", "DistilBertTokenizerFast", "BertTokenizer", "BertTokenizerFast"),
    "roberta": ("RobertaTokenizer", "RobertaTokenizerFast"),
    "whisper": ("WhisperTokenizer", "WhisperTokenizerFast"),
}
_CTC = ("Wav2Vec2CTCTokenizer",)
# These take tokenizer.json as it is, whatever the model.
_GENERIC = ("PreTrainedTokenizerFast", "TokenizersBackend")
_CONFIG = "tokenizer_config.json"


def load_tokenizer(model_dir: Path, **options: Any) -> Any:
    """A tokenizer of transformers. `options` go to its constructor. Raises CONFIG_INVALID or CODE_REFUSED."""
    model_type = str(read_config(model_dir).get("model_type"))
    settings = read_object(model_dir / _CONFIG) if (model_dir / _CONFIG).is_file() else {}
    without_code(settings, _CONFIG)
    known = _CLASSES.get(model_type, _CTC)
    named = settings.get("tokenizer_class") or known[0]
    if named not in (*known, *(_GENERIC if known != _CTC else ())):
        raise invalid(f"tokenizer_class is {str(named)[:100]!r}, and {' or '.join(known)} is supported")
    # Only files of known names, and of the settings nothing that names a file: old versions wrote paths of their own machines.
    with TemporaryDirectory(prefix="tokenizer-") as scratch:
        folder = Path(scratch)
        for name in TOKENIZER_FILES:
            if (model_dir / name).is_file():
                shutil.copyfile(model_dir / name, folder / name)
        plain = {key: value for key, value in settings.items() if not key.endswith(("_file", "_files", "_path"))}
        (folder / _CONFIG).write_text(json.dumps(plain))
        try:
            return getattr(transformers, named).from_pretrained(folder, local_files_only=True, **options)
        # What the tokenizers library raises on files from strangers is an Exception and no more.
        except Exception as error:
            raise invalid(f"the tokenizer cannot be loaded: {first_line(error)}") from error


def vocabulary_size(config: Settings) -> int:
    """Ids from 0 up to this are the model's. Raises CONFIG_INVALID."""
    size = config.get("vocab_size")
    if type(size) is not int or size < 1:
        raise invalid("config.json has no vocab_size")
    return size
