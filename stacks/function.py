"""Lambda functions that may do nothing until they are told."""

from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from constructs import Construct

from stacks.acknowledgement import acknowledge
from stacks.package import RUNTIME, function_code
from stacks.settings import Settings


class ClosedFunction(lambda_.Function):
    """A function from lambda_src/ with a role and a log group of its own.

    The role is closed: what CDK's grants would add to it is dropped, and each policy is
    a managed one with a name, so that a reader finds every permission where the function
    is declared.
    """

    execution_role: iam.Role
    own_log_group: logs.LogGroup

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        settings: Settings,
        handler: str,
        key: kms.IKey,
        statements: list[iam.PolicyStatement],
        **kwargs: Any,
    ) -> None:
        # Siblings of the function, because the function's own scope exists only after super().
        role = iam.Role(scope, f"{construct_id}Role", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
        log_group = logs.LogGroup(
            scope,
            f"{construct_id}LogGroup",
            encryption_key=key,
            retention=logs.RetentionDays.THREE_MONTHS,
            removal_policy=cdk.RemovalPolicy.RETAIN if settings.is_prod else cdk.RemovalPolicy.DESTROY,
        )
        super().__init__(
            scope,
            construct_id,
            code=function_code(),
            handler=handler,
            runtime=RUNTIME,
            role=role.without_policy_updates(),
            log_group=log_group,
            environment_encryption=key,
            logging_format=lambda_.LoggingFormat.JSON,
            architecture=(
                lambda_.Architecture.ARM_64 if settings.architecture == "arm64" else lambda_.Architecture.X86_64
            ),
            tracing=lambda_.Tracing.ACTIVE,
            **kwargs,
        )
        self.execution_role = role
        self.own_log_group = log_group
        self.own_policy = self.policy(
            "Policy",
            "What the function is for, and its log.",
            *statements,
            iam.PolicyStatement(
                actions=["logs:CreateLogStream", "logs:PutLogEvents"], resources=[log_group.log_group_arn]
            ),
        )
        self.allow_on_everything(
            "TracePolicy",
            "X-Ray knows no resource for what it is sent.",
            "xray:PutTelemetryRecords",
            "xray:PutTraceSegments",
        )
        acknowledge(
            self,
            "Whoever calls these functions waits for the answer, or tries again as Secrets Manager does: there is "
            "no event to keep.",
            *(f"{pack}-LambdaDLQ" for pack in ("HIPAA.Security", "NIST.800.53.R5", "Serverless")),
            "CKV_AWS_116",
        )
        acknowledge(
            self,
            "Python 3.13 is supported to 2029-06-30, and is what demo and tests run where it is to be had.",
            "AwsSolutions-L1",
            "Serverless-LambdaLatestVersion",
        )

    def allow_on_everything(self, name: str, reason: str, *actions: str) -> iam.ManagedPolicy:
        """Allow actions for which IAM knows no resource, in a policy of their own.

        Of their own, because a finding of `*` once acknowledged hides the next in the same policy.
        """
        policy = self.policy(name, reason, iam.PolicyStatement(actions=list(actions), resources=["*"]))
        acknowledge(policy, reason, "AwsSolutions-IAM5[Resource::*]")
        return policy

    def policy(self, name: str, description: str, *statements: iam.PolicyStatement) -> iam.ManagedPolicy:
        """Attach a policy to the role.

        From the policy's side (`roles`), so that the role waits for no policy: the key's
        policy names the rotation function's role, and a policy of that role names the key.
        Beside the function, so that the function can wait for it.
        """
        return iam.ManagedPolicy(
            self.stack,
            f"{self.node.id}{name}",
            description=description,
            roles=[self.execution_role],
            statements=list(statements),
        )


class VpcFunction(ClosedFunction):
    """A closed function in the private subnets, with a security group of its own."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        vpc: ec2.IVpc,
        **kwargs: Any,
    ) -> None:
        group = ec2.SecurityGroup(
            scope,
            f"{construct_id}SecurityGroup",
            vpc=vpc,
            description=f"{construct_id} function",
            allow_all_outbound=False,
        )
        super().__init__(
            scope,
            construct_id,
            vpc=vpc,
            vpc_subnets=ec2.SubnetSelection(subnet_type=ec2.SubnetType.PRIVATE_ISOLATED),
            security_groups=[group],
            **kwargs,
        )
        interfaces = self.policy(
            "InterfacePolicy",
            "The network interfaces by which Lambda puts the function into the VPC.",
            iam.PolicyStatement(
                actions=[
                    "ec2:AssignPrivateIpAddresses",
                    "ec2:CreateNetworkInterface",
                    "ec2:DeleteNetworkInterface",
                    "ec2:UnassignPrivateIpAddresses",
                ],
                resources=[self.stack.format_arn(service="ec2", resource="*", resource_name="*")],
            ),
        )
        acknowledge(
            interfaces,
            "Lambda makes the interfaces, with ids nobody knows before; IAM takes this form for exactly these calls "
            "(Lambda developer guide), and the function's own code is denied them.",
            "AwsSolutions-IAM5[Resource::arn:<AWS::Partition>:ec2:<AWS::Region>:<AWS::AccountId>:*/*]",
        )
        describe = self.allow_on_everything(
            "DescribePolicy",
            "The calls a VPC function needs that IAM cannot narrow to a resource.",
            "ec2:DescribeNetworkInterfaces",
            "ec2:DescribeSubnets",
        )
        # Lambda checks that it may make interfaces before it makes the function.
        self.node.add_dependency(self.own_policy, interfaces, describe)
        # The interfaces are Lambda's to manage; the code that runs behind them must not
        # (Lambda developer guide, "Granting Lambda functions access to a VPC").
        self.policy(
            "DenyPolicy",
            "Keeps the function's own code from the calls that Lambda makes in its name.",
            iam.PolicyStatement(
                effect=iam.Effect.DENY,
                actions=["ec2:*"],
                resources=["*"],
                conditions={"ArnEquals": {"lambda:SourceFunctionArn": self.function_arn}},
            ),
        )
