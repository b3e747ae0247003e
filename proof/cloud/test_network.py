"""What a function reaches: what the deployed rules let through, and nothing by another way."""

import io
import json
import textwrap
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from app import lasting_settings
from local.cloud import LocalCloud
from local.peer import TELLS_PROCESSES

pytestmark = pytest.mark.skipif(not TELLS_PROCESSES, reason="no process is told here, so that no rule is enforced")

PROBE = """
import json, os, socket, subprocess, sys, time

kept = {}

def greets(family, address, seconds):
    # What a MySQL server sends first: a packet of protocol 10.
    try:
        with socket.socket(family) as connection:
            connection.settimeout(seconds)
            connection.connect(address)
            start = connection.recv(5)
            return "greets" if len(start) == 5 and start[4] == 10 else "ends"
    except TimeoutError:
        return "hangs"
    except OSError as error:
        return type(error).__name__

def handler(event, context):
    scope = dict(globals(), **event.get("given", {}))
    exec(event["code"], scope)
    return scope["result"]
"""
Probe = Callable[..., Any]


@contextmanager
def probe(cloud: LocalCloud, name: str, groups: list[str] | None) -> Iterator[Probe]:
    """A function that runs what it is sent; in the serving function's subnets if it has groups, else outside."""
    client = cloud.client("lambda")
    serving = client.get_function_configuration(FunctionName=cloud.outputs("Service")["FunctionName"])
    archive = io.BytesIO()
    module = zipfile.ZipInfo("probe.py")
    module.external_attr = 0o644 << 16
    with zipfile.ZipFile(archive, "w") as package:
        package.writestr(module, PROBE)
    inside = {} if groups is None else {"SubnetIds": serving["VpcConfig"]["SubnetIds"], "SecurityGroupIds": groups}
    client.create_function(
        FunctionName=name,
        Runtime="python3.13",
        Role=serving["Role"],
        Handler="probe.handler",
        Code={"ZipFile": archive.getvalue()},
        Timeout=60,
        VpcConfig=inside,
    )

    def ask(code: str, **given: Any) -> Any:
        event = json.dumps({"code": textwrap.dedent(code), "given": given})
        answer = json.load(client.invoke(FunctionName=name, Payload=event)["Payload"])
        assert not isinstance(answer, dict), answer
        return answer

    try:
        yield ask
    finally:
        client.delete_function(FunctionName=name)


def _groups(cloud: LocalCloud) -> list[str]:
    name = cloud.outputs("Service")["FunctionName"]
    network = cloud.client("lambda").get_function_configuration(FunctionName=name)["VpcConfig"]
    groups: list[str] = network["SecurityGroupIds"]
    return groups


@pytest.fixture(scope="module")
def allowed(cloud: LocalCloud) -> Iterator[Probe]:
    """In the VPC with the serving function's group."""
    with probe(cloud, "allowed", _groups(cloud)) as ask:
        yield ask


@pytest.fixture(scope="module")
def stranger(cloud: LocalCloud) -> Iterator[Probe]:
    """In the VPC with a group that nothing names; it may send everything."""
    ec2 = cloud.client("ec2")
    (vpc,) = {each["VpcId"] for each in ec2.describe_security_groups(GroupIds=_groups(cloud))["SecurityGroups"]}
    group = ec2.create_security_group(GroupName="stranger", Description="Stranger", VpcId=vpc)["GroupId"]
    with probe(cloud, "stranger", [group]) as ask:
        yield ask
    ec2.delete_security_group(GroupId=group)


@pytest.fixture(scope="module")
def outsider(cloud: LocalCloud) -> Iterator[Probe]:
    """In no VPC."""
    with probe(cloud, "outsider", None) as ask:
        yield ask


@pytest.fixture(scope="module")
def database(cloud: LocalCloud) -> dict[str, Any]:
    """Where it is: `host` and `port`."""
    (instance,) = cloud.client("rds").describe_db_instances()["DBInstances"]
    return {"host": instance["Endpoint"]["Address"], "port": instance["Endpoint"]["Port"]}


CONNECT = "result = greets(socket.AF_INET, (host, port), seconds)"


def test_a_function_reaches_the_database_by_its_groups_alone(
    allowed: Probe, stranger: Probe, outsider: Probe, database: dict[str, Any]
) -> None:
    assert allowed(CONNECT, **database, seconds=20) == "greets"
    assert stranger(CONNECT, **database, seconds=1) == "hangs"
    assert outsider(CONNECT, **database, seconds=1) == "hangs"


