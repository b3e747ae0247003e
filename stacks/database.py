"""The database, its secrets, and the function that rotates them."""

from typing import Any, Final

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_rds as rds
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from stacks.acknowledgement import acknowledge
from stacks.function import VpcFunction
from stacks.key import EncryptionKey
from stacks.network import HTTPS, NetworkStack
from stacks.settings import APPLICATION_USERNAME, Settings

MYSQL: Final = ec2.Port.tcp(3306)


class DatabaseStack(cdk.Stack):
    """A Multi-AZ RDS for MySQL instance that only those told so can reach.

    Two secrets: the master user's, which RDS keeps and rotates, and the application
    user's, which the rotation function here keeps and rotates between two users. The
    first rotation, started by the deploy, makes those users.
    """

    instance: rds.DatabaseInstance
    secret: secretsmanager.ISecret
    """The application user's connection details; the master's stay inside this stack."""
    key: kms.Key
    """For data, secrets, logs and alarms."""
    rotation: VpcFunction

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        settings: Settings,
        network: NetworkStack,
        **kwargs: Any,
    ) -> None:
        super().__init__(scope, construct_id, **kwargs)
        removal_policy = cdk.RemovalPolicy.RETAIN if settings.is_prod else cdk.RemovalPolicy.DESTROY
        self.key = EncryptionKey(
            self, "Key", settings=settings, description=f"Data, secrets, logs and alarms of {settings.env}"
        )
        # Here and not with the network: a group there and the rotation function's rules
        # here would make the two stacks wait for each other.
        security_group = ec2.SecurityGroup(
            self, "SecurityGroup", vpc=network.vpc, description="Database", allow_all_outbound=False
        )
        major_version = ".".join(settings.mysql_version.split(".")[:2])
        version = rds.MysqlEngineVersion.of(settings.mysql_version, major_version)
        engine = rds.DatabaseInstanceEngine.mysql(version=version)
        # Named, so that the log groups can exist, with a retention, before RDS makes them without.
        identifier = f"{settings.env}-demoapp"
        self.instance = rds.DatabaseInstance(
            self,
            "Instance",
            instance_identifier=identifier,
            engine=engine,
            engine_lifecycle_support=(
                rds.EngineLifecycleSupport.OPEN_SOURCE_RDS_EXTENDED_SUPPORT
                if settings.is_extended_support
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
                    "tls_version": "TLSv1.2" if major_version == "5.7" else "TLSv1.2,TLSv1.3",
                    "slow_query_log": "1",
                    "long_query_time": "1",
                    "log_output": "FILE",
                },
            ),
            backup_retention=cdk.Duration.days(14 if settings.is_prod else 1),
            copy_tags_to_snapshot=True,
            delete_automated_backups=not settings.is_prod,
            auto_minor_version_upgrade=True,
            cloudwatch_logs_exports=["error", "slowquery"],
            monitoring_interval=cdk.Duration.minutes(1),
            deletion_protection=settings.is_prod,
            removal_policy=cdk.RemovalPolicy.SNAPSHOT if settings.is_prod else cdk.RemovalPolicy.DESTROY,
        )
        for log in ("error", "slowquery"):
            self.instance.node.add_dependency(
                logs.LogGroup(
                    self,
                    f"{log.capitalize()}LogGroup",
                    log_group_name=f"/aws/rds/instance/{identifier}/{log}",
                    encryption_key=self.key,
                    retention=logs.RetentionDays.THREE_MONTHS,
                    removal_policy=removal_policy,
                )
            )
        if settings.is_extended_support:
            cdk.Annotations.of(self.instance).add_warning_v2(
                "demoapp:extendedSupport",
                f"MySQL {settings.mysql_version} has left standard support: RDS bills extended support "
                "for every vCPU-hour of both instances of the Multi-AZ pair.",
            )

        self._acknowledge_instance(settings)

        master_secret = self.instance.secret
        assert master_secret is not None  # noqa: S101 - manage_master_user_password makes it
        bare_secret = rds.DatabaseSecret(
            self,
            "Secret",
            username=APPLICATION_USERNAME,
            dbname=settings.database_name,
            master_secret=master_secret,
            encryption_key=self.key,
        )
        bare_secret.apply_removal_policy(removal_policy)
        self.secret = bare_secret.attach(self.instance)
        self.rotation = VpcFunction(
            self,
            "Rotation",
            settings=settings,
            description="Rotates the application user's password between two users",
            handler="rotation.lambda_handler",
            vpc=network.vpc,
            key=self.key,
            memory_size=256,
            # Secrets Manager may call twice at once, and no more often.
            reserved_concurrent_executions=2,
            timeout=cdk.Duration.minutes(1),
            statements=[
                iam.PolicyStatement(
                    actions=[
                        "secretsmanager:DescribeSecret",
                        "secretsmanager:GetSecretValue",
                        "secretsmanager:PutSecretValue",
                        "secretsmanager:UpdateSecretVersionStage",
                    ],
                    resources=[bare_secret.secret_arn],
                ),
                iam.PolicyStatement(actions=["secretsmanager:GetSecretValue"], resources=[master_secret.secret_arn]),
                secrets_decryption(self.key, "kms:Decrypt", "kms:GenerateDataKey"),
            ],
        )
        # Through the database's own stack, with the database's own group: no cycle.
        self.rotation.connections.allow_to(security_group, MYSQL, "Rotation to MySQL")
        self.rotation.connections.allow_to(network.secrets_manager, HTTPS, "Rotation to Secrets Manager")
        self.rotation.allow_on_everything(
            "RandomPasswordPolicy",
            "GetRandomPassword touches no secret, and IAM knows no resource for it.",
            "secretsmanager:GetRandomPassword",
        )
        # rotate_immediately_on_update keeps its default, true: the rotation at the schedule's
        # creation is what makes the users. Only a change of the schedule itself rotates again.
        schedule = self.secret.add_rotation_schedule(
            "Schedule",
            automatically_after=cdk.Duration.days(settings.rotation_days),
            rotation_lambda=self.rotation,
        )
        (permission,) = (each for each in self.rotation.node.children if isinstance(each, lambda_.CfnPermission))
        permission.source_account = self.account  # CDK lets Secrets Manager call in any account's name.
        schedule.node.add_dependency(*self.rotation.connections.security_groups, security_group)

    def _acknowledge_instance(self, settings: Settings) -> None:
        acknowledge(
            self.instance,
            "RDS publishes the enhanced metrics in this role's name; AWS's own policy follows what that needs.",
            "AwsSolutions-IAM4[Policy::arn:<AWS::Partition>:iam::aws:policy/service-role/AmazonRDSEnhancedMonitoringRole]",
        )
        acknowledge(
            self.instance,
            "The port is no secret to who is inside, and who is outside reaches no port.",
            "AwsSolutions-RDS11",
        )
        acknowledge(
            self.instance,
            "The function's users log in with passwords that Secrets Manager changes. Tokens of IAM would be a second "
            "way in that nobody here takes.",
            "CKV_AWS_161",
        )
        acknowledge(
            self.instance,
            "RDS's own backups restore to any second of their time. A plan of AWS Backup, in another account, is for "
            "the organisation to make.",
            "HIPAA.Security-RDSInBackupPlan",
            "NIST.800.53.R5-RDSInBackupPlan",
        )
        acknowledge(
            self.instance,
            "The general log and the audit log hold statements with their values, each written twice for it; the "
            "slow-query log and the error log are published.",
            *(
                f"{pack}-RDSLoggingEnabled[LogExport::{log}]"
                for pack in ("HIPAA.Security", "NIST.800.53.R5", "PCI.DSS.321")
                for log in ("audit", "general")
            ),
        )
        if not settings.is_prod:
            acknowledge(
                self.instance,
                "A dev stack leaves nothing behind when it is destroyed.",
                "AwsSolutions-RDS10",
                "HIPAA.Security-RDSInstanceDeletionProtectionEnabled",
                "NIST.800.53.R5-RDSInstanceDeletionProtectionEnabled",
            )


def secrets_decryption(key: kms.IKey, *actions: str) -> iam.PolicyStatement:
    """Allow the actions with the key, but only when Secrets Manager asks in the role's name.

    A plain statement on the role and not `key.grant_decrypt`: across stacks the grant
    would name the role in the key's policy, and the stacks would wait for each other.
    """
    return iam.PolicyStatement(
        actions=list(actions),
        resources=[key.key_arn],
        conditions={"StringEquals": {"kms:ViaService": f"secretsmanager.{cdk.Stack.of(key).region}.amazonaws.com"}},
    )
