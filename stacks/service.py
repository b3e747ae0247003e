"""The function, its configuration, and what it may do."""

from typing import Any, Final

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_ssm as ssm
from constructs import Construct

from stacks.database import MYSQL, DatabaseStack, secrets_decryption
from stacks.function import VpcFunction
from stacks.network import HTTPS, NetworkStack
from stacks.settings import Settings

APP_CONFIG_PATH: Final = "demoApp/app_config"
APP_CONFIG: Final = '{"enableVersion":true,"version":1,"app":"DemoApp"}'

TIMEOUT: Final = cdk.Duration.seconds(30)
"""Of the function; more than all its own waits together, which a test adds up."""

EXTENSION_TIMEOUT: Final = cdk.Duration.seconds(1)
"""Of the extension's calls to AWS; its default is to wait for ever."""


class ServiceStack(cdk.Stack):
    """A function that reads parameter and secret through the extension and queries the database."""

    function: VpcFunction

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
        cdk.CfnOutput(self, "FunctionName", value=self.function.function_name)
        cdk.CfnOutput(self, "ParameterName", value=parameter.parameter_name)
        cdk.CfnOutput(self, "DatabaseSecretArn", value=database.secret.secret_arn)

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
