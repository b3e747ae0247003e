"""A second serving function has every promise of the first, and the two do not meet."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from aws_cdk import aws_s3 as s3

import app
from stacks.service import ServiceStack
from stacks.settings import SettingsError
from tests.conftest import Templates
from tests.stacks import test_database, test_monitoring, test_service

RULES = {
    name: test
    for module in (test_service, test_monitoring, test_database)
    for name, test in vars(module).items()
    if name.startswith("test_") and list(inspect.signature(test).parameters) == ["templates"]
}
"""The tests that hold for any templates."""


@contextmanager
def _second(reserved: int) -> Iterator[None]:
    """Add a function to every service stack, which may read a bucket."""
    initialise = ServiceStack.__init__

    def initialise_and_add(self: ServiceStack, *args: Any, **options: Any) -> None:
        initialise(self, *args, **options)
        another = self.serve(
            "Another",
            handler="handler.lambda_handler",
            description="Another",
            reserved_concurrency=reserved,
        )
        s3.Bucket(self, "AnotherBucket").grant_read(another)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ServiceStack, "__init__", initialise_and_add)
        yield


@pytest.fixture(scope="module", params=["dev", "prod"])
def templates(request: pytest.FixtureRequest) -> Templates:
    """The templates with two serving functions."""
    with _second(3):
        return Templates(app.templates(env=request.param))


@pytest.mark.parametrize("name", RULES)
def test_every_rule_holds_with_two_functions(name: str, templates: Templates) -> None:
    RULES[name](templates)


@pytest.fixture
def without(templates: Templates, synthesise: Callable[..., Templates]) -> Templates:
    """The templates of the same environment without the function."""
    return synthesise(env="prod") if templates.resources("AWS::CodeDeploy::DeploymentGroup") else synthesise(env="dev")


def test_it_is_there_with_a_concurrency_of_its_own(templates: Templates, without: Templates) -> None:
    assert templates.serving == [*without.serving, "Another"]
    assert templates.functions["Another"]["ReservedConcurrentExecutions"] == 3


def test_all_of_it_is_under_one_id(templates: Templates, without: Templates) -> None:
    added = {
        name for stack, each in templates.items() for name in set(each["Resources"]) - set(without[stack]["Resources"])
    }
    assert len(added) > 40
    assert {name for name in added if not name.startswith("Another")} == set()


def test_a_bucket_grants_to_it_as_to_any_function(templates: Templates) -> None:
    policies = [
        name
        for name, each in templates.resources("AWS::IAM::ManagedPolicy").items()
        if '"s3:GetObject*"' in str(each).replace("'", '"')
    ]
    assert [name[:-8] for name in policies] == ["AnotherPolicy"]


def test_without_reserved_concurrency_the_second_reserves_none_either() -> None:
    with _second(3):
        templates = Templates(app.templates(reserved_concurrency="0"))
    assert not any("ReservedConcurrentExecutions" in each for each in templates.functions.values())
    assert not [name for name in templates.resources("AWS::CloudWatch::Alarm") if "FunctionConcurrency" in name]


def test_connections_are_counted_over_all_functions() -> None:
    with _second(40), pytest.raises(SettingsError) as refused:
        app.templates(env="dev")
    (fault,) = refused.value.faults
    assert fault.startswith("reserved concurrency 10 (Serving) + ")
    assert " + 40 (Another): each execution environment holds one connection, " in fault
    assert "t4g.micro carries 45; allowed: 45 together, or a larger instance_class" in fault
