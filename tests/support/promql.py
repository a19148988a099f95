"""Queries of Prometheus, evaluated on two scrapes: as much of the language as dashboard and alerts use.

promql-parser reads them as Prometheus does (operators, precedence, types); what is computed here was compared with promtool's
(tests/integration/service/test_alerts.py does so where it is installed).
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import promql_parser as promql
from prometheus_client.parser import text_string_to_metric_families

Labels = frozenset[tuple[str, str]]
Vector = dict[Labels, float]
Value = Vector | float

_ARITHMETIC: dict[str, Callable[[float, float], float]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b if b else (math.nan if a == 0 or math.isnan(a) else math.copysign(math.inf, a)),
}
_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    ">": lambda a, b: a > b,
    "<": lambda a, b: a < b,
    ">=": lambda a, b: a >= b,
    "<=": lambda a, b: a <= b,
}
_MATCHES: tuple[tuple[Any, Callable[[str, str], bool]], ...] = (
    (promql.MatchOp.Equal, lambda have, want: have == want),
    (promql.MatchOp.NotEqual, lambda have, want: have != want),
    (promql.MatchOp.Re, lambda have, want: re.fullmatch(want, have) is not None),
    (promql.MatchOp.NotRe, lambda have, want: re.fullmatch(want, have) is None),
)
_GROUPED: dict[str, Callable[[list[float]], float]] = {"sum": sum, "max": max, "min": min}


class Unsupported(Exception):
    """A part of the language that is not here, or that the query uses wrongly."""


@dataclass(frozen=True)
class Scrape:
    """Series by name and labels."""

    series: dict[str, Vector]

    @classmethod
    def of(cls, text: str) -> "Scrape":
        found: dict[str, Vector] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                # An empty label is one that is not there.
                labels = frozenset(pair for pair in sample.labels.items() if pair[1])
                found.setdefault(sample.name, {})[labels] = sample.value
        return cls(found)


@dataclass(frozen=True)
class Prometheus:
    """What it has seen: a scrape, and one that is `seconds` older, for rates."""

    now: Scrape
    before: Scrape
    seconds: float = 300.0

    def query(self, text: str) -> Value:
        """An instant query. Raises Unsupported, or ValueError for what Prometheus would not read either."""
        return self._value(promql.parse(text))

    def _value(self, node: Any) -> Value:
        match type(node).__name__:
            case "NumberLiteral":
                return float(node.val)
            case "ParenExpr":
                return self._value(node.expr)
            case "VectorSelector":
                return _selected(self.now, node)
            case "Call":
                return self._call(node)
            case "AggregateExpr":
                return self._aggregate(node)
            case "BinaryExpr":
                return self._binary(node)
            case other:
                raise Unsupported(other)

    def _call(self, node: Any) -> Value:
        arguments = list(node.args)
        match node.func.name:
            case "rate":
                selector = arguments[0].vector_selector
                before = _selected(self.before, selector)
                # As a counter that began: what was not there before does not count.
                return {
                    labels: (value - before[labels]) / self.seconds
                    for labels, value in _selected(self.now, selector).items()
                    if labels in before
                }
            case "absent":
                return {} if self._vector(arguments[0]) else {frozenset(): 1.0}
            case "scalar":
                found = self._vector(arguments[0])
                return next(iter(found.values())) if len(found) == 1 else math.nan
            case "histogram_quantile":
                return _quantiles(float(arguments[0].val), self._vector(arguments[1]))
            case other:
                raise Unsupported(other)

    def _aggregate(self, node: Any) -> Vector:
        of = self._vector(node.expr)
        if str(node.op) == "topk":
            most = sorted(of.items(), key=lambda each: -each[1])[: int(node.param.val)]
            return dict(most)
        grouping = node.modifier
        if grouping is not None and grouping.type != promql.AggModifierType.By:
            raise Unsupported("without")
        kept = set(grouping.labels) if grouping is not None else set()
        groups: dict[Labels, list[float]] = {}
        for labels, value in of.items():
            groups.setdefault(frozenset(pair for pair in labels if pair[0] in kept), []).append(value)
        return {labels: _GROUPED[str(node.op)](values) for labels, values in groups.items()}

    def _binary(self, node: Any) -> Value:
        left, right = self._value(node.lhs), self._value(node.rhs)
        op = str(node.op)
        on: set[str] | None = None
        if node.modifier is not None and node.modifier.matching is not None:
            if node.modifier.matching.type != promql.LabelModifierType.Include:
                raise Unsupported("ignoring")
            on = set(node.modifier.matching.labels)

        def key(labels: Labels) -> Labels:
            return labels if on is None else frozenset(pair for pair in labels if pair[0] in on)

        if op in ("and", "unless"):
            if isinstance(left, float) or isinstance(right, float):
                raise Unsupported(f"{op} of a number")
            there = {key(labels) for labels in right}
            return {labels: value for labels, value in left.items() if (key(labels) in there) == (op == "and")}
        if isinstance(left, float) and isinstance(right, float):
            return _ARITHMETIC[op](left, right)
        if isinstance(left, float):
            raise Unsupported("a number on the left of a vector")
        pairs = (
            {labels: (value, right) for labels, value in left.items()}
            if isinstance(right, float)
            else {key(labels): (value, right[key(labels)]) for labels, value in left.items() if key(labels) in right}
        )
        if op in _COMPARISONS:
            return {labels: one for labels, (one, other) in pairs.items() if _COMPARISONS[op](one, other)}
        return {labels: _ARITHMETIC[op](one, other) for labels, (one, other) in pairs.items()}

    def _vector(self, node: Any) -> Vector:
        found = self._value(node)
        if isinstance(found, float):
            raise Unsupported("a number in place of a vector")
        return found


def selectors(text: str) -> list[Any]:
    """Every selector of a query."""
    found: list[Any] = []

    def look(node: Any) -> None:
        if type(node).__name__ == "VectorSelector":
            found.append(node)
        children = [getattr(node, name, None) for name in ("lhs", "rhs", "expr", "vector_selector", "param")]
        for child in [*children, *getattr(node, "args", ())]:
            if child is not None:
                look(child)

    look(promql.parse(text))
    return found


def _selected(scrape: Scrape, selector: Any) -> Vector:
    wanted = [
        (each.name, next(matches for op, matches in _MATCHES if op == each.op), each.value)
        for each in selector.matchers.matchers
    ]
    return {
        labels: value
        for labels, value in scrape.series.get(selector.name, {}).items()
        if all(matches(dict(labels).get(name, ""), want) for name, matches, want in wanted)
    }


def _quantiles(quantile: float, buckets: Vector) -> Vector:
    """Linear within the bucket that it falls into; of the last one, the bound below."""
    groups: dict[Labels, list[tuple[float, float]]] = {}
    for labels, count in buckets.items():
        rest = frozenset(pair for pair in labels if pair[0] != "le")
        groups.setdefault(rest, []).append((float(dict(labels)["le"]), count))
    found: Vector = {}
    for labels, bounds in groups.items():
        bounds.sort()
        wanted = quantile * bounds[-1][1]
        if not bounds[-1][1]:
            found[labels] = math.nan
            continue
        lower, below = 0.0, 0.0
        for bound, count in bounds:
            if count >= wanted:
                share = (wanted - below) / (count - below) if count > below else 0.0
                found[labels] = lower if math.isinf(bound) else lower + (bound - lower) * share
                break
            lower, below = bound, count
    return found
