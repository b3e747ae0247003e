"""Alarms that somebody hears of, and that say what to do."""

from typing import NamedTuple

from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_sns as sns
from constructs import Construct


class Alarm(NamedTuple):
    """A metric that raises an alarm when it reaches the threshold for a number of five-minute periods."""

    meaning: str
    metric: cloudwatch.IMetric
    threshold: float
    periods: int = 1
    below: bool = False


class RunbookAlarm(cloudwatch.Alarm):
    """An alarm that notifies the topic when it begins and ends, and names the page of the runbook that has its id."""

    def __init__(self, scope: Construct, page: str, alarm: Alarm, *, topic: sns.ITopic, runbook: str) -> None:
        below = cloudwatch.ComparisonOperator.LESS_THAN_OR_EQUAL_TO_THRESHOLD
        super().__init__(
            scope,
            page,
            alarm_description=f"{alarm.meaning} Runbook: {runbook}/{page}.md",
            metric=alarm.metric,
            threshold=alarm.threshold,
            evaluation_periods=alarm.periods,
            comparison_operator=below if alarm.below else None,  # CDK's own choice is the opposite.
            # A period without invocations is no fault. A database that sends no metrics raises an RDS event.
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        )
        action = actions.SnsAction(topic)
        self.add_alarm_action(action)
        self.add_ok_action(action)
