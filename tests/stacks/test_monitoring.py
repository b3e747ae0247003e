"""Alarms, metrics and logs: every alarm says what it means and reaches the topic, and no log is kept for ever."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import pytest

from app import build, lasting_settings
from shared import errors
from stacks.constructs.serving_monitoring import FAILURES
from stacks.settings import ENVIRONMENTS, from_context
from tests.conftest import Templates

RUNBOOK = Path(__file__).parent.parent.parent / "docs" / "runbook"


def _alarms(templates: Templates) -> dict[str, dict[str, Any]]:
    """The monitoring stack's alarms by name."""
    return {
        logical_id[:-8]: resource["Properties"]
        for logical_id, resource in templates["Monitoring"]["Resources"].items()
        if resource["Type"] == "AWS::CloudWatch::Alarm"
    }


def _page(alarm: dict[str, Any]) -> str:
    """The name of the alarm's page in the runbook."""
    return str(alarm["AlarmDescription"].rpartition("/")[2].removesuffix(".md"))


def test_every_alarm_reaches_the_topic_and_names_its_page_of_the_runbook(templates: Templates) -> None:
    (topic,) = templates.resources("AWS::SNS::Topic")
    for name, alarm in _alarms(templates).items():
        assert alarm["AlarmActions"] == alarm["OKActions"] == [{"Ref": topic}]
        meaning, _, page = alarm["AlarmDescription"].partition(" Runbook: ")
        assert len(meaning.split()) > 2
        assert page == f"docs/runbook/{_page(alarm)}.md"
        assert name in [f"{function}{_page(alarm)}" for function in ("", *templates.serving)]


def test_every_serving_function_has_the_same_alarms(templates: Templates) -> None:
    pages = [
        sorted(_page(each) for name, each in _alarms(templates).items() if name == f"{function}{_page(each)}")
        for function in templates.serving
    ]
    assert {"FunctionErrors", "FunctionConcurrency", "RotationOverdue", *FAILURES} <= set(pages[0])
    assert pages == [pages[0]] * len(pages)


def test_every_alarm_has_a_page_and_every_page_an_alarm(synthesise: Callable[..., Templates]) -> None:
    alarms = {*map(_page, _alarms(synthesise(env="prod")).values()), "ReleaseErrors", "DatabaseEvents"}
    assert {page.stem for page in RUNBOOK.glob("*.md")} == alarms


@pytest.mark.parametrize("page", sorted(RUNBOOK.glob("*.md")), ids=lambda path: path.stem)
def test_a_page_says_what_it_means_what_to_look_at_and_what_to_do(page: Path) -> None:
    text = page.read_text()
    assert text.startswith(f"# {page.stem}\n\nFor whoever ")
    assert re.findall(r"\*\*(.+?)\*\*", text) == ["Look at", "Do"]


def test_the_runbooks_address_is_a_setting(synthesise: Callable[..., Templates]) -> None:
    alarms = _alarms(synthesise(runbook="https://example.com/runbook"))
    assert "https://example.com/runbook/FunctionErrors.md" in alarms["ServingFunctionErrors"]["AlarmDescription"]


def test_each_failure_class_is_counted_from_the_log_and_alarms(templates: Templates) -> None:
    classes = {name for name in vars(errors) if name.endswith("Error")} - {"InvocationError", "BadRequestError"}
    assert set(FAILURES) == classes
    for function in templates.serving:
        filters = [
            each["Properties"]
            for name, each in templates.resources("AWS::Logs::MetricFilter").items()
            if name.startswith(function)
        ]
        assert all(f"{function}LogGroup" in json.dumps(each["LogGroupName"]) for each in filters)
        (namespace,) = {each["MetricTransformations"][0]["MetricNamespace"] for each in filters}
        assert namespace.endswith(f"/{function}")
        patterns = {each["MetricTransformations"][0]["MetricName"]: each["FilterPattern"] for each in filters}
        assert patterns["BadRequestError"] == '{ $.outcome = "BadRequestError" }'
        for name in classes:
            assert patterns[name] == f'{{ $.outcome = "{name}" }}'
            alarm = _alarms(templates)[f"{function}{name}"]
            assert (alarm["Namespace"], alarm["MetricName"]) == (namespace, name)


def test_a_bad_request_is_counted_and_is_in_no_alarm(templates: Templates) -> None:
    """Lambda itself counts none, because it is an answer (tests of the frame): its own count of errors stays right."""
    alarms = templates.resources("AWS::CloudWatch::Alarm")
    assert "BadRequestError" not in json.dumps([each["Properties"].get("MetricName") for each in alarms.values()])
    errors_of_lambda = [name for name, each in alarms.items() if each["Properties"].get("MetricName") == "Errors"]
    assert {name[:-8] for name in errors_of_lambda} > {f"{function}FunctionErrors" for function in templates.serving}


