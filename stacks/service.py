"""The serving function, its parameter, its migrations and its deployment steps."""

from typing import Final

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_codedeploy as codedeploy
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_ssm as ssm
from constructs import Construct

from stacks.constructs.function import LeastPrivilegeFunction
from stacks.database import MYSQL, DatabaseStack, secrets_decryption
from stacks.network import HTTPS, NetworkStack
from stacks.settings import Settings

TIMEOUT: Final = cdk.Duration.seconds(36)
"""The function's timeout. A test checks that all its waits together are shorter."""

MIGRATION_TIMEOUT: Final = cdk.Duration.minutes(10)
"""The migration function's timeout, for all migrations of one deploy."""

ALIAS: Final = "live"

EXTENSION_TIMEOUT: Final = cdk.Duration.seconds(1)
"""The timeout of the extension's calls to AWS. Its default is to wait without end."""


class ServiceStack(cdk.Stack):
    """The serving function, with the extension's layer, in the VPC."""

    function: LeastPrivilegeFunction
    migration: LeastPrivilegeFunction
    alias: lambda_.Alias
    """What callers invoke: the version that last passed its smoke test."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        settings: Settings,
        network: NetworkStack,
        database: DatabaseStack,
    ) -> None:
        super().__init__(scope, construct_id, termination_protection=settings.protect_data)
        parameter = ssm.StringParameter(
            self,
            "AppConfig",
            parameter_name=settings.parameter_name,
            description=f"Configuration of {settings.application}",
            string_value=settings.app_config,
        )
        self.function = LeastPrivilegeFunction(
            self,
            "Function",
            settings=settings,
            # The description contains the pinned layer version. Otherwise pinning the version that is
            # already in use would make CDK request a new version of an unchanged function, which Lambda
            # refuses (https://github.com/aws/aws-cdk/issues/35540).
            description="Reads its configuration and credentials through the extension and queries MySQL"
            + (f"; layer {settings.extension_layer_arn.rpartition(':')[2]}" if settings.extension_layer_arn else ""),
            handler="handler.lambda_handler",
            vpc=network.vpc,
            key=database.key,
            # A first answer within half a second; less memory would cost the same (proof/performance.md).
            memory_size=512,
            timeout=TIMEOUT,
            reserved_concurrent_executions=settings.reserved_concurrency or None,
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
        self.function.connections.allow_to(database.instance, MYSQL, "Function to MySQL")
        self.function.connections.allow_to(network.secrets_manager, HTTPS, "Function to Secrets Manager")
        if settings.egress == "endpoints":
            self.function.connections.allow_to(network.systems_manager, HTTPS, "Function to Parameter Store")
        version = self.function.current_version
        migration = self._migration(settings, network, database).current_version
        smoke_test = self._deploy_steps(settings, database, migration, version)
        self.alias = lambda_.Alias(self, "Live", alias_name=ALIAS, version=version)
        self.alias.node.add_dependency(smoke_test)
        if settings.release == "gradual":
            self._release_gradually(version)
        cdk.CfnOutput(self, "FunctionName", value=self.alias.function_name)
        cdk.CfnOutput(self, "ParameterName", value=parameter.parameter_name)
        cdk.CfnOutput(self, "DatabaseSecretArn", value=database.secret.secret_arn)

    def _migration(self, settings: Settings, network: NetworkStack, database: DatabaseStack) -> LeastPrivilegeFunction:
        """Create the function that applies migrations/, as a database user who may define tables."""
        function = LeastPrivilegeFunction(
            self,
            "Migration",
            settings=settings,
            description="Applies the migrations that the database lacks",
            handler="migration.lambda_handler",
            vpc=network.vpc,
            key=database.key,
            memory_size=256,
            timeout=MIGRATION_TIMEOUT,
            # For two deploys at the same time.
            reserved_concurrent_executions=2 if settings.reserved_concurrency else None,
            current_version_options=lambda_.VersionOptions(removal_policy=cdk.RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE),
            environment={"CREDS_PATH": database.schema_secret.secret_arn},
            statements=[
                iam.PolicyStatement(
                    actions=["secretsmanager:GetSecretValue"], resources=[database.schema_secret.secret_arn]
                ),
                secrets_decryption(database.key, "kms:Decrypt"),
            ],
        )
        function.connections.allow_to(database.instance, MYSQL, "Migration to MySQL")
        function.connections.allow_to(network.secrets_manager, HTTPS, "Migration to Secrets Manager")
        self.migration = function
        return function

    def _deploy_steps(
        self, settings: Settings, database: DatabaseStack, migration: lambda_.IVersion, version: lambda_.IVersion
    ) -> cdk.CfnResource:
        """Apply the migrations, then invoke the new version; if one fails, the deploy rolls back and the alias stays.

        The function that does this is outside the VPC, because CloudFormation's response address cannot be
        reached from inside. A deploy with no new version of either function invokes nothing.
        """
        function = LeastPrivilegeFunction(
            self,
            "SmokeTest",
            settings=settings,
            description="Has the schema migrated, and asks a new version for an answer before callers reach it",
            handler="smoke.lambda_handler",
            key=database.key,
            memory_size=256,
            timeout=cdk.Duration.minutes(15),
            reserved_concurrent_executions=1 if settings.reserved_concurrency else None,
            statements=[
                iam.PolicyStatement(
                    actions=["lambda:InvokeFunction"], resources=[migration.function_arn, version.function_arn]
                ),
                # Whether CloudFormation deploys or rolls back.
                iam.PolicyStatement(actions=["cloudformation:DescribeStacks"], resources=[self.stack_id]),
            ],
        )

        def step(name: str, timeout: cdk.Duration, longest: int, **properties: str) -> cdk.CfnResource:
            resource = cdk.CfnResource(
                self,
                name,
                type=f"Custom::{name.removesuffix('Result')}",
                properties={
                    "ServiceToken": function.function_arn,
                    # Seconds; as a number, which `cdk.CustomResource` would write as a string.
                    "ServiceTimeout": longest,
                    "InvocationSeconds": str(timeout.to_seconds()),
                    **properties,
                },
            )
            resource.node.add_dependency(function.own_policy)
            return resource

        migrated = step("MigrationResult", MIGRATION_TIMEOUT, 900, FunctionVersion=migration.function_arn)
        migrated.node.add_dependency(*self.migration.connections.security_groups)
        tested = step("SmokeTestResult", TIMEOUT, 300, FunctionVersion=version.function_arn)
        tested.node.add_dependency(migrated, *self.function.connections.security_groups)
        return tested

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
