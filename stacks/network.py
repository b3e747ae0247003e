"""The VPC, its private subnets, and their routes to AWS."""

from typing import Final

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from constructs import Construct

from stacks.constructs.addresses import ExactAddresses
from stacks.constructs.key import EncryptionKey
from stacks.settings import Settings

HTTPS: Final = ec2.Port.tcp(443)
_COLON: Final = cdk.ArnFormat.COLON_RESOURCE_NAME


class NetworkStack(cdk.Stack):
    """A VPC with exactly the address ranges of the settings, in two zones."""

    vpc: ec2.Vpc
    secrets_manager: ec2.IConnectable
    """Where Secrets Manager is reached from inside the VPC."""
    systems_manager: ec2.IConnectable
    """Where Parameter Store is reached from inside the VPC."""
    upstream_connections: cloudwatch.MathExpression
    """The number of connections opened from the VPC to AWS."""

    @property
    def availability_zones(self) -> list[str]:
        """The region's first two zones, as CloudFormation finds them.

        CDK itself would ask the account of the settings for them in each synthesis, and without credentials name
        zones that there are not.
        """
        return [cdk.Fn.select(index, cdk.Fn.get_azs()) for index in range(2)]

    def __init__(self, scope: Construct, construct_id: str, *, settings: Settings) -> None:
        super().__init__(scope, construct_id, env=settings.place, termination_protection=settings.protect_data)
        zones = settings.availability_zones.split(",") if settings.availability_zones else None
        self.vpc = ec2.Vpc(
            self,
            "Vpc",
            ip_addresses=ExactAddresses(  # type: ignore[arg-type]  # jsii calls it with other types than its stub says.
                settings.vpc_cidr, [settings.private_subnet_a_cidr, settings.private_subnet_b_cidr]
            ),
            # Some zones do not serve Lambda or the endpoints, so the user can choose the zones.
            availability_zones=zones,
            max_azs=None if zones else 2,
            subnet_configuration=[ec2.SubnetConfiguration(name="Private", subnet_type=ec2.SubnetType.PRIVATE_ISOLATED)],
            # Emptying the default group takes a custom resource; nothing here uses the group.
            restrict_default_security_group=False,
        )
        flow_log_group = logs.LogGroup(
            self,
            "FlowLogGroup",
            # Its own key: the policy of the database's key names the rotation function, so this stack would
            # depend on the database stack.
            encryption_key=EncryptionKey(
                self, "FlowLogKey", settings=settings, description=f"Flow log of {settings.env}"
            ),
            retention=logs.RetentionDays.THREE_MONTHS,
            removal_policy=settings.removal_policy,
        )
        flow_log_role = iam.Role(self, "FlowLogRole", assumed_by=iam.ServicePrincipal("vpc-flow-logs.amazonaws.com"))
        iam.ManagedPolicy(
            self,
            "FlowLogPolicy",
            roles=[flow_log_role],
            statements=[
                iam.PolicyStatement(
                    actions=["logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"],
                    resources=[flow_log_group.log_group_arn],
                )
            ],
        )
        self.vpc.add_flow_log(
            "FlowLog",
            # CDK would add the same permissions again as an inline policy.
            destination=ec2.FlowLogDestination.to_cloud_watch_logs(
                flow_log_group, flow_log_role.without_policy_updates()
            ),
        )
        # Created and exported for both values of `egress`: CloudFormation cannot remove an export that
        # another stack imports, so `egress` could not be changed later.
        groups = {
            name: ec2.SecurityGroup(
                self, f"{name}SecurityGroup", vpc=self.vpc, description=f"Endpoint of {name}", allow_all_outbound=False
            )
            for name in ("SecretsManager", "SystemsManager")
        }
        for group in groups.values():
            self.export_value(group.security_group_id)
        if settings.egress == "nat":
            self._route_through_nat(settings)
            self.secrets_manager = self.systems_manager = ec2.Peer.any_ipv4()
            # A search instead of the gateway's id, which would be an export too.
            metrics = '{AWS/NATGateway,NatGatewayId} MetricName="ConnectionAttemptCount"'
        else:
            self.secrets_manager = self._endpoint(
                groups["SecretsManager"],
                "SecretsManager",
                ec2.InterfaceVpcEndpointAwsService.SECRETS_MANAGER,
                [
                    iam.PolicyStatement(
                        actions=[
                            "secretsmanager:DescribeSecret",
                            "secretsmanager:GetSecretValue",
                            "secretsmanager:PutSecretValue",
                            "secretsmanager:UpdateSecretVersionStage",
                        ],
                        resources=[self.format_arn(service="secretsmanager", resource="secret:*", arn_format=_COLON)],
                    ),
                    # IAM defines no resource for GetRandomPassword
                    # (https://docs.aws.amazon.com/service-authorization/latest/reference/list_awssecretsmanager.html).
                    iam.PolicyStatement(actions=["secretsmanager:GetRandomPassword"], resources=["*"]),
                ],
            )
            self.systems_manager = self._endpoint(
                groups["SystemsManager"],
                "SystemsManager",
                ec2.InterfaceVpcEndpointAwsService.SSM,
                [
                    iam.PolicyStatement(
                        actions=["ssm:GetParameter"],
                        resources=[self.format_arn(service="ssm", resource=f"parameter/{settings.env}/*")],
                    )
                ],
            )
            dimensions = '"Endpoint Type","Service Name","VPC Endpoint Id","VPC Id"'
            metrics = f'{{AWS/PrivateLinkEndpoints,{dimensions}}} MetricName="NewConnections" "{self.vpc.vpc_id}"'
        self.upstream_connections = cloudwatch.MathExpression(
            expression=f"SEARCH('{metrics}', 'Sum')", using_metrics={}
        )

    def _endpoint(
        self,
        group: ec2.ISecurityGroup,
        name: str,
        service: ec2.InterfaceVpcEndpointAwsService,
        statements: list[iam.PolicyStatement],
    ) -> ec2.InterfaceVpcEndpoint:
        """Create one service's endpoint in both zones.

        It accepts requests of this account only, and no connections until a stack allows them.
        """
        endpoint = self.vpc.add_interface_endpoint(
            name,
            service=service,
            subnets=ec2.SubnetSelection(subnet_type=ec2.SubnetType.PRIVATE_ISOLATED),
            private_dns_enabled=True,
            security_groups=[group],
            open=False,
        )
        for statement in statements:
            statement.add_any_principal()
            statement.add_condition("StringEquals", {"aws:PrincipalAccount": self.account})
            endpoint.add_to_policy(statement)
        return endpoint

    def _route_through_nat(self, settings: Settings) -> None:
        """Add a public subnet with the NAT gateway, in one zone only: ec2.Vpc would create one in every zone."""
        gateway = ec2.CfnInternetGateway(self, "InternetGateway")
        attachment = ec2.CfnVPCGatewayAttachment(
            self, "InternetGatewayAttachment", vpc_id=self.vpc.vpc_id, internet_gateway_id=gateway.ref
        )
        public = ec2.PublicSubnet(
            self,
            "PublicSubnet",
            vpc_id=self.vpc.vpc_id,
            availability_zone=self.vpc.availability_zones[0],
            cidr_block=settings.public_subnet_cidr,
            map_public_ip_on_launch=False,
        )
        public.add_default_internet_route(gateway.ref, attachment)
        nat = public.add_nat_gateway()
        for index, subnet in enumerate(self.vpc.isolated_subnets):
            ec2.CfnRoute(
                self,
                f"PrivateSubnet{index + 1}NatRoute",
                route_table_id=subnet.route_table.route_table_id,
                destination_cidr_block="0.0.0.0/0",
                nat_gateway_id=nat.ref,
            )
