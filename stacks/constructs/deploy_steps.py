"""The steps in which a deploy invokes new versions, one after the other."""

from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from stacks.constructs.function import LeastPrivilegeFunction
from stacks.settings import Settings


class DeploySteps(LeastPrivilegeFunction):
    """The function that invokes new versions for a deploy; if one fails, the deploy rolls back and no alias moves.

    It is outside the VPC, because CloudFormation's response address cannot be reached from inside. A deploy with no new
    version of a function invokes nothing of it.
    """

    def __init__(self, scope: Construct, construct_id: str, *, settings: Settings, key: kms.IKey) -> None:
        super().__init__(
            scope,
            construct_id,
            settings=settings,
            description="Has the schema migrated, and asks a new version for an answer before callers reach it",
            handler="smoke.lambda_handler",
            key=key,
            memory_size=256,
            timeout=cdk.Duration.minutes(15),
            # Lambda runs a function that CloudFormation invoked again when it fails. The repeat would wait for the
            # migrations' lock, which the first may still hold, and tell CloudFormation FAILED.
            # https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html
            retry_attempts=0,
            # For one step: each waits for the one before.
            reserved_concurrent_executions=1 if settings.reserved_concurrency else None,
            statements=[
                # Whether CloudFormation deploys or rolls back.
                iam.PolicyStatement(
                    actions=["cloudformation:DescribeStacks"], resources=[cdk.Stack.of(scope).stack_id]
                ),
            ],
        )
        self._last: cdk.CfnResource | None = None

    def add(
        self,
        scope: Construct,
        name: str,
        *,
        version: lambda_.IVersion,
        timeout: cdk.Duration,
        longest: int,
        of: LeastPrivilegeFunction,
    ) -> cdk.CfnResource:
        """Add the step after all others; return its custom resource, named as the step with `Result`.

        Args:
            scope: where the resource belongs.
            name: the resource's, as SmokeTestResult; its type is Custom::SmokeTest.
            version: what it invokes.
            timeout: of one invocation.
            longest: seconds in which CloudFormation must have its answer.
            of: the version's function, whose security group rules are there before.
        """
        self.own_policy.add_statements(
            iam.PolicyStatement(actions=["lambda:InvokeFunction"], resources=[version.function_arn])
        )
        properties: dict[str, Any] = {
            "ServiceToken": self.function_arn,
            # Seconds; as a number, which `cdk.CustomResource` would write as a string.
            "ServiceTimeout": longest,
            "InvocationSeconds": str(timeout.to_seconds()),
            "FunctionVersion": version.function_arn,
        }
        step = cdk.CfnResource(scope, name, type=f"Custom::{name.removesuffix('Result')}", properties=properties)
        step.node.add_dependency(self, self.own_policy, *of.connections.security_groups)
        if self._last:
            step.node.add_dependency(self._last)
        self._last = step
        return step
