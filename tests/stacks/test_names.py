"""One name for everything: set once, refused where AWS or MySQL would refuse what is made of it."""

import json
import re
import string
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app import lasting_settings
from stacks.settings import ENVIRONMENTS, Settings, SettingsError, from_context
from stacks.settings.names import APPLICATION, ENVIRONMENT, PLACES, application_faults, environment_faults
from tests.conftest import Templates

ENV = max(ENVIRONMENTS, key=len)
"""The environment that leaves least: prod."""
LONGEST = 17 - len(ENV)
"""The longest name that it allows: 13."""


def _texts(value: object) -> list[str]:
    """All texts in a template, its keys left out."""
    if isinstance(value, dict):
        return [text for each in value.values() for text in _texts(each)]
    if isinstance(value, list):
        return [text for each in value for text in _texts(each)]
    return [value] if isinstance(value, str) else []


def _users(templates: Templates) -> list[str]:
    functions = [each["Properties"] for each in templates.resources(FUNCTION).values()]
    (rotation,) = [each for each in functions if each["Handler"] == "rotation.lambda_handler"]
    joined = rotation["Environment"]["Variables"]["ROTATED_USERS"]["Fn::Join"][1]
    declared = json.loads("".join(part if isinstance(part, str) else part["Ref"] for part in joined))
    return [each["username"] for each in declared.values()]


FUNCTION = "AWS::Lambda::Function"
# What names are made of: of the resource's properties, the one with its name, and the longest that AWS takes.
NAMED = {
    "AWS::SSM::Parameter": ("Name", 1011, r"/[\w./-]+"),
    "AWS::RDS::DBInstance": ("DBInstanceIdentifier", 63, r"[a-z](-?[a-z0-9])*"),
    "AWS::Logs::LogGroup": ("LogGroupName", 512, r"[\w./#-]+"),
}


# A synthesis takes seconds.
@given(st.text(string.ascii_letters, min_size=1, max_size=LONGEST), st.sampled_from([*ENVIRONMENTS]))
@example("W" * LONGEST, ENV)
@settings(max_examples=3)
def test_whatever_name_is_taken_every_template_keeps_the_limits(
    synthesise: Callable[..., Templates], application: str, env: str
) -> None:
    try:
        chosen = from_context({"application": application, "env": env})
    except SettingsError:
        return
    templates = synthesise(application=application, env=env, github_repository="owner/name")
    assert set(templates) == {"Network", "Database", "Service", "Monitoring", "Deployment"}
    for stack, template in templates.items():
        name = f"{chosen.stack_prefix}{stack}"
        assert re.fullmatch(r"[A-Za-z][A-Za-z0-9-]{0,127}", name)
        for logical_id, resource in template["Resources"].items():
            if resource["Type"] == FUNCTION:
                assert len(f"{name}-{logical_id}-{13 * 'X'}") <= 64
    for kind, (key, longest, form) in NAMED.items():
        for name in [each["Properties"].get(key, "/x") for each in templates.resources(kind).values()]:
            assert len(name) <= longest
            if name != "/x":
                assert re.fullmatch(form, name)
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", user) and len(f"{user}_clone") <= 32 for user in _users(templates))
    for each in templates.resources("AWS::Logs::MetricFilter").values():
        (transformation,) = each["Properties"]["MetricTransformations"]
        assert re.fullmatch(r"(?!AWS/)[\w./#-]{1,255}", transformation["MetricNamespace"])


def test_another_name_leaves_nothing_of_the_default(synthesise: Callable[..., Templates]) -> None:
    renamed = synthesise(application="ordersApi", env="prod", github_repository="owner/name")
    assert [text for text in _texts(dict(renamed)) if "demoapp" in text.lower()] == []
    assert renamed.only("AWS::SSM::Parameter")["Name"] == "/prod/ordersApi/app_config"
    assert json.loads(renamed.only("AWS::SSM::Parameter")["Value"])["app"] == "OrdersApi"
    assert renamed.only("AWS::RDS::DBInstance")["DBInstanceIdentifier"] == "prod-ordersapi"
    assert _users(renamed) == ["ordersapi", "ordersapi_schema"]
    assert renamed.only("AWS::CloudWatch::Dashboard")["DashboardName"] == {
        "Fn::Join": ["", ["ordersApi-prod-", {"Ref": "AWS::Region"}]]
    }
    allowed = json.dumps([each["Properties"] for each in renamed.resources("AWS::IAM::ManagedPolicy").values()])
    assert "function:ordersApi-prod-Service-*" in allowed


