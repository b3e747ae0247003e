"""The RDS for MySQL instance, its secrets, and the function that rotates them."""

from typing import Final, cast

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_rds as rds
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from stacks.constructs.function import LeastPrivilegeFunction
from stacks.constructs.key import EncryptionKey
from stacks.network import HTTPS, NetworkStack
from stacks.settings import Settings
from stacks.settings.rds_mysql import HISTORY, OUT_OF_SUPPORT, REHEARSAL

MYSQL: Final = ec2.Port.tcp(3306)
DATA: Final = ["SELECT", "INSERT", "UPDATE", "DELETE"]
"""Privileges of the serving function's database users, on the application's database."""
DEFINITIONS: Final = ["ALTER", "CREATE", "CREATE VIEW", "DROP", "INDEX", "REFERENCES", "SHOW VIEW"]
"""Privileges that the migration function's database users have beside those, on the same database."""


class DatabaseStack(cdk.Stack):
    """A Multi-AZ RDS for MySQL instance that accepts connections only from explicitly allowed security groups.

    It has three secrets. RDS keeps and rotates the master user's. The rotation function rotates the
    serving function's and the migration function's, each between two users. The first rotations,
    which the deploy starts, create those users.
    """

    instance: rds.DatabaseInstance
    secret: secretsmanager.ISecret
    """The serving function's connection details. The master's secret is not shared with other stacks."""
    schema_secret: secretsmanager.ISecret
    """The migration function's connection details."""
    key: kms.Key
    """Encrypts data, secrets, logs and the alarms' topic."""
    rotation: LeastPrivilegeFunction

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        settings: Settings,
        network: NetworkStack,
    ) -> None:
        super().__init__(scope, construct_id, env=settings.place, termination_protection=settings.protect_data)
        self.key = EncryptionKey(
            self, "Key", settings=settings, description=f"Data, secrets, logs and alarms of {settings.env}"
        )
        # In this stack, because a group in the network stack and the rotation function's rules in this one
        # would make the two stacks depend on each other.
        security_group = ec2.SecurityGroup(
            self, "SecurityGroup", vpc=network.vpc, description="Database", allow_all_outbound=False
        )
        # A series such as 8.4 is passed unchanged: after a minor upgrade by RDS, an exact older version
        # would be a downgrade, which RDS refuses.
        version = rds.MysqlEngineVersion.of(settings.engine_version, settings.series)
        engine = rds.DatabaseInstanceEngine.mysql(version=version)
        # A fixed name, so that this stack can create the log groups with a retention before RDS creates
        # them without one.
        identifier = settings.database_identifier
        self.instance = rds.DatabaseInstance(
            self,
            "Instance",
            instance_identifier=identifier,
            engine=engine,
            engine_lifecycle_support=(
                rds.EngineLifecycleSupport.OPEN_SOURCE_RDS_EXTENDED_SUPPORT
                if settings.extended_support
                else rds.EngineLifecycleSupport.OPEN_SOURCE_RDS_EXTENDED_SUPPORT_DISABLED
            ),
            instance_type=ec2.InstanceType(settings.instance_class),
            multi_az=True,
            vpc=network.vpc,
            vpc_subnets=ec2.SubnetSelection(subnet_type=ec2.SubnetType.PRIVATE_ISOLATED),
            publicly_accessible=False,
            security_groups=[security_group],
            port=3306,
            ca_certificate=rds.CaCertificate.RDS_CA_RSA2048_G1,
            database_name=settings.database_name,
            credentials=rds.Credentials.from_username(settings.database_username, encryption_key=self.key),
            manage_master_user_password=True,
            storage_type=rds.StorageType.GP3,
            allocated_storage=20,
            max_allocated_storage=100,
            storage_encrypted=True,
            storage_encryption_key=self.key,
            parameter_group=rds.ParameterGroup(
                self,
                "Parameters",
                engine=engine,
                parameters={
                    "require_secure_transport": "1",
                    "tls_version": "TLSv1.2" if settings.series == "5.7" else "TLSv1.2,TLSv1.3",
                    "slow_query_log": "1",
                    "long_query_time": "1",
                    "log_output": "FILE",
                },
            ),
            # RDS chooses the hours of backups and maintenance, by region. Database Insights stays in its standard mode,
            # which is free. Subnet and parameter group hold no data, and go with the stack.
            backup_retention=cdk.Duration.days(14 if settings.protect_data else 1),
            copy_tags_to_snapshot=True,
            delete_automated_backups=not settings.protect_data,
            auto_minor_version_upgrade=True,
            cloudwatch_logs_exports=["error", "slowquery"],
            monitoring_interval=cdk.Duration.minutes(1),
            deletion_protection=settings.protect_data,
            removal_policy=cdk.RemovalPolicy.SNAPSHOT if settings.protect_data else cdk.RemovalPolicy.DESTROY,
        )
        cdk.Validations.of(self.instance).acknowledge(
            cdk.Acknowledgment(
                id="CloudFormation-Validate::E9006",
                reason="CDK's list of versions has no series, which RDS takes, and none newer than the library.",
            )
        )
        if settings.snapshot:
            _restore(cast("rds.CfnDBInstance", self.instance.node.default_child), settings.snapshot)
        for log in ("error", "slowquery"):
            self.instance.node.add_dependency(
                logs.LogGroup(
                    self,
                    f"{log.capitalize()}LogGroup",
                    log_group_name=f"/aws/rds/instance/{identifier}/{log}",
                    encryption_key=self.key,
                    retention=logs.RetentionDays.THREE_MONTHS,
                    removal_policy=settings.removal_policy,
                )
            )
        if settings.series in OUT_OF_SUPPORT:
            cdk.Annotations.of(self.instance).add_warning_v2(
                "database:extendedSupport",
                f"MySQL {settings.series} has left standard support: RDS bills extended support "
                "for every vCPU-hour of both instances of the Multi-AZ pair.",
            )

        # `manage_master_user_password` makes it.
        master_secret = cast("secretsmanager.ISecret", self.instance.secret)
        self.secret = self._secret("Secret", settings.application_username, master_secret, settings)
        self.schema_secret = self._secret("SchemaSecret", settings.schema_username, master_secret, settings)
        self.rotation = LeastPrivilegeFunction(
            self,
            "Rotation",
            settings=settings,
            description="Rotates the passwords of the functions' database users, each between two users",
            handler="rotation.lambda_handler",
            vpc=network.vpc,
            key=self.key,
            memory_size=256,
            # Secrets Manager runs at most two steps of each secret at the same time.
            reserved_concurrent_executions=4 if settings.reserved_concurrency else None,
            timeout=cdk.Duration.minutes(1),
            # Declares what a rotation may change. The function checks the secret's value against it.
            environment={
                "DATABASE_HOST": self.instance.db_instance_endpoint_address,
                "DATABASE_PORT": self.instance.db_instance_endpoint_port,
                "DATABASE_NAME": settings.database_name,
                "MASTER_SECRET_ARN": master_secret.secret_arn,
                "ROTATED_USERS": self.to_json_string(
                    {
                        self.secret.secret_arn: {
                            "username": settings.application_username,
                            "privileges": {settings.database_name: DATA, HISTORY: ["SELECT"]},
                        },
                        self.schema_secret.secret_arn: {
                            "username": settings.schema_username,
                            "privileges": {
                                settings.database_name: DATA + DEFINITIONS,
                                HISTORY: ["SELECT", "INSERT", "UPDATE", "EXECUTE"],
                                REHEARSAL: DATA + DEFINITIONS,
                            },
                        },
                    }
                ),
            },
            # The schedules add what a rotation does with the two secrets.
            statements=[
                iam.PolicyStatement(actions=["secretsmanager:GetSecretValue"], resources=[master_secret.secret_arn]),
                secrets_decryption(self.key, "kms:Decrypt", "kms:GenerateDataKey"),
            ],
        )
        # Both groups are in this stack, so the stacks do not depend on each other.
        self.rotation.connections.allow_to(security_group, MYSQL, "Rotation to MySQL")
        self.rotation.connections.allow_to(network.secrets_manager, HTTPS, "Rotation to Secrets Manager")
        for secret in (self.secret, self.schema_secret):
            # rotate_immediately_on_update keeps its default, true: the rotation at the schedule's creation
            # creates the users. Later, only a change of the schedule rotates at once.
            schedule = secret.add_rotation_schedule(
                "Schedule",
                automatically_after=cdk.Duration.days(settings.rotation_days),
                rotation_lambda=self.rotation,
            )
            schedule.node.add_dependency(*self.rotation.connections.security_groups, security_group)
            # CDK has no argument for it. Adding it rotated the users of environments from before the history had a
            # database of its own, which made that database and gave them its grants.
            cast("secretsmanager.CfnRotationSchedule", schedule.node.default_child).add_property_override(
                "RotationRules.Duration", "4h"
            )
        for each in self.rotation.node.children:
            if isinstance(each, lambda_.CfnPermission):
                # Without it, Secrets Manager could invoke the function on behalf of any account.
                each.source_account = self.account

    def _secret(
        self, name: str, username: str, master_secret: secretsmanager.ISecret, settings: Settings
    ) -> secretsmanager.ISecret:
        """Create the connection details of a user that the rotation function makes, with a generated password."""
        secret = rds.DatabaseSecret(
            self,
            name,
            username=username,
            dbname=settings.database_name,
            master_secret=master_secret,
            encryption_key=self.key,
        )
        secret.apply_removal_policy(settings.removal_policy)
        return secret.attach(self.instance)


def _restore(instance: rds.CfnDBInstance, snapshot: str) -> None:
    """Have the instance's data come from a snapshot, with the snapshot's database, master user, storage and key.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-rds-dbinstance.html names what
    must not be given then. RDS refuses less storage than the snapshot's. The master gets a new password, which RDS
    keeps: docs/decisions/0021-a-managed-master-password-after-a-restore.md.
    """
    instance.db_snapshot_identifier = snapshot
    instance.db_name = None
    instance.master_username = None
    instance.kms_key_id = None
    instance.allocated_storage = None


def secrets_decryption(key: kms.IKey, *actions: str) -> iam.PolicyStatement:
    """Allow the actions with the key, only through Secrets Manager.

    This is a statement on the role and not `key.grant_decrypt`, which would also name the role in
    the key's policy and make the two stacks depend on each other.
    """
    return iam.PolicyStatement(
        actions=list(actions),
        resources=[key.key_arn],
        conditions={"StringEquals": {"kms:ViaService": f"secretsmanager.{cdk.Stack.of(key).region}.amazonaws.com"}},
    )
