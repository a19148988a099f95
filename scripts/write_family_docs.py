"""Writes the tables of docs/families.md from the registry of model families: `python scripts/write_family_docs.py`."""

import json
from collections.abc import Iterable
from pathlib import Path

from api_schemas.enums import Head, Modality
from checkpoints.families import ALL_FAMILIES, FAMILIES, Architecture, Family

PAGE = Path(__file__).parents[1] / "docs" / "families.md"
BEGIN, END = "<!-- Written by scripts/write_family_docs.py: do not edit. -->\n", "<!-- Up to here. -->\n"
_INPUTS = {Modality.AUDIO: "audio", Modality.IMAGE: "images", Modality.TEXT: "text"}
_OUTPUTS = {
    Head.CLASSIFICATION: "class labels",
    Head.TOKEN_CLASSIFICATION: "a label per token",
    Head.CTC: "a transcript (CTC)",
    Head.SEQUENCE_TO_SEQUENCE: "generated text",
    Head.EMBEDDING: "an embedding",
    Head.MASKED_LM: "masked tokens",
    Head.CAUSAL_LM: "the next token",
    Head.HIDDEN_STATES: "hidden states of every token",
    Head.QUESTION_ANSWERING: "the answer to a question, as a span of a text",
}


def _rows(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _stock(family: Family) -> str:
    whats = (("heads", family.head_dim_key), ("whole heads", family.groups_keys), ("neurons", family.neurons_key))
    return " and ".join(what for what, key in whats if key) or "never"


def _output(family: Family, architecture: Architecture) -> str:
    return _OUTPUTS[architecture.head] if family.part is None else f"what {family.part.rest} reads of it"


def _refused() -> Iterable[tuple[str, ...]]:
    models: dict[tuple[str, str, str], list[str]] = {}
    for family in FAMILIES:
        for key, (supported, reason) in family.refused.items():
            models.setdefault((key, json.dumps(supported), reason), []).extend(family.model_types)
    for (key, value, reason), types in models.items():
        yield f"`{key}`", f"`{value}`", reason, ", ".join(types)


def tables() -> str:
    """What stands between the two marks of the page."""
    classes = [
        (f"`{name}`", _INPUTS[family.modality], _output(family, architecture), _stock(family))
        for family in ALL_FAMILIES
        for name, architecture in family.architectures.items()
    ]
    return "\n".join(
        [
            _rows(
                ("transformers class", "input", "output", "loads without code if these are uniform"),
                classes,
            ),
            "These keys of config.json must have the given value or be left out:\n",
            _rows(("key", "value", "reason, and what works", "`model_type`"), _refused()),
        ]
    )


def page(text: str) -> str:
    """`text`, the page, with its tables as they should be."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{tables()}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
