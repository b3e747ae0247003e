"""The network: two private subnets, and the only ways out of them."""

from typing import Any, Final

import aws_cdk as cdk
import jsii
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from constructs import Construct

from stacks.acknowledgement import acknowledge
from stacks.key import EncryptionKey
from stacks.settings import Settings

HTTPS: Final = ec2.Port.tcp(443)


class NetworkStack(cdk.Stack):
    """A VPC with exactly the address ranges of the settings, in two zones."""

    vpc: ec2.Vpc
    secrets_manager: ec2.IConnectable
    """Where Secrets Manager is reached from inside the VPC."""
    systems_manager: ec2.IConnectable
    """Where Parameter Store is reached from inside the VPC."""
    upstream_connections: list[cloudwatch.Metric]
    """How many connections are opened to AWS from inside the VPC."""

    def __init__(self, scope: Construct, construct_id: str, *, settings: Settings, **kwargs: Any) -> None:
        super().__init__(scope, construct_id, **kwargs)
        self.vpc = ec2.Vpc(
            self,
            "Vpc",
            ip_addresses=ExactAddresses(  # type: ignore[arg-type]  # What jsii calls differs from its stub.
                settings.vpc_cidr, [settings.private_subnet_a_cidr, settings.private_subnet_b_cidr]
            ),
            max_azs=2,
            subnet_configuration=[ec2.SubnetConfiguration(name="Private", subnet_type=ec2.SubnetType.PRIVATE_ISOLATED)],
            # Emptying the default group takes a custom resource; nothing here uses the group.
            restrict_default_security_group=False,
        )
        removal_policy = cdk.RemovalPolicy.RETAIN if settings.is_prod else cdk.RemovalPolicy.DESTROY
        flow_log_group = logs.LogGroup(
            self,
            "FlowLogGroup",
            # A key of its own: the database's key names the rotation function, and would make this stack wait for it.
            encryption_key=EncryptionKey(
                self, "FlowLogKey", settings=settings, description=f"Flow log of {settings.env}"
            ),
            retention=logs.RetentionDays.THREE_MONTHS,
            removal_policy=removal_policy,
        )
        acknowledge(
            self.vpc,
            "Nothing is in the VPC's default security group. Emptying it takes a custom resource, with a function "
            "and a role that may change any group's rules.",
            *(f"{pack}-VPCDefaultSecurityGroupClosed" for pack in ("HIPAA.Security", "NIST.800.53.R5", "PCI.DSS.321")),
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
            # Without updates: CDK would write the same permissions inline once more.
            destination=ec2.FlowLogDestination.to_cloud_watch_logs(
                flow_log_group, flow_log_role.without_policy_updates()
            ),
        )
        if settings.egress == "nat":
            nat_gateway_id = self._route_through_nat(settings)
            self.upstream_connections = [
                cloudwatch.Metric(
                    namespace="AWS/NATGateway",
                    metric_name="ConnectionAttemptCount",
                    dimensions_map={"NatGatewayId": nat_gateway_id},
                    statistic="Sum",
                )
            ]
            self.secrets_manager = self.systems_manager = ec2.Peer.any_ipv4()
        else:
            secrets_manager = self._endpoint(
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
                    # GetRandomPassword has no resource to name (service authorization reference).
                    iam.PolicyStatement(actions=["secretsmanager:GetRandomPassword"], resources=["*"]),
                ],
            )
            systems_manager = self._endpoint(
                "SystemsManager",
                ec2.InterfaceVpcEndpointAwsService.SSM,
                [
                    iam.PolicyStatement(
                        actions=["ssm:GetParameter"],
                        resources=[self.format_arn(service="ssm", resource=f"parameter/{settings.env}/*")],
                    )
                ],
            )
            self.secrets_manager, self.systems_manager = secrets_manager, systems_manager
            self.upstream_connections = [
                cloudwatch.Metric(
                    namespace="AWS/PrivateLinkEndpoints",
                    metric_name="NewConnections",
                    dimensions_map={
                        "Endpoint Type": "Interface",
                        "Service Name": f"com.amazonaws.{self.region}.{service}",
                        "VPC Endpoint Id": endpoint.vpc_endpoint_id,
                        "VPC Id": self.vpc.vpc_id,
                    },
                    statistic="Sum",
                    label=service,
                )
                for service, endpoint in (("secretsmanager", secrets_manager), ("ssm", systems_manager))
            ]

    def _endpoint(
        self, name: str, service: ec2.InterfaceVpcEndpointAwsService, statements: list[iam.PolicyStatement]
    ) -> ec2.InterfaceVpcEndpoint:
        """One service's endpoint in both zones, open to nobody yet and to this account alone."""
        endpoint = self.vpc.add_interface_endpoint(
            name,
            service=service,
            subnets=ec2.SubnetSelection(subnet_type=ec2.SubnetType.PRIVATE_ISOLATED),
            private_dns_enabled=True,
            security_groups=[
                ec2.SecurityGroup(
                    self,
                    f"{name}SecurityGroup",
                    vpc=self.vpc,
                    description=f"Endpoint of {name}",
                    allow_all_outbound=False,
                )
            ],
            open=False,
        )
        for statement in statements:
            statement.add_any_principal()
            statement.add_condition("StringEquals", {"aws:PrincipalAccount": self.account})
            endpoint.add_to_policy(statement)
        return endpoint

    def _route_through_nat(self, settings: Settings) -> str:
        """The seed's topology: one public subnet that holds the one NAT gateway, whose id is returned.

        By hand, because ec2.Vpc makes a public subnet in every zone.
        """
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
        acknowledge(
            public,
            "What `egress=nat` chooses: the subnet holds the NAT gateway and nothing else.",
            *(f"{pack}-VPCNoUnrestrictedRouteToIGW" for pack in ("HIPAA.Security", "NIST.800.53.R5", "PCI.DSS.321")),
        )
        nat = public.add_nat_gateway()
        for index, subnet in enumerate(self.vpc.isolated_subnets):
            ec2.CfnRoute(
                self,
                f"PrivateSubnet{index + 1}NatRoute",
                route_table_id=subnet.route_table.route_table_id,
                destination_cidr_block="0.0.0.0/0",
                nat_gateway_id=nat.ref,
            )
        return nat.ref


_COLON: Final = cdk.ArnFormat.COLON_RESOURCE_NAME


@jsii.implements(ec2.IIpAddresses)
class ExactAddresses:
    """Addresses as given, where CDK's own `IpAddresses.cidr` would divide the range itself."""

    def __init__(self, vpc_cidr: str, subnet_cidrs: list[str]) -> None:
        self._vpc_cidr = vpc_cidr
        self._subnet_cidrs = subnet_cidrs

    def allocate_vpc_cidr(self) -> ec2.VpcIpamOptions:
        """The VPC's range."""
        return ec2.VpcIpamOptions(cidr_block=self._vpc_cidr)

    def allocate_subnets_cidr(self, request: ec2.AllocateCidrRequest) -> ec2.SubnetIpamOptions:
        """The subnets' ranges, in the order of the zones; jsii hands over the request as one object."""
        return ec2.SubnetIpamOptions(allocated_subnets=[ec2.AllocatedSubnet(cidr=cidr) for cidr in self._subnet_cidrs])
