"""The two zones of an environment: those that a deploy would take, and those that it has.

Without the setting `availability_zones` the template asks CloudFormation for a list, of which it takes the first two.
The list follows the account's default VPC, so that a subnet added there could later move the environment's own.
https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/intrinsic-function-reference-getavailabilityzones.html
"""

from typing import Any

from operations.aws import listed

OWN_ZONE = [{"Name": "opt-in-status", "Values": ["opt-in-not-required"]}]


def zones_of_account(ec2: Any) -> list[str]:
    """Return what Fn::GetAZs does: the zones with a default subnet, or all when there is none."""
    zones = ec2.describe_availability_zones(Filters=OWN_ZONE)["AvailabilityZones"]
    names = {zone["ZoneName"] for zone in zones if zone["State"] == "available"}
    subnets = listed(ec2, "describe_subnets", "Subnets", Filters=[{"Name": "default-for-az", "Values": ["true"]}])
    return sorted(names & {subnet["AvailabilityZone"] for subnet in subnets} or names)


def deployed_zones(cloudformation: Any, ec2: Any, stack: str) -> list[str]:
    """Return the zones of a deployed network stack's private subnets, in their order."""
    resources = listed(cloudformation, "list_stack_resources", "StackResourceSummaries", StackName=stack)
    ids = {
        each["LogicalResourceId"]: each["PhysicalResourceId"]
        for each in resources
        if each["ResourceType"] == "AWS::EC2::Subnet"
        and "Private" in each["LogicalResourceId"]
        and each["ResourceStatus"] != "DELETE_COMPLETE"
    }
    if not ids:
        return []
    subnets = listed(ec2, "describe_subnets", "Subnets", SubnetIds=list(ids.values()))
    zones = {subnet["SubnetId"]: subnet["AvailabilityZone"] for subnet in subnets}
    return [zones[ids[name]] for name in sorted(ids)]


def endpoint_zones(ec2: Any, region: str, egress: str) -> dict[str, set[str]]:
    """Return the zones of the services whose interfaces are in the subnets, by the service's name."""
    services = {"lambda": "Lambda"}
    if egress == "endpoints":
        services |= {"secretsmanager": "Secrets Manager", "ssm": "Systems Manager"}
    # A filter and not the names themselves: EC2 refuses a name that it does not know.
    filters = [{"Name": "service-name", "Values": [f"com.amazonaws.{region}.{name}" for name in services]}]
    found: dict[str, set[str]] = {name: set() for name in services.values()}
    for each in listed(ec2, "describe_vpc_endpoint_services", "ServiceDetails", Filters=filters):
        found[services[each["ServiceName"].rpartition(".")[2]]] |= set(each["AvailabilityZones"])
    return found


def as_setting(env: str, zones: list[str]) -> str:
    """Return the zones as cdk.json takes them."""
    return f'"context": {{"{env}": {{"availability_zones": "{",".join(zones)}"}}}}'
