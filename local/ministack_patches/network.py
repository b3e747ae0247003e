"""The network of the functions: what security groups, routes and endpoints let through; ministack only records them.

A function's connections come in at listeners of this process, which is told by `local.peer` whose they are. One that
is allowed is carried on by `local.relay`; one that is not hangs, as on AWS. Behind the listeners are Unix sockets
without a file. This patch can go when ministack has a network.
"""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from functools import cache, partial
from ipaddress import ip_address, ip_network
from typing import Any, Final
from uuid import uuid4

import botocore.session
from hypercorn.asyncio import run as hypercorn_run
from ministack.services import ec2, rds

from local.mysql import LOOPBACK, MySQLServer, free_port
from local.peer import SET_CHILD_SUBREAPER, SET_DUMPABLE, TELLS_PROCESSES, ancestors, set_process
from local.relay import HiddenSocket, Relay
from local.security_groups import Interface, may_open

Record = dict[str, Any]
"""Of ministack's: a function's configuration, an endpoint, a key."""

ENFORCED: Final = TELLS_PROCESSES
"""Whether the process at the other end can be told; without it every connection is let through."""
INTERNET: Final = Interface("203.0.113.1")
"""Any address outside the VPC (RFC 5737)."""

environments: set[Any] = set()
"""Each `ExecutionEnvironment` that there is."""
passed: ContextVar[str] = ContextVar("the id of the endpoint that a request passed, or nothing", default="")
Admit = Callable[[Record | None], socket.socket | None]
"""Gets the function's configuration, None for an operator."""


class Listener:
    """Listens on a port of this machine alone, and has what is allowed relayed.

    Args:
        port: where.
        admit: opens what is behind, or has the client hang.
        address: where, of 127.0.0.0/8.
    """

    def __init__(self, port: int, admit: Admit, address: str = LOOPBACK) -> None:
        self.port = port
        self.tls_only = False
        self._admit = admit
        self._address = address
        self.open()

    def open(self) -> None:
        """Accept connections."""
        self._socket = socket.create_server((self._address, self.port), backlog=128)
        threading.Thread(target=self._accept, args=(self._socket,), daemon=True).start()

    def close(self) -> None:
        """Refuse them."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _accept(self, listening: socket.socket) -> None:
        with suppress(OSError):  # Closed.
            while True:
                client, address = listening.accept()
                with client, suppress(OSError):  # Neither end may be there any more.
                    self._relay(client, address)

    def _relay(self, client: socket.socket, address: tuple[str, int]) -> None:
        likely = [pid for each in list(environments) for pid in each.pids]
        line = ancestors(address, client.getsockname(), likely)
        if line is None:
            return
        config = next((each.config for each in list(environments) if each.pids & {*line}), None)
        upstream = self._admit(config) if config or not line else None
        if not upstream:
            print(f"network: a connection to port {self.port} hangs", config and config["FunctionName"], flush=True)
        _relay().carry(client, upstream, tls=self.tls_only)


def install() -> None:
    """Start what carries connections, and have the gate told whose they are."""
    if ENFORCED:
        set_process(SET_DUMPABLE, 0)
        set_process(SET_CHILD_SUBREAPER, 1)
        ec2._ACTION_MAP["ModifyVpcEndpoint"] = _modify_endpoint
        ec2._strip_descriptions = _comparable
        hypercorn_run.TCPServer = _Server
        _relay()


class _Server(hypercorn_run.TCPServer):
    async def run(self) -> None:
        passed.set(self.writer.get_extra_info("peername").decode().partition("/")[2])
        await super().run()


def serve_gate(port: int) -> str:
    """Listen for operators and functions on the port; return what Hypercorn is to serve."""
    if not ENFORCED:
        return f"127.0.0.1:{port}"
    Listener(port, partial(_to_aws, service=""))
    return "unix:gate"


_gate = cache(partial(HiddenSocket, "gate"))
_relay = cache(Relay)


def _to_aws(config: Record | None, service: str) -> socket.socket | None:
    """Open the gate for a function: by the service's endpoint, or over the internet; or not at all."""
    if service and not config:
        raise PermissionError(f"the address of {service} is for functions")
    endpoint = None
    if config and _is_inside(config):
        endpoint = _endpoint(config["VpcConfig"], service)
        target = _interface(endpoint) if endpoint else INTERNET
        if not (endpoint or _has_internet(config["VpcConfig"])) or not _may_open(config, target, 443):
            return None
    return _gate().connect(f"\0{uuid4()}/{endpoint['VpcEndpointId'] if endpoint else ''}")


def database_listener(identifier: str, server: MySQLServer, port: int) -> Listener:
    """Listen for an instance, and open its server to who may reach the port; a function outside its VPC may not."""

    def admit(config: Record | None) -> socket.socket | None:
        instance = rds._instances[identifier]
        network = {
            "VpcId": instance["DBSubnetGroup"]["VpcId"],
            "SubnetIds": [each["SubnetIdentifier"] for each in instance["DBSubnetGroup"]["Subnets"]],
            "SecurityGroupIds": [each["VpcSecurityGroupId"] for each in instance["VpcSecurityGroups"]],
        }
        is_near = config and _is_inside(config) and config["VpcConfig"]["VpcId"] == network["VpcId"]
        if config and not (is_near and _may_open(config, _interface(network), port)):
            return None
        return server.connect()

    return Listener(server.port, admit, server.address)


