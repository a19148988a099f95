"""Which inputs a dataset has more than once, against counting them by hand."""

from collections import Counter
from random import Random

import pytest

from checkpoints.data.shards import row_hashes
from checkpoints.data.shards.row_hashes import RowHashes


@pytest.mark.parametrize("different", [1, 3, 40, 100_000])
def test_as_counted_by_hand(different: int) -> None:
    random = Random(different)
    rows = {split: [random.randrange(different) for _ in range(200)] for split in ("train", "validation", "test")}
    hashes = RowHashes()
    for split, values in rows.items():
        for value in values:
            hashes.add(split, b"%d" % value)
    expected: dict[str, Counter[str]] = {}
    for split, values in rows.items():
        for other in rows:
            found = len(values) - len(set(values)) if other == split else sum(one in rows[other] for one in values)
            if found:
                expected.setdefault(split, Counter())[other] = found
    assert hashes.shared() == expected


def test_texts_and_words_are_compared_too() -> None:
    hashes = RowHashes()
    for split, value in (("train", "a b"), ("test", "a b"), ("test", ("a", "b")), ("test", b"a b c")):
        hashes.add(split, value)
    assert hashes.shared() == {"train": {"test": 1}, "test": {"train": 1}}


def test_more_rows_than_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_hashes, "MAX_ROWS", 3)
    hashes = RowHashes()
    for _ in range(3):
        hashes.add("train", b"a")
    assert hashes.shared() == {"train": {"train": 2}}
    hashes.add("train", b"a")
    assert hashes.shared() is None
