"""KMS keys for data, secrets and logs."""

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from constructs import Construct

from stacks.settings import Settings


class EncryptionKey(kms.Key):
    """A KMS key with yearly rotation, which CloudWatch Logs may use for this account's log groups."""

    def __init__(self, scope: Construct, construct_id: str, *, settings: Settings, description: str) -> None:
        super().__init__(
            scope,
            construct_id,
            description=description,
            enable_key_rotation=True,
            removal_policy=settings.removal_policy,
        )
        log_groups = self.stack.format_arn(
            service="logs", resource="log-group:*", arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME
        )
        self.add_to_resource_policy(
            iam.PolicyStatement(
                principals=[iam.ServicePrincipal(f"logs.{self.stack.region}.amazonaws.com")],
                actions=["kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*"],
                resources=["*"],
                conditions={"ArnLike": {"kms:EncryptionContext:aws:logs:arn": log_groups}},
            )
        )
