"""Fixtures: the finished templates; and the variables that the functions read when they are imported."""

import os
from collections.abc import Callable, Mapping
from functools import cache, cached_property
from typing import Any

import pytest
from aws_cdk.assertions import Template
from hypothesis import settings

import app
from stacks.settings import ENVIRONMENTS

# As in Lambda, and nothing of the user's own AWS configuration.
for name in [each for each in os.environ if each.startswith("AWS_")]:
    del os.environ[name]
os.environ |= {
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "ENV": "dev",
    "APP_CONFIG_PATH": "notesApp/app_config",
    "CREDS_PATH": "arn:aws:secretsmanager:us-east-1:123456789012:secret:app-AbCdEf",
    "DATABASE_HOST": "localhost",
    "DATABASE_PORT": "3306",
    "DATABASE_NAME": "dev_DB",
    "MASTER_SECRET_ARN": "arn:aws:secretsmanager:us-east-1:123456789012:secret:rds!db-GhIjKl",
    "ROTATED_USERS": '{"arn": {"username": "notesapp", "privileges": {"demo": ["SELECT"]}}}',
}

settings.register_profile("untimed", deadline=None)  # A busy machine is late.
settings.load_profile("untimed")

VARIANTS = [(env, egress) for env in ENVIRONMENTS for egress in ("endpoints", "nat")]

Resource = Mapping[str, Any]


class Templates(dict[str, dict[str, Any]]):
    """The finished templates of one synthesis, by the stack's name without its environment."""

    def resources(self, kind: str) -> dict[str, Resource]:
        """All resources of the type, in all stacks, by logical id."""
        return {
            logical_id: resource
            for template in self.values()
            for logical_id, resource in template["Resources"].items()
            if resource["Type"] == kind
        }

    @cached_property
    def network(self) -> Template:
        """The network's template, for aws_cdk.assertions."""
        return Template.from_json(self["Network"])

    @cached_property
    def database(self) -> Template:
        """The database's template, for aws_cdk.assertions."""
        return Template.from_json(self["Database"])

    @property
    def functions(self) -> dict[str, dict[str, Any]]:
        """The properties of all functions, by name: their logical id without its hash."""
        return {name[:-8]: each["Properties"] for name, each in self.resources("AWS::Lambda::Function").items()}

    @property
    def serving(self) -> list[str]:
        """The names of the serving functions: those that callers invoke by an alias. The application's is the first."""
        return [
            each["Properties"]["FunctionName"]["Ref"][:-8] for each in self.resources("AWS::Lambda::Alias").values()
        ]

    def only(self, kind: str) -> dict[str, Any]:
        """The properties of the one resource of the type."""
        (resource,) = self.resources(kind).values()
        properties: dict[str, Any] = resource["Properties"]
        return properties


@cache
def _synthesise(**context: str) -> Templates:
    # Not where cdk.json says: the tests read what CloudFormation fills in, which is the same (test_place.py).
    return Templates(app.templates(**{"account": "", "region": "", **context}))


@pytest.fixture(scope="session")
def synthesise() -> Callable[..., Templates]:
    """Synthesise with settings as keywords; the same settings once only."""
    return _synthesise


@pytest.fixture(scope="session", params=VARIANTS, ids="-".join)
def templates(request: pytest.FixtureRequest) -> Templates:
    """The templates of both environments with both egress modes, one after the other."""
    env, egress = request.param
    return _synthesise(env=env, egress=egress)
