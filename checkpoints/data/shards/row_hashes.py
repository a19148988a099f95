"""Duplicate inputs of a dataset: which rows of a split are also in another, or repeated in the same.

A row is identified by 64 bits of its input's hash, so ten million rows take 80 MB. Among that many, two different inputs collide
with a probability of about 3e-6, and then a warning counts one row too many.
"""

from array import array
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping
from functools import partial
from itertools import chain, pairwise

from checkpoints.data.blank_texts import is_blank

MAX_ROWS = 10_000_000

SharedRows = Mapping[str, Mapping[str, int]]
"""`shared["test"]["train"]`: how many rows of test have an input that is in train, too. `shared["train"]["train"]`: how many of
train repeat an earlier one. Only where it is more than none."""


class RowHashes:
    """`add` the input of every row: its bytes, its text, or a tuple of its words. A text that is blank is none."""

    def __init__(self) -> None:
        self._of_split: defaultdict[str, array[int]] = defaultdict(partial(array, "q"))
        self._rows = 0

    def add(self, split: str, value: Hashable) -> None:
        """Remember an input. Beyond MAX_ROWS rows nothing is."""
        if is_blank(value):
            return
        self._rows += 1
        if self._rows <= MAX_ROWS:
            # Python's own hash of bytes and texts: its key is new in every process, so nobody can construct inputs that collide,
            # and three times as fast as the fastest of hashlib.
            self._of_split[split].append(hash(value))

    def shared(self) -> SharedRows | None:
        """None where there were too many rows to be compared."""
        if self._rows > MAX_ROWS:
            return None
        splits = list(self._of_split)
        # Most inputs occur once; only of the others it matters where.
        ordered = sorted(chain.from_iterable(self._of_split.values()))
        places = {one: 0 for one, next_one in pairwise(ordered) if one == next_one}
        del ordered
        if not places:
            return {}
        counts: dict[str, Counter[int]] = {}
        for number, split in enumerate(splits):
            counts[split] = Counter(each for each in self._of_split[split] if each in places)
            for each in counts[split]:
                places[each] |= 1 << number
        found: dict[str, dict[str, int]] = {}
        for split, repeated in counts.items():
            # By the set of splits that an input is in, as bits: a handful, however many rows there are.
            rows: Counter[int] = Counter()
            for each, times in repeated.items():
                rows[places[each]] += times
            of_split = {
                other: sum(times for bits, times in rows.items() if bits >> number & 1)
                for number, other in enumerate(splits)
                if other != split
            }
            of_split[split] = repeated.total() - len(repeated)
            if any(of_split.values()):
                found[split] = {other: times for other, times in of_split.items() if times}
        return found
