"""The role that GitHub's workflow deploys with, without a stored key."""

from typing import Any, Final

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from constructs import Construct

from stacks.settings import Settings

ISSUER: Final = "token.actions.githubusercontent.com"


class DeploymentStack(cdk.Stack):
    """A role for one environment of one repository, which may take on the roles that `cdk bootstrap` made.

    The account's identity provider for GitHub is not made here: an account has one, and
    other repositories use it too (docs/operations.md has the command).
    """

    def __init__(self, scope: Construct, construct_id: str, *, settings: Settings, **kwargs: Any) -> None:
        super().__init__(scope, construct_id, **kwargs)
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
        cdk.CfnOutput(self, "RoleArn", value=role.role_arn)
