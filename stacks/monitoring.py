"""Alarms, the notification topic and the dashboard."""

from typing import Final, NamedTuple

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_rds as rds
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from constructs import Construct

from stacks.database import DatabaseStack
from stacks.network import NetworkStack
from stacks.service import TIMEOUT, ServiceStack
from stacks.settings import Settings
from stacks.settings.rds_mysql import memory_gib

FAILURES: Final = {
    "ConfigurationError": (1, "A parameter, a secret or a permission is wrong: no try will help."),
    "SchemaVersionError": (1, "The database's schema is older than the function's code needs."),
    "TLSVerificationError": (1, "The database's certificate could not be verified: a security event until explained."),
    "CredentialsRefusedError": (1, "The database refused the user or the password, those of now included."),
    "DependencyUnavailableError": (5, "The extension, AWS or the database did not answer in time, again and again."),
    "QueryFailedError": (5, "The database answers the function's queries with errors."),
    "OutcomeUnknownError": (1, "A COMMIT was not answered: whether its rows are stored is not known."),
    "AnswerError": (5, "The application's answers have no form in JSON, or are too large."),
}
"""For each failure of lambda_src/shared/errors.py: the number in five minutes that raises the alarm, and why.

A BadRequestError is an answer, which Lambda counts as no error: it is in no alarm.
"""

DATABASE_EVENTS: Final = ["availability", "deletion", "failover", "failure", "low storage", "recovery"]
"""Categories of RDS's events (https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_Events.Messages.html)."""

ROTATION_GRACE_DAYS: Final = 2


class _Alarm(NamedTuple):
    """A metric that raises an alarm when it reaches the threshold for a number of five-minute periods."""

    meaning: str
    metric: cloudwatch.IMetric
    threshold: float
    periods: int = 1
    below: bool = False


