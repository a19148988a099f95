"""How long the texts of a dataset are for a model, and how many inputs it makes of each.

Only a worker has the tokenizer, so this is a range, from the number of characters.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt

from sqlalchemy.orm import Session

from api_schemas.enums import Head, Modality, Split
from checkpoints.families.text.text_encoder import WINDOW
from checkpoints.sizes.first_time import Range
from service.core.jobs.model_source import KnownModel
from service.core.jobs.submit import Accepted
from store.uploads import samples as shown
from store.uploads.inspection.found_samples import MAX_TEXT

CHARACTERS_A_TOKEN = 5.2, 3.8
"""Spaces included: in a text that makes few tokens, and in one that makes many."""
LONGER = 3.0
"""How many times as long a text may be as what is shown of it, where that was cut off."""
MOST_TOKENS = 4.0
"""Texts are cut off there, in lengths that FLOPs are counted for: by few models before."""
WINDOW_STEPS = 256, 192
"""Tokens by which windows of a long context follow each other: beside a short question, and beside a long one."""


@dataclass(frozen=True)
class TextLengths:
    """Of rows of text, on the average at least and at most."""

    length: Range
    """Tokens of an input, as a share of the length that FLOPs are counted for."""
    inputs: Range = (1.0, 1.0)
    """Inputs that a row is divided into."""

    def counted(self, rows: Mapping[Split, int]) -> dict[str, int]:
        """Inputs of so many rows: a number in the middle of the range."""
        each = sqrt(self.inputs[0] * self.inputs[1])
        return {role.value: round(count * each) for role, count in rows.items()}


ONE_EACH = TextLengths((1.0, 1.0))
"""Of rows that are an input each."""


def of_texts(session: Session, tenant: str, accepted: Accepted, known: KnownModel) -> TextLengths | None:
    """None for a model of other inputs, and where nothing is known of the texts."""
    if known.layout.modality is not Modality.TEXT:
        return None
    characters = _characters(session, tenant, accepted)
    if characters is None:
        return None
    fewest, most = (each / rate for each, rate in zip(characters, CHARACTERS_A_TOKEN, strict=True))
    counted = known.shape.attention[0].queries
    if known.layout.head is Head.CAUSAL_LM:
        # FLOPs are counted for a block. A row's last block is shorter than the others.
        blocks = max(1.0, fewest / counted), 1.0 + most / counted
        return TextLengths((fewest / counted / blocks[0], most / counted / blocks[1]), blocks)
    if known.layout.head is Head.QUESTION_ANSWERING:
        least, longest = WINDOW_STEPS
        windows = max(1.0, 1.0 + (fewest - WINDOW) / least), max(1.0, 1.0 + (most - least) / longest)
        return TextLengths((min(fewest, WINDOW) / counted, min(most, WINDOW) / counted), windows)
    return TextLengths((min(fewest / counted, MOST_TOKENS), min(most / counted, MOST_TOKENS)))


def _characters(session: Session, tenant: str, accepted: Accepted) -> Range | None:
    """Of a row, on the average; where the dataset was completed before they were counted, by the rows that are shown of it."""
    contents = accepted.contents
    if contents is not None and contents.characters is not None:
        return (contents.characters / max(1, sum(contents.rows.values())),) * 2
    if accepted.dataset is None:
        return None
    rows = [row for row in shown.of(session, tenant, accepted.dataset) if row.text is not None]
    if not rows:
        return None
    lengths = [len(row.text or "") + len(row.text_pair or "") for row in rows]
    cut_off = any(max(len(row.text or ""), len(row.text_pair or "")) >= MAX_TEXT for row in rows)
    mean = sum(lengths) / len(lengths)
    return mean, mean * (LONGER if cut_off else 1.0)
