"""The allowed values of config.json. A rule states its requirement as a clause, so that an error can quote it.

Null is how transformers writes "not set". It is allowed, except for numbers and names that its classes compute with.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


class Rule(Protocol):
    """One key's."""

    @property
    def needed(self) -> str:
        """What is needed, as a noun: `a whole number from 1 to 8`."""

    def allows(self, value: Any) -> bool:
        """Whether `value`, as JSON gives it, is that."""


@dataclass(frozen=True)
class Integer:
    """A number without a fraction."""

    least: int
    most: int

    @property
    def needed(self) -> str:
        return f"a whole number from {self.least} to {self.most}"

    def allows(self, value: Any) -> bool:
        return value is None or (type(value) is int and self.least <= value <= self.most)


@dataclass(frozen=True)
class Number:
    """Any number; NaN is in no interval."""

    least: float
    most: float
    null: bool = False

    @property
    def needed(self) -> str:
        return f"a number from {self.least:g} to {self.most:g}"

    def allows(self, value: Any) -> bool:
        if value is None:
            return self.null
        return type(value) in (int, float) and self.least <= value <= self.most


@dataclass(frozen=True)
class Boolean:
    @property
    def needed(self) -> str:
        return "true or false"

    def allows(self, value: Any) -> bool:
        return value is None or isinstance(value, bool)


@dataclass(frozen=True)
class String:
    """Never used as a path, an address or a name of code."""

    longest: int = 256

    @property
    def needed(self) -> str:
        return f"a text of at most {self.longest} characters"

    def allows(self, value: Any) -> bool:
        return value is None or (isinstance(value, str) and len(value) <= self.longest)


@dataclass(frozen=True)
class OneOf:
    values: Sequence[str]
    null: bool = False

    @property
    def needed(self) -> str:
        return f"one of {', '.join(self.values)}"

    def allows(self, value: Any) -> bool:
        return self.null if value is None else isinstance(value, str) and value in self.values


@dataclass(frozen=True)
class ListOf:
    of: Rule
    most: int = 65_536

    @property
    def needed(self) -> str:
        return f"a list of at most {self.most}, each {self.of.needed}"

    def allows(self, value: Any) -> bool:
        if value is None:
            return True
        return isinstance(value, list) and len(value) <= self.most and all(map(self.of.allows, value))


@dataclass(frozen=True)
class AnyOf:
    first: Rule
    second: Rule

    @property
    def needed(self) -> str:
        return f"{self.first.needed}, or {self.second.needed}"

    def allows(self, value: Any) -> bool:
        return self.first.allows(value) or self.second.allows(value)


@dataclass(frozen=True)
class ObjectOf:
    """An object that may have these keys and no others, none of them null."""

    fields: Mapping[str, Rule]

    @property
    def needed(self) -> str:
        inner = ", ".join(f"{key} ({rule.needed})" for key, rule in self.fields.items())
        return f"an object with no other keys than {inner}"

    def allows(self, value: Any) -> bool:
        if value is None:
            return True
        if not isinstance(value, dict) or not value.keys() <= self.fields.keys():
            return False
        return all(each is not None and self.fields[key].allows(each) for key, each in value.items())


@dataclass(frozen=True)
class Null:
    """What old versions wrote without meaning anything by it: an empty list or object, or false."""

    @property
    def needed(self) -> str:
        return "null or empty"

    def allows(self, value: Any) -> bool:
        return value is None or value is False or value in ([], {}, "")


@dataclass(frozen=True)
class Numbering:
    """An object from labels to their ids, which some have written as text."""

    @property
    def needed(self) -> str:
        return "an object that maps labels to numbers"

    def allows(self, value: Any) -> bool:
        if value is None:
            return True
        if not isinstance(value, dict) or len(value) > 65_536:
            return False
        return all(type(number) is int or (isinstance(number, str) and len(number) <= 256) for number in value.values())


EDGES = (
    {"height", "width"},
    {"shortest_edge"},
    {"shortest_edge", "longest_edge"},
    {"longest_edge"},
    {"max_height", "max_width"},
)


@dataclass(frozen=True)
class Sides:
    """The size of an image: one number, height and width, or an object of them as transformers names them."""

    most: int

    @property
    def needed(self) -> str:
        return (
            "a size, or an object with height and width or with shortest_edge, each a whole number from 1 to "
            f"{self.most}"
        )

    def allows(self, value: Any) -> bool:
        if isinstance(value, dict) and value.keys() not in EDGES:
            return False
        sides = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else [value]
        usual = not isinstance(value, list) or len(value) == 2
        return usual and all(map(Integer(1, self.most).allows, sides))
