"""Checks of the function: that it answers, from where, and in which version."""

import json
import re

from operations.verify.deployed import Deployed
from operations.verify.report import CheckFailedError, NotCheckableError, check, expect
from stacks.service import ALIAS

ATTEMPTS = 5
"""Of an invocation that another execution environment may answer."""


@check("The function answers from the application's database, over verified TLS")
def answer(deployed: Deployed) -> str:
    """The handler verifies the certificate before it sends the password; an answer shows that it could."""
    result = deployed.invoke()
    if result["error"]:
        raise CheckFailedError(f"{result['answer'].get('errorType')}: {result['answer'].get('errorMessage')}", "answer")
    expect(result["answer"].get("database"), deployed.settings.database_name, "database")
    tls = result["answer"].get("tlsVersion")
    if tls not in ("TLSv1.2", "TLSv1.3"):
        raise CheckFailedError(f"TLS version {tls}", "TLSv1.2 or TLSv1.3")
    return f"database {result['answer']['database']} over {tls}"


@check("The answer comes from the engine version that was asked for")
def engine(deployed: Deployed) -> str:
    """RDS's version, and the version that the server itself says."""
    version, asked = deployed.instance["EngineVersion"], deployed.settings.engine_version
    if not f"{version}.".startswith(f"{asked}."):
        raise CheckFailedError(f"engine version {version}", asked)
    if not deployed.is_aws:
        raise NotCheckableError(f"{deployed.endpoint} is not AWS: the server is not one of RDS")
    server = str(deployed.invoke()["answer"].get("serverVersion"))
    if not server.startswith(version):
        raise CheckFailedError(f"server version {server}", version)
    return f"MySQL {server}"


@check("An invocation uses the connection of the one before")
def kept_connection(deployed: Deployed) -> str:
    """By the handler's own log line; another execution environment may answer one of the invocations."""
    for _ in range(ATTEMPTS):
        lines = re.findall(r"^\{.*invocation\.finished.*\}$", deployed.invoke()["log"], re.MULTILINE)
        if any(json.loads(line)["connection_reused"] for line in lines):
            return "used again"
    raise CheckFailedError(f"{ATTEMPTS} invocations, each with a new connection", "a kept connection")


@check("The extension's layer is the one that is pinned, or AWS's")
def extension(deployed: Deployed) -> str:
    """Of the version that callers invoke. AWS publishes new layers, and an unchanged function keeps the older."""
    pinned, layers = deployed.settings.extension_layer_arn, [each["Arn"] for each in deployed.live.get("Layers", [])]
    if pinned:
        expect(layers, [pinned], "layers")
        return pinned
    newest = str(deployed.newest_layer["Value"])
    expect([each.rpartition(":")[0] for each in layers], [newest.rpartition(":")[0]], "layers")
    used, latest = layer_versions(deployed)
    if used < latest:
        raise NotCheckableError(f"version {used}, and AWS's newest is {latest}: {deployed.move_layer}")
    return str(layers[0])


def layer_versions(deployed: Deployed) -> tuple[int, int]:
    """Return the version of the layer that callers get, and of AWS's newest."""
    arns = (deployed.live["Layers"][0]["Arn"], deployed.newest_layer["Value"])
    used, newest = (int(str(arn).rpartition(":")[2]) for arn in arns)
    return used, newest


@check("Callers get one version, the newest that passed its smoke test")
def live_version(deployed: Deployed) -> str:
    """A release that is under way sends a part of the traffic to another version."""
    client, name = deployed.client("lambda"), deployed.functions["Function"]
    alias = client.get_alias(FunctionName=name, Name=ALIAS)
    others = alias.get("RoutingConfig", {}).get("AdditionalVersionWeights", {})
    if others:
        raise NotCheckableError(f"a release is under way: {others} of the traffic goes to the new version")
    declared = deployed.physical_ids("AWS::Lambda::Version", "Service").values()
    (version,) = [arn.rpartition(":")[2] for arn in declared if arn.split(":")[-2] == name]
    expect(alias["FunctionVersion"], version, f"{ALIAS} at version")
    return f"{ALIAS} at version {version}"


@check("The function has the reserved concurrency of the settings")
def concurrency(deployed: Deployed) -> str:
    """0 in the settings reserves nothing."""
    found = deployed.client("lambda").get_function_concurrency(FunctionName=deployed.functions["Function"])
    reserved = found.get("ReservedConcurrentExecutions", 0)
    expect(reserved, deployed.settings.reserved_concurrency, "reserved concurrency")
    return f"{reserved} execution environments"
