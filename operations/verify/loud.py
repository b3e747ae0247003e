"""Checks that change something, or take minutes. Each puts back what it changed, and runs only when it is asked for."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import cycle
from typing import Any

from operations.aws import listed
from operations.load import ANSWERED, Load
from operations.verify.deployed import Deployed
from operations.verify.report import CheckFailedError, check, expect
from operations.waiting import wait_until

CALLERS = 4
ROTATIONS = 2
ROTATION_WAIT = 300
"""Seconds for one rotation, of four steps, each of them a cold start at worst."""
FAILOVER_WAIT = 600
"""Seconds; RDS says that a failover takes one to two minutes."""
CLOUDTRAIL_WAIT = 1200
"""Seconds (https://docs.aws.amazon.com/awscloudtrail/latest/userguide/how-cloudtrail-works.html: five minutes)."""
ANSWER_WAIT = 120
"""Seconds, after the database is available again, until callers are answered."""
ALARM_WAIT = 60
INVOCATIONS = 100


def _load(deployed: Deployed) -> Load:
    serving = cycle(deployed.serving)

    def invoke() -> str | None:
        result = deployed.invoke(next(serving))
        return str(result["answer"].get("errorType")) if result["error"] else None

    deployed.client("lambda")  # Made before threads share it.
    return Load(invoke, CALLERS)


def _wait(condition: Callable[[], bool], seconds: float, what: str) -> None:
    if not wait_until(condition, seconds, pause=1):
        raise CheckFailedError(f"not within {seconds:.0f} s", what)


@check("The password rotates without a failed invocation; rotates it twice, as the schedule does", loud=True)
def rotate(deployed: Deployed) -> str:
    """Not put back: a rotation leaves the environment as the schedule's next one would."""
    secrets = deployed.client("secretsmanager")

    def current() -> str:
        stages = secrets.describe_secret(SecretId=deployed.secret_arn)["VersionIdsToStages"]
        return str(next(version for version, names in stages.items() if "AWSCURRENT" in names))

    with _load(deployed) as load:
        seen = {current()}
        for _ in range(ROTATIONS):
            secrets.rotate_secret(SecretId=deployed.secret_arn)
            _wait(lambda: current() not in seen, ROTATION_WAIT, "a new current version")
            seen.add(current())
    expect(dict(load.outcomes), {ANSWERED: load.made}, "invocations")
    return f"{ROTATIONS} rotations under {load.made} invocations, 0 failed"


@check("After a failover callers are answered again, with no deploy; reboots the database with failover", loud=True)
def fail_over(deployed: Deployed) -> str:
    """During it, invocations fail as DependencyUnavailableError and in no other way."""
    rds, identifier = deployed.client("rds"), deployed.instance["DBInstanceIdentifier"]

    def available() -> bool:
        (instance,) = rds.describe_db_instances(DBInstanceIdentifier=identifier)["DBInstances"]
        return bool(instance["DBInstanceStatus"] == "available")

    with _load(deployed) as load:
        rds.reboot_db_instance(DBInstanceIdentifier=identifier, ForceFailover=True)
        _wait(lambda: not available() or bool(load.failed_at), 120, "the failover begins")
        _wait(available, FAILOVER_WAIT, "an available instance")
        answered = load.outcomes[ANSWERED]
        _wait(lambda: load.outcomes[ANSWERED] >= answered + 10 * CALLERS, ANSWER_WAIT, "answers after the failover")
    expect(sorted(set(load.outcomes) - {ANSWERED, "DependencyUnavailableError"}), [], "other failures:")
    seconds = load.failed_at[-1] - load.failed_at[0] if load.failed_at else 0.0
    failed = load.outcomes["DependencyUnavailableError"]
    return f"{failed} invocations failed as DependencyUnavailableError, within {seconds:.0f} s; then all were answered"


@check("An alarm is passed on to the topic; sets one off, and puts its state back", loud=True)
def alarm(deployed: Deployed) -> str:
    """By the alarm's own history of actions. That the mail arrives, only its reader can see."""
    client = deployed.client("cloudwatch")
    name = deployed.physical_ids("AWS::CloudWatch::Alarm")["Monitoring/ServingConfigurationError"]
    (topic,) = deployed.physical_ids("AWS::SNS::Topic").values()
    (before,) = client.describe_alarms(AlarmNames=[name])["MetricAlarms"]
    begun = datetime.now(UTC) - timedelta(seconds=1)

    def passed_on() -> bool:
        history = client.describe_alarm_history(
            AlarmName=name, HistoryItemType="Action", StartDate=begun, EndDate=datetime.now(UTC) + timedelta(minutes=1)
        )
        return any(topic in str(item) for item in history["AlarmHistoryItems"])

    client.set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="make verify --alarm")
    try:
        _wait(passed_on, ALARM_WAIT, "the action in the alarm's history")
    finally:
        client.set_alarm_state(
            AlarmName=name, StateValue=before["StateValue"], StateReason="make verify --alarm is over"
        )
    return f"{name} was passed on to the topic"


@check("A hundred invocations, one after the other, cost AWS four calls at the most; reads CloudTrail", loud=True)
def calls(deployed: Deployed) -> str:
    """Events arrive minutes later: a call of our own, made after the invocations, says when they are there."""
    trail, secrets = deployed.client("cloudtrail"), deployed.client("secretsmanager")
    begun = datetime.now(UTC)
    for _ in range(INVOCATIONS):
        expect(deployed.invoke(deployed.serving[0])["error"], "", "error")
    marker = secrets.describe_secret(SecretId=deployed.secret_arn)["ResponseMetadata"]["RequestId"]

    def events(name: str) -> list[dict[str, Any]]:
        asked = [{"AttributeKey": "EventName", "AttributeValue": name}]
        return listed(trail, "lookup_events", "Events", LookupAttributes=asked, StartTime=begun)

    _wait(
        lambda: any(marker in event["CloudTrailEvent"] for event in events("DescribeSecret")),
        CLOUDTRAIL_WAIT,
        "this check's own call in CloudTrail",
    )
    parameter = deployed.physical_ids("AWS::SSM::Parameter")["Service/AppConfig"]
    made = [
        event
        for name, resource in (("GetParameter", parameter), ("GetSecretValue", deployed.secret_arn))
        for event in events(name)
        if resource in event["CloudTrailEvent"] and event["EventTime"] >= begun
    ]
    # One caller after the other: the invocations need one environment, and AWS may replace it once.
    if len(made) > 4:
        raise CheckFailedError(f"{len(made)} calls for {INVOCATIONS} invocations", "at most 4")
    return f"{INVOCATIONS} invocations, {len(made)} calls"
