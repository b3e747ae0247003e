"""A serving function with everything that belongs to it, under one id."""

from typing import Final

import aws_cdk as cdk
import jsii
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_codedeploy as codedeploy
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_ssm as ssm
from constructs import Construct

from stacks.constructs.deploy_steps import DeploySteps
from stacks.constructs.function import LeastPrivilegeFunction
from stacks.database import MYSQL, DatabaseStack, secrets_decryption
from stacks.network import HTTPS, NetworkStack
from stacks.settings import Settings

TIMEOUT: Final = cdk.Duration.seconds(36)
"""The function's timeout. A test checks that all its waits together are shorter."""

SMOKE_TEST_TIMEOUT: Final = 300
"""Seconds in which the smoke test must have answered CloudFormation."""

ALIAS: Final = "live"

EXTENSION_TIMEOUT: Final = cdk.Duration.seconds(1)
"""The timeout of the extension's calls to AWS. Its default is to wait without end."""


@jsii.implements(iam.IGrantable, ec2.IConnectable)
class ServingFunction(Construct):
    """A function that answers callers from the database; `shared/frame.py` is the frame of its code.

    It has a role, a log, a security group and the extension's layer of its own. Callers invoke its alias, which moves
    to a new version after a smoke test, at once or gradually. The monitoring stack adds its alarms and graphs. Grants
    (`bucket.grant_read(it)`) and rules (`it.connections.allow_to(…)`) are those of the function.
    """

    function: LeastPrivilegeFunction
    alias: lambda_.Alias
    """What callers invoke: the version that last passed its smoke test."""
    reserved_concurrency: int
    """Its execution environments, of which each holds a connection; 0 where none are reserved."""
    name_output: cdk.CfnOutput
    """The alias's name, as callers give it."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        settings: Settings,
        network: NetworkStack,
        database: DatabaseStack,
        parameter: ssm.IStringParameter,
        steps: DeploySteps,
        description: str,
        handler: str,
        reserved_concurrency: int,
    ) -> None:
        super().__init__(scope, construct_id)
        self.reserved_concurrency = reserved_concurrency if settings.reserved_concurrency else 0
        self.function = LeastPrivilegeFunction(
            self,
            "Default",
            settings=settings,
            # The description contains the pinned layer version. Otherwise pinning the version that is
            # already in use would make CDK request a new version of an unchanged function, which Lambda
            # refuses (https://github.com/aws/aws-cdk/issues/35540).
            description=description
            + (f"; layer {settings.extension_layer_arn.rpartition(':')[2]}" if settings.extension_layer_arn else ""),
            handler=handler,
            vpc=network.vpc,
            key=database.key,
            # A first answer within half a second; less memory would cost the same (proof/performance.md).
            memory_size=512,
            timeout=TIMEOUT,
            reserved_concurrent_executions=self.reserved_concurrency or None,
            # Old versions are retained, so that the alias can return to them. The version of a failed
            # deploy is deleted, because Lambda would not publish the same code again.
            current_version_options=lambda_.VersionOptions(removal_policy=cdk.RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE),
            params_and_secrets=lambda_.ParamsAndSecretsLayerVersion.from_version_arn(
                self._extension_layer_arn(settings),
                cache_size=1000,
                log_level=lambda_.ParamsAndSecretsLogLevel.INFO,
                parameter_store_ttl=cdk.Duration.seconds(settings.parameter_ttl),
                parameter_store_timeout=EXTENSION_TIMEOUT,
                secrets_manager_ttl=cdk.Duration.seconds(settings.secret_ttl),
                secrets_manager_timeout=EXTENSION_TIMEOUT,
            ),
            environment={
                "ENV": settings.env,
                "APP_CONFIG_PATH": settings.config_path,
                "CREDS_PATH": database.secret.secret_arn,
            },
            # Explicit statements, because `grant_read` allows four actions and two, and the extension calls
            # one of each service.
            statements=[
                iam.PolicyStatement(actions=["ssm:GetParameter"], resources=[parameter.parameter_arn]),
                iam.PolicyStatement(actions=["secretsmanager:GetSecretValue"], resources=[database.secret.secret_arn]),
                secrets_decryption(database.key, "kms:Decrypt"),
            ],
        )
        self.connections.allow_to(database.instance, MYSQL, f"{construct_id} to MySQL")
        self.connections.allow_to(network.secrets_manager, HTTPS, f"{construct_id} to Secrets Manager")
        if settings.egress == "endpoints":
            self.connections.allow_to(network.systems_manager, HTTPS, f"{construct_id} to Parameter Store")
        version = self.function.current_version
        smoke_test = steps.add(
            self, "SmokeTestResult", version=version, timeout=TIMEOUT, longest=SMOKE_TEST_TIMEOUT, of=self.function
        )
        self.alias = lambda_.Alias(self, "Live", alias_name=ALIAS, version=version)
        self.alias.node.add_dependency(smoke_test)
        if settings.release == "gradual":
            self._release_gradually(version)
        self.name_output = cdk.CfnOutput(self, "FunctionName", value=self.alias.function_name)
        self.name_output.override_logical_id(f"{construct_id}FunctionName")

    @property
    def grant_principal(self) -> iam.IPrincipal:
        """Whom a grant is for: the function's role."""
        return self.function.grant_principal

    @property
    def connections(self) -> ec2.Connections:
        """The function's security group."""
        return self.function.connections

    def _release_gradually(self, version: lambda_.IVersion) -> None:
        """Send a tenth of the traffic to a new version for five minutes first; an error of that version rolls it back.

        The alarm counts the new version's errors only: an alarm on the alias would also stop the
        release that fixes a failing live version.
        """
        errors = cloudwatch.Metric(
            namespace="AWS/Lambda",
            metric_name="Errors",
            dimensions_map={
                "FunctionName": self.function.function_name,
                "Resource": f"{self.function.function_name}:{ALIAS}",
                "ExecutedVersion": version.version,
            },
            period=cdk.Duration.minutes(1),
            statistic="Sum",
        ).create_alarm(
            self,
            "ReleaseErrors",
            alarm_description="An error while a new version takes over; CodeDeploy takes the traffic back.",
            threshold=1,
            evaluation_periods=1,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        )
        codedeploy.LambdaDeploymentGroup(
            self,
            "Release",
            alias=self.alias,
            deployment_config=codedeploy.LambdaDeploymentConfig.CANARY_10_PERCENT_5_MINUTES,
            alarms=[errors],
        )

    def _extension_layer_arn(self, settings: Settings) -> str:
        """Return the pinned layer version, or a reference to the newest for the region and processor.

        CloudFormation resolves it at deploy time from AWS's public parameter, because the newest
        layer in CDK's own table (`ParamsAndSecretsVersions`) is of 2023.
        """
        if settings.extension_layer_arn:
            return settings.extension_layer_arn
        processor = "arm64" if settings.architecture == "arm64" else "x86"
        return ssm.StringParameter.value_for_string_parameter(
            self, f"/aws/service/aws-parameters-and-secrets-lambda-extension/{processor}/latest"
        )
