"""Filter patterns of CloudWatch Logs.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/FilterAndPatternSyntax.html
"""

import json
import re
from collections.abc import Callable
from functools import cache
from typing import Any, Final

Matches = Callable[[str], bool]
"""Whether a message matches."""
_Holds = Callable[[Any], bool]
"""Whether a JSON document has a property."""

MOST_EXPRESSIONS: Final = 2
"""In a pattern of JSON or of fields."""
_EXPRESSION: Final = re.compile(r"[A-Za-z0-9:_#=@/;,\-^$?\[\]{}|\\*+.]+")
"""Signs that a regular expression may have."""
_QUOTED: Final = re.compile(r'"(?:[^"\\]|\\.)*"')
_TERM: Final = re.compile(r'([?-]?)("(?:[^"\\]|\\.)*"|%[^%]+%|\S+)\s*')
_TOKEN: Final = re.compile(
    r"""\s*(?:(?P<selector>\$(?:\.[\w-]+|\["[^"]+"\]|\[\d+\])*)
    |(?P<operator>&&|\|\||!=|>=|<=|[=<>()])
    |(?P<word>"(?:[^"\\]|\\.)*"|%[^%]+%|[\w.*+-]+))""",
    re.VERBOSE,
)
_FIELD: Final = re.compile(r'\[([^\]]*)\]|"([^"]*)"|(\S+)')
_COLUMN: Final = re.compile(r'((?:"(?:[^"\\]|\\.)*"|%[^%]*%|[^,"%])+)(?:,|$)')
_CONDITION: Final = re.compile(
    r"""\s*(?P<name>[\w-]+)\s*(?P<operator>!=|>=|<=|[=<>])
    \s*(?P<word>"(?:[^"\\]|\\.)*"|%[^%]+%|[^\s"%&|]+)\s*(?P<joined>&&|\|\||$)""",
    re.VERBOSE,
)
_STEP: Final = re.compile(r'\.([\w-]+)|\["([^"]+)"\]|\[(\d+)\]')
_ABSENT: Final = object()


class LogPatternError(ValueError):
    """A pattern that CloudWatch Logs refuses, or that is not known here; the message says where."""


@cache
def compile_pattern(pattern: str) -> Matches:
    """Return what tells whether a message matches a pattern.

    Raises:
        LogPatternError: it does not parse.
    """
    text = pattern.strip()
    if text.startswith(("[", "{")) and len(re.findall("%[^%]+%", _QUOTED.sub("", text))) > MOST_EXPRESSIONS:
        raise LogPatternError(f"more than {MOST_EXPRESSIONS} regular expressions in {text!r}")
    if text.startswith("["):
        return _Fields(text).match
    if text.startswith("{"):
        holds = _Json(text).parse()
        return lambda message: (document := _object(message)) is not None and holds(document)
    return _terms(text)


def selected(selector: str, message: str, pattern: str) -> Any:
    """The value of a field that a pattern has: `$.a.b` of JSON, `$a` of fields separated by spaces; None without it."""
    if pattern.strip().startswith("["):
        return (_Fields(pattern.strip()).values(message) or {}).get(selector[1:])
    found = _find(selector, _object(message))
    return None if found is _ABSENT else found


def _object(message: str) -> Any:
    try:
        return json.loads(message)
    except (ValueError, RecursionError):
        return None


def _terms(text: str) -> Matches:
    """All terms, none of those with a minus, and one of those with a question mark. Case counts."""
    wanted: dict[str, list[Matches]] = {"": [], "-": [], "?": []}
    position = 0
    while position < len(text):
        found = _TERM.match(text, position)
        if not found:
            raise LogPatternError(f"no term at character {position} of {text!r}")
        wanted[found[1]].append(_contains(found[2]))
        position = found.end()

    def matches(message: str) -> bool:
        alternatives = wanted["?"]
        return (
            all(each(message) for each in wanted[""])
            and not any(each(message) for each in wanted["-"])
            and (not alternatives or any(each(message) for each in alternatives))
        )

    return matches


def _contains(term: str) -> Matches:
    if len(term) > 1 and term[0] == term[-1] == "%":
        expression = _regular_expression(term[1:-1])
        return lambda message: bool(expression.search(message))
    word = _unquoted(term)
    return lambda message: word in message


def _unquoted(word: str) -> str:
    return re.sub(r"\\(.)", r"\1", word[1:-1]) if word.startswith('"') else word


def _regular_expression(text: str) -> re.Pattern[str]:
    if not _EXPRESSION.fullmatch(text):
        raise LogPatternError(f"%{text}% has a sign that no regular expression may have here")
    try:
        return re.compile(text)
    except re.error as error:
        raise LogPatternError(f"%{text}%: {error}") from error


def _find(selector: str, document: Any) -> Any:
    for name, quoted, index in _STEP.findall(selector):
        if index and isinstance(document, list) and int(index) < len(document):
            document = document[int(index)]
        elif not index and isinstance(document, dict) and (name or quoted) in document:
            document = document[name or quoted]
        else:
            return _ABSENT
    return document