CHILD = """
code = f'''
import os, socket, sys, time
{leaves}
while os.getppid() == parent:
    time.sleep(0.01)
with socket.socket() as connection:
    connection.settimeout({seconds})
    connection.connect(("{host}", {port}))
    try:
        print(len(connection.recv(5)))
    except TimeoutError:
        print("hangs")
'''
given = {"stdout": subprocess.PIPE, "text": True}
result = subprocess.run([sys.executable, "-c", code], **given).stdout.strip()
"""
LEAVES = """
os.setsid()
parent = os.getpid()
if os.fork():
    os._exit(0)
os.environ.clear()
"""


def test_what_a_function_starts_counts_as_the_function(
    allowed: Probe, stranger: Probe, database: dict[str, Any]
) -> None:
    assert allowed(CHILD, **database, seconds=20, leaves="parent = 0") == "5"
    assert stranger(CHILD, **database, seconds=1, leaves="parent = 0") == "hangs"


def test_what_leaves_its_function_reaches_nothing(allowed: Probe, database: dict[str, Any]) -> None:
    """An orphan in a session of its own could be any function's."""
    assert allowed(CHILD, **database, seconds=1, leaves=LEAVES) == "hangs"


HOP = """
code = f'''
import os, socket, time
connection = socket.create_connection(("{host}", {port}))
connection.setblocking(False)
end = time.monotonic() + {seconds}
while time.monotonic() < end:
    if os.fork():
        os._exit(0)
    try:
        print(len(connection.recv(5)))
        break
    except BlockingIOError:
        pass
else:
    print("hangs")
'''
result = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True).stdout.strip()
"""


def test_a_connection_that_goes_from_process_to_process_reaches_nothing(
    stranger: Probe, database: dict[str, Any]
) -> None:
    """Each has ended when it is looked for."""
    assert {stranger(HOP, **database, seconds=1) for _ in range(5)} <= {"0", "hangs"}


GUESS = """
found = []
for line in open("/proc/net/tcp").read().splitlines()[1:]:
    fields = line.split()
    if fields[3] == "0A":
        address, _, port = fields[1].partition(":")
        address = socket.inet_ntoa(int(address, 16).to_bytes(4, sys.byteorder))
        if address in (host, "0.0.0.0"):  # At others are the servers of other tests.
            found.append((socket.AF_INET, (host, int(port, 16))))
for line in open("/proc/net/unix").read().splitlines()[1:]:
    fields = line.split(maxsplit=7)
    if len(fields) == 8:
        found.append((socket.AF_UNIX, fields[7].replace("@", "\\0", 1)))
for path, folders, files in os.walk(folder):
    found += [(socket.AF_UNIX, f"{path}/{name}") for name in files if name in ("s", "gate")]
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        found += [(socket.AF_UNIX, f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")]
    except OSError:
        pass
result = [len(found), [str(each) for each in found if greets(*each, 0.3) == "greets"]]
"""


def test_a_function_that_guesses_port_and_file_does_not_reach_the_server(
    cloud: LocalCloud, stranger: Probe, database: dict[str, Any]
) -> None:
    """It tries all ports at the database's address, Unix sockets that the kernel tells, and open descriptors."""
    tried, reached = stranger(GUESS, folder=str(cloud.folder), host=database["host"])
    # Other clouds' sockets on this machine are none of this cloud's.
    own = [each for each in reached if database["host"] in each or str(cloud.folder) in each or "/proc/" in each]
    assert tried > 4
    assert own == []


@contextmanager
def without(cloud: LocalCloud, group: str, side: str, rule: dict[str, Any]) -> Iterator[None]:
    """Take a rule away as any client of AWS would, and give it back."""
    ec2 = cloud.client("ec2")
    getattr(ec2, f"revoke_security_group_{side}")(GroupId=group, IpPermissions=[rule])
    try:
        yield
    finally:
        getattr(ec2, f"authorize_security_group_{side}")(GroupId=group, IpPermissions=[rule])


def _rules_to(cloud: LocalCloud, group: str, to: int) -> list[dict[str, Any]]:
    """The group's rules of egress to a port."""
    (found,) = cloud.client("ec2").describe_security_groups(GroupIds=[group])["SecurityGroups"]
    return [each for each in found["IpPermissionsEgress"] if each.get("FromPort") == to]


HOLD = """
kept["connection"] = socket.create_connection((host, port), 20)
result = len(kept["connection"].recv(65536))
"""
STILL = """
import ssl
request = (0xA00).to_bytes(4, "little") + bytes(28)  # CLIENT_SSL, CLIENT_PROTOCOL_41
kept["connection"].sendall(len(request).to_bytes(3, "little") + b"\\1" + request)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
result = context.wrap_socket(kept["connection"]).version()
"""


