"""Security groups decide as AWS's page says, whatever the rules; none of these is one of ours.

https://docs.aws.amazon.com/vpc/latest/userguide/security-group-rules.html
"""

from typing import Any

import pytest

from local.security_groups import Interface, may_open

ALL = {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
CLIENT = Interface("10.1.0.17", frozenset({"client"}))
SERVER = Interface("10.1.8.9", frozenset({"server"}))
LISTS = {
    "pl-1": {"Entries": [{"Cidr": "10.9.0.0/16"}, {"Cidr": "10.1.0.16/28"}]},
    "pl-2": {"Entries": [{"Cidr": "10.9.0.0/16"}]},
}


def _tcp(ports: tuple[int, int] = (5432, 5432), protocol: str = "tcp", **other: Any) -> dict[str, Any]:
    return {"IpProtocol": protocol, "FromPort": ports[0], "ToPort": ports[1], **other}


def _range(*ranges: str) -> dict[str, Any]:
    return {"IpRanges": [{"CidrIp": each} for each in ranges]}


def _group(*ids: str) -> dict[str, Any]:
    return {"UserIdGroupPairs": [{"GroupId": each} for each in ids]}


INGRESS = [
    ("no rule", [], False),
    ("all traffic from everywhere", [ALL], True),
    ("the group at the other end", [_tcp(**_group("client"))], True),
    ("another group", [_tcp(**_group("other"))], False),
    ("one of two groups", [_tcp(**_group("other", "client"))], True),
    ("the group itself, which the client does not have", [_tcp(**_group("server"))], False),
    ("a range that has the client", [_tcp(**_range("10.1.0.16/28"))], True),
    ("a range that ends before the client", [_tcp(**_range("10.1.0.0/28"))], False),
    ("a range written with bits of its hosts", [_tcp(**_range("10.1.0.18/28"))], True),
    ("the client's address alone", [_tcp(**_range("10.1.0.17/32"))], True),
    ("another address", [_tcp(**_range("10.1.0.18/32"))], False),
    ("a list of ranges, one of which has the client", [_tcp(PrefixListIds=[{"PrefixListId": "pl-1"}])], True),
    ("a list of ranges that is gone", [_tcp(PrefixListIds=[{"PrefixListId": "pl-3"}])], False),
    ("a list of ranges without it", [_tcp(PrefixListIds=[{"PrefixListId": "pl-2"}])], False),
    ("a range of ports that begins with the port", [_tcp((5432, 6000), **_group("client"))], True),
    ("a range of ports that ends with the port", [_tcp((5000, 5432), **_group("client"))], True),
    ("a range of ports above", [_tcp((5433, 6000), **_group("client"))], False),
    ("every port", [_tcp((0, 65535), **_group("client"))], True),
    ("the protocol by its number", [_tcp(protocol="6", **_group("client"))], True),
    ("another protocol", [_tcp(protocol="udp", **_group("client"))], False),
    ("every protocol, whatever its ports", [_tcp((80, 80), "-1", **_group("client"))], True),
    ("ICMP as CDK's rule that allows nothing", [_tcp((252, 86), "icmp", **_range("255.255.255.255/32"))], False),
    ("the second of two rules", [_tcp((80, 80), **_group("client")), _tcp(**_group("client"))], True),
    ("port and other end in different rules", [_tcp((80, 80), **_group("client")), _tcp(**_group("other"))], False),
]


@pytest.mark.parametrize(("rules", "is_open"), [each[1:] for each in INGRESS], ids=[each[0] for each in INGRESS])
@pytest.mark.parametrize("side", ["IpPermissions", "IpPermissionsEgress"])
def test_one_rule_of_each_side_must_name_port_and_other_end(
    rules: list[dict[str, Any]], *, is_open: bool, side: str
) -> None:
    """The same rules are tried on the server's ingress, and on its egress when it is the server that connects."""
    groups = {name: {"IpPermissions": [ALL], "IpPermissionsEgress": [ALL]} for name in ("client", "server")}
    groups["server"][side] = rules
    source, target = (CLIENT, SERVER) if side == "IpPermissions" else (SERVER, CLIENT)
    assert may_open(source, target, 5432, groups, LISTS) is is_open


def test_a_group_that_names_itself_lets_its_interfaces_reach_each_other() -> None:
    own = {"IpPermissions": [_tcp(**_group("both"))], "IpPermissionsEgress": [_tcp(**_group("both"))]}
    groups = {"both": own, "other": {"IpPermissions": [], "IpPermissionsEgress": [ALL]}}
    one, other = (Interface(f"10.0.0.{number}", frozenset({"both"})) for number in (5, 6))
    assert may_open(one, other, 5432, groups, {})
    assert not may_open(Interface("10.0.0.7", frozenset({"other"})), one, 5432, groups, {})


def test_an_interfaces_groups_count_together() -> None:
    client = Interface("10.0.0.5", frozenset({"a", "b"}))
    nothing: dict[str, Any] = {"IpPermissions": [], "IpPermissionsEgress": []}
    groups = {
        "a": nothing,
        "b": nothing | {"IpPermissionsEgress": [ALL]},
        "server": nothing | {"IpPermissions": [_tcp(**_group("a"))]},
    }
    assert may_open(client, SERVER, 5432, groups, {})


def test_outside_the_vpc_no_group_decides() -> None:
    groups = {"client": {"IpPermissions": [], "IpPermissionsEgress": [_tcp((443, 443), **_range("0.0.0.0/0"))]}}
    assert may_open(CLIENT, Interface("203.0.113.1"), 443, groups, {})
    assert not may_open(CLIENT, Interface("203.0.113.1"), 80, groups, {})


def test_a_group_that_is_gone_allows_nothing() -> None:
    assert not may_open(CLIENT, SERVER, 5432, {"server": {"IpPermissions": [ALL], "IpPermissionsEgress": []}}, {})