class MonitoringStack(cdk.Stack):
    """The alarms, one SNS topic for all of them, and a dashboard."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        settings: Settings,
        network: NetworkStack,
        database: DatabaseStack,
        service: ServiceStack,
    ) -> None:
        super().__init__(scope, construct_id, termination_protection=settings.protect_data)
        topic = self._topic(database)
        if settings.alarm_email:
            topic.add_subscription(subscriptions.EmailSubscription(settings.alarm_email))
        function, instance, rotation = service.function, database.instance, database.rotation
        namespace = settings.metric_namespace
        failures = {name: self._logged(service, namespace, name, f'$.outcome = "{name}"') for name in FAILURES}
        bad_requests = self._logged(service, namespace, "BadRequestError", '$.outcome = "BadRequestError"')
        refreshed = self._logged(service, namespace, "CredentialsRefreshed", '$.message = "credentials.refreshed"')
        secret_age = self._logged(service, namespace, "SecretAgeHours", "$.secret_age_hours >= 0", "$.secret_age_hours")
        # CDK's metrics have periods of five minutes.
        alarms = {
            "FunctionErrors": _Alarm("The function fails.", function.metric_errors(), 5),
            "FunctionThrottles": _Alarm("Callers are turned away.", function.metric_throttles(), 1),
            "FunctionDuration": _Alarm(
                "Invocations come near the function's timeout.",
                function.metric_duration(statistic="Maximum"),
                TIMEOUT.to_milliseconds() * 0.8,
            ),
            **{name: _Alarm(meaning, failures[name], threshold) for name, (threshold, meaning) in FAILURES.items()},
            "RotationFailed": _Alarm(
                "A step of the password's rotation failed; Secrets Manager tries it again.", rotation.metric_errors(), 1
            ),
            "MigrationFailed": _Alarm(
                "The migrations of a deploy could not be applied; callers keep the version before.",
                service.migration.metric_errors(),
                1,
            ),
            "RotationOverdue": _Alarm(
                "The password in use is older than its schedule allows.",
                secret_age,
                (settings.rotation_days + ROTATION_GRACE_DAYS) * 24,
            ),
            "DatabaseCpu": _Alarm(
                "The database's processors are busy.", instance.metric_cpu_utilization(), 80, periods=3
            ),
            "DatabaseMemory": _Alarm(
                "The database is short of memory.",
                instance.metric_freeable_memory(),
                memory_gib(settings.instance_class) * 2**30 * 0.05,
                periods=3,
                below=True,
            ),
            "DatabaseStorage": _Alarm(
                "The database's storage is nearly full, and has not grown by itself.",
                instance.metric_free_storage_space(),
                2 * 2**30,
                periods=6,
                below=True,
            ),
            "DatabaseConnections": _Alarm(
                "The database holds about as many connections as its class carries.",
                instance.metric_database_connections(statistic="Maximum"),
                settings.connections,
            ),
        }
        if settings.reserved_concurrency:
            alarms["FunctionConcurrency"] = _Alarm(
                "The function's reserved concurrency is nearly used up.",
                function.metric("ConcurrentExecutions", statistic="Maximum"),
                max(1, settings.reserved_concurrency * 0.8),
            )
        action = actions.SnsAction(topic)
        below = cloudwatch.ComparisonOperator.LESS_THAN_OR_EQUAL_TO_THRESHOLD
        for name, each in alarms.items():
            alarm = cloudwatch.Alarm(
                self,
                name,
                alarm_description=f"{each.meaning} Runbook: {settings.runbook}/{name}.md",
                metric=each.metric,
                threshold=each.threshold,
                evaluation_periods=each.periods,
                comparison_operator=below if each.below else None,  # CDK's own choice is the opposite.
                # A period without invocations is no fault. A database that sends no metrics raises an RDS event.
                treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
            )
            alarm.add_alarm_action(action)
            alarm.add_ok_action(action)
        rds.CfnEventSubscription(
            self,
            "DatabaseEvents",
            sns_topic_arn=topic.topic_arn,
            source_type="db-instance",
            source_ids=[instance.instance_identifier],
            event_categories=DATABASE_EVENTS,
        ).node.add_dependency(topic)
        sections: dict[str, dict[str, list[cloudwatch.IMetric]]] = {
            "Is it serving?": {
                "Invocations": [function.metric_invocations(), function.metric_errors(), function.metric_throttles()],
                "Duration, ms": [function.metric_duration(statistic=each) for each in ("p50", "p99", "Maximum")],
                "Failures by class, and bad requests": [*failures.values(), bad_requests],
            },
            "Is the cache working? Connections to AWS follow time, not invocations.": {
                "Invocations": [function.metric_invocations()],
                "Connections to Secrets Manager and Parameter Store": [network.upstream_connections],
                "Secret read around the cache": [refreshed],
            },
            "Is the database well?": {
                "Processors, %": [instance.metric_cpu_utilization()],
                "Free memory and storage, bytes": [
                    instance.metric_freeable_memory(),
                    instance.metric_free_storage_space(),
                ],
                "Connections": [instance.metric_database_connections()],
            },
            "Is rotation on time?": {
                "Age of the password in use, hours": [secret_age],
                "Rotation steps": [rotation.metric_invocations(), rotation.metric_errors()],
            },
        }
        dashboard = cloudwatch.Dashboard(
            self,
            "Dashboard",
            # An account's dashboards are the same in all regions.
            dashboard_name=f"{settings.stack_prefix}{self.region}",
            default_interval=cdk.Duration.hours(3),
        )
        for question, graphs in sections.items():
            dashboard.add_widgets(cloudwatch.TextWidget(markdown=f"## {question}", width=24, height=1))
            dashboard.add_widgets(
                *(cloudwatch.GraphWidget(title=title, left=metrics, width=8) for title, metrics in graphs.items())
            )

    def _topic(self, database: DatabaseStack) -> sns.Topic:
        """Create an encrypted topic to which CloudWatch and RDS may publish, for this account only.

        Together with the right to publish, CDK grants the use of the key under the same condition.
        """
        topic = sns.Topic(self, "Topic", master_key=database.key, enforce_ssl=True)
        for service in ("cloudwatch.amazonaws.com", "events.rds.amazonaws.com"):
            topic.grant_publish(
                iam.ServicePrincipal(service, conditions={"StringEquals": {"aws:SourceAccount": self.account}})
            )
        return topic

    def _logged(
        self, service: ServiceStack, namespace: str, name: str, pattern: str, value: str = "1"
    ) -> cloudwatch.Metric:
        """Create a metric from the function's log: a count of matching lines, or the value of a field."""
        return logs.MetricFilter(
            self,
            f"{name}Filter",
            log_group=service.function.own_log_group,
            metric_namespace=namespace,
            metric_name=name,
            filter_pattern=logs.FilterPattern.literal(f"{{ {pattern} }}"),
            metric_value=value,
            default_value=0 if value == "1" else None,
        ).metric(statistic="Sum" if value == "1" else "Minimum")
