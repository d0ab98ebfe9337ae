"""What an expression of PromQL needs: every metric that it names, and every label that it asks them for.

`labels_of` follows labels through an expression as Prometheus does, so that a label that was summed away, or never
existed, is found. Only what dashboards and rules here use is understood; anything else is refused.
"""

from collections.abc import Mapping
from typing import Any

import promql_parser as promql

__all__ = ["UnknownNameError", "labels_of"]

_TARGET = frozenset({"job", "instance"})  # of every scraped series


class UnknownNameError(Exception):
    """An expression asks for what does not exist."""


def labels_of(expression: str, known: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """The labels of the result.

    Args:
        expression: PromQL, without variables of Grafana's.
        known: Labels of each series, by name.

    Raises:
        UnknownNameError: A metric or a label does not exist; the text names both.
        ValueError: It is no PromQL.
    """
    return _of(promql.parse(expression), known)


def _of(node: Any, known: Mapping[str, frozenset[str]]) -> frozenset[str]:  # noqa: PLR0911  # one for each kind of node
    if isinstance(node, promql.VectorSelector):
        return _selected(node, known)
    if isinstance(node, promql.MatrixSelector):
        return _selected(node.vector_selector, known)
    if isinstance(node, promql.ParenExpr | promql.UnaryExpr | promql.SubqueryExpr):
        return _of(node.expr, known)
    if isinstance(node, promql.AggregateExpr):
        return _aggregated(node, known)
    if isinstance(node, promql.Call):
        return _called(node, known)
    if isinstance(node, promql.BinaryExpr):
        return _combined(node, known)
    if isinstance(node, promql.NumberLiteral | promql.StringLiteral):
        return frozenset()
    raise UnknownNameError(f"{type(node).__name__} is not understood here")


def _selected(selector: Any, known: Mapping[str, frozenset[str]]) -> frozenset[str]:
    if selector.name not in known:
        raise UnknownNameError(f"no metric {selector.name!r}")
    labels = known[selector.name] | _TARGET
    _require({matcher.name for matcher in selector.matchers.matchers}, labels, selector.name)
    return labels


def _aggregated(node: Any, known: Mapping[str, frozenset[str]]) -> frozenset[str]:
    inner = _of(node.expr, known)
    if str(node.op) in {"topk", "bottomk"}:
        return inner
    if node.modifier is None:
        return frozenset()
    named = frozenset(node.modifier.labels)
    _require(named, inner, str(node.expr))
    return named if node.modifier.type == promql.AggModifierType.By else inner - named


def _called(node: Any, known: Mapping[str, frozenset[str]]) -> frozenset[str]:
    labels = frozenset[str]().union(*(_of(argument, known) for argument in node.args))
    if node.func.name == "histogram_quantile":
        _require({"le"}, labels, str(node))
        return labels - {"le"}
    return labels


def _combined(node: Any, known: Mapping[str, frozenset[str]]) -> frozenset[str]:
    left, right = _of(node.lhs, known), _of(node.rhs, known)
    scalar = isinstance(node.lhs, promql.NumberLiteral) or isinstance(node.rhs, promql.NumberLiteral)
    if not scalar and left != right and str(node.op) != "or":
        raise UnknownNameError(f"the sides of {node} have different labels: {sorted(left)} and {sorted(right)}")
    return left | right


def _require(named: "set[str] | frozenset[str]", labels: frozenset[str], what: str) -> None:
    if missing := sorted(set(named) - labels):
        raise UnknownNameError(f"{what} has no label {', '.join(missing)}; it has {', '.join(sorted(labels))}")
