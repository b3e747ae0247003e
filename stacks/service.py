"""The function, its configuration, and what it may do."""

from typing import Any, Final

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_codedeploy as codedeploy
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_ssm as ssm
from constructs import Construct

from stacks.acknowledgement import acknowledge
from stacks.database import MYSQL, DatabaseStack, secrets_decryption
from stacks.function import ClosedFunction, VpcFunction
from stacks.network import HTTPS, NetworkStack
from stacks.settings import Settings

APP_CONFIG_PATH: Final = "demoApp/app_config"
APP_CONFIG: Final = '{"enableVersion":true,"version":1,"app":"DemoApp"}'

TIMEOUT: Final = cdk.Duration.seconds(35)
"""Of the function; more than all its own waits together, which a test adds up."""

ALIAS: Final = "live"

EXTENSION_TIMEOUT: Final = cdk.Duration.seconds(1)
"""Of the extension's calls to AWS; its default is to wait for ever."""


class ServiceStack(cdk.Stack):
    """A function that reads parameter and secret through the extension and queries the database."""

    function: VpcFunction
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
        **kwargs: Any,
    ) -> None:
        super().__init__(scope, construct_id, **kwargs)
        parameter = ssm.StringParameter(
            self,
            "AppConfig",
            parameter_name=f"/{settings.env}/{APP_CONFIG_PATH}",
            description="Configuration of DemoApp",
            string_value=APP_CONFIG,
        )
        self.function = VpcFunction(
            self,
            "Function",
            settings=settings,
            description="Reads its configuration and credentials through the extension and queries MySQL",
            handler="handler.lambda_handler",
            vpc=network.vpc,
            key=database.key,
            memory_size=512,
            timeout=TIMEOUT,
            reserved_concurrent_executions=settings.reserved_concurrency,
            # A version stays, so that the alias can go back to it.
            current_version_options=lambda_.VersionOptions(removal_policy=cdk.RemovalPolicy.RETAIN),
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
                "APP_CONFIG_PATH": APP_CONFIG_PATH,
                "CREDS_PATH": database.secret.secret_arn,
            },
            # Written out where `grant_read` would give four and two actions: the extension
            # calls one of each service.
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
        smoke_test = self._smoke_test(settings, database, version)
        self.alias = lambda_.Alias(self, "Live", alias_name=ALIAS, version=version)
        self.alias.node.add_dependency(smoke_test)
        if settings.release == "gradual":
            self._release_gradually()
        cdk.CfnOutput(self, "FunctionName", value=self.alias.function_name)
        cdk.CfnOutput(self, "ParameterName", value=parameter.parameter_name)
        cdk.CfnOutput(self, "DatabaseSecretArn", value=database.secret.secret_arn)

    def _smoke_test(self, settings: Settings, database: DatabaseStack, version: lambda_.IVersion) -> cdk.CfnResource:
        """A question to each new version; without an answer the deploy fails, and the alias stays where it is."""
        function = ClosedFunction(
            self,
            "SmokeTest",
            settings=settings,
            description="Asks a new version for an answer before callers reach it",
            handler="smoke_test.lambda_handler",
            key=database.key,
            memory_size=256,
            timeout=cdk.Duration.minutes(5),
            reserved_concurrent_executions=1,
            statements=[
                iam.PolicyStatement(actions=["lambda:InvokeFunction"], resources=[version.function_arn]),
                iam.PolicyStatement(actions=["lambda:GetAlias"], resources=[self.function.function_arn]),
            ],
        )
        acknowledge(
            function,
            "It calls Lambda and answers CloudFormation, to which the VPC has no way; it reaches no data.",
            *(f"{pack}-LambdaInsideVPC" for pack in ("HIPAA.Security", "NIST.800.53.R5", "PCI.DSS.321")),
            "CKV_AWS_117",
        )
        resource = cdk.CfnResource(
            self,
            "SmokeTestResult",
            type="Custom::SmokeTest",
            properties={
                "ServiceToken": function.function_arn,
                "ServiceTimeout": 300,  # Seconds; as a number, which `cdk.CustomResource` would write as a string.
                "FunctionVersion": version.function_arn,
                "Alias": ALIAS,
            },
        )
        resource.node.add_dependency(function.own_policy, *self.function.connections.security_groups)
        return resource

    def _release_gradually(self) -> None:
        """A tenth of the traffic first; an error of the alias in those five minutes takes it back."""
        errors = self.alias.metric_errors(period=cdk.Duration.minutes(1), statistic="Sum").create_alarm(
            self,
            "ReleaseErrors",
            alarm_description="An error while a new version takes over; CodeDeploy takes the traffic back.",
            threshold=1,
            evaluation_periods=1,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        )
        acknowledge(
            errors,
            "CodeDeploy looks at it and acts; people are told by the alarms of the monitoring stack.",
            *(f"{pack}-CloudWatchAlarmAction" for pack in ("HIPAA.Security", "NIST.800.53.R5")),
        )
        group = codedeploy.LambdaDeploymentGroup(
            self,
            "Release",
            alias=self.alias,
            deployment_config=codedeploy.LambdaDeploymentConfig.CANARY_10_PERCENT_5_MINUTES,
            alarms=[errors],
        )
        acknowledge(
            group,
            "AWS's own policy follows what CodeDeploy needs to move an alias.",
            "AwsSolutions-IAM4[Policy::arn:<AWS::Partition>:iam::aws:policy/service-role/AWSCodeDeployRoleForLambdaLimited]",
        )

    def _extension_layer_arn(self, settings: Settings) -> str:
        """The pinned layer version, or the newest that AWS publishes for the region and processor.

        Resolved by CloudFormation at deploy time from AWS's public parameter; CDK's own
        table (`ParamsAndSecretsVersions`) ends with a layer of 2023.
        """
        if settings.extension_layer_arn:
            return settings.extension_layer_arn
        processor = "arm64" if settings.architecture == "arm64" else "x86"
        return ssm.StringParameter.value_for_string_parameter(
            self, f"/aws/service/aws-parameters-and-secrets-lambda-extension/{processor}/latest"
        )
