"""Checks of the network, asked of EC2 and not of the templates: routes, security groups, endpoints."""

import json
from collections.abc import Iterator
from typing import Any

from operations.aws import listed
from operations.verify.deployed import Deployed
from operations.verify.report import CheckFailedError, check, expect

HTTPS, MYSQL = 443, 3306
ANYWHERE = "0.0.0.0/0"
NOBODY = "255.255.255.255/32"
"""CDK's rule for a group without a way out: with no rule at all EC2 allows everything."""


def _of_vpc(deployed: Deployed, operation: str, key: str, filter_name: str = "vpc-id") -> list[dict[str, Any]]:
    """All that a describe operation finds in the VPC."""
    filters = [{"Name": filter_name, "Values": [deployed.vpc_id]}]
    found = listed(deployed.client("ec2"), operation, key, Filters=filters)
    return [each for each in found if each.get("VpcId", deployed.vpc_id) == deployed.vpc_id]


@check("With endpoints there is no way to the internet; with a NAT gateway, only through it")
def routes(deployed: Deployed) -> str:
    """Every route of every table of the VPC, and the gateways attached to it."""
    tables = _of_vpc(deployed, "describe_route_tables", "RouteTables")
    targets = {table["RouteTableId"]: {_target(route) for route in table["Routes"]} - {"local"} for table in tables}
    gateways = {
        gateway["InternetGatewayId"]
        for gateway in _of_vpc(deployed, "describe_internet_gateways", "InternetGateways", "attachment.vpc-id")
        if any(each["VpcId"] == deployed.vpc_id for each in gateway["Attachments"])
    }
    if deployed.settings.egress == "endpoints":
        expect({table: found for table, found in targets.items() if found}, {}, "routes")
        expect(gateways, set(), "internet gateways")
        return f"{len(tables)} route tables, local routes only"
    subnets = {subnet for live in deployed.live.values() for subnet in live["VpcConfig"]["SubnetIds"]}
    for table in tables:
        found = targets[table["RouteTableId"]]
        if subnets & {each.get("SubnetId") for each in table["Associations"]}:
            found = {target for target in found if not target.startswith("nat-")}
            expect(found, set(), "routes of the functions' subnets other than to the NAT gateway:")
    return f"{len(tables)} route tables; the functions' subnets reach the NAT gateway alone"


def _target(route: dict[str, Any]) -> str:
    ids = [value for key, value in route.items() if key.endswith("Id") and "Destination" not in key]
    return str(ids[0]) if ids else "unknown"


@check("Only the functions that query the database reach it, only on its port, and nothing admits an address range")
def security_groups(deployed: Deployed) -> str:
    """Each rule of each group of the VPC against the list of those that the architecture needs."""
    endpoints = {"Rotation": ["SecretsManager"], "Migration": ["SecretsManager"]}
    endpoints |= {name: ["SecretsManager", "SystemsManager"] for name in deployed.serving}
    groups = {
        group: name.partition("/")[2].removesuffix("SecurityGroup") or "Database"
        for name, group in deployed.physical_ids("AWS::EC2::SecurityGroup").items()
    }
    nat = deployed.settings.egress == "nat"
    ways = [(function, MYSQL, "Database") for function in endpoints]
    ways += [(function, HTTPS, endpoint) for function, called in endpoints.items() for endpoint in called if not nat]
    expected = {f"into {to} tcp {port} from {source}" for source, port, to in ways}
    expected |= {f"out of {source} tcp {port} to {to}" for source, port, to in ways}
    expected |= {f"out of {function} tcp {HTTPS} to {ANYWHERE}" for function in endpoints if nat}
    found = {
        f"{way} {groups.get(group['GroupId'], group['GroupId'])} {_ports(rule)} {side} {peer}"
        for group in _of_vpc(deployed, "describe_security_groups", "SecurityGroups")
        if group["GroupName"] != "default"
        for way, side, key in (("into", "from", "IpPermissions"), ("out of", "to", "IpPermissionsEgress"))
        for rule in group[key]
        for peer in _peers(rule, groups)
        if peer != NOBODY
    }
    if found != expected:
        more, less = sorted(found - expected), sorted(expected - found)
        raise CheckFailedError(f"rules too many: {more or 'none'}, missing: {less or 'none'}", "the architecture's")
    return f"{len(found)} rules, each of them expected"


def _peers(rule: dict[str, Any], groups: dict[str, str]) -> Iterator[str]:
    for pair in rule.get("UserIdGroupPairs", []):
        yield groups.get(pair["GroupId"], pair["GroupId"])
    for ranges, key in (("IpRanges", "CidrIp"), ("Ipv6Ranges", "CidrIpv6"), ("PrefixListIds", "PrefixListId")):
        for each in rule.get(ranges, []):
            yield each[key]


def _ports(rule: dict[str, Any]) -> str:
    """Protocol and ports of a rule, as `tcp 443`; EC2 gives no ports for all protocols."""
    first, last = rule.get("FromPort", "all"), rule.get("ToPort", "all")
    return f"{rule['IpProtocol']} {first}" if first == last else f"{rule['IpProtocol']} {first}-{last}"


@check("The endpoints admit this account alone, for the calls that the functions make")
def endpoints(deployed: Deployed) -> str:
    """An endpoint without a policy of its own has one that allows everything."""
    found = _of_vpc(deployed, "describe_vpc_endpoints", "VpcEndpoints")
    services = sorted(endpoint["ServiceName"].rpartition(".")[2] for endpoint in found)
    if deployed.settings.egress == "nat":
        expect(services, [], "endpoints")
        return "none, as with egress=nat"
    expect(services, ["secretsmanager", "ssm"], "endpoints")
    for endpoint in found:
        name = endpoint["ServiceName"]
        expect(endpoint["State"], "available", name)
        expect(endpoint.get("PrivateDnsEnabled"), expected=True, what=f"{name}: private DNS")
        for statement in json.loads(endpoint.get("PolicyDocument") or "{}").get("Statement", [{}]):
            account = statement.get("Condition", {}).get("StringEquals", {}).get("aws:PrincipalAccount")
            expect(account, deployed.account, f"{name}: a statement for account")
            actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
            expect([each for each in actions if "*" in each], [], f"{name}: wide actions")
    return ", ".join(services)


@check("No subnet of the VPC gives out public addresses")
def subnets(deployed: Deployed) -> str:
    """The public subnet of `egress=nat` included: the gateway has an address of its own."""
    found = _of_vpc(deployed, "describe_subnets", "Subnets")
    expect([each["SubnetId"] for each in found if each["MapPublicIpOnLaunch"]], [], "with public addresses:")
    return f"{len(found)} subnets"
