"""CloudWatch: alarms are evaluated by its rules (`local/monitoring/`) once a minute; their history has the actions.

ministack looks at an alarm when somebody puts data, over all dimensions of a metric, and keeps its state while there
are no data. This patch can go when it evaluates alarms as CloudWatch does.
"""

import logging
import os
import threading
import time
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final

from ministack.services import cloudwatch
from ministack.services.cloudformation import provisioners

from local.ministack_patches import Properties
from local.monitoring.alarm import Rule
from local.monitoring.expression import ExpressionError, Series, calculate

MINUTE: Final = float(os.environ["LOCAL_ALARM_MINUTE"])
"""Seconds for which a minute of an alarm's period lasts: 60, or fewer in a test; 0 for no evaluation."""

logger = logging.getLogger("local.alarms")

_dims_from_list = cloudwatch._dims_from_list
_dispatch_actions = cloudwatch._dispatch_alarm_actions
_store_datum = cloudwatch._store_datum
_put_alarm = cloudwatch._put_metric_alarm
_alarm_record = provisioners._cw_metric_alarm_record


def install() -> None:
    """Have alarms evaluated and actions recorded."""
    cloudwatch._dims_from_list = lambda listed: _Dimensions(_dims_from_list(listed))
    cloudwatch._dispatch_alarm_actions = _dispatch_and_record
    cloudwatch._evaluate_alarm = _evaluate
    cloudwatch._evaluate_all_alarms = lambda: None  # Data are no reason to look: time is.
    cloudwatch._store_datum = _store_in_order
    cloudwatch._put_metric_alarm = _put_alarm_of_expressions
    provisioners._cw_metric_alarm_record = _record_of_expressions
    if MINUTE:
        threading.Thread(target=_evaluate_each_minute, name="alarms", daemon=True).start()


class _Dimensions(dict[str, str]):
    """Dimensions of a question. None is a set too: the metric without any, and not the sum of all."""

    def __bool__(self) -> bool:
        return True


def _last_minute() -> float:
    """When the last whole minute ended, in seconds since 1970: a data point belongs to one minute for ever."""
    return time.time() // MINUTE * MINUTE


def _evaluate_each_minute() -> None:
    """Each minute's end, those too for which a busy machine is late."""
    end = _last_minute()
    while True:
        end = min(end, _last_minute()) + MINUTE  # A clock may be set back.
        time.sleep(max(0, end - time.time()))
        for alarm in list(cloudwatch._alarms.values()):
            _evaluate(alarm, end)


def _evaluate(alarm: Properties, end: float | None = None) -> None:
    """Bring an alarm's state up to date as of the end of a minute, and take the actions of a new one."""
    if not MINUTE:
        return
    end = _last_minute() if end is None else end
    missing = alarm.get("TreatMissingData") or "missing"
    periods = alarm.get("EvaluationPeriods", 1)
    breaching = alarm.get("DatapointsToAlarm") or periods
    rule = Rule(alarm["ComparisonOperator"], alarm["Threshold"], periods, breaching, missing)
    try:
        period, values = _values(alarm, rule, end)
        state = rule.state(values, alarm["StateValue"])
        began = [end - period * (rule.range - index) for index in range(rule.range)]
        reason = rule.reason(values, began, state)
    except (ExpressionError, KeyError) as error:
        state, reason = "INSUFFICIENT_DATA", f"The local cloud cannot evaluate this alarm: {error}"
    alarm["StateReason"] = reason
    before = alarm["StateValue"]
    if state == before:
        return
    now = int(time.time())
    alarm |= {"StateValue": state, "StateUpdatedTimestamp": now, "StateTransitionedTimestamp": now}
    cloudwatch._record_history(alarm["AlarmName"], before, state, reason)
    cloudwatch._dispatch_alarm_actions(alarm, before, state, reason)
    cloudwatch._evaluate_parent_alarms(alarm)


