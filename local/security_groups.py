"""Decides, as VPC security groups do, whether a TCP connection may open between two network interfaces."""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

Rule = Mapping[str, Any]
"""An `IpPermission` of EC2: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_IpPermission.html."""


@dataclass(frozen=True)
class Interface:
    """One end of a connection: its IPv4 address and, within a VPC, the ids of its security groups."""

    address: str
    groups: frozenset[str] = frozenset()


def matches(rule: Rule, port: int, other: Interface, prefix_lists: Mapping[str, Any]) -> bool:
    """Return whether a rule is for TCP connections to this port, and names the other end.

    https://docs.aws.amazon.com/vpc/latest/userguide/security-group-rules.html: the other end is a range of addresses,
    a prefix list, or a group, which stands for the interfaces that have it. The protocol -1 is every protocol and port.

    Args:
        rule: of a group's `IpPermissions` or `IpPermissionsEgress`.
        port: that the connection is opened to.
        other: the end to which the rule's group does not belong.
        prefix_lists: EC2's record of each, with its `Entries`.
    """
    protocol = str(rule["IpProtocol"]).lower()
    if protocol != "-1" and not (protocol in {"tcp", "6"} and int(rule["FromPort"]) <= port <= int(rule["ToPort"])):
        return False
    ranges = [each["CidrIp"] for each in rule.get("IpRanges", [])]
    for each in rule.get("PrefixListIds", []):
        ranges += [entry["Cidr"] for entry in prefix_lists.get(each["PrefixListId"], {"Entries": []})["Entries"]]
    groups = {each.get("GroupId") for each in rule.get("UserIdGroupPairs", [])}
    address = ip_address(other.address)
    return bool(groups & other.groups) or any(address in ip_network(each, strict=False) for each in ranges)


def may_open(
    source: Interface,
    target: Interface,
    port: int,
    groups: Mapping[str, Any],
    prefix_lists: Mapping[str, Any],
) -> bool:
    """Return whether both sides let a connection open: a source's group by its egress, a target's by its ingress.

    An end without groups is outside the VPC, where no group decides. Rules only allow, and answers need none
    (https://docs.aws.amazon.com/vpc/latest/userguide/vpc-security-groups.html).
    """

    def one_allows(end: Interface, side: str, other: Interface) -> bool:
        rules = [rule for each in end.groups if each in groups for rule in groups[each][side]]
        return not end.groups or any(matches(rule, port, other, prefix_lists) for rule in rules)

    return one_allows(source, "IpPermissionsEgress", target) and one_allows(target, "IpPermissions", source)
