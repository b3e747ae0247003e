"""The address ranges of a VPC and its subnets, exactly as the settings give them."""

import jsii
from aws_cdk import aws_ec2 as ec2


@jsii.implements(ec2.IIpAddresses)
class ExactAddresses:
    """Address ranges as given. CDK's own `IpAddresses.cidr` divides the VPC's range by itself."""

    def __init__(self, vpc_cidr: str, subnet_cidrs: list[str]) -> None:
        self._vpc_cidr = vpc_cidr
        self._subnet_cidrs = subnet_cidrs

    def allocate_vpc_cidr(self) -> ec2.VpcIpamOptions:
        """The VPC's range."""
        return ec2.VpcIpamOptions(cidr_block=self._vpc_cidr)

    def allocate_subnets_cidr(self, request: ec2.AllocateCidrRequest) -> ec2.SubnetIpamOptions:
        """The subnets' ranges, in the order of the zones. jsii passes the request as one object."""
        return ec2.SubnetIpamOptions(allocated_subnets=[ec2.AllocatedSubnet(cidr=cidr) for cidr in self._subnet_cidrs])