def test_a_rule_acts_when_a_connection_opens(cloud: LocalCloud, allowed: Probe, database: dict[str, Any]) -> None:
    """One that is open stays open, as AWS's connection tracking has it."""
    (group,) = _groups(cloud)
    (rule,) = _rules_to(cloud, group, 3306)
    assert allowed(HOLD, **database) > 5
    with without(cloud, group, "egress", rule):
        assert allowed(CONNECT, **database, seconds=1) == "hangs"
        assert allowed(STILL) == "TLSv1.3"
    assert allowed(CONNECT, **database, seconds=20) == "greets"


PLAIN = """
with socket.create_connection((host, port), 20) as connection:
    connection.recv(65536)
    # A client's login (CLIENT_PROTOCOL_41) without TLS.
    login = (0x200).to_bytes(4, "little") + bytes(28) + b"demoapp\\0\\0"
    connection.sendall(len(login).to_bytes(3, "little") + b"\\1" + login)
    error = connection.recv(65536)
    result = [error[4], int.from_bytes(error[5:7], "little")]
"""


def test_a_login_without_tls_is_refused_though_the_server_takes_unix_sockets_for_secure(
    allowed: Probe, database: dict[str, Any]
) -> None:
    assert allowed(PLAIN, **database) == [255, 3159]


READ = """
import boto3, botocore.config, botocore.exceptions
config = botocore.config.Config(connect_timeout=seconds, read_timeout=seconds, retries={"total_max_attempts": 1})
try:
    session = kept.setdefault("session", boto3.Session())
    session.client(service, config=config, **options)._make_api_call(operation, request)
    result = "answers"
except botocore.exceptions.ClientError as error:
    result = error.response["Error"]["Code"]
except botocore.exceptions.HTTPClientError as error:
    result = "hangs"
"""
PARAMETER = {
    "service": "ssm",
    "operation": "GetParameter",
    "request": {"Name": lasting_settings().parameter_name},
    "seconds": 20,
    "options": {},
}
UNSERVED = {"service": "sts", "operation": "GetCallerIdentity", "request": {}, "seconds": 1, "options": {}}


def _endpoint(cloud: LocalCloud, service: str) -> dict[str, Any]:
    endpoints = cloud.client("ec2").describe_vpc_endpoints()["VpcEndpoints"]
    (found,) = [each for each in endpoints if each["ServiceName"].endswith(f".{service}")]
    return dict(found)


def test_a_function_reaches_aws_by_an_endpoint_or_not_at_all(
    cloud: LocalCloud, allowed: Probe, stranger: Probe, outsider: Probe
) -> None:
    assert allowed(READ, **PARAMETER) == "answers"
    assert stranger(READ, **PARAMETER | {"seconds": 1}) == "hangs"  # The endpoint's group does not name its.
    assert allowed(READ, **UNSERVED) == "hangs"
    assert outsider(READ, **UNSERVED | {"seconds": 20}) == "answers"
    # The address that operators use is no way around.
    around = {"endpoint_url": cloud.variables["AWS_ENDPOINT_URL"]}
    assert allowed(READ, **PARAMETER | {"seconds": 1, "options": around}) == "hangs"


@contextmanager
def endpoint_policy(cloud: LocalCloud, service: str, *statements: dict[str, Any]) -> Iterator[None]:
    ec2 = cloud.client("ec2")
    endpoint = _endpoint(cloud, service)
    document = json.dumps({"Version": "2012-10-17", "Statement": statements})
    ec2.modify_vpc_endpoint(VpcEndpointId=endpoint["VpcEndpointId"], PolicyDocument=document)
    try:
        yield
    finally:
        ec2.modify_vpc_endpoint(VpcEndpointId=endpoint["VpcEndpointId"], PolicyDocument=endpoint["PolicyDocument"])


