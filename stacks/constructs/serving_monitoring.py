"""The alarms of a serving function, and its part of the dashboard, under one id."""

from typing import Final

from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sns as sns
from constructs import Construct

from stacks.constructs.runbook_alarm import Alarm, RunbookAlarm
from stacks.constructs.serving_function import TIMEOUT, ServingFunction
from stacks.settings import Settings

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

ROTATION_GRACE_DAYS: Final = 2


class ServingMonitoring(Construct):
    """The alarms of one serving function, each with its page of the runbook; and its graphs."""

    graphs: dict[str, list[cloudwatch.IMetric]]
    """Whether it is serving, by title."""
    invocations: cloudwatch.IMetric
    refreshed: cloudwatch.IMetric
    """How often the secret was read around the cache."""
    secret_age: cloudwatch.IMetric
    """The age of the password in use, in hours."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        settings: Settings,
        serving: ServingFunction,
        topic: sns.ITopic,
    ) -> None:
        super().__init__(scope, construct_id)
        self._log_group = serving.function.own_log_group
        # CloudWatch's filters give no zero to metrics with dimensions, so that the name of each has to be its own.
        self._namespace = f"{settings.metric_namespace}/{construct_id}"
        function = serving.function
        failures = {name: self._logged(name, f'$.outcome = "{name}"') for name in FAILURES}
        bad_requests = self._logged("BadRequestError", '$.outcome = "BadRequestError"')
        refreshed = self._logged("CredentialsRefreshed", '$.message = "credentials.refreshed"')
        secret_age = self._logged("SecretAgeHours", "$.secret_age_hours >= 0", "$.secret_age_hours")
        self.invocations = function.metric_invocations(label=construct_id)
        self.refreshed = refreshed.with_(label=construct_id)
        self.secret_age = secret_age.with_(label=construct_id)
        # CDK's metrics have periods of five minutes.
        alarms = {
            "FunctionErrors": Alarm("The function fails.", function.metric_errors(), 5),
            "FunctionThrottles": Alarm("Callers are turned away.", function.metric_throttles(), 1),
            "FunctionDuration": Alarm(
                "Invocations come near the function's timeout.",
                function.metric_duration(statistic="Maximum"),
                TIMEOUT.to_milliseconds() * 0.8,
            ),
            **{name: Alarm(meaning, failures[name], threshold) for name, (threshold, meaning) in FAILURES.items()},
            "RotationOverdue": Alarm(
                "The password in use is older than its schedule allows.",
                secret_age,
                (settings.rotation_days + ROTATION_GRACE_DAYS) * 24,
            ),
        }
        if serving.reserved_concurrency:
            alarms["FunctionConcurrency"] = Alarm(
                "The function's reserved concurrency is nearly used up.",
                function.metric("ConcurrentExecutions", statistic="Maximum"),
                max(1, serving.reserved_concurrency * 0.8),
            )
        for name, each in alarms.items():
            RunbookAlarm(self, name, each, topic=topic, runbook=settings.runbook)
        self.graphs = {
            f"{construct_id}: invocations": [
                function.metric_invocations(),
                function.metric_errors(),
                function.metric_throttles(),
            ],
            f"{construct_id}: duration, ms": [
                function.metric_duration(statistic=each) for each in ("p50", "p99", "Maximum")
            ],
            f"{construct_id}: failures by class, and bad requests": [*failures.values(), bad_requests],
        }

    def _logged(self, name: str, pattern: str, value: str = "1") -> cloudwatch.Metric:
        """Create a metric from the function's log: a count of matching lines, or the value of a field."""
        return logs.MetricFilter(
            self,
            f"{name}Filter",
            log_group=self._log_group,
            metric_namespace=self._namespace,
            metric_name=name,
            filter_pattern=logs.FilterPattern.literal(f"{{ {pattern} }}"),
            metric_value=value,
            default_value=0 if value == "1" else None,
        ).metric(statistic="Sum" if value == "1" else "Minimum")
