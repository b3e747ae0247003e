"""The rule by which answers become JSON: each row of its table, and what is refused."""

import json
import math
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.encoding import LARGEST, encode
from shared.errors import AnswerError

CYCLE: list[Any] = []
CYCLE.append(CYCLE)


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (None, None),
        (True, True),
        ("ä\u2028😀", "ä\u2028😀"),
        (-0.1, -0.1),
        (2**53, 2**53),
        (-(2**53) - 1, "-9007199254740993"),
        (18446744073709551615, "18446744073709551615"),
        (Decimal("12.50"), "12.50"),
        (Decimal("1E+3"), "1000"),
        (Decimal("-0.000000001"), "-0.000000001"),
        (datetime(2026, 1, 31, 12, tzinfo=UTC), "2026-01-31T12:00:00+00:00"),
        (datetime(2026, 1, 31, 12, 0, 0, 5), "2026-01-31T12:00:00.000005"),  # noqa: DTZ001
        (date(2026, 1, 31), "2026-01-31"),
        (time(12), "12:00:00"),
        (timedelta(hours=12), "12:00:00"),
        (timedelta(hours=36, microseconds=7), "36:00:00.000007"),
        (-timedelta(hours=838, minutes=59, seconds=59), "-838:59:59"),
        (-timedelta(seconds=1), "-00:00:01"),
        ("0000-00-00", "0000-00-00"),
        (b"\x00\xff", "AP8="),
        (bytearray(b"\x01"), "AQ=="),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        ([(1, Decimal(2))], [[1, "2"]]),
        ({"a": {"b": date(2026, 1, 1)}}, {"a": {"b": "2026-01-01"}}),
    ],
)
def test_each_value_has_one_form(value: object, encoded: object) -> None:
    plain, text = encode(value)
    assert plain == json.loads(text) == encoded
    assert type(plain) is type(encoded)


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        -math.inf,
        Decimal("NaN"),
        Decimal("Infinity"),
        object(),
        {1, 2},
        {1: "a"},
        "\ud800",
        CYCLE,
        10**5000,
        1j,
        "x" * LARGEST,
        ["ä" * (LARGEST // 2)],
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_has_no_form_is_a_typed_error_that_quotes_nothing(value: object) -> None:
    with pytest.raises(AnswerError) as refused:
        encode({"secret": value})
    assert "secret" not in str(refused.value)
    assert len(str(refused.value)) < 100


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"))
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.datetimes()
    | st.timedeltas()
    | st.binary(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=5), inner, max_size=3)
    ),
)


@given(VALUES)
def test_an_answer_is_equal_in_value_and_type_to_the_one_that_is_read_back(value: object) -> None:
    plain, text = encode(value)
    assert repr(json.loads(text)) == repr(plain)
    assert encode(plain)[0] == plain
