"""The IAM roles of GitHub's workflows, by OpenID Connect and without stored keys: one deploys, one verifies."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from constructs import Construct

from stacks.constructs.serving_function import ALIAS
from stacks.settings import ENVIRONMENTS, Settings

ISSUER: Final = "token.actions.githubusercontent.com"
DEFAULT_BRANCH: Final = "main"
"""Only its workflows may verify without an environment, and so without reviewers."""

DESCRIBE: Final[Mapping[str, str]] = {
    "cloudformation": "DescribeStackDriftDetectionStatus DescribeStackResourceDrifts DescribeStackResources"
    " DescribeStacks GetTemplate ListStackResources",
    "cloudwatch": "DescribeAlarms GetDashboard ListTagsForResource",
    "codedeploy": "GetApplication GetDeployment GetDeploymentGroup ListDeployments ListTagsForResource",
    "ec2": "DescribeAccountAttributes DescribeAddresses DescribeAvailabilityZones DescribeFlowLogs"
    " DescribeInternetGateways DescribeNatGateways DescribeNetworkAcls DescribeRouteTables DescribeSecurityGroupRules"
    " DescribeSecurityGroups DescribeSubnets DescribeVpcAttribute DescribeVpcEncryptionControls DescribeVpcEndpoints"
    " DescribeVpcEndpointServices DescribeVpcs DescribeVpnGateways",
    "freetier": "GetAccountPlanState",
    "iam": "GetPolicy GetPolicyVersion GetRole GetRolePolicy ListAttachedRolePolicies ListEntitiesForPolicy"
    " ListOpenIDConnectProviders ListRolePolicies SimulatePrincipalPolicy",
    "kms": "DescribeKey GetKeyPolicy GetKeyRotationStatus ListResourceTags",
    "lambda": "GetAccountSettings GetAlias GetFunctionCodeSigningConfig GetFunctionConcurrency"
    " GetFunctionConfiguration GetFunctionEventInvokeConfig GetFunctionRecursionConfig GetFunctionScalingConfig"
    " GetPolicy GetProvisionedConcurrencyConfig GetRuntimeManagementConfig ListFunctionUrlConfigs",
    "logs": "DescribeIndexPolicies DescribeLogGroups DescribeMetricFilters DescribeResourcePolicies"
    " GetDataProtectionPolicy ListTagsForResource",
    "rds": "DescribeDBInstances DescribeDBMajorEngineVersions DescribeDBParameterGroups DescribeDBParameters"
    " DescribeDBSnapshots DescribeDBSubnetGroups DescribeEventSubscriptions DescribeOrderableDBInstanceOptions"
    " ListTagsForResource",
    "secretsmanager": "DescribeSecret GetResourcePolicy",
    "sns": "GetDataProtectionPolicy GetSubscriptionAttributes GetTopicAttributes ListSubscriptionsByTopic"
    " ListTagsForResource",
    "ssm": "ListTagsForResource",
    "vpc-lattice": "DescribeServiceNetworkVpcEndpointAssociation",
    "xray": "GetTraceSummaries",
}
"""What `make verify` and the preflight ask by service, and CloudFormation in the name of who detects drift.

Descriptions alone: no secret, no code, no log line. A test derives them from CloudFormation's schemas.
"""

CHANGES: Final = "Cancel Continue Create Delete Execute Import Rollback Set Signal Update"
"""How the names of CloudFormation's actions begin that change a stack."""


