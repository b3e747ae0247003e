"""The serving function, its parameter, its migrations and its deployment steps."""

from typing import Final

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_ssm as ssm
from constructs import Construct

from stacks.constructs.deploy_steps import DeploySteps
from stacks.constructs.function import LeastPrivilegeFunction
from stacks.constructs.serving_function import ServingFunction
from stacks.database import MYSQL, DatabaseStack, secrets_decryption
from stacks.network import HTTPS, NetworkStack
from stacks.settings import Settings, SettingsError

MIGRATION_TIMEOUT: Final = cdk.Duration.minutes(10)
"""The migration function's timeout, for all migrations of one deploy."""


class ServiceStack(cdk.Stack):
    """The serving functions, with the extension's layer, in the VPC."""

    function: ServingFunction
    migration: LeastPrivilegeFunction

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        settings: Settings,
        network: NetworkStack,
        database: DatabaseStack,
    ) -> None:
        super().__init__(scope, construct_id, env=settings.place, termination_protection=settings.protect_data)
        self._settings, self._network, self._database = settings, network, database
        self._parameter = ssm.StringParameter(
            self,
            "AppConfig",
            parameter_name=settings.parameter_name,
            description=f"Configuration of {settings.application}",
            string_value=settings.app_config,
        )
        self._steps = DeploySteps(self, "SmokeTest", settings=settings, key=database.key)
        self._migrate()
        self.function = self.serve(
            "Serving",
            handler="handler.lambda_handler",
            description="Reads its configuration and credentials through the extension and queries MySQL",
            reserved_concurrency=settings.reserved_concurrency,
        )
        self.function.name_output.override_logical_id("FunctionName")
        cdk.CfnOutput(self, "ParameterName", value=self._parameter.parameter_name)
        cdk.CfnOutput(self, "DatabaseSecretArn", value=database.secret.secret_arn)

    @property
    def functions(self) -> list[ServingFunction]:
        """All serving functions of the stack."""
        return [each for each in self.node.children if isinstance(each, ServingFunction)]

    def serve(self, name: str, *, handler: str, description: str, reserved_concurrency: int) -> ServingFunction:
        """Add a serving function; `handler` is `<module>.lambda_handler` of lambda_src/, a key of bundling's `FILES`.

        Raises:
            SettingsError: the functions together reserve more execution environments than the database has connections.
        """
        function = ServingFunction(
            self,
            name,
            settings=self._settings,
            network=self._network,
            database=self._database,
            parameter=self._parameter,
            steps=self._steps,
            description=description,
            handler=handler,
            reserved_concurrency=reserved_concurrency,
        )
        self._check_connections()
        return function

    def _check_connections(self) -> None:
        reserved = {each.node.id: each.reserved_concurrency for each in self.functions}
        needed, there = sum(reserved.values()), self._settings.connections
        if needed > there:
            fault = (
                f"reserved concurrency {' + '.join(f'{number} ({name})' for name, number in reserved.items())}: each "
                f"execution environment holds one connection, and {self._settings.instance_class} carries {there}; "
                f"allowed: {there} together, or a larger instance_class"
            )
            raise SettingsError([fault])

    def _migrate(self) -> None:
        """Have each deploy apply migrations/ first, as a database user who may define tables."""
        settings, network, database = self._settings, self._network, self._database
        self.migration = LeastPrivilegeFunction(
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
        self.migration.connections.allow_to(database.instance, MYSQL, "Migration to MySQL")
        self.migration.connections.allow_to(network.secrets_manager, HTTPS, "Migration to Secrets Manager")
        self._steps.add(
            self,
            "MigrationResult",
            version=self.migration.current_version,
            timeout=MIGRATION_TIMEOUT,
            longest=900,
            of=self.migration,
        )
