"""Lambda functions with an explicit list of permissions."""

from collections.abc import Mapping
from typing import TypedDict, Unpack, cast

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from constructs import Construct

from stacks.packaging.bundling import RUNTIME, function_code
from stacks.settings import Settings


class FunctionOptions(TypedDict, total=False):
    """The options of CDK's `lambda_.Function` that the stacks set."""

    description: str
    memory_size: int
    timeout: cdk.Duration
    reserved_concurrent_executions: int | None
    retry_attempts: int
    environment: Mapping[str, str]
    current_version_options: lambda_.VersionOptions
    params_and_secrets: lambda_.ParamsAndSecretsLayerVersion


class ExecutionRole(iam.Role):
    """A function's role, to whose one managed policy every grant is added.

    CDK itself would add grants to an inline policy, which the rules of NIST and HIPAA refuse.
    """

    policy: iam.ManagedPolicy

    def add_to_principal_policy(self, statement: iam.PolicyStatement) -> iam.AddToPrincipalPolicyResult:
        """Add the statement of a grant (`bucket.grant_read(function)`) to the function's policy."""
        self.policy.add_statements(statement)
        return iam.AddToPrincipalPolicyResult(statement_added=True, policy_dependable=self.policy)


class LeastPrivilegeFunction(lambda_.Function):
    """A function from lambda_src/ with its own role, log group and, in a VPC, security group.

    Its permissions are the listed statements, grants and what CDK's constructs add (traces, a
    rotation), all in `own_policy`.
    """

    own_log_group: logs.LogGroup
    own_policy: iam.ManagedPolicy
    interface_policy: iam.ManagedPolicy | None = None
    """What Lambda needs to put the function into a VPC."""

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
        # CDK's id of what another construct is about, which is in no name.
        name = "" if construct_id == "Default" else construct_id
        # Created beside the function, because the function's own scope exists only after super().
        role = ExecutionRole(scope, f"{name}Role", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
        log_group = logs.LogGroup(
            scope,
            f"{name}LogGroup",
            encryption_key=key,
            retention=logs.RetentionDays.THREE_MONTHS,
            removal_policy=settings.removal_policy,
        )
        # The policies refer to the role and not the other way round, because the key's policy refers to the
        # rotation function's role, and a policy of that role to the key.
        self.own_policy = role.policy = iam.ManagedPolicy(
            scope,
            f"{name}Policy",
            description="What the function is for, and its log.",
            roles=[role],
            statements=[
                *statements,
                iam.PolicyStatement(
                    actions=["logs:CreateLogStream", "logs:PutLogEvents"], resources=[log_group.log_group_arn]
                ),
            ],
        )
        security_group = vpc and ec2.SecurityGroup(
            scope,
            f"{name}SecurityGroup",
            vpc=vpc,
            description=f"{name or scope.node.id} function",
            allow_all_outbound=False,
        )
        super().__init__(
            scope,
            construct_id,
            code=function_code(cdk.Stack.of(scope), handler.partition(".")[0]),
            handler=handler,
            runtime=RUNTIME,
            role=role,
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
        self._keep_version(settings)
        self.own_log_group = log_group
        if vpc:
            self._allow_interfaces(scope, name, role)

    def _keep_version(self, settings: Settings) -> None:
        """Name the assets' bucket as without `account` and `region`, so that giving them makes no new version.

        CDK names a version after its function's properties as they are written, and Lambda refuses to publish a
        version of a function that is unchanged (https://github.com/aws/aws-cdk/issues/35540).
        """
        function = cast("lambda_.CfnFunction", self.node.default_child)
        bucket = self.stack.resolve(function.code)["s3Bucket"]
        name: str = bucket if isinstance(bucket, str) else bucket["Fn::Sub"]
        for given, reference in ((settings.account, "${AWS::AccountId}"), (settings.region, "${AWS::Region}")):
            name = name.replace(given, reference) if given else name
        function.add_property_override("Code.S3Bucket", {"Fn::Sub": name})

    def _allow_interfaces(self, scope: Construct, name: str, role: iam.Role) -> None:
        """Allow Lambda to create the network interfaces, and deny the same calls to the code.

        https://docs.aws.amazon.com/lambda/latest/dg/configuration-vpc.html
        """
        self.interface_policy = iam.ManagedPolicy(
            scope,
            f"{name}InterfacePolicy",
            description="The network interfaces by which Lambda puts the function into the VPC.",
            roles=[role],
            statements=[
                iam.PolicyStatement(
                    actions=[
                        "ec2:AssignPrivateIpAddresses",
                        "ec2:CreateNetworkInterface",
                        "ec2:DeleteNetworkInterface",
                        "ec2:UnassignPrivateIpAddresses",
                    ],
                    resources=[self.stack.format_arn(service="ec2", resource="*", resource_name="*")],
                ),
                iam.PolicyStatement(actions=["ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets"], resources=["*"]),
            ],
        )
        # Lambda checks these permissions before it creates the function.
        self.node.add_dependency(self.own_policy, self.interface_policy)
        iam.ManagedPolicy(
            scope,
            f"{name}DenyPolicy",
            description="Keeps the function's own code from the calls that Lambda makes in its name.",
            roles=[role],
            statements=[
                iam.PolicyStatement(
                    effect=iam.Effect.DENY,
                    actions=["ec2:*"],
                    resources=["*"],
                    conditions={"ArnEquals": {"lambda:SourceFunctionArn": self.function_arn}},
                )
            ],
        )
