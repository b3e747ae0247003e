"""The main job from deploy to destroy, shown step by step, on a cloud of its own."""

import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from local.install import LOCAL
from local.running import CloudError, LocalCloud

PARAMETER_TTL: Final = 5
"""Seconds; shorter than the default, so that nobody waits five minutes for a step."""
INVOCATIONS: Final = 100


class DemoError(Exception):
    """A step did not show what it must."""


@dataclass
class Demo:
    """The deployed application, and what the steps found out about it."""

    cloud: LocalCloud
    function_name: str = ""
    summary: list[str] = field(default_factory=list)
    _lambda: Any = None

    def run(self) -> None:
        """Take all the steps."""
        with _step("start an emulated cloud: TLS, signatures and IAM on"):
            self.cloud.start()
        with _step("cdk bootstrap"):
            self.cloud.bootstrap()
        with _step("cdk deploy --all: network, database, service, monitoring; a smoke test on the way"):
            self.cloud.deploy(f"parameter_ttl={PARAMETER_TTL}")
            self._lambda = self.cloud.client("lambda")
            self.outputs = self.cloud.outputs("Dev-Service")
            self.function_name = self.outputs["FunctionName"]
        with _step("the first rotation makes the function's own database user"):
            self._wait_for_rotation()
        for show in (
            self.show_answer,
            self.show_cache,
            self.show_changed_parameter,
            self.show_rotations,
            self.show_denied,
            self.show_destroy,
        ):
            show()

    def show_answer(self) -> None:
        """One invocation."""
        with _step("invoke the function"):
            before = self._upstream_calls()
            answer = self._invoke()
            for name, value in answer.items():
                print(f"    {name}: {value}")
            _check(answer["database"] == "devDB" and answer["tlsVersion"].startswith("TLS"), "the answer is whole")
            self._calls_before = before
            self.summary.append(f"answered over {answer['tlsVersion']} from {answer['serverVersion']}")

    def show_cache(self) -> None:
        """What the extension's cache saves."""
        with _step(f"invoke it {INVOCATIONS - 1} times more"):
            started = time.monotonic()
            for _ in range(INVOCATIONS - 1):
                self._invoke()
            elapsed = time.monotonic() - started
            calls = self._upstream_calls() - self._calls_before
            print(f"    {INVOCATIONS} invocations read {2 * INVOCATIONS} values; calls to AWS: {calls.total()}")
            for name, number in sorted(calls.items()):
                print(f"      {name}: {number}")
            # Each is read again only when its TTL ran out meanwhile; the smoke test has had both read already.
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
        with _step(f"change the parameter, and wait for its TTL of {PARAMETER_TTL} s"):
            self._wait_until(lambda: "serverVersion" in self._invoke(), 1, "the function answers")
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
        with _step("rotate the password again and again within the secret's TTL, under invocations"):
            stop = threading.Event()
            results: Counter[str] = Counter()

            def load() -> None:
                while not stop.is_set():
                    results["failed"] += "FunctionError" in self._lambda.invoke(FunctionName=self.function_name)
                    results["made"] += 1

            def refreshed() -> int:
                # In the cloud's own log: a line may come too late for the invocation's tail.
                return self.cloud.log().count("credentials.refreshed")

            threads = [threading.Thread(target=load) for _ in range(4)]
            for thread in threads:
                thread.start()
            rotations = killed = 0
            try:
                # Whichever environments serve, two rotations later what they have cached is stale.
                while rotations < 5 or (not refreshed() and rotations < 9):
                    self.cloud.client("secretsmanager").rotate_secret(SecretId=self.outputs["DatabaseSecretArn"])
                    self._wait_for_rotation()
                    rotations += 1
                    # Kept connections outlive a rotation; cut, they must log in with what is cached.
                    killed += self.cloud.cut_connections(self.outputs["DatabaseSecretArn"])
                    time.sleep(0.5)
            finally:
                stop.set()
                for thread in threads:
                    thread.join()
            print(
                f"    {rotations} rotations and {killed} connections cut: {results['made']} invocations, "
                f"{results['failed']} failed, {refreshed()} read the secret around the cache"
            )
            _check(refreshed() > 0, "stale credentials are met and replaced")
            _check(results["failed"] == 0, "no invocation failed")
            self.summary.append(
                f"{rotations} rotations under {results['made']} invocations, {results['failed']} failed"
            )

    def show_denied(self) -> None:
        """What the caller hears when a permission is missing."""
        iam = self.cloud.client("iam")
        configuration = self._lambda.get_function_configuration(FunctionName=self.function_name)
        role = configuration["Role"].rpartition("/")[2]
        policies = iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"]
        policy = next(each for each in policies if "FunctionPolicy" in each["PolicyName"])
        with _step("take the function's policy away"):
            iam.detach_role_policy(RoleName=role, PolicyArn=policy["PolicyArn"])
            self._wait_until(self._fails, PARAMETER_TTL + 5, "the cached value runs out")
            error = json.loads(self._lambda.invoke(FunctionName=self.function_name)["Payload"].read())
            print(f"    {error['errorType']}: {error['errorMessage']}")
            _check(error["errorType"] == "ConfigurationError", "the error says that an operator must act")
            self.summary.append(f"without its policy: {error['errorType']}")
        with _step("give it back"):
            iam.attach_role_policy(RoleName=role, PolicyArn=policy["PolicyArn"])
            self._invoke()
            print("    the next invocation answers")

    def show_destroy(self) -> None:
        """Nothing stays."""
        with _step("cdk destroy --all"):
            self.cloud.destroy()
            left = self.cloud.client("cloudformation").describe_stacks()["Stacks"]
            instances = self.cloud.client("rds").describe_db_instances()["DBInstances"]
            _check([stack["StackName"] for stack in left] == ["CDKToolkit"] and not instances, "nothing is left")
            self.summary.append("destroyed; nothing left")

    def _invoke(self) -> Mapping[str, Any]:
        result = self._lambda.invoke(FunctionName=self.function_name)
        payload: dict[str, Any] = json.loads(result["Payload"].read())
        _check("FunctionError" not in result, f"the function answers: {payload.get('errorMessage')}")
        return payload

    def _fails(self) -> bool:
        return "FunctionError" in self._lambda.invoke(FunctionName=self.function_name)

    def _upstream_calls(self) -> Counter[str]:
        """How often AWS was asked for the two values, from its own record of API calls."""
        trail = self.cloud.client("cloudtrail")
        return Counter(
            {
                name: len(
                    trail.lookup_events(LookupAttributes=[{"AttributeKey": "EventName", "AttributeValue": name}])[
                        "Events"
                    ]
                )
                for name in ("GetParameter", "GetSecretValue")
            }
        )

    def _wait_for_rotation(self) -> None:
        """Until the pending version is the current one."""
        secrets = self.cloud.client("secretsmanager")

        def done() -> bool:
            secret = secrets.describe_secret(SecretId=self.outputs["DatabaseSecretArn"])
            stages = [set(stages) for stages in secret["VersionIdsToStages"].values()]
            return {"AWSPENDING"} not in stages and "LastRotatedDate" in secret

        self._wait_until(done, 30, "the rotation ends")

    def _wait_until(self, condition: Callable[[], bool], seconds: float, what: str) -> float:
        started = time.monotonic()
        while not condition():
            _check(time.monotonic() - started < seconds, what)
            time.sleep(0.1)
        return time.monotonic() - started


def _check(holds: object, what: str) -> None:
    if not holds:
        raise DemoError(f"not so: {what}")


@contextmanager
def _step(what: str) -> Iterator[None]:
    print(f"▸ {what}", flush=True)
    started = time.monotonic()
    yield
    print(f"    {time.monotonic() - started:.1f} s", flush=True)


def main() -> None:
    """Run the demo; exit with 1 when a step does not show what it must."""
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
