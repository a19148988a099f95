"""Sentences of the Python standard library's documentation: natural English that is wherever Python is, under the PSF licence.

Taken from docstrings, which are read and not run, and from the language reference that `help()` shows. No document, a module
or a topic, is in two splits, and no sentence is there twice. Which they are depends on the Python version alone: a race's
results name it.
"""

import ast
import functools
import inspect
import random
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from pydoc_data.topics import topics

from api_schemas.enums import Split

COUNTS = {Split.TEST: 600, Split.VALIDATION: 300, Split.TRAIN: 2000}
"""How many of each; filled in this order."""

SEED = 0
MOST_OF_A_DOCUMENT = 60
"""Sentences taken of one: a few long modules would be half of everything."""

SKIPPED = frozenset(
    {"test", "tests", "idlelib", "lib2to3", "site-packages", "dist-packages", "pydoc_data", "__pycache__"}
)
WORDS = range(6, 41)
_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
_SENTENCE = re.compile(r"[A-Z][A-Za-z0-9 ,;:'\"()/.!?-]*[.!?]")
_DEFINITIONS = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def sentences_in(text: str) -> Iterator[str]:
    """The plain sentences of a documentation text: whole, on one line, without code, signatures or lists."""
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(text)):
        for found in _END.split(" ".join(paragraph.split())):
            words = found.split()
            if _SENTENCE.fullmatch(found) and len(words) in WORDS and all(map(_is_plain, words)):
                yield found


def _is_plain(word: str) -> bool:
    """No name out of a programme: dots, slashes and digits inside, CamelCase."""
    core = word.strip(",;:'\"().!?")
    return not re.search(r"[a-z][A-Z]|[a-zA-Z][./()]+[a-zA-Z]|\d", core) and bool(core)


@functools.cache
def documents() -> dict[str, list[str]]:
    """Sentences by document, a top-level module or a topic; nothing twice. Not to be changed: read once a process."""
    library = Path(sysconfig.get_path("stdlib"))
    texts: dict[str, list[str]] = {}
    for path in sorted(library.rglob("*.py")):
        parts = path.relative_to(library).with_suffix("").parts
        if SKIPPED.isdisjoint(parts):
            texts.setdefault(parts[0], []).extend(docstrings(path))
    for topic, text in sorted(topics.items()):
        texts.setdefault(f"topic {topic}", []).append(text)
    seen: set[str] = set()
    found: dict[str, list[str]] = {}
    for name, of_document in texts.items():
        for sentence in (sentence for text in of_document for sentence in sentences_in(text)):
            if sentence.casefold() not in seen:
                seen.add(sentence.casefold())
                found.setdefault(name, []).append(sentence)
    return found


def docstrings(path: Path) -> Iterator[str]:
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # templates and the like
        return
    for node in ast.walk(tree):
        if isinstance(node, _DEFINITIONS):
            text = ast.get_docstring(node)
            if text:
                yield text


def drawn() -> dict[Split, list[str]]:
    """COUNTS sentences a split. Raises ValueError where the library was installed without its sources."""
    generator = random.Random(SEED)
    found = documents()
    names = sorted(found)
    generator.shuffle(names)
    splits: dict[Split, list[str]] = {split: [] for split in COUNTS}
    for split, count in COUNTS.items():
        while names and len(splits[split]) < count:
            of_document = found[names.pop()]
            splits[split] += generator.sample(of_document, min(MOST_OF_A_DOCUMENT, len(of_document)))
        del splits[split][count:]
    missing = [split.value for split, count in COUNTS.items() if len(splits[split]) < count]
    if missing:
        raise ValueError(f"this Python's library documents too little for {', '.join(missing)}")
    return splits