def _allow(**given: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"} | given


def _deny(**given: Any) -> dict[str, Any]:
    return _allow(**given) | {"Effect": "Deny"}


def _without(statement: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in statement.items() if name not in names}


FOREIGN = "arn:aws:iam::111122223333:role/foreign"
POLICIES: list[tuple[str, list[dict[str, Any]], str]] = [
    ("everything", [_allow()], "answers"),
    ("nothing", [_allow(Action="ssm:PutParameter")], "AccessDeniedException"),
    ("a pattern of actions", [_allow(Action="ssm:Get*")], "answers"),
    ("an action in other letters", [_allow(Action="SSM:getparameter")], "answers"),
    ("a Deny beside an Allow", [_allow(), _deny(Action="ssm:GetParameter")], "AccessDeniedException"),
    ("a Deny of something else", [_allow(), _deny(Action="ssm:PutParameter")], "answers"),
    ("NotAction that leaves it out", [_without(_allow(NotAction="ssm:Get*"), "Action")], "AccessDeniedException"),
    ("NotAction that leaves another out", [_without(_allow(NotAction="ssm:Put*"), "Action")], "answers"),
    ("a Deny with NotAction", [_allow(), _without(_deny(NotAction="ssm:Put*"), "Action")], "AccessDeniedException"),
    ("another parameter", [_allow(Resource="arn:aws:ssm:*:*:parameter/other/*")], "AccessDeniedException"),
    (
        "NotResource",
        [_without(_allow(NotResource="arn:aws:ssm:*:*:parameter/dev/*"), "Resource")],
        "AccessDeniedException",
    ),
    ("a foreign principal", [_allow(Principal={"AWS": FOREIGN})], "AccessDeniedException"),
    ("a foreign account", [_allow(Principal={"AWS": "111122223333"})], "AccessDeniedException"),
    ("a service's principal", [_allow(Principal={"Service": "lambda.amazonaws.com"})], "AccessDeniedException"),
    ("the account", [_allow(Principal={"AWS": "000000000000"})], "answers"),
    ("a Deny of a foreign principal", [_allow(), _deny(Principal={"AWS": FOREIGN})], "answers"),
    (
        "a condition that holds",
        [_allow(Condition={"ArnLike": {"aws:PrincipalArn": "arn:aws:*::000000000000:*"}})],
        "answers",
    ),
    (
        "a condition that does not",
        [_allow(Condition={"StringEquals": {"aws:PrincipalAccount": "111122223333"}})],
        "AccessDeniedException",
    ),
    (
        "one of two conditions",
        [
            _allow(
                Condition={
                    "StringEquals": {"aws:PrincipalAccount": "000000000000"},
                    "Bool": {"aws:SecureTransport": "false"},
                }
            )
        ],
        "AccessDeniedException",
    ),
    (
        "a key that is not there",
        [_allow(Condition={"StringEquals": {"aws:PrincipalTag/x": "y"}})],
        "AccessDeniedException",
    ),
    ("if it is there", [_allow(Condition={"StringEqualsIfExists": {"aws:PrincipalTag/x": "y"}})], "answers"),
    ("the endpoint that it passes", [_allow(Condition={"StringLike": {"aws:SourceVpce": "vpce-*"}})], "answers"),
    ("another endpoint", [_allow(Condition={"StringEquals": {"aws:SourceVpce": "vpce-1"}})], "AccessDeniedException"),
]


@pytest.mark.parametrize(("statements", "outcome"), [each[1:] for each in POLICIES], ids=[each[0] for each in POLICIES])
def test_a_request_passes_an_endpoint_by_its_policy(
    cloud: LocalCloud, allowed: Probe, statements: list[dict[str, Any]], outcome: str
) -> None:
    """Derived from https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html."""
    with endpoint_policy(cloud, "ssm", *statements):
        assert allowed(READ, **PARAMETER) == outcome


def test_an_endpoint_serves_its_own_service_only(allowed: Probe) -> None:
    code = READ.replace("**options", 'endpoint_url=os.environ["AWS_ENDPOINT_URL_SSM"]')
    assert allowed(code, **UNSERVED | {"seconds": 20}) == "UnknownOperationException"


def test_without_private_names_an_endpoint_is_not_found(cloud: LocalCloud, allowed: Probe) -> None:
    ec2, endpoint = cloud.client("ec2"), _endpoint(cloud, "ssm")["VpcEndpointId"]
    ec2.modify_vpc_endpoint(VpcEndpointId=endpoint, PrivateDnsEnabled=False)
    try:
        assert allowed(READ, **PARAMETER | {"seconds": 1}) == "hangs"
    finally:
        ec2.modify_vpc_endpoint(VpcEndpointId=endpoint, PrivateDnsEnabled=True)
    assert allowed(READ, **PARAMETER) == "answers"


def test_an_endpoints_group_counts_while_it_has_it(cloud: LocalCloud, allowed: Probe) -> None:
    ec2, endpoint = cloud.client("ec2"), _endpoint(cloud, "ssm")
    (group,) = [each["GroupId"] for each in endpoint["Groups"]]
    ids = {"VpcEndpointId": endpoint["VpcEndpointId"]}
    own = _groups(cloud)
    ec2.modify_vpc_endpoint(**ids, RemoveSecurityGroupIds=[group], AddSecurityGroupIds=own)
    try:
        assert allowed(READ, **PARAMETER | {"seconds": 1}) == "hangs"
    finally:
        ec2.modify_vpc_endpoint(**ids, RemoveSecurityGroupIds=own, AddSecurityGroupIds=[group])
    assert allowed(READ, **PARAMETER) == "answers"


def test_through_a_nat_gateway_every_service_is_reached_with_route_gateway_and_group(
    cloud: LocalCloud, allowed: Probe
) -> None:
    ec2 = cloud.client("ec2")
    (own,) = _groups(cloud)
    vpc = ec2.describe_security_groups(GroupIds=[own])["SecurityGroups"][0]["VpcId"]
    rule = {"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    subnets = cloud.client("lambda").get_function_configuration(FunctionName="allowed")["VpcConfig"]["SubnetIds"]
    filters = [{"Name": "association.subnet-id", "Values": subnets}]
    tables = [each["RouteTableId"] for each in ec2.describe_route_tables(Filters=filters)["RouteTables"]]
    of_main = [{"Name": "vpc-id", "Values": [vpc]}, {"Name": "association.main", "Values": ["true"]}]
    (main,) = [each["RouteTableId"] for each in ec2.describe_route_tables(Filters=of_main)["RouteTables"]]
    public = ec2.create_subnet(VpcId=vpc, CidrBlock="172.31.9.0/24")["Subnet"]["SubnetId"]
    outward = ec2.create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"]
    association = ec2.associate_route_table(RouteTableId=outward, SubnetId=public)["AssociationId"]
    internet = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    address = ec2.allocate_address(Domain="vpc")["AllocationId"]
    nat = ec2.create_nat_gateway(SubnetId=public, AllocationId=address)["NatGateway"]["NatGatewayId"]
    everywhere = {"DestinationCidrBlock": "0.0.0.0/0"}

    def of_tables(call: Callable[..., Any], **given: Any) -> None:
        for table in tables:  # The function is in either subnet.
            call(RouteTableId=table, **given)

    steps: list[tuple[Callable[..., Any], Callable[..., Any], dict[str, Any], dict[str, Any]]] = [
        (
            partial(of_tables, ec2.create_route),
            partial(of_tables, ec2.delete_route),
            everywhere,
            {"NatGatewayId": nat},
        ),
        (ec2.create_route, ec2.delete_route, {"RouteTableId": outward, **everywhere}, {"GatewayId": internet}),
        (ec2.attach_internet_gateway, ec2.detach_internet_gateway, {"InternetGatewayId": internet, "VpcId": vpc}, {}),
        (
            ec2.authorize_security_group_egress,
            ec2.revoke_security_group_egress,
            {"GroupId": own, "IpPermissions": [rule]},
            {},
        ),
    ]
    undone = []
    try:
        for do, undo, what, how in steps:
            assert allowed(READ, **UNSERVED) == "hangs"
            do(**what, **how)
            undone.append((undo, what))
        assert allowed(READ, **UNSERVED | {"seconds": 20}) == "answers"
        with endpoint_policy(cloud, "ssm", _deny()):  # Its name still leads to the endpoint.
            assert allowed(READ, **PARAMETER) == "AccessDeniedException"
        for do, undo, what, how in steps:
            undo(**what)
            assert allowed(READ, **UNSERVED) == "hangs"
            do(**what, **how)
        # The most specific route counts, and the VPC's main table for a subnet without one of its own.
        of_tables(ec2.create_route, DestinationCidrBlock="203.0.113.0/24", GatewayId=internet)
        assert allowed(READ, **UNSERVED) == "hangs"
        of_tables(ec2.delete_route, DestinationCidrBlock="203.0.113.0/24")
        ec2.disassociate_route_table(AssociationId=association)
        assert allowed(READ, **UNSERVED) == "hangs"
        ec2.create_route(RouteTableId=main, **everywhere, GatewayId=internet)
        assert allowed(READ, **UNSERVED | {"seconds": 20}) == "answers"
        ec2.delete_route(RouteTableId=main, **everywhere)
        ec2.associate_route_table(RouteTableId=outward, SubnetId=public)
        assert allowed(READ, **UNSERVED | {"seconds": 20}) == "answers"
        ec2.delete_nat_gateway(NatGatewayId=nat)
        assert allowed(READ, **UNSERVED) == "hangs"
    finally:
        for undo, what in undone:
            undo(**what)
        ec2.release_address(AllocationId=address)
        ec2.delete_internet_gateway(InternetGatewayId=internet)
        ec2.disassociate_route_table(AssociationId=association)
        ec2.delete_route_table(RouteTableId=outward)
        ec2.delete_subnet(SubnetId=public)
