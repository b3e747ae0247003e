"""One deployed environment, as AWS's APIs describe it. What is asked once is kept."""

import json
import re
from collections.abc import Callable, Mapping
from functools import cache, cached_property
from typing import Any, Final

from botocore.config import Config
from botocore.exceptions import ClientError

from app import templates
from operations.aws import invoke, is_a, listed
from stacks.constructs.serving_function import ALIAS
from stacks.settings import Settings

HEALTH: Final = {"reserved": "health"}
"""The event that the function's frame answers itself: what the smoke test sends too."""
LATEST_LAYER: Final = "/aws/service/aws-parameters-and-secrets-lambda-extension/{}/latest"
"""AWS's public parameter with the extension's newest layer version, by processor.

https://docs.aws.amazon.com/systems-manager/latest/userguide/ps-integration-lambda-extensions.html
"""
STACKS: Final = ("Network", "Database", "Service", "Monitoring")


class EnvironmentMissingError(Exception):
    """The account and region of the credentials have no such environment."""


class Deployed:
    """An environment's stacks, the resources in them, and the clients to ask about them.

    Args:
        settings: what this checkout would deploy the environment with.
        context: the settings given on the command line, by name.
        session: a boto3 session, whose credentials and region are used.

    Raises:
        EnvironmentMissingError: a stack of the environment is not there.
    """

    def __init__(self, settings: Settings, context: Mapping[str, str], session: Any) -> None:
        self.settings = settings
        self._context = context
        self._session = session
        self.region = str(session.region_name)
        self.account: str = self.client("sts").get_caller_identity()["Account"]
        self._resources = {stack: self._resources_of(stack) for stack in STACKS}

    @cache  # noqa: B019 - one environment lives as long as the process
    def client(self, service: str) -> Any:
        """A boto3 client with the session's credentials."""
        return self._session.client(service, config=Config(retries={"mode": "adaptive", "max_attempts": 8}))

    @property
    def endpoint(self) -> str:
        """Where calls go: an address of AWS, or the one that AWS_ENDPOINT_URL names."""
        return str(self.client("sts").meta.endpoint_url)

    @property
    def is_aws(self) -> bool:
        """Whether the calls go to AWS itself."""
        return ".amazonaws." in self.endpoint

    def stack_name(self, stack: str) -> str:
        """The name of a stack of this environment, as orders-dev-Network."""
        return f"{self.settings.stack_prefix}{stack}"

    def _resources_of(self, stack: str) -> list[dict[str, Any]]:
        client, name = self.client("cloudformation"), self.stack_name(stack)
        try:
            return listed(client, "list_stack_resources", "StackResourceSummaries", StackName=name)
        except ClientError as error:
            if not is_a(error, "ValidationError"):
                raise
            raise EnvironmentMissingError(
                f"{name}: no such stack in account {self.account}, region {self.region}; "
                f"deploy it with: make deploy ENV={self.settings.env}"
            ) from None

    def physical_ids(self, kind: str, *stacks: str) -> dict[str, str]:
        """Physical ids of the resources of one CloudFormation type, by stack and name, as Network/Vpc."""
        return {
            f"{stack}/{re.sub('[0-9A-F]{8}$', '', resource['LogicalResourceId'])}": resource["PhysicalResourceId"]
            for stack in stacks or STACKS
            for resource in self._resources[stack]
            if resource["ResourceType"] == kind
        }

    @cached_property
    def templates(self) -> dict[str, dict[str, Any]]:
        """What this checkout would deploy, by stack; in a local cloud, without cdk.json's owner, account and region."""
        here = {} if self.is_aws else {"owner": "local", "account": "", "region": ""}
        return templates(**{**self._context, "env": self.settings.env, **here})

    @cached_property
    def declared_functions(self) -> dict[str, dict[str, Any]]:
        """The functions' properties in the templates, by name in the stacks."""
        return {
            logical_id[:-8]: resource["Properties"]
            for template in self.templates.values()
            for logical_id, resource in template["Resources"].items()
            if resource["Type"] == "AWS::Lambda::Function"
        }

    @cached_property
    def functions(self) -> dict[str, str]:
        """The functions' names, by name in the stacks: Serving, Rotation, SmokeTest."""
        found = self.physical_ids("AWS::Lambda::Function")
        return {name.partition("/")[2]: function for name, function in found.items()}

    @cached_property
    def serving(self) -> list[str]:
        """The serving functions, those with an alias, by name in the stacks."""
        aliased = {arn.split(":")[-2] for arn in self.physical_ids("AWS::Lambda::Alias", "Service").values()}
        return sorted(name for name, function in self.functions.items() if function in aliased)

    @cached_property
    def live(self) -> dict[str, dict[str, Any]]:
        """For each serving function, the configuration of the version that callers invoke."""
        client = self.client("lambda")
        return {
            name: dict(client.get_function_configuration(FunctionName=f"{self.functions[name]}:{ALIAS}"))
            for name in self.serving
        }

    @cached_property
    def newest_layer(self) -> dict[str, Any]:
        """AWS's parameter with the extension's newest layer for the function's processor."""
        processor = {"arm64": "arm64", "x86_64": "x86"}[self.settings.architecture]
        return dict(self.client("ssm").get_parameter(Name=LATEST_LAYER.format(processor))["Parameter"])

    @property
    def move_layer(self) -> str:
        """What gives the functions that layer. Without a change of code no deploy without the setting does."""
        setting = json.dumps({self.settings.env: {"extension_layer_arn": self.newest_layer["Value"]}})
        return f"into the context of cdk.json: {setting}; then make deploy ENV={self.settings.env}"

    @cached_property
    def vpc_id(self) -> str:
        """The VPC's id."""
        return self.physical_ids("AWS::EC2::VPC")["Network/Vpc"]

    @cached_property
    def secret_arns(self) -> list[str]:
        """The secrets that rotate: the serving function's and the migration function's."""
        found = self.physical_ids("AWS::SecretsManager::Secret")
        return [found["Database/Secret"], found["Database/SchemaSecret"]]

    @property
    def secret_arn(self) -> str:
        """The serving function's secret."""
        return self.secret_arns[0]

    @cached_property
    def key_arn(self) -> str:
        """The environment's key."""
        key = self.physical_ids("AWS::KMS::Key")["Database/Key"]
        return str(self.client("kms").describe_key(KeyId=key)["KeyMetadata"]["Arn"])

    @cached_property
    def instance(self) -> dict[str, Any]:
        """The database instance, as RDS describes it."""
        identifier = self.physical_ids("AWS::RDS::DBInstance")["Database/Instance"]
        (instance,) = self.client("rds").describe_db_instances(DBInstanceIdentifier=identifier)["DBInstances"]
        return dict(instance)

    @cached_property
    def versions(self) -> dict[str, str]:
        """Of what runs: engine, runtime, the function's version and the extension's layer."""
        return {
            "engine": f"{self.instance['Engine']} {self.instance['EngineVersion']}",
            "runtime": self._each_live(lambda live: live["Runtime"]),
            "function": self._each_live(lambda live: live["Version"]),
            "extension": self._each_live(lambda live: ", ".join(layer["Arn"] for layer in live.get("Layers", []))),
        }

    def _each_live(self, fact: Callable[[dict[str, Any]], str]) -> str:
        """A fact of all serving functions; with their names where it differs."""
        facts = {name: fact(live) for name, live in self.live.items()}
        if len(set(facts.values())) == 1:
            return next(iter(facts.values()))
        return ", ".join(f"{name} {fact}" for name, fact in facts.items())

    def invoke(self, serving: str) -> dict[str, Any]:
        """Ask a serving function's version that callers get how it is; returns what `operations.aws.invoke` does."""
        return invoke(self.client("lambda"), f"{self.functions[serving]}:{ALIAS}", HEALTH)
