"""Two private subnets, with no other route to AWS than the one chosen."""

import json
from collections.abc import Callable

import pytest
from aws_cdk.assertions import Match

from tests.conftest import Templates

SETTINGS = {
    "vpc_cidr": "10.9.0.0/16",
    "private_subnet_a_cidr": "10.9.8.0/24",
    "private_subnet_b_cidr": "10.9.7.0/25",
    "public_subnet_cidr": "10.9.6.0/28",
}


def test_addresses_are_exactly_those_given_in_two_zones(synthesise: Callable[..., Templates]) -> None:
    templates = synthesise(**SETTINGS)
    assert templates.only("AWS::EC2::VPC")["CidrBlock"] == "10.9.0.0/16"
    subnets = [each["Properties"] for each in templates.resources("AWS::EC2::Subnet").values()]
    assert [each["CidrBlock"] for each in subnets] == ["10.9.8.0/24", "10.9.7.0/25"]
    assert len({json.dumps(each["AvailabilityZone"]) for each in subnets}) == 2


@pytest.mark.parametrize("env", ["dev", "prod"])
def test_with_endpoints_there_is_no_route_to_the_internet(synthesise: Callable[..., Templates], env: str) -> None:
    templates = synthesise(env=env, egress="endpoints")
    for kind in ("InternetGateway", "NatGateway", "EIP", "Route", "EgressOnlyInternetGateway", "VPCGatewayAttachment"):
        templates.network.resource_count_is(f"AWS::EC2::{kind}", 0)
    assert "0.0.0.0/0" not in json.dumps(templates)
    assert "::/0" not in json.dumps(templates)


@pytest.mark.parametrize("env", ["dev", "prod"])
def test_with_nat_one_public_subnet_holds_the_gateway(synthesise: Callable[..., Templates], env: str) -> None:
    templates = synthesise(env=env, egress="nat")
    templates.network.resource_count_is("AWS::EC2::NatGateway", 1)
    templates.network.resource_count_is("AWS::EC2::VPCEndpoint", 0)
    subnets = [each["Properties"]["CidrBlock"] for each in templates.resources("AWS::EC2::Subnet").values()]
    assert subnets == ["172.31.2.0/24", "172.31.1.0/24", "172.31.3.0/24"]
    routes = [each["Properties"] for each in templates.resources("AWS::EC2::Route").values()]
    assert sum("NatGatewayId" in each for each in routes) == 2
    assert sum("GatewayId" in each for each in routes) == 1


def test_endpoints_are_in_both_zones_under_their_default_names(synthesise: Callable[..., Templates]) -> None:
    network = synthesise(egress="endpoints").network
    network.resource_count_is("AWS::EC2::VPCEndpoint", 2)
    both_zones = [{"Ref": Match.string_like_regexp(f"VpcPrivateSubnet{number}")} for number in (1, 2)]
    network.all_resources_properties(
        "AWS::EC2::VPCEndpoint",
        {"VpcEndpointType": "Interface", "PrivateDnsEnabled": True, "SubnetIds": both_zones},
    )


def test_endpoints_allow_named_actions_for_this_account_only(synthesise: Callable[..., Templates]) -> None:
    allowed = set()
    endpoints = synthesise(egress="endpoints").resources("AWS::EC2::VPCEndpoint")
    assert len(endpoints) == 2
    for endpoint in endpoints.values():
        for statement in endpoint["Properties"]["PolicyDocument"]["Statement"]:
            actions = statement["Action"]
            allowed |= {actions} if isinstance(actions, str) else set(actions)
            assert statement["Condition"] == {"StringEquals": {"aws:PrincipalAccount": {"Ref": "AWS::AccountId"}}}
    assert allowed == {
        "ssm:GetParameter",
        "secretsmanager:DescribeSecret",
        "secretsmanager:GetRandomPassword",
        "secretsmanager:GetSecretValue",
        "secretsmanager:PutSecretValue",
        "secretsmanager:UpdateSecretVersionStage",
    }


def test_traffic_is_logged_for_a_stated_time(templates: Templates) -> None:
    flow_log = templates.only("AWS::EC2::FlowLog")
    log_groups = templates.resources("AWS::Logs::LogGroup")
    assert log_groups[flow_log["LogGroupName"]["Ref"]]["Properties"]["RetentionInDays"] == 90