def variables(config: Record) -> dict[str, str]:
    """The address of each service with an endpoint in the function's VPC, as the SDK takes it."""
    given = {}
    for endpoint in ec2._vpc_endpoints.values() if ENFORCED and _is_inside(config) else ():
        name = endpoint["ServiceName"].rpartition(".")[2]
        with suppress(botocore.exceptions.UnknownServiceError):
            service = _session.get_service_model(name).service_id.replace(" ", "_").upper()
            given[f"AWS_ENDPOINT_URL_{service}"] = f"https://127.0.0.1:{_listener(name).port}"
    return given


_session = botocore.session.get_session()


@cache
def _listener(service: str) -> Listener:
    return Listener(free_port(), partial(_to_aws, service=service))


def _is_inside(config: Record) -> bool:
    return bool((config.get("VpcConfig") or {}).get("SubnetIds"))


def _may_open(config: Record, target: Interface, port: int) -> bool:
    return may_open(_interface(config["VpcConfig"]), target, port, ec2._security_groups, ec2._prefix_lists)


def _interface(record: Record) -> Interface:
    """An interface with the record's groups, and with the first address in its first subnet that AWS gives out.

    AWS keeps a subnet's first four addresses (https://docs.aws.amazon.com/vpc/latest/userguide/subnet-sizing.html).
    """
    subnet = ip_network(ec2._subnets[record["SubnetIds"][0]]["CidrBlock"])
    return Interface(str(subnet[4]), frozenset(record["SecurityGroupIds"]))


def _endpoint(network: Record, service: str) -> Record | None:
    """The endpoint to which the service's name resolves in the function's VPC.

    Only with private DNS, for which the VPC needs both of its DNS attributes
    (https://docs.aws.amazon.com/vpc/latest/privatelink/privatelink-access-aws-services.html).
    """
    vpc = ec2._vpcs.get(network["VpcId"], {})
    has_names = vpc.get("EnableDnsSupport", True) and vpc.get("EnableDnsHostnames", False)
    for endpoint in ec2._vpc_endpoints.values() if has_names else ():
        is_private = endpoint.get("PrivateDnsEnabled") in (True, "true") and endpoint["VpcEndpointType"] == "Interface"
        if endpoint["VpcId"] == network["VpcId"] and endpoint["ServiceName"].endswith(f".{service}") and is_private:
            return dict(endpoint)
    return None


def _has_internet(network: Record) -> bool:
    """Whether the function's subnet has a route to a NAT gateway, and that one's to an internet gateway of the VPC.

    A function has no public address, so that an internet gateway alone is none
    (https://docs.aws.amazon.com/lambda/latest/dg/configuration-vpc-internet.html).
    """
    gateway = ec2._nat_gateways.get(_route(network["SubnetIds"][0]).get("NatGatewayId", ""))
    if not gateway or gateway["State"] != "available":
        return False
    internet = ec2._internet_gateways.get(_route(gateway["SubnetId"]).get("GatewayId", ""), {"Attachments": []})
    return any(each["VpcId"] == network["VpcId"] for each in internet["Attachments"])


def _route(subnet: str) -> Record:
    """The most specific route of the subnet's table to the internet, or of the VPC's main table.

    https://docs.aws.amazon.com/vpc/latest/userguide/VPC_Route_Tables.html
    """
    tables = [each for each in ec2._route_tables.values() if each["VpcId"] == ec2._subnets[subnet]["VpcId"]]
    found = [each for each in tables if any(of.get("SubnetId") == subnet for of in each["Associations"])]
    found = found or [each for each in tables if any(of.get("Main") for of in each["Associations"])]
    routes = [each for table in found for each in table["Routes"] if each.get("DestinationCidrBlock")]
    fitting = [each for each in routes if ip_address(INTERNET.address) in ip_network(each["DestinationCidrBlock"])]
    return max(fitting, key=lambda each: ip_network(each["DestinationCidrBlock"]).prefixlen, default={})


def keys_of_endpoint() -> dict[str, str]:
    """IAM's condition keys of a request that passed an endpoint.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html#condition-keys-sourcevpce
    """
    endpoint = ec2._vpc_endpoints.get(passed.get())
    return {"aws:sourcevpce": endpoint["VpcEndpointId"], "aws:sourcevpc": endpoint["VpcId"]} if endpoint else {}


_modify = ec2._modify_vpc_endpoint
_strip_descriptions = ec2._strip_descriptions


def _comparable(rule: Record) -> Record:
    """A rule as EC2 compares it: without descriptions, and with a group's id for the group."""
    compared: Record = _strip_descriptions(rule)
    for name, key in (("UserIdGroupPairs", "GroupId"), ("PrefixListIds", "PrefixListId")):
        compared[name] = [each.get(key) for each in rule.get(name, [])]
    return compared


def _modify_endpoint(params: Record) -> Any:
    """With the groups, and private DNS, which ministack passes over.

    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ModifyVpcEndpoint.html
    """
    endpoint = ec2._vpc_endpoints.get(ec2._p(params, "VpcEndpointId"))
    if endpoint:
        removed = ec2._parse_member_list(params, "RemoveSecurityGroupId")
        added = ec2._parse_member_list(params, "AddSecurityGroupId")
        endpoint["SecurityGroupIds"] = [each for each in endpoint["SecurityGroupIds"] if each not in removed] + added
        endpoint["PrivateDnsEnabled"] = ec2._p(params, "PrivateDnsEnabled") or endpoint.get("PrivateDnsEnabled", False)
    return _modify(params)
