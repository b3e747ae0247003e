"""Alarms, the notification topic and the dashboard."""

from typing import Final

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
}
"""For each error class of lambda_src/shared/errors.py: the number in five minutes that raises the alarm, and why."""

DATABASE_EVENTS: Final = ["availability", "deletion", "failover", "failure", "low storage", "recovery"]
"""Categories of RDS's events (https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_Events.Messages.html)."""

ROTATION_GRACE_DAYS: Final = 2
FIVE_MINUTES: Final = cdk.Duration.minutes(5)


class MonitoringStack(cdk.Stack):
    """The alarms, one SNS topic for all of them, and a dashboard."""

    topic: sns.Topic

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
        self._settings = settings
        self.topic = self._topic(database)
        if settings.alarm_email:
            self.topic.add_subscription(subscriptions.EmailSubscription(settings.alarm_email))
        function, instance = service.function, database.instance
        self._failures = {name: self._logged(service, name, f'$.outcome = "{name}"') for name in FAILURES}
        self._refreshed = self._logged(service, "CredentialsRefreshed", '$.message = "credentials.refreshed"')
        self._secret_age = self._logged(service, "SecretAgeHours", "$.secret_age_hours >= 0", "$.secret_age_hours")

        self._alarm("FunctionErrors", "The function fails.", function.metric_errors(period=FIVE_MINUTES), 5)
        self._alarm("FunctionThrottles", "Callers are turned away.", function.metric_throttles(period=FIVE_MINUTES), 1)
        self._alarm(
            "FunctionDuration",
            "Invocations come near the function's timeout.",
            function.metric_duration(period=FIVE_MINUTES, statistic="Maximum"),
            TIMEOUT.to_milliseconds() * 0.8,
        )
        if settings.reserved_concurrency:
            self._alarm(
                "FunctionConcurrency",
                "The function's reserved concurrency is nearly used up.",
                function.metric("ConcurrentExecutions", period=FIVE_MINUTES, statistic="Maximum"),
                max(1, settings.reserved_concurrency * 0.8),
            )
        for name, (threshold, meaning) in FAILURES.items():
            self._alarm(name, meaning, self._failures[name], threshold)
        self._alarm(
            "RotationFailed",
            "A step of the password's rotation failed; Secrets Manager tries it again.",
            database.rotation.metric_errors(period=FIVE_MINUTES),
            1,
        )
        self._alarm(
            "MigrationFailed",
            "The migrations of a deploy could not be applied; callers keep the version before.",
            service.migration.metric_errors(period=FIVE_MINUTES),
            1,
        )
        self._alarm(
            "RotationOverdue",
            "The password in use is older than its schedule allows.",
            self._secret_age,
            (settings.rotation_days + ROTATION_GRACE_DAYS) * 24,
        )
        self._alarm(
            "DatabaseCpu", "The database's processors are busy.", instance.metric_cpu_utilization(), 80, periods=3
        )
        self._alarm(
            "DatabaseMemory",
            "The database is short of memory.",
            instance.metric_freeable_memory(),
            memory_gib(settings.instance_class) * 2**30 * 0.05,
            periods=3,
            below=True,
        )
        self._alarm(
            "DatabaseStorage",
            "The database's storage is nearly full, and has not grown by itself.",
            instance.metric_free_storage_space(),
            2 * 2**30,
            periods=6,
            below=True,
        )
        self._alarm(
            "DatabaseConnections",
            "The database holds about as many connections as its class carries.",
            instance.metric_database_connections(statistic="Maximum"),
            settings.connections,
        )
        rds.CfnEventSubscription(
            self,
            "DatabaseEvents",
            sns_topic_arn=self.topic.topic_arn,
            source_type="db-instance",
            source_ids=[instance.instance_identifier],
            event_categories=DATABASE_EVENTS,
        ).node.add_dependency(self.topic)
        self._dashboard(network, database, service)

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

    def _logged(self, service: ServiceStack, name: str, pattern: str, value: str = "1") -> cloudwatch.Metric:
        """Create a metric from the function's log: a count of matching lines, or the value of a field."""
        namespace = f"DemoApp/{self._settings.env}"
        logs.MetricFilter(
            self,
            f"{name}Filter",
            log_group=service.function.own_log_group,
            metric_namespace=namespace,
            metric_name=name,
            filter_pattern=logs.FilterPattern.literal(f"{{ {pattern} }}"),
            metric_value=value,
            default_value=0 if value == "1" else None,
        )
        return cloudwatch.Metric(
            namespace=namespace, metric_name=name, period=FIVE_MINUTES, statistic="Sum" if value == "1" else "Minimum"
        )

    def _alarm(
        self,
        name: str,
        meaning: str,
        metric: cloudwatch.IMetric,
        threshold: float,
        *,
        periods: int = 1,
        below: bool = False,
    ) -> None:
        """Create an alarm for a metric that reaches the threshold for a number of five-minute periods."""
        operators = cloudwatch.ComparisonOperator
        alarm = cloudwatch.Alarm(
            self,
            name,
            alarm_description=f"{meaning} Runbook: {self._settings.runbook}/{name}.md",
            metric=metric,
            threshold=threshold,
            evaluation_periods=periods,
            comparison_operator=(
                operators.LESS_THAN_OR_EQUAL_TO_THRESHOLD if below else operators.GREATER_THAN_OR_EQUAL_TO_THRESHOLD
            ),
            # A period without invocations is no fault. A database that sends no metrics raises an RDS event.
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        )
        action = actions.SnsAction(self.topic)
        alarm.add_alarm_action(action)
        alarm.add_ok_action(action)

    def _dashboard(self, network: NetworkStack, database: DatabaseStack, service: ServiceStack) -> None:
        """Create the dashboard: four sections, for serving, cache, database and rotation."""
        function, instance, rotation = service.function, database.instance, database.rotation
        invocations = function.metric_invocations(period=FIVE_MINUTES)
        dashboard = cloudwatch.Dashboard(self, "Dashboard", default_interval=cdk.Duration.hours(3))
        dashboard.add_widgets(_heading("Is it serving?"))
        dashboard.add_widgets(
            _graph(
                "Invocations", invocations, function.metric_errors(period=FIVE_MINUTES), function.metric_throttles()
            ),
            _graph("Duration, ms", *(function.metric_duration(statistic=each) for each in ("p50", "p99", "Maximum"))),
            _graph("Failures by class", *self._failures.values()),
        )
        dashboard.add_widgets(_heading("Is the cache working? Connections to AWS follow time, not invocations."))
        dashboard.add_widgets(
            _graph("Invocations", invocations),
            _graph("Connections to Secrets Manager and Parameter Store", network.upstream_connections),
            _graph("Secret read around the cache", self._refreshed),
        )
        dashboard.add_widgets(_heading("Is the database well?"))
        dashboard.add_widgets(
            _graph("Processors, %", instance.metric_cpu_utilization()),
            _graph(
                "Free memory and storage, bytes",
                instance.metric_freeable_memory(),
                instance.metric_free_storage_space(),
            ),
            _graph("Connections", instance.metric_database_connections()),
        )
        dashboard.add_widgets(_heading("Is rotation on time?"))
        dashboard.add_widgets(
            _graph("Age of the password in use, hours", self._secret_age),
            _graph("Rotation steps", rotation.metric_invocations(), rotation.metric_errors()),
        )


def _heading(question: str) -> cloudwatch.TextWidget:
    return cloudwatch.TextWidget(markdown=f"## {question}", width=24, height=1)


def _graph(title: str, *metrics: cloudwatch.IMetric) -> cloudwatch.GraphWidget:
    return cloudwatch.GraphWidget(title=title, left=list(metrics), width=8)
