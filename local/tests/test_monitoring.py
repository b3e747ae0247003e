"""CloudWatch's rules, against the tables and examples of its documents."""

import pytest

from local.monitoring.alarm import Rule
from local.monitoring.expression import ExpressionError, calculate
from local.monitoring.log_pattern import LogPatternError, compile_pattern, selected

TREATMENTS = ("missing", "ignore", "breaching", "notBreaching")
OK, ALARM, NO_DATA, KEPT = "OK", "ALARM", "INSUFFICIENT_DATA", "kept"

THREE_OF_THREE = {
    "0 - X - X": (OK, OK, OK, OK),
    "0 - - - -": (OK, OK, OK, OK),
    "- - - - -": (NO_DATA, KEPT, ALARM, OK),
    "0 X X - X": (ALARM, ALARM, ALARM, ALARM),
    "- - X - -": (ALARM, KEPT, ALARM, OK),
}
TWO_OF_THREE = {
    "0 - X - X": (ALARM, ALARM, ALARM, ALARM),
    "0 0 X 0 X": (ALARM, ALARM, ALARM, ALARM),
    "0 - X - -": (OK, OK, ALARM, OK),
    "- - - - 0": (OK, OK, ALARM, OK),
    "- - - X -": (ALARM, KEPT, ALARM, OK),
}
"""The two tables of https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-missing-data.html."""


@pytest.mark.parametrize(("breaching", "table"), [(3, THREE_OF_THREE), (2, TWO_OF_THREE)])
def test_missing_data_is_treated_as_in_awss_tables(breaching: int, table: dict[str, tuple[str, ...]]) -> None:
    for row, states in table.items():
        values = [{"0": 0.0, "X": 9.0, "-": None}[each] for each in row.split()]
        for missing, state in zip(TREATMENTS, states, strict=True):
            rule = Rule("GreaterThanThreshold", 5, periods=3, breaching=breaching, missing=missing)
            assert rule.range == len(values)
            assert rule.state(values, KEPT) == state, (row, missing)


def test_one_breaching_value_among_missing_ones_is_no_alarm_yet() -> None:
    rule = Rule("GreaterThanThreshold", 5, periods=3, breaching=3)
    assert [rule.state([*[None] * before, 9.0, *[None] * (4 - before)], OK) for before in (4, 3, 2)] == [OK, OK, ALARM]


@pytest.mark.parametrize(
    ("comparison", "breaching"),
    [
        ("GreaterThanOrEqualToThreshold", [False, True, True]),
        ("GreaterThanThreshold", [False, False, True]),
        ("LessThanThreshold", [True, False, False]),
        ("LessThanOrEqualToThreshold", [True, True, False]),
    ],
)
def test_the_threshold_itself_breaches_where_the_comparison_says_so(comparison: str, breaching: list[bool]) -> None:
    assert [Rule(comparison, 5).breaches(value) for value in (4, 5, 6)] == breaching


def test_the_reason_names_values_times_and_threshold() -> None:
    rule = Rule("GreaterThanOrEqualToThreshold", 5.0)
    assert rule.reason([None, 1.0, 7.0], [0, 60, 120], "ALARM") == (
        "Threshold Crossed: 1 datapoint [7.0 (01/01/70 00:02:00)] was greater than or equal to the threshold (5.0)."
    )
    assert "was not greater than" in rule.reason([None, 1.0, 1.0], [0, 60, 120], "OK")
    assert "no datapoints were received for 1 period" in rule.reason([None] * 3, [0, 60, 120], "OK")


@pytest.mark.parametrize(
    ("expression", "values"),
    [
        ("errors - refused", (None, None, 3)),
        ("errors - FILL(refused, 0)", (9, None, 3)),
        ("FILL(errors, REPEAT)", (9, 9, 5)),
        ("FILL(errors, LINEAR)", (9, 7, 5)),
        ("errors / refused", (None, None, 2.5)),
        ("errors / 0", (None, None, None)),
        ("100 * errors ^ 2 + 1", (8101, None, 2501)),
        ("SUM([FILL(errors, 0), FILL(refused, 0)])", (9, 0, 7)),
        ("SUM(METRICS())", (9, None, 7)),
        ("MAX(errors)", (9, 9, 9)),
        ("IF(errors > 5 AND errors < 10, 1, 0)", (1, None, 0)),
        ("IF(errors > 5, errors)", (9, None, None)),
        ("-errors", (-9, None, -5)),
    ],
)
def test_expressions(expression: str, values: tuple[float | None, ...]) -> None:
    assert calculate(expression, {"errors": [9, None, 5], "refused": [None, None, 2]}, 3) == values


@pytest.mark.parametrize("expression", ["other + 1", "ANOMALY_DETECTION_BAND(errors)", "errors +", "METRICS()", "'a'"])
def test_an_expression_that_is_not_known_is_refused(expression: str) -> None:
    with pytest.raises(ExpressionError):
        calculate(expression, {"errors": [1.0]}, 1)


