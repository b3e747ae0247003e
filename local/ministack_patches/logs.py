"""CloudWatch Logs: patterns are those of AWS, metric filters count, and pages lose nothing.

ministack takes every JSON pattern for one that matches all, keeps metric filters without applying them, and returns
one page. This patch can go when it does as CloudWatch Logs does.
"""

import base64
import json
from typing import Any, Final

from ministack.core.responses import error_response_json, json_response
from ministack.services import cloudwatch, cloudwatch_logs

from local.monitoring.log_pattern import LogPatternError, compile_pattern, selected

Response = tuple[int, dict[str, str], bytes]

MOST: Final = 10_000
"""Events in a page (https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_FilterLogEvents.html)."""

_fan_out = cloudwatch_logs._fanout_to_subscription_filters
_put_filter = cloudwatch_logs._put_metric_filter


def install() -> None:
    """Have patterns matched and metrics counted."""
    cloudwatch_logs._fanout_to_subscription_filters = _count_and_fan_out
    cloudwatch_logs._subscription_pattern_matches = _matches
    cloudwatch_logs._filter_log_events = _filter_log_events
    cloudwatch_logs._put_metric_filter = _put_metric_filter


def _matches(pattern: str, message: str) -> bool:
    return compile_pattern(pattern or "")(message or "")


def _count_and_fan_out(group: str, stream: str, events: list[dict[str, Any]]) -> None:
    for each in list(cloudwatch_logs._metric_filters.values()):
        if each["logGroupName"] == group:
            _count(each, [event.get("message", "") for event in events])
    _fan_out(group, stream, events)


def _count(filtered: dict[str, Any], messages: list[str]) -> None:
    """Give a metric filter's metrics the values of new lines.

    Where none matches it has the default. CloudWatch gives that once for a minute in which lines arrive; here it is
    once for an invocation, which no sum shows.
    https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_MetricTransformation.html
    """
    pattern = filtered["filterPattern"]
    matches = compile_pattern(pattern)
    matched = [message for message in messages if matches(message)]
    for metric in filtered["metricTransformations"]:
        name, namespace = metric["metricName"], metric["metricNamespace"]
        for message in matched:
            value = metric["metricValue"]
            found = selected(value, message, pattern) if value.startswith("$") else value
            dimensions = {key: selected(field, message, pattern) for key, field in metric.get("dimensions", {}).items()}
            if isinstance(found, bool | None) or None in dimensions.values():
                continue
            try:
                cloudwatch.record_metric(
                    namespace,
                    name,
                    float(found),
                    metric.get("unit", "None"),
                    {key: str(each) for key, each in dimensions.items()},
                )
            except (TypeError, ValueError):
                continue  # A field with no number counts nothing.
        if not matched and metric.get("defaultValue") is not None:
            cloudwatch.record_metric(namespace, name, float(metric["defaultValue"]))


def _put_metric_filter(data: dict[str, Any]) -> Response:
    try:
        compile_pattern(data.get("filterPattern", ""))
    except LogPatternError as error:
        return _invalid(f"Invalid metric filter pattern: {error}")
    answer: Response = _put_filter(data)
    return answer


def _filter_log_events(data: dict[str, Any]) -> Response:
    """The events of all streams in the order of time, from where the last page ended."""
    group = cloudwatch_logs._resolve_log_group_name(data)
    if group not in cloudwatch_logs._log_groups:
        message = "The specified log group does not exist."
        return error_response_json("ResourceNotFoundException", message, 400)
    try:
        matches = compile_pattern(data.get("filterPattern", ""))
    except LogPatternError as error:
        return _invalid(f"Invalid filter pattern: {error}")
    after = [-1, "", -1]
    if token := data.get("nextToken"):
        try:
            after = json.loads(base64.urlsafe_b64decode(token))
        except ValueError:
            return _invalid("The specified nextToken is invalid.")
    first, last = data.get("startTime", 0), data.get("endTime", float("inf"))
    names, prefix = data.get("logStreamNames"), data.get("logStreamNamePrefix", "")
    found = []
    for stream, each in list(cloudwatch_logs._log_groups[group]["streams"].items()):
        if (names and stream not in names) or not stream.startswith(prefix):
            continue
        for index, event in enumerate(list(each["events"])):
            position = [event["timestamp"], stream, index]
            if first <= event["timestamp"] <= last and position > after and matches(event["message"]):
                found.append((position, event))
    limit = min(data.get("limit", MOST), MOST)
    page = sorted(found, key=lambda each: each[0])
    answer: dict[str, Any] = {
        "events": [
            {"eventId": "", **event, "logStreamName": position[1]} | {"eventId": f"{position[0]:020}{position[2]:012}"}
            for position, event in page[:limit]
        ],
        "searchedLogStreams": [],
    }
    if len(page) > limit:
        answer["nextToken"] = base64.urlsafe_b64encode(json.dumps(page[limit - 1][0]).encode()).decode()
    return json_response(answer)


def _invalid(message: str) -> Response:
    return error_response_json("InvalidParameterException", message, 400)
