"""EC2: the resource types that ministack's CloudFormation lacks, and an endpoint's policy.

They are records; `network` reads the rules and routes. A type can go when ministack provides it.
"""

import json
from collections.abc import Callable
from functools import partial
from typing import Any
from xml.sax.saxutils import escape

from ministack.core.responses import new_uuid
from ministack.services import ec2
from ministack.services.cloudformation import engine, provisioners

from local.ministack_patches import Created, Properties, provide

_endpoint_fields = ec2._vpce_fields_xml
_resolve_refs = engine._resolve_refs


def install() -> None:
    """Teach CloudFormation the records."""
    for direction, side in (("Ingress", "IpPermissions"), ("Egress", "IpPermissionsEgress")):
        provide(f"AWS::EC2::SecurityGroup{direction}", partial(_create_rule, side), partial(_delete_rule, side))
    provide("AWS::EC2::FlowLog", _create_flow_log, lambda made, _: ec2._flow_logs.pop(made, None))
    provide("AWS::EC2::EIP", _create_address, _delete_address)
    provide("AWS::EC2::NatGateway", _create_nat_gateway, lambda made, _: ec2._nat_gateways.pop(made, None))
    ec2._vpce_fields_xml = _endpoint_with_policy
    engine._resolve_refs = _with_zones_of_default_subnets


def _create_rule(side: str, logical_id: str, props: Properties, stack: str) -> Created:
    """Add a rule; the first to egress takes the place of that for all traffic, which EC2 gives a group without rules.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-ec2-securitygroupegress.html
    """
    (rule,) = provisioners._ec2_sg_permissions([props])
    rule["SecurityGroupRuleId"] = f"sgr-{new_uuid().replace('-', '')[:17]}"
    group = ec2._security_groups[props["GroupId"]]
    kept = [each for each in group[side] if side == "IpPermissions" or each["IpProtocol"] != "-1"]
    group[side] = [*kept, rule]
    return rule["SecurityGroupRuleId"], {"Id": rule["SecurityGroupRuleId"]}


def _delete_rule(side: str, physical_id: str, props: Properties) -> None:
    if group := ec2._security_groups.get(props["GroupId"]):
        group[side] = [rule for rule in group[side] if rule.get("SecurityGroupRuleId") != physical_id]


def _made(records: Any, make: Callable[[dict[str, list[str]]], Any], parameters: dict[str, str]) -> str:
    """Have ministack's own operation make a record; return the record's id."""
    before = set(records)
    make({name: [value] for name, value in parameters.items()})
    (made,) = set(records) - before
    return made


def _create_flow_log(logical_id: str, props: Properties, stack: str) -> Created:
    given = {name: props[name] for name in ("ResourceType", "TrafficType", "LogGroupName")}
    made = _made(ec2._flow_logs, ec2._create_flow_logs, {"ResourceId.1": props["ResourceId"], **given})
    return made, {"Id": made}


def _create_address(logical_id: str, props: Properties, stack: str) -> Created:
    made = _made(ec2._addresses, ec2._allocate_address, {"Domain": "vpc"})
    address = ec2._addresses[made]["PublicIp"]
    return address, {"AllocationId": made, "PublicIp": address}


def _delete_address(physical_id: str, props: Properties) -> None:
    for allocation_id, address in list(ec2._addresses.items()):
        if address["PublicIp"] == physical_id:
            ec2._addresses.pop(allocation_id)


def _create_nat_gateway(logical_id: str, props: Properties, stack: str) -> Created:
    given = {name: props[name] for name in ("SubnetId", "AllocationId")}
    made = _made(ec2._nat_gateways, ec2._create_nat_gateway, given)
    return made, {"NatGatewayId": made}


def _endpoint_with_policy(endpoint: dict[str, Any], tag: str = "item") -> str:
    """What ministack leaves out of DescribeVpcEndpoints.

    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_VpcEndpoint.html
    """
    policy = endpoint.get("PolicyDocument") or ""
    given = {
        "policyDocument": escape(policy if isinstance(policy, str) else json.dumps(policy)),
        "privateDnsEnabled": str(endpoint.get("PrivateDnsEnabled") in (True, "true")).lower(),
        "groupSet": "".join(f"<item><groupId>{each}</groupId></item>" for each in endpoint["SecurityGroupIds"]),
    }
    end = f"</{tag}>"
    added = "".join(f"<{name}>{value}</{name}>" for name, value in given.items())
    return _endpoint_fields(endpoint, tag).removesuffix(end) + added + end


def _with_zones_of_default_subnets(value: Any, *args: Any) -> Any:
    """Fn::GetAZs gives the zones with a default subnet; ministack gives all.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/intrinsic-function-reference-getavailabilityzones.html
    """
    resolved = _resolve_refs(value, *args)
    if not (isinstance(value, dict) and "Fn::GetAZs" in value):
        return resolved
    default = {each["AvailabilityZone"] for each in ec2._subnets.values() if each.get("DefaultForAz")}
    return [zone for zone in resolved if zone in default] or resolved
