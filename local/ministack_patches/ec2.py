"""EC2: the resource types that ministack's CloudFormation lacks, and an endpoint's policy.

They are records only: the local cloud blocks no traffic. A type can go when ministack provides it.
"""

import json
from typing import Any
from xml.sax.saxutils import escape

from ministack.core.responses import new_uuid
from ministack.services import ec2
from ministack.services.cloudformation import provisioners

from local.ministack_patches import Created, Properties, provide

_endpoint_fields = ec2._vpce_fields_xml


def install() -> None:
    """Teach CloudFormation the records."""
    provide("AWS::EC2::SecurityGroupIngress", _create_ingress, _delete_ingress)
    provide("AWS::EC2::SecurityGroupEgress", _create_egress, _delete_egress)
    provide("AWS::EC2::FlowLog", _create_flow_log, _delete_flow_log)
    provide("AWS::EC2::EIP", _create_address, _delete_address)
    provide("AWS::EC2::NatGateway", _create_nat_gateway, _delete_nat_gateway)
    ec2._vpce_fields_xml = _endpoint_with_policy


def _create_rule(props: Properties, side: str, peer: str) -> Created:
    rule = provisioners._ec2_sg_permissions([props])[0]
    if peer in props:
        rule["UserIdGroupPairs"] = [{"GroupId": props[peer]}]
    rule["SecurityGroupRuleId"] = f"sgr-{new_uuid().replace('-', '')[:17]}"
    ec2._security_groups[props["GroupId"]][side].append(rule)
    return rule["SecurityGroupRuleId"], {"Id": rule["SecurityGroupRuleId"]}


def _delete_rule(physical_id: str, props: Properties, side: str) -> None:
    group = ec2._security_groups.get(props["GroupId"])
    if group:
        group[side] = [rule for rule in group[side] if rule.get("SecurityGroupRuleId") != physical_id]


def _create_ingress(logical_id: str, props: Properties, stack: str) -> Created:
    return _create_rule(props, "IpPermissions", "SourceSecurityGroupId")


def _delete_ingress(physical_id: str, props: Properties) -> None:
    _delete_rule(physical_id, props, "IpPermissions")


def _create_egress(logical_id: str, props: Properties, stack: str) -> Created:
    """Remove the rule for all traffic, which EC2 only gives to a group without rules.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-ec2-securitygroupegress.html
    """
    group = ec2._security_groups[props["GroupId"]]
    group["IpPermissionsEgress"] = [rule for rule in group["IpPermissionsEgress"] if rule["IpProtocol"] != "-1"]
    return _create_rule(props, "IpPermissionsEgress", "DestinationSecurityGroupId")


def _delete_egress(physical_id: str, props: Properties) -> None:
    _delete_rule(physical_id, props, "IpPermissionsEgress")


def _create_flow_log(logical_id: str, props: Properties, stack: str) -> Created:
    before = set(ec2._flow_logs)
    ec2._create_flow_logs(
        {
            "ResourceId.1": [props["ResourceId"]],
            "ResourceType": [props["ResourceType"]],
            "TrafficType": [props.get("TrafficType", "ALL")],
            "LogGroupName": [props.get("LogGroupName", "")],
        }
    )
    (flow_log_id,) = set(ec2._flow_logs) - before
    return flow_log_id, {"Id": flow_log_id}


def _delete_flow_log(physical_id: str, props: Properties) -> None:
    ec2._flow_logs.pop(physical_id, None)


def _create_address(logical_id: str, props: Properties, stack: str) -> Created:
    before = set(ec2._addresses)
    ec2._allocate_address({"Domain": ["vpc"]})
    (allocation_id,) = set(ec2._addresses) - before
    address = ec2._addresses[allocation_id]["PublicIp"]
    return address, {"AllocationId": allocation_id, "PublicIp": address}


def _delete_address(physical_id: str, props: Properties) -> None:
    for allocation_id, address in list(ec2._addresses.items()):
        if address["PublicIp"] == physical_id:
            ec2._addresses.pop(allocation_id)


def _create_nat_gateway(logical_id: str, props: Properties, stack: str) -> Created:
    before = set(ec2._nat_gateways)
    ec2._create_nat_gateway({"SubnetId": [props["SubnetId"]], "AllocationId": [props.get("AllocationId", "")]})
    (gateway_id,) = set(ec2._nat_gateways) - before
    return gateway_id, {"NatGatewayId": gateway_id}


def _delete_nat_gateway(physical_id: str, props: Properties) -> None:
    ec2._nat_gateways.pop(physical_id, None)


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
    described: str = _endpoint_fields(endpoint, tag)
    end = f"</{tag}>"
    return described.removesuffix(end) + "".join(f"<{name}>{value}</{name}>" for name, value in given.items()) + end