RECORD = '{"outcome": "QueryFailedError", "errno": 1142, "age": 0.5, "cold": true, "none": null, "a": [{"b-c": "d e"}]}'


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        ("", True),
        ('{ $.outcome = "QueryFailedError" }', True),
        ("{ $.outcome = QueryFailedError }", True),
        ('{ $.outcome = "Query*" }', True),
        ('{ $.outcome = "query*" }', False),
        ('{ $.outcome != "QueryFailedError" }', False),
        ('{ $.absent != "a" }', False),
        ("{ $.errno = 1142 }", True),
        ("{ $.errno > 1142 }", False),
        ("{ $.age >= 0 }", True),
        ("{ $.outcome >= 0 }", False),
        ("{ $.cold IS TRUE }", True),
        ("{ $.none IS NULL }", True),
        ("{ $.absent NOT EXISTS }", True),
        ("{ $.errno NOT EXISTS }", False),
        ('{ $.a[0].b-c = "d e" }', True),
        ("{ $.outcome = %Failed.*r$% }", True),
        ("{ $.errno = 1 || $.cold IS TRUE && $.age = 0.5 }", True),
        ("{ ($.errno = 1 || $.cold IS TRUE) && $.age = 1 }", False),
        ("errno", True),
        ('"QueryFailedError"', True),
        ("queryfailederror", False),
        ("outcome errno", True),
        ("outcome -errno", False),
        ("?nothing ?errno", True),
        ("%err.o%", True),
    ],
)
def test_patterns_of_logs(pattern: str, matches: bool) -> None:  # noqa: FBT001 - the column of a table
    assert compile_pattern(pattern)(RECORD) is matches


ACCESS = '127.0.0.1 Prod frank [10/Oct/2000:13:25:15 -0700] "GET /index.html HTTP/1.0" 404 1534'


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        ("[ip, user, username, timestamp, request, status_code, bytes]", True),
        ("[ip, user]", True),
        ("[ip = 127*, rest = *1534]", True),
        ("[ip = Prod, rest]", False),
        ("[ip, user = Q*****d, rest]", False),
        ("[ip, user, username, timestamp, request, status_code, bytes, more]", False),
        ("[ip, user, username, timestamp, request =*.html*, status_code = 4*, bytes]", True),
        ("[ip, user, username, timestamp, request =*.png*, status_code = 4*, bytes]", False),
        ("[..., status_code = 404, bytes]", True),
        ("[ip, ..., bytes > 1534]", False),
        ("[ip, ..., bytes >= 1534]", True),
        ("[ip, user, username, timestamp, request, status_code, bytes, ...]", True),
        ("[..., a, b, c, d, e, f, g, h]", False),
        ("[..., status_code = 410 || status_code = 404, bytes]", True),
        ("[..., status_code = 410 || status_code = 403, bytes]", False),
        ("[..., status_code = 410 || status_code > 400 && status_code < 405, bytes]", True),
        ("[..., status_code >= 400 && status_code < 404, bytes]", False),
        ("[ip = %127\\.0\\.0\\.[1-9]%, ...]", True),
        ('[ip, user != "Prod", ...]', False),
        ('[ip, ..., request = "GET /index.html HTTP/1.0", status_code, bytes]', True),
        ('[ip, ..., request = "GET, HEAD", status_code, bytes]', False),
        ("[ip > 100, ...]", False),
    ],
)
def test_patterns_of_fields_that_spaces_separate(pattern: str, matches: bool) -> None:  # noqa: FBT001 - a column
    """The line is that of AWS's page (https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/FilterAndPatternSyntax.html)."""
    assert compile_pattern(pattern)(ACCESS) is matches


def test_a_metric_takes_a_field_that_spaces_separate() -> None:
    pattern = "[ip, ..., timestamp, request, status_code, bytes]"
    assert selected("$bytes", ACCESS, pattern) == "1534"
    assert selected("$timestamp", ACCESS, pattern) == "10/Oct/2000:13:25:15 -0700"
    assert selected("$absent", ACCESS, pattern) is None
    assert selected("$bytes", "too few", pattern) is None


def test_a_pattern_of_json_matches_no_other_line() -> None:
    for line in ("START RequestId: 1", "[" * 100_000):
        assert not compile_pattern("{ $.outcome NOT EXISTS }")(line)


@pytest.mark.parametrize(
    "pattern",
    [
        "{ $.a = ",
        "{ $.a }",
        "{ $.a = 12",
        "{ a = 1 }",
        "{ $.a > b }",
        "{ $.a ~ 1 }",
        "{ ($.a = 1 }",
        "{ $.a = 1 $.b = 2 }",
        "{ }",
        "[a, b",
        "[]",
        "[a, , b]",
        "[..., a, ...]",
        "[a b]",
        "[a = ]",
        "[a = 1 &&]",
        "[a = 1 && b = 2]",
        "[a > b]",
        "[a = %(b)%]",
        "%(a)%",
        "%something!%",
        "[a = %b!%]",
        "[a = %b%, c = %d%, e = %f%]",
        "{ $.a = %b% || $.a = %c% || $.a = %d% }",
    ],
)
def test_a_pattern_that_does_not_parse_is_refused(pattern: str) -> None:
    with pytest.raises(LogPatternError):
        compile_pattern(pattern)


def test_a_metric_takes_the_value_of_a_field() -> None:
    assert selected("$.errno", RECORD, "") == 1142
    assert selected("$.absent", RECORD, "") is None
    assert selected("$.errno", "no json", "") is None