class _Json:
    """A pattern in braces: comparisons of fields, joined by && and ||, of which && binds closer."""

    def __init__(self, text: str) -> None:
        self._text = text
        if not text.endswith("}"):
            raise LogPatternError(f"no closing brace in {text!r}")
        inner, position, self._tokens = text[1:-1].rstrip(), 0, list[str]()
        while position < len(inner):
            found = _TOKEN.match(inner, position)
            if not found:
                raise LogPatternError(f"not understood from {inner[position:].strip()!r} on")
            self._tokens.append(found[0].strip())
            position = found.end()

    def parse(self) -> _Holds:
        holds = self._any()
        if self._tokens:
            raise LogPatternError(f"{self._tokens[0]!r} is not expected in {self._text!r}")
        return holds

    def _next(self) -> str:
        if not self._tokens:
            raise LogPatternError(f"{self._text!r} ends too early")
        return self._tokens.pop(0)

    def _any(self) -> _Holds:
        found = [self._all()]
        while self._tokens[:1] == ["||"]:
            self._next()
            found.append(self._all())
        return lambda document: any(each(document) for each in found)

    def _all(self) -> _Holds:
        found = [self._one()]
        while self._tokens[:1] == ["&&"]:
            self._next()
            found.append(self._one())
        return lambda document: all(each(document) for each in found)

    def _one(self) -> _Holds:
        token = self._next()
        if token == "(":  # noqa: S105 - a parenthesis
            inner = self._any()
            if self._next() != ")":
                raise LogPatternError(f"no closing parenthesis in {self._text!r}")
            return inner
        if not token.startswith("$"):
            raise LogPatternError(f"{token!r} is not a field, which begins with $.")
        return self._comparison(token, self._next())

    def _comparison(self, selector: str, operator: str) -> _Holds:
        word = self._next()
        named = {"TRUE": True, "FALSE": False, "NULL": None}
        if operator.upper() == "NOT" and word.upper() == "EXISTS":
            return lambda document: _find(selector, document) is _ABSENT
        if operator.upper() == "IS" and word.upper() in named:
            return lambda document: _find(selector, document) is named[word.upper()]
        if operator in ("<", "<=", ">", ">="):
            return _numeric(selector, operator, word)
        if operator not in ("=", "!="):
            raise LogPatternError(f"{operator!r} is not a comparison")
        equal = _equal(word)

        def holds(document: Any) -> bool:
            value = _find(selector, document)
            return value is not _ABSENT and equal(value) is (operator == "=")

        return holds


class _Fields:
    """A pattern in brackets: a name for each of the fields that spaces separate, perhaps with conditions on it.

    What stands in [] or "" is one field, and `...` is any number of them.
    """

    def __init__(self, text: str) -> None:
        found = _COLUMN.findall(text[1:-1])
        columns = [each.strip() for each in found]
        if not found or f"[{','.join(found)}]" != text or columns.count("...") > 1:
            raise LogPatternError(f"not understood as fields: {text!r}")
        self._conditions = {}
        self._names = []
        for column in columns:
            name = column if re.fullmatch(r"[\w-]+|\.\.\.", column) else ""
            if not name:
                name, self._conditions[name] = _conditions(column)
            self._names.append(name)

    def match(self, message: str) -> bool:
        """Whether a message has these fields, and the conditions hold."""
        values = self.values(message)
        return values is not None and all(holds(values[name]) for name, holds in self._conditions.items())

    def values(self, message: str) -> dict[str, str] | None:
        """The fields of a message by their names, of which the last takes the rest; None when it has fewer."""
        fields = [found[1] or found[2] or found[3] or "" for found in _FIELD.finditer(message)]
        names = list(self._names)
        if "..." in names:
            place = names.index("...")
            names[place : place + 1] = ["..."] * (len(fields) - len(names) + 1)
        elif len(fields) > len(names):
            fields = [*fields[: len(names) - 1], " ".join(fields[len(names) - 1 :])]
        return dict(zip(names, fields, strict=True)) if len(names) == len(fields) else None


def _conditions(column: str) -> tuple[str, _Holds]:
    """The name of a field, and whether its text holds by conditions that && and || join, of which && binds closer."""
    name, joined, position, alternatives = "", "||", 0, list[list[_Holds]]()
    while joined:
        found = _CONDITION.match(column, position)
        if not found or name not in ("", found["name"]):
            raise LogPatternError(f"not a condition on a field: {column!r}")
        name, position = found["name"], found.end()
        if joined == "||":
            alternatives.append([])
        alternatives[-1].append(_of_text(found["operator"], found["word"]))
        joined = found["joined"]
    return name, lambda text: any(all(holds(text) for holds in each) for each in alternatives)


def _of_text(operator: str, word: str) -> _Holds:
    """The same comparison as in JSON, where a number is compared with the number that a text is."""
    holds = _Json(f"{{ $.text {operator} {word} }}").parse()
    is_numeric = _number(word) is not None
    return lambda text: holds({"text": _number(text) if is_numeric else text})


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None


def _numeric(selector: str, operator: str, word: str) -> _Holds:
    bound = _number(word)
    if bound is None:
        raise LogPatternError(f"{operator} compares with a number, and {word!r} is none")
    compare: dict[str, Callable[[float], bool]] = {
        "<": lambda value: value < bound,
        "<=": lambda value: value <= bound,
        ">": lambda value: value > bound,
        ">=": lambda value: value >= bound,
    }

    def holds(document: Any) -> bool:
        value = _find(selector, document)
        return isinstance(value, int | float) and not isinstance(value, bool) and compare[operator](value)

    return holds


def _equal(word: str) -> _Holds:
    if word.startswith("%"):
        expression = _regular_expression(word[1:-1])
        return lambda value: isinstance(value, str) and bool(expression.search(value))
    number = None if word.startswith('"') else _number(word)
    if number is not None:
        return lambda value: isinstance(value, int | float) and not isinstance(value, bool) and value == number
    parts = re.sub(r"\*+", "*", _unquoted(word)).split("*")
    pattern = re.compile(".*".join(map(re.escape, parts)), re.DOTALL)
    return lambda value: isinstance(value, str) and bool(pattern.fullmatch(value))
