"""Texts that a small decoder is trained and judged on: documentation that is wherever Secateur is.

Docstrings of the standard library and of numpy, which are read and not run, and the language reference that `help()` shows. No
document, a module of the library, a file of numpy or a topic, is in two splits, and no docstring is there twice. Which they are
depends on the versions of Python and numpy alone, which a race's results name.
"""

import functools
import random
import sysconfig
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
import torch
from torch import Tensor

from api_schemas.enums import Split
from benchmarks.race.minilm.sentences import SKIPPED, docstrings
from worker.engine.data.featurizers.blocks import following
from worker.engine.data.featurizers.tokenizer import load_tokenizer
from worker.engine.data.split import FeatureSplit

CHARACTERS = {Split.TEST: 240_000, Split.VALIDATION: 120_000}
"""Documents are taken until there are so many; filled in this order, and the rest is to train on."""
BLOCK = 128
"""Tokens of a sample. A document is divided into blocks from its start; what is left at its end is left out."""
SEED = 0


def _roots() -> Mapping[str, Path]:
    numpy = find_spec("numpy")
    assert numpy is not None
    assert numpy.origin is not None
    return {"library": Path(sysconfig.get_path("stdlib")), "numpy": Path(numpy.origin).parent}


@functools.cache
def documents() -> Mapping[str, str]:
    """Text by document. Not to be changed: read once a process."""
    found: dict[str, list[str]] = {}
    seen: set[str] = set()
    for root, folder in _roots().items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            if SKIPPED.isdisjoint(parts):
                name = f"{root} {parts[0] if root == 'library' else '.'.join(parts)}"
                new = [text for text in docstrings(path) if text not in seen]
                found.setdefault(name, []).extend(dict.fromkeys(new))
                seen.update(new)
    found |= {f"topic {topic}": [text] for topic, text in sorted(topics.items())}
    return {name: "\n\n".join(texts) for name, texts in found.items() if texts}


@functools.cache
def drawn() -> Mapping[Split, tuple[str, ...]]:
    """The documents' texts by split."""
    every = documents()
    names = sorted(every)
    random.Random(SEED).shuffle(names)
    splits: dict[Split, tuple[str, ...]] = {}
    for split, characters in CHARACTERS.items():
        chosen: list[str] = []
        while sum(map(len, chosen)) < characters:
            chosen.append(every[names.pop()])
        splits[split] = tuple(chosen)
    return splits | {Split.TRAIN: tuple(every[name] for name in names)}


def blocks(folder: Path, texts: tuple[str, ...]) -> Tensor:
    """Token ids by the tokenizer of a checkpoint's folder, no special ones among them: int64 [N, BLOCK]."""
    tokenizer = load_tokenizer(folder)
    encoded = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    cut = [ids[start : start + BLOCK] for ids in encoded for start in range(0, len(ids) - BLOCK + 1, BLOCK)]
    return torch.tensor(cut, dtype=torch.int64)


def as_split(ids_NT: Tensor) -> FeatureSplit:
    """A sample a block: what comes next at every token but the last."""
    ids = ids_NT.numpy()
    return FeatureSplit({"input_ids": ids}, torch.from_numpy(np.stack([following(row) for row in ids])))


def frequency_perplexity(train_NT: Tensor, test_NT: Tensor, vocabulary: int) -> float:
    """On `test_NT` of a model that knows how often every token is in `train_NT`, each once more, and nothing else."""
    counts_V = torch.bincount(train_NT.flatten(), minlength=vocabulary).double() + 1.0
    nats_V = counts_V.sum().log() - counts_V.log()
    return float(nats_V[test_NT[:, 1:]].mean().exp())