def _values(alarm: Properties, rule: Rule, end: float) -> tuple[float, Series]:
    """The length of a period in seconds, and the values of the periods in the alarm's range, the oldest first."""
    queries = alarm.get("Metrics") or []
    if not queries:
        statistic = alarm.get("ExtendedStatistic") or alarm["Statistic"]
        period = int(alarm["Period"]) / 60 * MINUTE
        return period, _series(alarm, statistic, period, rule.range, end)
    stats = {each["Id"]: each["MetricStat"] for each in queries if "MetricStat" in each}
    lengths = [each["Period"] for each in stats.values()] + [each["Period"] for each in queries if "Period" in each]
    period = int(lengths[0]) / 60 * MINUTE
    series: dict[str, Series] = {
        name: _series(each["Metric"], each["Stat"], period, rule.range, end) for name, each in stats.items()
    }
    # An expression may name another, which may stand behind it.
    waiting = [each for each in queries if "Expression" in each]
    while waiting:
        for each in waiting:
            try:
                series[each["Id"]] = calculate(each["Expression"], series, rule.range)
            except ExpressionError:
                if len(waiting) == 1:
                    raise
                continue
            waiting.remove(each)
            break
        else:
            raise ExpressionError(f"not understood: {', '.join(each['Expression'] for each in waiting)}")
    (watched,) = [each["Id"] for each in queries if str(each.get("ReturnData", True)).lower() != "false"]
    return period, series[watched]


def _series(metric: Properties, statistic: str, period: float, number: int, end: float) -> Sequence[float | None]:
    """A statistic of a metric of exactly these dimensions, for each of the last periods before `end`."""
    dimensions = {each["Name"]: str(each["Value"]) for each in metric.get("Dimensions") or []}
    points = list(
        cloudwatch._metrics.get((metric["Namespace"], metric["MetricName"], cloudwatch._dims_key(dimensions))) or []
    )
    edges = [
        bisect_left(points, end - period * left, key=lambda point: point["Timestamp"]) for left in range(number, -1, -1)
    ]
    found: list[float | None] = []
    for first, last in pairwise(edges):
        within = points[first:last]
        stats = cloudwatch._calc_stats(within)
        found.append(cloudwatch._stat_value(stats, statistic, within) if stats else None)
    return found


def _store_in_order(namespace: str, name: str, dims: Any, *datum: Any) -> None:
    _store_datum(namespace, name, dims, *datum)
    cloudwatch._metric_bucket((namespace, name, cloudwatch._dims_key(dims))).sort(key=lambda each: each["Timestamp"])


def _put_alarm_of_expressions(params: Any, data: Any, is_cbor: Any, is_json: Any = False) -> Any:  # noqa: FBT002
    """Keep PutMetricAlarm's queries, which ministack drops."""
    answer = _put_alarm(params, data, is_cbor, is_json)
    alarm = cloudwatch._alarms.get(data.get("AlarmName", ""))
    if alarm and data.get("Metrics"):
        _watch(alarm, data["Metrics"])
        _evaluate(alarm)
    return answer


def _record_of_expressions(name: str, props: Properties) -> Properties:
    """An alarm on an expression, which ministack's CloudFormation refuses."""
    if not props.get("Metrics"):
        return dict(_alarm_record(name, props))
    alarm = _alarm_record(name, props | {"Metrics": None, "MetricName": "-", "Namespace": "-"})
    return _watch(alarm, props["Metrics"])


def _watch(alarm: Properties, queries: list[Properties]) -> Properties:
    for single in ("MetricName", "Namespace", "Statistic", "ExtendedStatistic", "Period", "Dimensions", "Unit"):
        alarm.pop(single, None)
    alarm["Metrics"] = queries
    return alarm


def _dispatch_and_record(alarm: dict[str, Any], old_state: str, new_state: str, reason: str) -> None:
    """An alarm's history has the actions that it took.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_AlarmHistoryItem.html
    """
    _dispatch_actions(alarm, old_state, new_state, reason)
    lists = {"ALARM": "AlarmActions", "OK": "OKActions", "INSUFFICIENT_DATA": "InsufficientDataActions"}
    if not alarm.get("ActionsEnabled", True):
        return
    for action in alarm.get(lists[new_state], []):
        cloudwatch._history_entries().append(
            {
                "AlarmName": alarm["AlarmName"],
                "AlarmType": "MetricAlarm",
                "Timestamp": cloudwatch._ts_iso(cloudwatch.time.time()),
                "HistoryItemType": "Action",
                "HistorySummary": f"Successfully executed action {action}",
                "HistoryData": "{}",
            }
        )