def test_the_default_keeps_the_aws_samples_names(synthesise: Callable[..., Templates]) -> None:
    default = synthesise(application="demoApp")
    assert default.only("AWS::SSM::Parameter")["Name"] == "/dev/demoApp/app_config"
    assert default.only("AWS::SSM::Parameter")["Value"] == '{"enableVersion":true,"version":1,"app":"DemoApp"}'
    assert Settings(env="dev", protect_data=False).application == "demoApp"
    assert Settings(env="dev", protect_data=False).stack_prefix == "demoApp-dev-"


def test_a_name_that_is_too_long_is_refused_with_the_longest_that_would_do() -> None:
    assert from_context({"application": "a" * LONGEST})
    with pytest.raises(
        SettingsError, match=rf"{LONGEST + 1} characters, of which {LONGEST} would do: the function of {ENV}"
    ):
        from_context({"application": "a" * (LONGEST + 1)})


@given(st.from_regex(rf"\A{APPLICATION}\Z"), st.lists(st.from_regex(rf"\A{ENVIRONMENT}\Z"), min_size=1, max_size=3))
def test_the_longest_that_is_said_would_do(application: str, envs: list[str]) -> None:
    environments = [Settings(env=env, protect_data=False, application=application) for env in envs]
    for fault in application_faults(environments):
        if said := re.search(r"of which (\d+) would do", fault):
            shorter = [replace(each, application=application[: int(said[1])]) for each in environments]
            assert not [each for each in application_faults(shorter) if "would do" in each]
            longer = [replace(each, application=application[: int(said[1]) + 1]) for each in environments]
            assert [each for each in application_faults(longer) if "would do" in each]
    if not list(application_faults(environments)):
        assert all(len(place.name(each)) <= place.limit for place in PLACES.values() for each in environments)


@pytest.mark.parametrize(
    ("application", "fault"),
    [
        ("", "not a letter, then letters or digits"),
        ("my-app", "not a letter, then letters or digits"),
        ("1st", "not a letter, then letters or digits"),
        ("ordersé", "not a letter, then letters or digits"),
        ("awsOrders", "taken by AWS or MySQL"),
        ("SSM", "taken by AWS or MySQL"),
        ("rdsAdmin", "taken by AWS or MySQL"),
        ("myadmin", "database_username=myadmin: taken by RDS or by this application"),
    ],
)
def test_a_name_that_would_be_refused_is_refused(application: str, fault: str) -> None:
    with pytest.raises(SettingsError, match=fault):
        from_context({"application": application})


@pytest.mark.parametrize("env", ["Dev", "pre_prod", "pre--prod", "prod-", "1st", "aws-dev", ""])
def test_an_environments_name_is_in_small_letters_so_that_two_never_differ_in_case_only(env: str) -> None:
    assert list(environment_faults([env]))


def test_the_name_is_one_for_all_environments() -> None:
    assert from_context({"application": "orders", "env": "prod"}).application == "orders"
    with pytest.raises(SettingsError, match=r"cdk.json: dev.application=orders: one for all environments"):
        from_context({"dev": {"application": "orders"}})


@pytest.mark.parametrize("name", ["migrations_history", "Migrations_Rehearsal"])
def test_the_migrations_databases_are_not_the_applications(name: str) -> None:
    with pytest.raises(SettingsError, match="taken by RDS or by this application"):
        from_context({"database_name": name})


def test_one_environments_role_verifies_no_other_environment(synthesise: Callable[..., Templates]) -> None:
    """Of dev's patterns, none takes in what belongs to dev-2."""
    role: dict[str, Any] = synthesise(github_repository="owner/name")["Deployment"]
    prefix = lasting_settings().stack_prefix
    named = [text for text in _texts(role) if prefix in text]
    assert named
    assert [text for text in named if re.search(rf"{prefix}\*", text)] == []
