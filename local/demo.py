"""`make demo`: deploys, invokes, rotates, migrates, breaks, repairs and destroys, step by step."""

import json
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from local.cloud import CloudError, LocalCloud
from local.signals import set_up_terminal
from operations.application import copy_application
from operations.aws import invoke
from operations.commands import LOCAL
from operations.install import busy
from operations.load import Load
from operations.verify.deployed import HEALTH
from operations.waiting import wait_until

PARAMETER_TTL: Final = 2
"""Seconds; shorter than the default of five minutes, so that the demo is quick."""
PARAMETER_TTL_SETTING: Final = f"parameter_ttl={PARAMETER_TTL}"
INVOCATIONS: Final = 100


class DemoError(Exception):
    """A step did not show what it must."""


class Demo:
    """The deployed application, and what the steps found out about it."""

    def __init__(self, cloud: LocalCloud) -> None:
        self.cloud = cloud
        self.summary: list[str] = []
        self.acknowledged: list[str] = []
        """The texts of the notes that the function said it stored."""

    @cached_property
    def outputs(self) -> Mapping[str, str]:
        """Of the service's stack, when it is deployed."""
        return self.cloud.outputs("Service")

    @cached_property
    def _lambda(self) -> Any:
        return self.cloud.client("lambda")

    def run(self) -> None:
        """Take all the steps."""
        with self._step("start an emulated cloud: TLS, signatures and IAM on"):
            self.cloud.start()
        with self._step("cdk bootstrap"):
            self.cloud.bootstrap()
        with self._step("cdk deploy --all: network, database, service, monitoring; a smoke test on the way"):
            self.cloud.deploy(PARAMETER_TTL_SETTING)
        with self._step("the first rotation makes the function's own database user"):
            self._wait_for_rotation()
        self.show_answers()
        self.show_changed_parameter()
        self.show_rotations()
        self.show_migration()
        self.show_notes()
        self.show_denied()
        self.show_destroy()

    def show_answers(self) -> None:
        """One invocation, then many: what the extension's cache saves."""
        with self._step("invoke the function"):
            before = self._upstream_calls()
            answer = self._invoke()
            if not (isinstance(answer, dict) and "notes" in answer):
                raise DemoError("the demo shows the example alone; make up and make invoke show another application")
            for name, value in answer.items():
                print(f"    {name}: {value}")
            tls = self._result(HEALTH)["answer"]["tlsVersion"]
            _check(answer["database"] == "devDB" and tls.startswith("TLS"), "the answer is whole")
            self.summary.append(f"answered over {tls} from {answer['serverVersion']}")
        with self._step(f"invoke it {INVOCATIONS - 1} times more"):
            started = time.monotonic()
            for _ in range(INVOCATIONS - 1):
                self._invoke()
            elapsed = time.monotonic() - started
            calls = self._upstream_calls() - before
            print(f"    {INVOCATIONS} invocations read {2 * INVOCATIONS} values; calls to AWS: {calls.total()}")
            for name, number in sorted(calls.items()):
                print(f"      {name}: {number}")
            # A value is read again only when its TTL has ended; the smoke test has already read both.
            _check(calls["GetSecretValue"] <= 1, "the secret was read at most once")
            _check(calls["GetParameter"] <= 1 + (elapsed + 2) // PARAMETER_TTL, "the parameter was read at most once")
            self.summary.append(
                f"{INVOCATIONS} invocations; calls to AWS: {calls.total()} instead of {2 * INVOCATIONS}"
            )

    def show_changed_parameter(self) -> None:
        """How long a change takes to be seen."""
        parameters = self.cloud.client("ssm")
        name = self.outputs["ParameterName"]
        original = parameters.get_parameter(Name=name)["Parameter"]["Value"]
        with self._step(f"change the parameter, and wait for its TTL of {PARAMETER_TTL} s"):
            self._wait_until(lambda: "serverVersion" in self._invoke(), 60, "the function answers")
            changed = json.loads(original) | {"enableVersion": False}
            parameters.put_parameter(Name=name, Value=json.dumps(changed), Overwrite=True)
            waited = self._wait_until(
                lambda: "serverVersion" not in self._invoke(), PARAMETER_TTL + 2, "the change is seen"
            )
            print(f"    enableVersion=false was seen after {waited:.1f} s: the answer has no serverVersion any more")
            self.summary.append(f"a changed parameter was seen after {waited:.1f} s, with a TTL of {PARAMETER_TTL} s")
            parameters.put_parameter(Name=name, Value=original, Overwrite=True)

    def show_rotations(self) -> None:
        """No invocation fails, not even with stale credentials."""
        with self._step("rotate the password again and again within the secret's TTL, under invocations that write"):

            def refreshed() -> int:
                # Counted in the cloud's log, because a line may arrive too late for the invocation's log tail.
                return self.cloud.log().count("credentials.refreshed")

            rotations = killed = 0
            with self._load() as load:
                # After two rotations, the cached password of every environment is stale.
                while rotations < 5 or (not refreshed() and rotations < 9):
                    self.cloud.client("secretsmanager").rotate_secret(SecretId=self.outputs["DatabaseSecretArn"])
                    self._wait_for_rotation()
                    rotations += 1
                    # A kept connection survives a rotation. When it is cut, the function must log in with
                    # the cached password.
                    killed += self.cloud.cut_connections(self.outputs["DatabaseSecretArn"])
                    self._wait_for_invocations(load, 20)
            print(
                f"    {rotations} rotations and {killed} connections cut: {load.made} invocations, "
                f"{load.failed} failed, {refreshed()} read the secret around the cache"
            )
            _check(refreshed() > 0, "stale credentials are met and replaced")
            _check(load.failed == 0 < load.made, "no invocation failed")
            self.summary.append(f"{rotations} rotations under {load.made} invocations, {load.failed} failed")

    def show_migration(self) -> None:
        """A deploy with a migration, and a version of the function that needs it, under invocations."""
        with self._step("deploy a migration and a version that needs it, under invocations that write"):
            before = self._schema_version()
            with self._load() as load:
                self.cloud.deploy(PARAMETER_TTL_SETTING, root=next_version(self.cloud.folder / "next"))
            after = self._schema_version()
            print(f"    schema version {before}, then {after}; {load.made} invocations, {load.failed} failed")
            _check(after == before + 1, "the new version sees the new schema")
            _check(load.failed == 0 < load.made, "no invocation failed")
            self.summary.append(
                f"schema version {before} to {after} in a deploy under {load.made} invocations, {load.failed} failed"
            )

    def show_notes(self) -> None:
        """Each note that a caller was told of is in the table, once, and no other."""
        with self._step("compare the notes that were acknowledged with those in the table"):
            connection = self.cloud.database_connection(self.outputs["DatabaseSecretArn"])
            with connection, connection.cursor() as cursor:
                cursor.execute("SELECT text FROM devDB.note")
                stored = Counter(text for (text,) in cursor.fetchall())
            twice = stored.total() - len(stored)
            said = f"{len(self.acknowledged)} notes acknowledged, {stored.total()} in the table, {twice} twice"
            print(f"    {said}")
            _check(stored == Counter(self.acknowledged), "every note that was acknowledged is in the table, once")
            self.summary.append(said)

    def _load(self) -> Load:
        return Load(self._write, callers=2)

    def _write(self) -> str:
        """Store a note with a key of its own; return the error, if there is one."""
        text = str(uuid.uuid4())
        result = self._result({"note": text, "key": text})
        if not result["error"]:
            self.acknowledged.append(text)
        return str(result["error"])

    def show_denied(self) -> None:
        """Which error the caller gets when a permission is missing."""
        iam = self.cloud.client("iam")
        configuration = self._lambda.get_function_configuration(FunctionName=self.outputs["FunctionName"])
        role = configuration["Role"].rpartition("/")[2]
        policies = iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"]
        policy = next(each for each in policies if "ServingPolicy" in each["PolicyName"])
        with self._step("take the function's policy away"):
            iam.detach_role_policy(RoleName=role, PolicyArn=policy["PolicyArn"])
            self._wait_until(lambda: bool(self._result()["error"]), PARAMETER_TTL + 5, "the cached value runs out")
            error = self._result()["answer"]
            print(f"    {error['errorType']}: {error['errorMessage']}")
            _check(error["errorType"] == "ConfigurationError", "the error says that an operator must act")
            self.summary.append(f"without its policy: {error['errorType']}")
        with self._step("give it back"):
            iam.attach_role_policy(RoleName=role, PolicyArn=policy["PolicyArn"])
            self._invoke()
            print("    the next invocation answers")

    def show_destroy(self) -> None:
        """After the destroy nothing is left."""
        with self._step("cdk destroy --all"):
            self.cloud.destroy()
            left = self.cloud.client("cloudformation").describe_stacks()["Stacks"]
            instances = self.cloud.client("rds").describe_db_instances()["DBInstances"]
            _check([stack["StackName"] for stack in left] == ["CDKToolkit"] and not instances, "nothing is left")
            self.summary.append("destroyed; nothing left")

    @contextmanager
    def _step(self, what: str) -> Iterator[None]:
        print(f"▸ {what}", flush=True)
        began = time.monotonic()
        yield
        print(f"    {time.monotonic() - began:.1f} s", flush=True)

    def _invoke(self) -> Mapping[str, Any]:
        result = self._result()
        answer: dict[str, Any] = result["answer"]
        _check(not result["error"], f"the function answers: {answer.get('errorMessage')}")
        return answer

    def _schema_version(self) -> int:
        return int(self._result(HEALTH)["answer"]["schemaVersion"])

    def _result(self, event: object = None) -> dict[str, Any]:
        return invoke(self._lambda, self.outputs["FunctionName"], event)

    def _upstream_calls(self) -> Counter[str]:
        """Return how often AWS was asked for the two values, from the record of API calls."""
        calls: Counter[str] = Counter()
        for name in ("GetParameter", "GetSecretValue"):
            asked = [{"AttributeKey": "EventName", "AttributeValue": name}]
            calls[name] = len(self.cloud.client("cloudtrail").lookup_events(LookupAttributes=asked)["Events"])
        return calls

    def _wait_for_invocations(self, load: Load, number: int) -> None:
        enough = load.made + number
        self._wait_until(lambda: load.made >= enough, 120, "invocations go on")

    def _wait_for_rotation(self) -> None:
        """Until the pending version is the current one."""
        secrets = self.cloud.client("secretsmanager")

        def done() -> bool:
            secret = secrets.describe_secret(SecretId=self.outputs["DatabaseSecretArn"])
            stages = [set(stages) for stages in secret["VersionIdsToStages"].values()]
            return {"AWSPENDING"} not in stages and "LastRotatedDate" in secret

        self._wait_until(done, 120, "the rotation ends")

    def _wait_until(self, condition: Callable[[], bool], seconds: float, what: str) -> float:
        started = time.monotonic()
        _check(wait_until(condition, seconds), what)
        return time.monotonic() - started


def next_version(folder: Path) -> Path:
    """Write a copy of what is deployed, with one migration more and an application that needs it; return the folder."""
    copy_application(folder)
    newest = max((folder / "migrations").iterdir())
    number = int(newest.name[:4]) + 1
    (folder / "migrations" / f"{number:04}_add_priority_to_note.sql").write_text(
        "ALTER TABLE note ADD COLUMN priority TINYINT NOT NULL DEFAULT 0;\n"
    )
    application = folder / "lambda_src" / "application.py"
    text = application.read_text().replace(f"SCHEMA: Final = {number - 1}", f"SCHEMA: Final = {number}")
    application.write_text(text.replace("FROM note)", "FROM note WHERE priority = 0)"))
    return folder


def _check(holds: object, what: str) -> None:
    if not holds:
        raise DemoError(f"not so: {what}")


def main() -> None:
    """Run the demo; exit with 1 when a step does not show what it must."""
    set_up_terminal()
    print(busy(), end="")
    started = time.monotonic()
    demo = Demo(LocalCloud(LOCAL / "demo"))
    try:
        demo.run()
    except (CloudError, DemoError) as error:
        sys.exit(f"{error}\n\nThe cloud's log: {demo.cloud.folder / 'log'}")
    finally:
        demo.cloud.stop()
    print(f"\nShown in {time.monotonic() - started:.0f} s:")
    for line in demo.summary:
        print(f"  ✓ {line}")


if __name__ == "__main__":
    main()