def test_permanent_failures_alarm_on_the_first(templates: Templates) -> None:
    pages = ("ConfigurationError", "TLSVerificationError", "CredentialsRefusedError", "RotationFailed")
    permanent = [each for each in _alarms(templates).values() if _page(each) in pages]
    assert {_page(each) for each in permanent} == set(pages)
    for alarm in permanent:
        assert (alarm["Threshold"], alarm["EvaluationPeriods"], alarm["Statistic"]) == (1, 1, "Sum")


def test_rotation_is_overdue_after_its_schedule_and_not_before(synthesise: Callable[..., Templates]) -> None:
    alarm = _alarms(synthesise(rotation_days="7"))["ServingRotationOverdue"]
    assert 7 * 24 < alarm["Threshold"] <= 10 * 24
    assert alarm["MetricName"] == "SecretAgeHours"


def test_thresholds_follow_the_instance_class(synthesise: Callable[..., Templates]) -> None:
    small = _alarms(synthesise(instance_class="t4g.micro"))
    large = _alarms(synthesise(instance_class="r7g.large"))
    assert small["DatabaseConnections"]["Threshold"] == from_context({}).connections
    assert large["DatabaseConnections"]["Threshold"] > 15 * small["DatabaseConnections"]["Threshold"]
    assert large["DatabaseMemory"]["Threshold"] == 16 * small["DatabaseMemory"]["Threshold"]
    assert small["DatabaseMemory"]["ComparisonOperator"] == "LessThanOrEqualToThreshold"


def test_the_databases_events_reach_the_topic(templates: Templates) -> None:
    subscription = templates.only("AWS::RDS::EventSubscription")
    assert {"failover", "failure", "low storage"} <= set(subscription["EventCategories"])
    assert subscription["SourceType"] == "db-instance"


def test_only_this_accounts_alarms_and_events_publish_to_the_encrypted_topic(templates: Templates) -> None:
    assert "Key" in json.dumps(templates.only("AWS::SNS::Topic")["KmsMasterKeyId"])
    statements = templates.only("AWS::SNS::TopicPolicy")["PolicyDocument"]["Statement"]
    allowed = [each for each in statements if each["Effect"] == "Allow"]
    services = ["cloudwatch.amazonaws.com", "events.rds.amazonaws.com"]
    assert [each["Principal"] for each in allowed] == [{"Service": services}]
    for each in allowed:
        assert each["Condition"] == {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}
    (denied,) = [each for each in statements if each["Effect"] == "Deny"]
    assert denied["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_alarms_are_mailed_only_to_the_given_address(synthesise: Callable[..., Templates]) -> None:
    assert not synthesise().resources("AWS::SNS::Subscription")
    subscription = synthesise(alarm_email="oncall@example.com").only("AWS::SNS::Subscription")
    assert (subscription["Protocol"], subscription["Endpoint"]) == ("email", "oncall@example.com")


def test_the_dashboard_asks_four_questions_from_top_to_bottom(templates: Templates) -> None:
    body = templates.only("AWS::CloudWatch::Dashboard")["DashboardBody"]["Fn::Join"][1]
    text = "".join(part if isinstance(part, str) else "x" for part in body)
    widgets = json.loads(text)["widgets"]
    questions = [each["properties"]["markdown"] for each in widgets if each["type"] == "text"]
    assert [question.partition("?")[0] for question in questions] == [
        "## Is it serving",
        "## Is the cache working",
        "## Is the database well",
        "## Is rotation on time",
    ]
    rows = [each["y"] for each in widgets]
    assert rows == sorted(rows)


def test_every_resource_that_takes_tags_is_tagged(templates: Templates) -> None:
    for kind in ("RDS::DBInstance", "Lambda::Function", "KMS::Key", "SecretsManager::Secret", "EC2::VPC", "SNS::Topic"):
        for resource in templates.resources(f"AWS::{kind}").values():
            tags = {tag["Key"]: tag["Value"] for tag in resource["Properties"]["Tags"]}
            assert tags["application"] == lasting_settings().application
            assert tags["environment"] in ENVIRONMENTS


def test_every_log_is_kept_for_a_stated_time(templates: Templates) -> None:
    log_groups = templates.resources("AWS::Logs::LogGroup").values()
    assert {each["Properties"].get("RetentionInDays") for each in log_groups} == {90}
    named = [each["Properties"].get("LogGroupName", "") for each in log_groups]
    assert len([name for name in named if name.startswith("/aws/rds/instance/")]) == 2
    functions = templates.resources("AWS::Lambda::Function").values()
    assert all("LogGroup" in each["Properties"]["LoggingConfig"] for each in functions)


@pytest.mark.parametrize(("env", "protected"), [("dev", False), ("prod", True)])
def test_production_stacks_are_protected_from_termination(env: str, *, protected: bool) -> None:
    app = cdk.App(context={"aws:cdk:bundling-stacks": []})
    build(app, from_context({"env": env}))
    stacks = [each for each in app.node.children if isinstance(each, cdk.Stack)]
    assert [stack.termination_protection for stack in stacks] == [protected] * 4
