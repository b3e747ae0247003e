"""How an answer becomes JSON.

| value | in the answer |
|---|---|
| None, bool, str, float, whole numbers up to 2**53 | as JSON has them |
| whole numbers beyond 2**53 | their digits as text: most readers of JSON would round them |
| Decimal | its digits as text: `"12.50"` |
| NaN, infinity | refused: JSON has none, and MySQL stores none |
| TIMESTAMP (a datetime with an offset) | `"2026-01-31T12:00:00+00:00"`: the session's time zone is UTC |
| DATETIME (a datetime without one) | `"2026-01-31T12:00:00"`, as it was stored |
| DATE, TIME | `"2026-01-31"`, `"12:00:00"` |
| TIME below zero or beyond a day | `"-01:00:00"`, `"36:00:00"`, as MySQL writes it |
| zero dates, as 0000-00-00 | the text that MySQL gives |
| bytes (BINARY, BLOB, BIT) | base64; `SELECT flags + 0` reads a BIT as a number |
| UUID | text |
| JSON, SET and ENUM columns | the text that MySQL gives; `json.loads` makes values of JSON |
| list, tuple, dict with text as keys | a list, an object |
| anything else | refused |
"""

import base64
import json
import math
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from shared.errors import AnswerError

LARGEST: Final = 6 * 1024 * 1024
"""Bytes of an answer (https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html)."""
EXACT: Final = 2**53
"""The largest whole number up to which every reader of JSON is exact (https://www.rfc-editor.org/rfc/rfc8259#section-6)."""

_ENCODER: Final = json.JSONEncoder(ensure_ascii=False)
"""`json.dumps` would make one at every call."""


def encode(answer: object) -> tuple[Any, str]:
    """Return an answer in JSON's own types, and its text.

    Raises:
        AnswerError: a value has no form, or the text is larger than Lambda returns. No value is quoted.
    """
    try:
        plain = _plain(answer)
        text = _ENCODER.encode(plain)
        size = len(text.encode())
    except (RecursionError, ValueError) as error:  # Of half a surrogate pair, or of more digits than Python writes.
        reason = type(error).__name__
    else:
        if size <= LARGEST:
            return plain, text
        reason = f"{size} bytes, of {LARGEST} at most"
    raise AnswerError("answer: cannot be encoded", reason=reason)


def _plain(value: object) -> Any:  # noqa: C901 - a case for each row of the table
    match value:
        case None | bool() | str():
            return value
        case int():
            return int(value) if -EXACT <= value <= EXACT else str(int(value))
        case float() if math.isfinite(value):
            return value
        case Decimal() if value.is_finite():
            return format(value, "f")
        case datetime() | date() | time():
            return value.isoformat()
        case timedelta():
            return _time(value)
        case bytes() | bytearray():
            return base64.b64encode(value).decode()
        case UUID():
            return str(value)
        case list() | tuple():
            return [_plain(each) for each in value]
        case dict() if all(isinstance(key, str) for key in value):
            return {key: _plain(each) for key, each in value.items()}
    raise AnswerError("answer: a value has no form in JSON", type=type(value).__name__)


def _time(value: timedelta) -> str:
    """Return MySQL's text of a TIME (https://dev.mysql.com/doc/refman/8.4/en/time.html)."""
    minutes, seconds = divmod(abs(value), timedelta(minutes=1))
    text = f"{'-' if value < timedelta() else ''}{minutes // 60:02}:{minutes % 60:02}:{seconds.seconds:02}"
    return f"{text}.{seconds.microseconds:06}" if seconds.microseconds else text
