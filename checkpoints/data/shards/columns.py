"""Whether the shards of a dataset agree on the columns that are read. Other columns need not agree.

The inspector and the engine call it, each with the columns that it has read from the schemas.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from api_schemas.enums import ColumnKind

_LABELS = frozenset(
    {ColumnKind.LABEL, ColumnKind.LABELS, ColumnKind.NUMBER, ColumnKind.NUMBERS, ColumnKind.TEXT, ColumnKind.TEXTS}
)
_NUMBERS = re.compile(r"(large_)?(list<\w+: )?(halffloat|float|double|null)>?")
"""As Arrow calls types of decimal numbers or of nothing, and lists of them."""
_FILES = ((ColumnKind.EMBEDDED, ColumnKind.AUDIO), (ColumnKind.EMBEDDED, ColumnKind.IMAGE))


@dataclass(frozen=True)
class ShardColumn:
    """A column of one shard. `type`: what the file calls it. `names`: of a ClassLabel's ids. `empty`: its type says that every
    value is null, so that it fits any other. `raw`: bytes without a struct, of which nothing says that they are files."""

    kind: ColumnKind
    type: str
    names: tuple[str, ...] | None = None
    empty: bool = False
    raw: bool = False

    @property
    def may_be_label(self) -> bool:
        """Whether its values are texts or numbers, or lists of them: whole numbers of which some are null are often written as
        decimal ones, and of lists that are all empty nothing is known."""
        return self.kind in _LABELS or (self.kind is ColumnKind.OTHER and _NUMBERS.fullmatch(self.type) is not None)


@dataclass(frozen=True)
class Shard:
    """A file of rows: its name, its split, and its columns."""

    file: str
    split: str
    columns: Mapping[str, ShardColumn]


@dataclass(frozen=True)
class Unlike:
    """By column, in what shards differ, as a clause."""

    differing: Mapping[str, str] = field(default_factory=dict)
    """It has several types or label names, or is not in all shards of a split: nothing can be read from it."""
    lacking: Mapping[str, str] = field(default_factory=dict)
    """Whole splits are without it. As labels it can be read: those splits have none."""

    def reasons(self, name: str) -> str | None:
        """Why a column cannot be the input; None where it can."""
        return self.differing.get(name) or self.lacking.get(name)


@dataclass(frozen=True)
class CommonColumns:
    """`kinds`: of every column of any shard, in order of first appearance. `columns`: of each, as the
    first shard has it that says something."""

    kinds: dict[str, ColumnKind]
    unlike: Unlike
    columns: Mapping[str, ShardColumn] = field(default_factory=dict)
    silent: Mapping[str, frozenset[int]] = field(default_factory=dict)
    """Of columns that would differ without it: the numbers of shards in which no row has a label there, whatever its type."""


def common_columns(shards: Sequence[Shard], unlabelled: Callable[[int, str], bool]) -> CommonColumns:
    """What the shards say together.

    Args:
        shards: at least one.
        unlabelled: whether in the shard of this number no row has a label in this column. Asked of columns that may be labels and
            differ: a shard without labels seldom has their type.
    """
    kinds: dict[str, ColumnKind] = {}
    differing: dict[str, str] = {}
    lacking: dict[str, str] = {}
    columns: dict[str, ShardColumn] = {}
    silent: dict[str, frozenset[int]] = {}
    for name in dict.fromkeys(name for shard in shards for name in shard.columns):
        holders = [shard for shard in shards if name in shard.columns]
        told = [shard for shard in holders if not shard.columns[name].empty] or holders
        if any(not _alike(told[0].columns[name], shard.columns[name]) for shard in told):
            without = {
                number
                for number, shard in enumerate(shards)
                if name in shard.columns and shard.columns[name].may_be_label and unlabelled(number, name)
            }
            saying = [shard for number, shard in enumerate(shards) if number not in without and shard in told]
            told, silent[name] = (saying, frozenset(without)) if saying else (told, frozenset())
        declared = [shard.columns[name].kind for shard in told]
        columns[name] = told[0].columns[name]
        kinds[name] = next((kind for kind in declared if kind is not ColumnKind.EMBEDDED), declared[0])
        other = next((shard for shard in told if not _alike(told[0].columns[name], shard.columns[name])), None)
        if other is not None:
            differing[name] = _difference(name, told[0], other)
        elif missing := _missing(shards, name):
            whole = not {shard.split for shard in holders} & {shard.split for shard in missing}
            reason = f"column {name!r} is in {holders[0].file} but not in {_listed([shard.file for shard in missing])}"
            (lacking if whole else differing)[name] = reason
    return CommonColumns(kinds, Unlike(differing, lacking), columns, silent)


def _missing(shards: Sequence[Shard], name: str) -> list[Shard]:
    return [shard for shard in shards if name not in shard.columns]


def _alike(one: ShardColumn, other: ShardColumn) -> bool:
    same = one.kind is other.kind or (one.kind, other.kind) in _FILES or (other.kind, one.kind) in _FILES
    return same and one.names == other.names


def _difference(name: str, one: Shard, other: Shard) -> str:
    first, second = one.columns[name], other.columns[name]
    if first.names is not None and second.names is not None and first.kind is second.kind:
        return f"column {name!r} has different label names in {other.file} and {one.file}"
    return f"column {name!r} is {_said(first)} in {one.file} but {_said(second)} in {other.file}"


def _said(column: ShardColumn) -> str:
    return f"{column.type} with label names" if column.names is not None else column.type


def _listed(files: Sequence[str]) -> str:
    more = f" and {len(files) - 3} more" if len(files) > 3 else ""
    return ", ".join(files[:3]) + more
