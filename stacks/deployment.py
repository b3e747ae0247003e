"""The IAM role with which a GitHub workflow deploys, by OpenID Connect and without stored keys."""

from typing import Final

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from constructs import Construct

from stacks.service import ALIAS
from stacks.settings import Settings

ISSUER: Final = "token.actions.githubusercontent.com"


class DeploymentStack(cdk.Stack):
    """A role for one environment of one repository.

    It may assume the roles of `cdk bootstrap`, and make the checks of `make verify`. The account's
    identity provider for GitHub is not created here, because an account has only one, for all
    repositories (docs/operations.md has the command).
    """

    def __init__(self, scope: Construct, construct_id: str, *, settings: Settings) -> None:
        super().__init__(scope, construct_id, termination_protection=settings.protect_data)
        provider = self.format_arn(service="iam", region="", resource="oidc-provider", resource_name=ISSUER)
        role = iam.Role(
            self,
            "Role",
            description=f"Deploys {settings.env} from {settings.github_repository}",
            max_session_duration=cdk.Duration.hours(1),
            assumed_by=iam.WebIdentityPrincipal(
                provider,
                {
                    "StringEquals": {
                        f"{ISSUER}:aud": "sts.amazonaws.com",
                        f"{ISSUER}:sub": f"repo:{settings.github_repository}:environment:{settings.env}",
                    }
                },
            ),
        )
        qualifier = cdk.DefaultStackSynthesizer.DEFAULT_QUALIFIER
        iam.ManagedPolicy(
            self,
            "Policy",
            roles=[role],
            statements=[
                iam.PolicyStatement(
                    actions=["sts:AssumeRole"],
                    resources=[
                        self.format_arn(
                            service="iam",
                            region="",
                            resource="role",
                            resource_name=f"cdk-{qualifier}-{purpose}-role-{self.account}-{self.region}",
                        )
                        for purpose in ("deploy", "file-publishing", "lookup")
                    ],
                )
            ],
        )
        self._allow_verification(role, settings)
        cdk.CfnOutput(self, "RoleArn", value=role.role_arn)

    def _allow_verification(self, role: iam.Role, settings: Settings) -> None:
        """Allow what `make verify` asks after a deploy: descriptions, and invocations of the function."""
        role.add_managed_policy(iam.ManagedPolicy.from_aws_managed_policy_name("SecurityAudit"))
        prefix = settings.stack_prefix
        here = f"{self.region}:{self.account}"
        allowed = {
            # By each stack's name, because that of another environment may begin as this one's.
            **{
                f"cloudformation:{here}:stack/{prefix}{stack}/*": [
                    "cloudformation:DetectStackDrift",
                    "cloudformation:DetectStackResourceDrift",
                ]
                for stack in ("Network", "Database", "Service", "Monitoring")
            },
            **{
                f"lambda:{here}:function:{prefix}{stack}-*": [
                    "lambda:GetAlias",
                    "lambda:GetFunctionConcurrency",
                    "lambda:GetFunctionConfiguration",
                    "lambda:GetPolicy",
                ]
                for stack in ("Database", "Service")
            },
            f"lambda:{here}:function:{prefix}Service-Function*:{ALIAS}": ["lambda:InvokeFunction"],
            # AWS's own parameters, with the newest version of the extension's layer.
            f"ssm:{self.region}::parameter/aws/service/aws-parameters-and-secrets-lambda-extension/*": [
                "ssm:GetParameter"
            ],
        }
        iam.ManagedPolicy(
            self,
            "VerifyPolicy",
            roles=[role],
            statements=[
                iam.PolicyStatement(actions=actions, resources=[f"arn:{self.partition}:{resource}"])
                for resource, actions in allowed.items()
            ],
        )
