"""Metric math of CloudWatch's alarms: arithmetic and comparisons of time series, and the functions below.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/using-metric-math.html
"""

import ast
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

Series = Sequence[float | None]
"""A value for each period, the oldest first; None where there is none."""

_WORDS: Final = {r"&&|\bAND\b": " and ", r"\|\||\bOR\b": " or ", r"\^": "**"}
_OPERATORS: Final[dict[type[ast.AST], Callable[[Any, Any], float]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.And: lambda one, other: bool(one) and bool(other),
    ast.Or: lambda one, other: bool(one) or bool(other),
}
_OF_VALUES: Final[dict[str, Callable[[list[float]], float]]] = {
    "AVG": lambda values: sum(values) / len(values),
    "MAX": max,
    "MIN": min,
    "SUM": sum,
}


class ExpressionError(ValueError):
    """An expression that is not understood here; the message has the part."""


def calculate(expression: str, series: Mapping[str, Series], periods: int) -> Series:
    """Return the series that an expression makes of others.

    Args:
        expression: as `errors - FILL(refused, 0)`.
        series: those that it may name.
        periods: how many values each of them has.

    Raises:
        ExpressionError: it names another series, or has what is not known here.
    """
    text = expression
    for word, replacement in _WORDS.items():
        text = re.sub(word, replacement, text)
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except SyntaxError as error:
        raise ExpressionError(f"not understood: {expression}") from error
    found = _Calculation(series, periods).value(tree.body)
    if isinstance(found, list):
        raise ExpressionError(f"{expression} is several series, and an alarm watches one")
    return found if isinstance(found, tuple) else (found,) * periods


class _Calculation:
    """A value is a number, a tuple with a value for each period, or a list of such tuples."""

    def __init__(self, series: Mapping[str, Series], periods: int) -> None:
        self._series = series
        self._periods = periods

    def value(self, node: ast.AST) -> Any:
        match node:
            case ast.Constant(value=int() | float() as number):
                return float(number)
            case ast.Name(id=name) if name in self._series:
                return tuple(self._series[name])
            case ast.List(elts=elements):
                return [self.value(each) for each in elements]
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return self._each(operator.sub, 0.0, self.value(operand))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
                return self._each(_OPERATORS[type(op)], self.value(left), self.value(right))
            case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _OPERATORS:
                return self._each(_OPERATORS[type(op)], self.value(left), self.value(right))
            case ast.BoolOp(op=op, values=[first, *others]):
                found = self.value(first)
                for other in others:
                    found = self._each(_OPERATORS[type(op)], found, self.value(other))
                return found
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
                return self._call(name.upper(), arguments)
        raise ExpressionError(f"not known here: {ast.unparse(node)}")

    def _call(self, name: str, arguments: list[ast.expr]) -> Any:
        match name, arguments:
            case "METRICS", []:
                return [tuple(each) for each in self._series.values()]
            case "FILL", [filled, ast.Name(id=("REPEAT" | "LINEAR") as how)]:
                return self._filled(self.value(filled), how)
            case "FILL", [filled, number]:
                pairs = zip(self._tuple(self.value(filled)), self._tuple(self.value(number)), strict=True)
                return tuple(default if each is None else each for each, default in pairs)
            case "IF", [condition, *branches] if len(branches) in (1, 2):
                then, otherwise = ([self._tuple(self.value(each)) for each in branches] + [(None,) * self._periods])[:2]
                asked = zip(self._tuple(self.value(condition)), then, otherwise, strict=True)
                return tuple(None if holds is None else (one if holds else two) for holds, one, two in asked)
            case "ABS", [of]:
                return self._each(lambda value, _: abs(value), self.value(of), 0.0)
            case (("AVG" | "MAX" | "MIN" | "SUM"), [of]):
                return self._aggregated(_OF_VALUES[name], self.value(of))
        raise ExpressionError(f"not known here: {name} of {len(arguments)}")

    def _tuple(self, value: Any) -> tuple[float | None, ...]:
        return value if isinstance(value, tuple) else (value,) * self._periods

    def _each(self, of: Callable[[Any, Any], float], one: Any, other: Any) -> Any:
        """Period by period; where one has no value there is none, and none for a division by zero."""
        if isinstance(one, list) or isinstance(other, list):
            raise ExpressionError("arithmetic of several series at once is not known here")
        if not isinstance(one, tuple) and not isinstance(other, tuple):
            return _or_none(of, one, other)
        pairs = zip(self._tuple(one), self._tuple(other), strict=True)
        return tuple(None if a is None or b is None else _or_none(of, a, b) for a, b in pairs)

    def _aggregated(self, of: Callable[[list[float]], float], value: Any) -> Any:
        """Of several series a series; of one series a number, for all periods."""
        if not isinstance(value, list):
            present = [each for each in self._tuple(value) if each is not None]
            return (of(present) if present else None,) * self._periods
        columns = zip(*(self._tuple(each) for each in value), strict=True)
        present_of = [[each for each in column if each is not None] for column in columns]
        return tuple(of(present) if present else None for present in present_of)

    def _filled(self, value: Any, how: str) -> tuple[float | None, ...]:
        values = self._tuple(value)
        known = [index for index, each in enumerate(values) if each is not None]
        found: list[float | None] = []
        for index, each in enumerate(values):
            before = max((known_at for known_at in known if known_at < index), default=None)
            after = min((known_at for known_at in known if known_at > index), default=None)
            if each is not None or before is None or (how == "LINEAR" and after is None):
                found.append(each)
            elif how == "REPEAT" or after is None:
                found.append(values[before])
            else:
                low, high = values[before] or 0.0, values[after] or 0.0
                found.append(low + (high - low) * (index - before) / (after - before))
        return tuple(found)


def _or_none(of: Callable[[Any, Any], float], one: float, other: float) -> float | None:
    try:
        return float(of(one, other))
    except ZeroDivisionError:
        return None
