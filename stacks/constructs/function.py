"""Lambda functions with an explicit list of permissions."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TypedDict, Unpack

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from constructs import Construct

from stacks.constructs.bundling import RUNTIME, function_code
from stacks.settings import Settings

ON_ALL_RESOURCES = "AwsSolutions-IAM5[Resource::*]"
ON_INTERFACES = "AwsSolutions-IAM5[Resource::arn:<AWS::Partition>:ec2:<AWS::Region>:<AWS::AccountId>:*/*]"
"""The findings of cdk-nag that wide policies have."""


class FunctionOptions(TypedDict, total=False):
    """The options of CDK's `lambda_.Function` that the stacks set."""

    description: str
    memory_size: int
    timeout: cdk.Duration
    reserved_concurrent_executions: int | None
    environment: Mapping[str, str]
    current_version_options: lambda_.VersionOptions
    params_and_secrets: lambda_.ParamsAndSecretsLayerVersion


class ExecutionRole(iam.Role):
    """A function's role.

    Grants are added to a named managed policy. CDK's own constructs add statements too, some of
    them on all resources; these are dropped while `accepts_grants` is false.
    """

    accepts_grants = False
    policy: iam.ManagedPolicy

    def add_to_principal_policy(self, statement: iam.PolicyStatement) -> iam.AddToPrincipalPolicyResult:
        """Add the statement of a grant (`bucket.grant_read(function)`) to the function's policy."""
        if not self.accepts_grants:
            return iam.AddToPrincipalPolicyResult(statement_added=True)
        self.policy.add_statements(statement)
        return iam.AddToPrincipalPolicyResult(statement_added=True, policy_dependable=self.policy)


class LeastPrivilegeFunction(lambda_.Function):
    """A function from lambda_src/ with its own role, log group and, in a VPC, security group.

    Its permissions are the listed statements and later grants, in named managed policies, and none
    that CDK adds by itself: every permission is declared where the function is.
    """

    own_log_group: logs.LogGroup
    own_policy: iam.ManagedPolicy
    wide_policies: list[tuple[iam.ManagedPolicy, str, str]]
    """Policies with a wildcard, each with its cdk-nag finding and the reason."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        settings: Settings,
        handler: str,
        key: kms.IKey,
        statements: list[iam.PolicyStatement],
        vpc: ec2.IVpc | None = None,
        **options: Unpack[FunctionOptions],
    ) -> None:
        # Created beside the function, because the function's own scope exists only after super().
        self.execution_role = ExecutionRole(
            scope, f"{construct_id}Role", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com")
        )
        log_group = logs.LogGroup(
            scope,
            f"{construct_id}LogGroup",
            encryption_key=key,
            retention=logs.RetentionDays.THREE_MONTHS,
            removal_policy=settings.removal_policy,
        )
        security_group = vpc and ec2.SecurityGroup(
            scope,
            f"{construct_id}SecurityGroup",
            vpc=vpc,
            description=f"{construct_id} function",
            allow_all_outbound=False,
        )
        super().__init__(
            scope,
            construct_id,
            code=function_code(handler.partition(".")[0]),
            handler=handler,
            runtime=RUNTIME,
            role=self.execution_role,
            log_group=log_group,
            environment_encryption=key,
            logging_format=lambda_.LoggingFormat.JSON,
            architecture=(
                lambda_.Architecture.ARM_64 if settings.architecture == "arm64" else lambda_.Architecture.X86_64
            ),
            tracing=lambda_.Tracing.ACTIVE,
            vpc=vpc,
            vpc_subnets=vpc and ec2.SubnetSelection(subnet_type=ec2.SubnetType.PRIVATE_ISOLATED),
            security_groups=[security_group] if security_group else None,
            **options,
        )
        self.own_log_group = log_group
        self.wide_policies = []
        self.own_policy = self.execution_role.policy = self._add_policy(
            "Policy",
            "What the function is for, and its log.",
            *statements,
            iam.PolicyStatement(
                actions=["logs:CreateLogStream", "logs:PutLogEvents"], resources=[log_group.log_group_arn]
            ),
        )
        self.allow_on_all_resources(
            "TracePolicy",
            "X-Ray knows no resource for what it is sent.",
            "xray:PutTelemetryRecords",
            "xray:PutTraceSegments",
        )
        if vpc:
            self._allow_interfaces()
        self.execution_role.accepts_grants = True

    def _allow_interfaces(self) -> None:
        """Allow Lambda to create the network interfaces, and deny the same calls to the code.

        https://docs.aws.amazon.com/lambda/latest/dg/configuration-vpc.html
        """
        interfaces = self._add_policy(
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
        reason = (
            "Lambda makes the interfaces, with ids that nobody knows before. IAM takes this form for exactly these "
            "calls (https://docs.aws.amazon.com/lambda/latest/dg/configuration-vpc.html), and the function's own code "
            "is denied them."
        )
        self.wide_policies.append((interfaces, ON_INTERFACES, reason))
        describe = self.allow_on_all_resources(
            "DescribePolicy",
            "The calls a VPC function needs that IAM cannot narrow to a resource.",
            "ec2:DescribeNetworkInterfaces",
            "ec2:DescribeSubnets",
        )
        # Lambda checks these permissions before it creates the function.
        self.node.add_dependency(self.own_policy, interfaces, describe)
        self._add_policy(
            "DenyPolicy",
            "Keeps the function's own code from the calls that Lambda makes in its name.",
            iam.PolicyStatement(
                effect=iam.Effect.DENY,
                actions=["ec2:*"],
                resources=["*"],
                conditions={"ArnEquals": {"lambda:SourceFunctionArn": self.function_arn}},
            ),
        )

    @contextmanager
    def without_grants(self) -> Iterator[None]:
        """Drop the statements that a CDK construct adds to the role by itself."""
        self.execution_role.accepts_grants = False
        yield
        self.execution_role.accepts_grants = True

    def allow_on_all_resources(self, name: str, reason: str, *actions: str) -> iam.ManagedPolicy:
        """Allow actions for which IAM defines no resource, in a separate policy.

        In a shared policy, the acknowledged `*` would hide the next one.
        """
        policy = self._add_policy(name, reason, iam.PolicyStatement(actions=list(actions), resources=["*"]))
        self.wide_policies.append((policy, ON_ALL_RESOURCES, reason))
        return policy

    def _add_policy(self, name: str, description: str, *statements: iam.PolicyStatement) -> iam.ManagedPolicy:
        """Create a managed policy and attach it to the role.

        The policy refers to the role (`roles`) and not the other way round, because the key's
        policy refers to the rotation function's role, and a policy of that role to the key. It is
        beside the function in the construct tree, so that the function can depend on it.
        """
        return iam.ManagedPolicy(
            self.stack,
            f"{self.node.id}{name}",
            description=description,
            roles=[self.execution_role],
            statements=list(statements),
        )
