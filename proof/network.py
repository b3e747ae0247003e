"""Takes each rule, endpoint statement and key statement away from a running local cloud, once (`make network`).

What the deployed application then does is held to what AWS's documents say, and written to proof/network.md.
"""

import json
import re
import shutil
import socket
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import botocore.exceptions
import psutil

import operations.aws
from app import lasting_settings, templates
from local.cloud import LocalCloud
from local.peer import TELLS_PROCESSES
from local.relay import Relay
from operations.commands import LOCAL, ROOT, isolate
from operations.waiting import wait_until

PAGE: Final = ROOT / "proof" / "network.md"
EGRESS: Final = ("endpoints", "nat")
DOCS: Final = "https://docs.aws.amazon.com"
KINDS: Final = {
    "AWS::EC2::SecurityGroup": (("egress", "SecurityGroupEgress"), ("ingress", "SecurityGroupIngress")),
    "AWS::EC2::SecurityGroupEgress": (("egress", ""),),
    "AWS::EC2::SecurityGroupIngress": (("ingress", ""),),
}
NOT_SHOWN: Final[Mapping[str, tuple[str, str]]] = {
    "egress: Disallow all traffic": (
        "nothing behind it opens a connection; without it EC2 would give the group a rule for all traffic",
        "AWSCloudFormation/latest/TemplateReference/aws-resource-ec2-securitygroup.html",
    ),
    "key: of the account through secretsmanager": (
        "the key's first statement leaves the same to the account's policies; CDK adds it with each secret",
        "secretsmanager/latest/userguide/security-encryption.html",
    ),
    "key: of the rotation's role through secretsmanager": (
        "the role's own policy and the key's first statement allow the same; CDK adds it with the schedule",
        "secretsmanager/latest/userguide/rotating-secrets-required-permissions-function.html",
    ),
}
"""What the absence of which changes nothing here, with the reason and AWS's page that asks for it."""
EXPECTED: Final[Mapping[str, set[str]]] = {
    r"\w+: Serving to .*": {"serving"},
    r"\w+: Migration to .*": {"migration"},
    r"\w+: Rotation to .*": {"rotation"},
    r"route: public": {"serving", "migration", "rotation"},
    "endpoint: secretsmanager:DescribeSecret, .*": {"serving", "migration", "rotation"},
    "endpoint: secretsmanager:GetRandomPassword": {"rotation"},
    "endpoint: ssm:GetParameter": {"serving"},
    r"(flow log's )?key: of the account": {"KMS"},
    "key: of CloudWatch Logs": {"logs"},
    "flow log's key: of CloudWatch Logs": {"flow log"},
    "key: of CloudWatch and RDS's events": {"alarm"},
}
"""What must change when a rule is gone, by AWS's documents."""


@dataclass
class Row:
    """One rule: its name, how it is taken away, and what happened then; `None` where it could not be shown."""

    name: str
    taken: Callable[[], Any]
    changed: dict[str, str] = field(default_factory=dict)


def names(egress: str) -> list[str]:
    """Return the names of all rules in the templates of dev, with their number when there are several of a name."""
    found = []
    for template in templates(egress=egress).values():
        for resource in template["Resources"].values():
            properties = resource.get("Properties", {})
            for direction, key in KINDS.get(resource["Type"], ()):
                rules = properties.get(key, []) if key else [properties]
                found += [f"{direction}: {each['Description']}" for each in rules]
            if resource["Type"] == "AWS::EC2::Route":
                found.append("route: " + ("private subnet" if "NatGatewayId" in properties else "public"))
            if resource["Type"] == "AWS::EC2::VPCEndpoint":
                found += [f"endpoint: {_actions(each)}" for each in properties["PolicyDocument"]["Statement"]]
            if resource["Type"] == "AWS::KMS::Key":
                found += [_key_name(properties["Description"], each) for each in properties["KeyPolicy"]["Statement"]]
    return sorted(found)


def _actions(statement: Mapping[str, Any]) -> str:
    actions = statement["Action"]
    return actions if isinstance(actions, str) else ", ".join(actions)


def _key_name(description: str, statement: Mapping[str, Any]) -> str:
    """Name a statement by whom it allows, in a template or deployed."""
    principal = json.dumps(statement["Principal"])
    whom = next(
        name
        for part, name in {
            "cloudwatch.amazonaws.com": "CloudWatch and RDS's events",
            "logs": "CloudWatch Logs",
            "Rotation": "the rotation's role",
            ":root": "the account",
        }.items()
        if part in principal
    )
    through = " through secretsmanager" if "kms:ViaService" in json.dumps(statement.get("Condition", {})) else ""
    return f"{'flow log' + chr(39) + 's ' if description.startswith('Flow log') else ''}key: of {whom}{through}"


