"""Checks of what an operator relies on: alarms, their topic, logs and traces."""

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from operations.verify.deployed import Deployed
from operations.verify.report import CheckFailedError, NotCheckableError, check, expect
from operations.waiting import wait_until

TRACE_WAIT = 40
"""Seconds in which X-Ray shows a trace; AWS names no limit, most are there in ten."""


@check("Every alarm exists, acts on the topic, and is quiet")
def alarms(deployed: Deployed) -> str:
    """An alarm in ALARM is a failure of the environment, and so of this check."""
    names = list(deployed.physical_ids("AWS::CloudWatch::Alarm", "Monitoring").values())
    (topic,) = deployed.physical_ids("AWS::SNS::Topic").values()
    found = {
        alarm["AlarmName"]: alarm
        for alarm in deployed.client("cloudwatch").describe_alarms(AlarmNames=names, MaxRecords=100)["MetricAlarms"]
    }
    expect(sorted(set(names) - set(found)), [], "alarms that are gone:")
    silent = [name for name, each in found.items() if not each["ActionsEnabled"] or topic not in each["AlarmActions"]]
    expect(silent, [], "alarms that notify nobody:")
    expect([name for name, each in found.items() if each["StateValue"] == "ALARM"], [], "in alarm:")
    return f"{len(found)} alarms"


@check("Alarms reach the address of the settings")
def subscription(deployed: Deployed) -> str:
    """A subscription that nobody has confirmed has no ARN yet."""
    email = deployed.settings.alarm_email
    if not email:
        raise NotCheckableError("alarm_email is empty: alarms are mailed to nobody")
    (topic,) = deployed.physical_ids("AWS::SNS::Topic").values()
    found = deployed.client("sns").list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
    states = [each["SubscriptionArn"] for each in found if each["Endpoint"] == email]
    if not any(state.startswith("arn:") for state in states):
        raise CheckFailedError(f"{email}: {states or 'not subscribed'}", "a confirmed subscription")
    return email


@check("Every log group keeps its logs for a set time, encrypted with a key of the environment")
def logs(deployed: Deployed) -> str:
    """Those of the functions, the database and the flow log."""
    names = deployed.physical_ids("AWS::Logs::LogGroup")
    keys = {key.rpartition("/")[2] for key in deployed.physical_ids("AWS::KMS::Key").values()}
    for name in names.values():
        groups = deployed.client("logs").describe_log_groups(logGroupNamePrefix=name)["logGroups"]
        group = next((each for each in groups if each["logGroupName"] == name), None)
        if group is None:
            raise CheckFailedError(f"{name}: no such log group", "one with retention and key")
        expect(group.get("retentionInDays"), 90, f"{name}: retention in days")
        if group.get("kmsKeyId", "").rpartition("/")[2] not in keys:
            raise CheckFailedError(f"{name}: key {group.get('kmsKeyId')}", "a key of the environment")
    return f"{len(names)} log groups"


@check("Network traffic is logged")
def flow_log(deployed: Deployed) -> str:
    """The VPC's flow log is there and active."""
    found = deployed.client("ec2").describe_flow_logs()["FlowLogs"]
    of_vpc = [each for each in found if each["ResourceId"] == deployed.vpc_id]
    expect([(each["FlowLogStatus"], each["TrafficType"]) for each in of_vpc], [("ACTIVE", "ALL")], "flow logs")
    return "all traffic"


@check("An invocation's trace arrives in X-Ray")
def tracing(deployed: Deployed) -> str:
    """Active tracing samples the first request of each second."""
    for name, live in deployed.live.items():
        expect(live.get("TracingConfig", {}).get("Mode"), "Active", f"{name}: tracing")
    if not deployed.is_aws:
        raise NotCheckableError(f"{deployed.endpoint} is not AWS: no traces are kept")
    for name in deployed.serving:
        begun = datetime.now(UTC) - timedelta(seconds=5)
        deployed.invoke(name)
        asked = {"StartTime": begun, "FilterExpression": f'service("{deployed.functions[name]}")'}

        def arrived(asked: dict[str, Any]) -> bool:
            found = deployed.client("xray").get_trace_summaries(EndTime=datetime.now(UTC), **asked)
            return bool(found["TraceSummaries"])

        if not wait_until(partial(arrived, asked), TRACE_WAIT, pause=2):
            raise CheckFailedError(f"{name}: no trace", f"one within {TRACE_WAIT} s")
    return "arrived"
