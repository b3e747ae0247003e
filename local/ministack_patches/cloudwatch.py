"""CloudWatch: an alarm's history has the actions that it took.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_AlarmHistoryItem.html.
This patch can go when ministack records them.
"""

from typing import Any

from ministack.services import cloudwatch

_dispatch_actions = cloudwatch._dispatch_alarm_actions


def install() -> None:
    """Have actions recorded."""
    cloudwatch._dispatch_alarm_actions = _dispatch_and_record


def _dispatch_and_record(alarm: dict[str, Any], old_state: str, new_state: str, reason: str) -> None:
    _dispatch_actions(alarm, old_state, new_state, reason)
    if new_state != "ALARM" or not alarm.get("ActionsEnabled", True):
        return
    for action in alarm.get("AlarmActions", []):
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
