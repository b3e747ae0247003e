"""Alarms, the notification topic and the dashboard."""

from collections.abc import Mapping
from typing import Final

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_iam as iam
from aws_cdk import aws_rds as rds
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from constructs import Construct

from stacks.constructs.runbook_alarm import Alarm, RunbookAlarm
from stacks.constructs.serving_monitoring import ServingMonitoring
from stacks.database import DatabaseStack
from stacks.network import NetworkStack
from stacks.service import ServiceStack
from stacks.settings import Settings
from stacks.settings.rds_mysql import memory_gib

DATABASE_EVENTS: Final = ["availability", "deletion", "failover", "failure", "low storage", "recovery"]
"""Categories of RDS's events (https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_Events.Messages.html)."""


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
        super().__init__(scope, construct_id, env=settings.place, termination_protection=settings.protect_data)
        topic = self._topic(database)
        if settings.alarm_email:
            topic.add_subscription(subscriptions.EmailSubscription(settings.alarm_email))
        instance, rotation = database.instance, database.rotation
        functions = [
            ServingMonitoring(self, each.node.id, settings=settings, serving=each, topic=topic)
            for each in service.functions
        ]
        # CDK's metrics have periods of five minutes.
        alarms = {
            "RotationFailed": Alarm(
                "A step of the password's rotation failed; Secrets Manager tries it again.", rotation.metric_errors(), 1
            ),
            "MigrationFailed": Alarm(
                "The migrations of a deploy could not be applied; callers keep the version before.",
                service.migration.metric_errors(),
                1,
            ),
            "DatabaseCpu": Alarm(
                "The database's processors are busy.", instance.metric_cpu_utilization(), 80, periods=3
            ),
            "DatabaseMemory": Alarm(
                "The database is short of memory.",
                instance.metric_freeable_memory(),
                memory_gib(settings.instance_class) * 2**30 * 0.05,
                periods=3,
                below=True,
            ),
            "DatabaseStorage": Alarm(
                "The database's storage is nearly full, and has not grown by itself.",
                instance.metric_free_storage_space(),
                2 * 2**30,
                periods=6,
                below=True,
            ),
            "DatabaseConnections": Alarm(
                "The database holds about as many connections as its class carries.",
                instance.metric_database_connections(statistic="Maximum"),
                settings.connections,
            ),
        }
        for name, each in alarms.items():
            RunbookAlarm(self, name, each, topic=topic, runbook=settings.runbook)
        rds.CfnEventSubscription(
            self,
            "DatabaseEvents",
            sns_topic_arn=topic.topic_arn,
            source_type="db-instance",
            source_ids=[instance.instance_identifier],
            event_categories=DATABASE_EVENTS,
        ).node.add_dependency(topic)
        dashboard = cloudwatch.Dashboard(
            self,
            "Dashboard",
            # An account's dashboards are the same in all regions.
            dashboard_name=f"{settings.stack_prefix}{self.region}",
            default_interval=cdk.Duration.hours(3),
        )
        _ask(dashboard, "Is it serving?", *(each.graphs for each in functions))
        _ask(
            dashboard,
            "Is the cache working? Connections to AWS follow time, not invocations.",
            {
                "Invocations": [each.invocations for each in functions],
                "Connections to Secrets Manager and Parameter Store": [network.upstream_connections],
                "Secret read around the cache": [each.refreshed for each in functions],
            },
        )
        _ask(
            dashboard,
            "Is the database well?",
            {
                "Processors, %": [instance.metric_cpu_utilization()],
                "Free memory and storage, bytes": [
                    instance.metric_freeable_memory(),
                    instance.metric_free_storage_space(),
                ],
                "Connections": [instance.metric_database_connections()],
            },
        )
        _ask(
            dashboard,
            "Is rotation on time?",
            {
                "Age of the password in use, hours": [each.secret_age for each in functions],
                "Rotation steps": [rotation.metric_invocations(), rotation.metric_errors()],
            },
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


def _ask(dashboard: cloudwatch.Dashboard, question: str, *rows: Mapping[str, list[cloudwatch.IMetric]]) -> None:
    """Add a question, and below it rows of graphs by their titles."""
    dashboard.add_widgets(cloudwatch.TextWidget(markdown=f"## {question}", width=24, height=1))
    for graphs in rows:
        dashboard.add_widgets(
            *(cloudwatch.GraphWidget(title=title, left=metrics, width=8) for title, metrics in graphs.items())
        )
