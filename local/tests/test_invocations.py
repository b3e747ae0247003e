"""What Lambda counts and logs of an invocation, whatever becomes of it."""

import io
import os
import signal
import subprocess
import uuid
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

import operations.aws
from local.cloud import LocalCloud
from local.tests.fixtures import counted, wait_for_rotation
from operations.logs import told
from operations.waiting import wait_until
from shared.frame import HEALTH


@pytest.fixture
def function(cloud: LocalCloud, outputs: dict[str, str]) -> Iterator[Callable[..., str]]:
    """Make a function of one module; its name."""
    client = cloud.client("lambda")
    role = client.get_function_configuration(FunctionName=outputs["FunctionName"])["Role"]
    made = []

    def function(source: str, *layers: str, **variables: str) -> str:
        package = io.BytesIO()
        with zipfile.ZipFile(package, "w") as archive:
            entry = zipfile.ZipInfo("module.py")
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, source)
        name = f"made-{uuid.uuid4()}"
        client.create_function(
            FunctionName=name,
            Runtime="python3.13",
            Role=role,
            Handler="module.handler",
            Code={"ZipFile": package.getvalue()},
            Layers=layers,
            Environment={"Variables": variables},
            LoggingConfig={"LogFormat": "JSON"},
            Timeout=3,
        )
        made.append(name)
        return name

    yield function
    for name in made:
        client.delete_function(FunctionName=name)


@pytest.fixture
def invoked(cloud: LocalCloud, function: Callable[..., str]) -> Callable[[str], tuple[str, dict[str, Any], str]]:
    """Invoke a function of one module: its name, its payload, and its log as `make logs` shows it."""

    def invoked(source: str) -> tuple[str, dict[str, Any], str]:
        name = function(source)
        result = operations.aws.invoke(cloud.client("lambda"), name)
        shown = "\n".join(each for line in result["log"].splitlines() for each in told(line))
        assert result["error"] == "Unhandled"
        return name, result["answer"], shown

    return invoked


@pytest.mark.parametrize(
    ("source", "kind", "shown"),
    [
        ("import nothing\n", "Runtime.ImportModuleError", "No module named 'nothing'"),
        ("def handler(event, context)\n", "Runtime.UserCodeSyntaxError", "expected ':'"),
        ("raise ValueError('at the start')\n", "ValueError", "at the start"),
        ("def handler(event, context):\n    print('begun')\n    raise KeyError('k')\n", "KeyError", "begun\nERROR"),
        (
            "import time\ndef handler(event, context):\n    print('begun')\n    time.sleep(60)\n",
            "Sandbox.Timedout",
            "begun\nERROR Lambda: timeout Sandbox.Timedout",
        ),
        (
            "import os\ndef handler(event, context):\n    print('begun', flush=True)\n    os._exit(1)\n",
            "Runtime.ExitError",
            "begun\nERROR Lambda: error Runtime.ExitError",
        ),
    ],
)
def test_the_caller_hears_lambdas_error_and_the_log_tells_it(
    cloud: LocalCloud, invoked: Callable[[str], tuple[str, dict[str, Any], str]], source: str, kind: str, shown: str
) -> None:
    name, payload, log = invoked(source)
    assert payload["errorType"] == kind
    assert shown in log + payload["errorMessage"]
    assert counted(cloud, "Errors", FunctionName=name) == counted(cloud, "Invocations", FunctionName=name) == 1
    lines, _ = cloud.function_log()
    assert [line for _, function, line in lines if function == name and shown.splitlines()[0] in line]


def test_a_function_has_lambdas_time_zone_wherever_the_laptop_is(
    cloud: LocalCloud, function: Callable[..., str]
) -> None:
    name = function("import os\ndef handler(event, context):\n    return os.environ['TZ']\n")
    assert operations.aws.invoke(cloud.client("lambda"), name)["answer"] == ":UTC"


def test_each_start_of_an_environment_shows_in_the_log(
    cloud: LocalCloud, outputs: dict[str, str], function: Callable[..., str]
) -> None:
    """The extension's own line, also when the process before it ended between two invocations."""
    client = cloud.client("lambda")
    layers = client.get_function_configuration(FunctionName=outputs["FunctionName"])["Layers"]
    name = function("import os\ndef handler(event, context):\n    return os.getpid()\n", layers[0]["Arn"])
    for _ in range(2):
        result = operations.aws.invoke(client, name)
        assert "Serving on port" in result["log"]
        assert "Serving on port" not in operations.aws.invoke(client, name)["log"]
        os.kill(result["answer"], signal.SIGKILL)
        assert wait_until(partial(_has_ended, result["answer"]), 60)


def test_an_extension_that_logs_nothing_starts_too(
    cloud: LocalCloud, outputs: dict[str, str], function: Callable[..., str]
) -> None:
    client = cloud.client("lambda")
    layers = client.get_function_configuration(FunctionName=outputs["FunctionName"])["Layers"]
    source = "def handler(event, context):\n    return 1\n"
    name = function(source, layers[0]["Arn"], PARAMETERS_SECRETS_EXTENSION_LOG_LEVEL="NONE")
    result = operations.aws.invoke(client, name)
    assert (result["answer"], "Extension" in result["log"]) == (1, False)


def _has_ended(process: int) -> bool:
    shown = subprocess.run(["ps", "-o", "stat=", "-p", str(process)], stdout=subprocess.PIPE).stdout
    return shown[:1] in (b"", b"Z")


def test_an_invocation_is_counted_for_the_function_the_alias_and_the_version(
    cloud: LocalCloud, invoke: Callable[..., dict[str, Any]], outputs: dict[str, str]
) -> None:
    version = invoke(HEALTH)["version"]
    name = outputs["FunctionName"].split(":")[-2]
    resource = {"FunctionName": name, "Resource": f"{name}:live"}
    sets = ({"FunctionName": name}, resource, resource | {"ExecutedVersion": version})
    before = [counted(cloud, "Invocations", **each) for each in sets]
    everything = counted(cloud, "Invocations")
    for _ in range(3):
        invoke(HEALTH)
    assert [counted(cloud, "Invocations", **each) for each in sets] == [each + 3 for each in before]
    assert counted(cloud, "Invocations") >= everything + 3  # Of all functions.
    assert counted(cloud, "Invocations", **resource, ExecutedVersion="99") == 0


def test_the_first_invocation_of_an_idle_function_fails(cloud: LocalCloud, outputs: dict[str, str]) -> None:
    client, called = cloud.client("lambda"), {"FunctionName": outputs["FunctionName"]}
    cloud.let_idle(client.get_function_configuration(**called)["FunctionName"])
    assert client.get_function_configuration(**called)["State"] == "Inactive"
    with pytest.raises(client.exceptions.ResourceConflictException, match="Pending"):
        client.invoke(**called)
    assert client.get_function_configuration(**called)["State"] == "Active"
    assert "FunctionError" not in client.invoke(**called)


def test_a_rotation_whose_function_is_idle_is_repeated(cloud: LocalCloud, outputs: dict[str, str]) -> None:
    secrets, secret_id = cloud.client("secretsmanager"), outputs["DatabaseSecretArn"]
    function = secrets.describe_secret(SecretId=secret_id)["RotationLambdaARN"].rpartition(":")[2]
    cloud.let_idle(function)
    log = cloud.folder / "log"
    before = log.stat().st_size
    secrets.rotate_secret(SecretId=secret_id)
    wait_for_rotation(cloud, secret_id)
    assert b"createSecret failed" in log.read_bytes()[before:]