class Table:
    """The rules of one deployed environment, and what they hold up."""

    def __init__(self, cloud: LocalCloud) -> None:
        self.cloud = cloud
        self._lambda = cloud.client("lambda")
        self._outputs = cloud.outputs("Service")
        functions = self._lambda.list_functions()["Functions"]
        self._migration = next(each for each in functions if each["Handler"] == "migration.lambda_handler")
        groups = [each["logGroupName"] for each in cloud.client("logs").describe_log_groups()["logGroups"]]
        self._flow_log = next(each for each in groups if "FlowLog" in each)
        self._log = self._migration["LoggingConfig"]["LogGroup"]
        sqs = cloud.client("sqs")
        self._queue = sqs.create_queue(QueueName="mailbox")["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=self._queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        statement = {"Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"}, "Action": "sqs:SendMessage"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement | {"Resource": arn}]})
        sqs.set_queue_attributes(QueueUrl=self._queue, Attributes={"Policy": policy})
        (topic,) = cloud.client("sns").list_topics()["Topics"]
        cloud.client("sns").subscribe(TopicArn=topic["TopicArn"], Protocol="sqs", Endpoint=arn)

    def rows(self) -> Iterator[Row]:
        """Find each rule that is deployed."""
        ec2, kms = self.cloud.client("ec2"), self.cloud.client("kms")
        for kind, physical in self._resources():
            if kind == "AWS::EC2::SecurityGroup":
                filters = [{"Name": "group-id", "Values": [physical]}]
                for rule in ec2.describe_security_group_rules(Filters=filters)["SecurityGroupRules"]:
                    side = "egress" if rule["IsEgress"] else "ingress"
                    yield Row(f"{side}: {rule['Description']}", self._without_rule(physical, side, rule))
            elif kind == "AWS::EC2::Route":
                yield self._route(*physical.split("|"))
            elif kind == "AWS::EC2::VPCEndpoint":
                (found,) = ec2.describe_vpc_endpoints(VpcEndpointIds=[physical])["VpcEndpoints"]
                for policy, statement in _each_without(found["PolicyDocument"]):
                    yield Row(f"endpoint: {_actions(statement)}", self._with_endpoint(physical, found, policy))
            elif kind == "AWS::KMS::Key":
                policy = kms.get_key_policy(KeyId=physical, PolicyName="default")["Policy"]
                description = kms.describe_key(KeyId=physical)["KeyMetadata"]["Description"]
                for other, statement in _each_without(policy):
                    yield Row(_key_name(description, statement), self._with_key(physical, policy, other))

    def _resources(self) -> Iterator[tuple[str, str]]:
        cloudformation = self.cloud.client("cloudformation")
        for stack in ("Network", "Database", "Service", "Monitoring"):
            name = f"{lasting_settings().stack_prefix}{stack}"
            for each in cloudformation.describe_stack_resources(StackName=name)["StackResources"]:
                yield each["ResourceType"], each["PhysicalResourceId"]

    def _without_rule(self, group: str, side: str, rule: Mapping[str, Any]) -> Callable[[], Any]:
        ec2 = self.cloud.client("ec2")
        same = {name: rule[name] for name in ("IpProtocol", "FromPort", "ToPort") if name in rule}
        described = {"Description": rule["Description"]}
        if "CidrIpv4" in rule:
            same["IpRanges"] = [{"CidrIp": rule["CidrIpv4"]} | described]
        else:
            same["UserIdGroupPairs"] = [{"GroupId": rule["ReferencedGroupInfo"]["GroupId"]} | described]
        given = {"GroupId": group, "IpPermissions": [same]}
        return _reversible(
            lambda: getattr(ec2, f"revoke_security_group_{side}")(**given),
            lambda: getattr(ec2, f"authorize_security_group_{side}")(**given),
        )

    def _route(self, table: str, destination: str) -> Row:
        ec2 = self.cloud.client("ec2")
        routes = ec2.describe_route_tables(RouteTableIds=[table])["RouteTables"][0]["Routes"]
        (route,) = [each for each in routes if each.get("DestinationCidrBlock") == destination]
        target = {name: route[name] for name in ("NatGatewayId", "GatewayId") if route.get(name)}
        what = {"RouteTableId": table, "DestinationCidrBlock": destination}
        name = "private subnet" if "NatGatewayId" in target else "public"
        return Row(
            f"route: {name}", _reversible(lambda: ec2.delete_route(**what), lambda: ec2.create_route(**what, **target))
        )

    def _with_endpoint(self, endpoint: str, found: Mapping[str, Any], policy: str) -> Callable[[], Any]:
        ec2 = self.cloud.client("ec2")
        modify, before = ec2.modify_vpc_endpoint, found["PolicyDocument"]
        return _reversible(
            lambda: modify(VpcEndpointId=endpoint, PolicyDocument=policy),
            lambda: modify(VpcEndpointId=endpoint, PolicyDocument=before),
        )

    def _with_key(self, key: str, before: str, policy: str) -> Callable[[], Any]:
        put = self.cloud.client("kms").put_key_policy
        return _reversible(
            lambda: put(KeyId=key, PolicyName="default", Policy=policy),
            lambda: put(KeyId=key, PolicyName="default", Policy=before),
        )

    def observe(self) -> dict[str, str]:
        """Use everything once, each function in an environment that is new; what each came to, "ok" if all is well."""
        self._recycle()
        return {
            "serving": self._invoked(self._outputs["FunctionName"], {"latest": 1}),
            "migration": self._invoked(self._migration["FunctionName"]),
            "logs": self._reads(self._log),
            "flow log": self._reads(self._flow_log),
            "alarm": self._alarm(),
            # Last, so that the rule is given back before Secrets Manager has tried for the last time.
            "rotation": self._rotation(),
        }

    def _recycle(self) -> None:
        """End the execution environments, as Lambda does when it likes."""

        def left() -> list[psutil.Process]:
            found = []
            for process in psutil.Process(self.cloud._given["pid"]).children(recursive=True):
                with suppress(psutil.Error):
                    if {"awslambdaric", "local.extension"} & {*process.cmdline()}:
                        found.append(process)
            return found

        for process in left():
            process.kill()
        wait_until(lambda: not left(), 20)  # A process that has ended has no command line.

    def _invoked(self, function: str, event: object = None) -> str:
        result = operations.aws.invoke(self._lambda, function, event)
        if result["error"] and result["answer"]["errorType"] == "Runtime.ExitError":  # The environment that was ended.
            result = operations.aws.invoke(self._lambda, function, event)
        return str(result["answer"]["errorType"]) if result["error"] else "ok"

    def _rotation(self) -> str:
        """Begin a rotation, and wait until it is done or a step has failed."""
        secrets, secret = self.cloud.client("secretsmanager"), self._outputs["DatabaseSecretArn"]
        before = len(self.cloud.log())
        version = secrets.rotate_secret(SecretId=secret)["VersionId"]
        failed = re.compile(r"rotation of \S+: (\w+) failed")

        def stages() -> list[str]:
            found: list[str] = secrets.describe_secret(SecretId=secret)["VersionIdsToStages"].get(version, [])
            return found

        wait_until(lambda: "AWSCURRENT" in stages() or bool(failed.search(self.cloud.log(), before)), 120)
        found = failed.search(self.cloud.log(), before)
        return f"{found[1]} fails" if found else "ok" if "AWSCURRENT" in stages() else "does not end"

    def settle(self) -> None:
        """Wait until the rotation that failed has been repeated."""
        secrets, secret = self.cloud.client("secretsmanager"), self._outputs["DatabaseSecretArn"]

        def is_settled() -> bool:
            return ["AWSPENDING"] not in secrets.describe_secret(SecretId=secret)["VersionIdsToStages"].values()

        wait_until(is_settled, 200)

    def _reads(self, group: str) -> str:
        try:
            self.cloud.client("logs").filter_log_events(logGroupName=group)
        except botocore.exceptions.ClientError as error:
            return str(error.response["Error"]["Code"])
        return "ok"

    def _alarm(self) -> str:
        """Let an alarm speak, and look whether its message comes."""
        cloudwatch, sqs = self.cloud.client("cloudwatch"), self.cloud.client("sqs")
        name = cloudwatch.describe_alarms()["MetricAlarms"][0]["AlarmName"]
        sqs.purge_queue(QueueUrl=self._queue)
        for state in ("OK", "ALARM"):
            cloudwatch.set_alarm_state(AlarmName=name, StateValue=state, StateReason="proof/network.py")
        came = sqs.receive_message(QueueUrl=self._queue, WaitTimeSeconds=3)
        return "ok" if "Messages" in came else "no message"


def _each_without(document: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give a policy without each of its statements, and the statement."""
    policy = json.loads(document)
    for index, statement in enumerate(policy["Statement"]):
        left = policy["Statement"][:index] + policy["Statement"][index + 1 :]
        yield json.dumps(policy | {"Statement": left}), statement


def _reversible(take: Callable[[], Any], give: Callable[[], Any]) -> Callable[[], Any]:
    @contextmanager
    def taken() -> Iterator[None]:
        take()
        try:
            yield
        finally:
            give()

    return taken


def try_all(table: Table) -> list[Row]:
    """Take each rule away once, and give it back."""
    table.settle()
    well = table.observe()
    if any(outcome != "ok" for outcome in well.values()):
        raise SystemExit(f"before anything is taken away: {well}")
    done = []
    for row in table.rows():
        try:
            with row.taken():
                row.changed = {name: outcome for name, outcome in table.observe().items() if outcome != "ok"}
        except botocore.exceptions.ClientError as error:
            row.changed = {"KMS": str(error.response["Error"]["Code"])}
        table.settle()
        print(f"  {row.name}: {row.changed or 'nothing changes'}", flush=True)
        done.append(row)
    left = {name: outcome for name, outcome in table.observe().items() if outcome != "ok"}
    if left:
        raise SystemExit(f"when all was given back: {left}")
    return done


def faults(rows: list[Row]) -> list[str]:
    """Return what did not happen as AWS's documents say."""
    found = []
    for row in rows:
        expected = next((each for name, each in EXPECTED.items() if re.fullmatch(name, row.name)), set())
        is_right = set(row.changed) == expected and bool(expected) != (row.name in NOT_SHOWN)
        if row.name == "route: private subnet":  # Each function is in one of the two subnets, which AWS chooses.
            expected = {"serving", "migration", "rotation"}
            is_right = bool(row.changed) and {*row.changed} <= expected
        if not is_right:
            found.append(f"{row.name}: {row.changed or 'nothing changes'}, where {expected or 'nothing'} is expected")
    return found


def cost() -> float:
    """Return what the relay adds to one exchange of a kept connection, in milliseconds: the median of 2000."""

    def echo(connection: socket.socket) -> None:
        while data := connection.recv(65536):
            connection.sendall(data)

    def exchange(client: socket.socket) -> float:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        times = []
        for _ in range(2000):
            started = time.perf_counter()
            client.sendall(b"SELECT 1")
            client.recv(65536)
            times.append(time.perf_counter() - started)
        return statistics.median(times) * 1000

    def pair() -> tuple[socket.socket, socket.socket]:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            client = socket.create_connection(listening.getsockname())
            server = listening.accept()[0]
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return client, server

    relay = Relay()
    direct, server = pair()
    client, accepted = pair()
    near, far = socket.socketpair()
    for each in (server, far):
        threading.Thread(target=echo, args=(each,), daemon=True).start()
    relay.carry(accepted, near)
    return exchange(client) - exchange(direct)


def page(tables: Mapping[str, list[Row]]) -> str:
    """Return the table as proof/network.md has it."""
    lines = [
        "# Each rule, taken away once",
        "",
        "`make network` takes each rule, endpoint statement and key statement away from a running local cloud by AWS's",
        "API, uses the application in new execution environments, and gives the rule back.",
    ]
    for egress, rows in tables.items():
        lines += ["", f"## egress={egress}", "", "| taken away | then |", "|---|---|"]
        for row in sorted(rows, key=lambda each: each.name):
            then = ", ".join(f"{name}: {outcome}" for name, outcome in row.changed.items())
            if row.name in NOT_SHOWN:
                why, address = NOT_SHOWN[row.name]
                then = f"not shown here: {why} ([AWS]({DOCS}/{address}))"
            lines.append(f"| {row.name} | {then} |")
    return "\n".join([*lines, ""])


def main() -> None:
    """Make the table anew."""
    if not TELLS_PROCESSES:
        sys.exit("no process is told on this system, so that the local cloud enforces no rule")
    isolate()
    tables = {}
    for egress in EGRESS:
        cloud = LocalCloud(LOCAL / "network")
        try:
            cloud.start()
            cloud.bootstrap()
            cloud.deploy(f"egress={egress}")
            print(f"egress={egress}", flush=True)
            tables[egress] = try_all(Table(cloud))
        finally:
            cloud.stop()
            shutil.rmtree(Path(cloud.folder), ignore_errors=True)
    PAGE.write_text(page(tables))
    rows = [row for each in tables.values() for row in each]
    noticed = Counter(name for row in rows for name in row.changed)
    hidden = sum(row.name in NOT_SHOWN for row in rows)
    print(f"{len(rows)} taken away; noticed by {dict(noticed)}; {hidden} not shown here: {PAGE.relative_to(ROOT)}")
    print(f"the relay adds {cost():.3f} ms to an exchange of a kept connection")
    if wrong := faults(rows):
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