class DeploymentStack(cdk.Stack):
    """The roles for one environment of one repository.

    One may assume the roles of `cdk bootstrap`, and make the checks of `make verify`; its workflow runs in the
    environment, which can have reviewers. The other may make the checks only, from the default branch and without an
    environment, where nobody waits for reviewers. The account's identity provider for GitHub is not created here,
    because an account has only one, for all repositories (docs/operations.md has the command).
    """

    def __init__(self, scope: Construct, construct_id: str, *, settings: Settings) -> None:
        super().__init__(scope, construct_id, env=settings.place, termination_protection=settings.protect_data)
        deploy = self._role("Role", f"Deploys {settings.env}", settings, f"environment:{settings.env}")
        verify = self._role("VerifyRole", f"Verifies {settings.env}", settings, f"ref:refs/heads/{DEFAULT_BRANCH}")
        roles = [
            self.format_arn(
                service="iam",
                region="",
                resource="role",
                resource_name=f"cdk-{settings.bootstrap_qualifier}-{purpose}-role-{self.account}-{self.region}",
            )
            for purpose in ("deploy", "file-publishing", "lookup")
        ]
        iam.ManagedPolicy(
            self,
            "Policy",
            roles=[deploy],
            statements=[iam.PolicyStatement(actions=["sts:AssumeRole"], resources=roles)],
        )
        iam.ManagedPolicy(self, "VerifyPolicy", roles=[deploy, verify], statements=self._reads(settings))
        if elsewhere := self._elsewhere(settings):
            self._keep_from(elsewhere, settings)

    def _elsewhere(self, settings: Settings) -> list[str]:
        """How the stacks' names begin in the environments that have another bootstrap, by cdk.json."""
        given = self.node.try_get_context
        if given("bootstrap_qualifier"):
            return []  # It is given for all of them.
        return [
            replace(other, application=settings.application).stack_prefix
            for env, other in ENVIRONMENTS.items()
            if (given(env) or {}).get("bootstrap_qualifier", other.bootstrap_qualifier) != settings.bootstrap_qualifier
        ]

    def _keep_from(self, elsewhere: list[str], settings: Settings) -> None:
        """Deny CDK's deploy role of this environment's bootstrap the stacks of those that have another.

        CDK gives the role every stack of the account, in every region
        (https://github.com/aws/aws-cdk-cli/blob/main/packages/aws-cdk/lib/api/bootstrap/bootstrap-template.yaml).
        """
        # All that were made before this stack, and this one.
        own = [each.stack_name for each in self.node.root.node.children if isinstance(each, cdk.Stack)]
        names = [prefix + each.removeprefix(settings.stack_prefix) for prefix in elsewhere for each in own]
        denial = iam.PolicyStatement(
            effect=iam.Effect.DENY,
            actions=[f"cloudformation:{verb}*" for verb in CHANGES.split()],
            resources=[
                self.format_arn(service="cloudformation", region="*", resource="stack", resource_name=f"{name}/*")
                for name in names
            ],
        )
        iam.CfnManagedPolicy(
            self,
            "OtherStacksPolicy",
            roles=[f"cdk-{settings.bootstrap_qualifier}-deploy-role-{self.account}-{self.region}"],
            policy_document=iam.PolicyDocument(statements=[denial]),
        )

    def _role(self, name: str, does: str, settings: Settings, subject: str) -> iam.Role:
        role = iam.Role(
            self,
            name,
            description=f"{does} from {settings.github_repository}",
            # A deploy with a major upgrade takes longer than an hour, and a job's credentials are not renewed.
            max_session_duration=cdk.Duration.hours(3),
            assumed_by=iam.WebIdentityPrincipal(
                self.format_arn(service="iam", region="", resource="oidc-provider", resource_name=ISSUER),
                {
                    "StringEquals": {
                        f"{ISSUER}:aud": "sts.amazonaws.com",
                        f"{ISSUER}:sub": f"repo:{settings.github_repository}:{subject}",
                    }
                },
            ),
        )
        cdk.CfnOutput(self, f"{name}Arn", value=role.role_arn)
        return role

    def _reads(self, settings: Settings) -> list[iam.PolicyStatement]:
        """Descriptions of anything; of this environment: drift, the function's answer, and what is read."""
        here, prefix = f"{self.region}:{self.account}", settings.stack_prefix
        # By each stack's name, because that of another environment may begin as this one's.
        functions = [f"lambda:{here}:function:{prefix}{stack}-*" for stack in ("Database", "Service")]
        allowed = {
            **{
                f"cloudformation:{here}:stack/{prefix}{stack}/*": [
                    "cloudformation:DetectStackDrift",
                    "cloudformation:DetectStackResourceDrift",
                ]
                for stack in ("Network", "Database", "Service", "Monitoring")
            },
            # CloudFormation reads a function with the call that gives out its code too, which the repository has.
            **{function: ["lambda:GetFunction"] for function in functions},
            f"lambda:{here}:function:{prefix}Service-*:{ALIAS}": ["lambda:InvokeFunction"],
            f"ssm:{here}:parameter/{settings.env}/*": ["ssm:GetParameters"],
            f"ssm:{here}:parameter/cdk-bootstrap/*": ["ssm:GetParameter"],
            # AWS's own parameters, with the newest version of the extension's layer.
            f"ssm:{self.region}::parameter/aws/service/aws-parameters-and-secrets-lambda-extension/*": [
                "ssm:GetParameter"
            ],
        }
        return [
            iam.PolicyStatement(
                actions=[f"{service}:{name}" for service, names in DESCRIBE.items() for name in names.split()],
                resources=["*"],
            ),
            *(
                iam.PolicyStatement(actions=actions, resources=[f"arn:{self.partition}:{resource}"])
                for resource, actions in allowed.items()
            ),
            # Without it Lambda leaves out the functions' variables, which a check reads and which hold no secret.
            iam.PolicyStatement(
                actions=["kms:Decrypt"],
                resources=[self.format_arn(service="kms", resource="key", resource_name="*")],
                conditions={
                    "ArnLike": {
                        "kms:EncryptionContext:aws:lambda:FunctionArn": [
                            f"arn:{self.partition}:{function}" for function in functions
                        ]
                    }
                },
            ),
        ]
