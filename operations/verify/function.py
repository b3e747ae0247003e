"""Checks of the serving functions: that each answers, from where, and in which version."""

import json
import re

from operations.verify.deployed import Deployed
from operations.verify.report import CheckFailedError, NotCheckableError, check, expect
from stacks.constructs.serving_function import ALIAS

ATTEMPTS = 5
"""Of an invocation that another execution environment may answer."""


@check("Each serving function answers from the application's database, over verified TLS")
def answer(deployed: Deployed) -> str:
    """The handler verifies the certificate before it sends the password; an answer shows that it could."""
    found = set()
    for name in deployed.serving:
        result = deployed.invoke(name)
        answered = result["answer"]
        if result["error"]:
            raise CheckFailedError(f"{name}: {answered.get('errorType')}: {answered.get('errorMessage')}", "answer")
        expect(answered.get("database"), deployed.settings.database_name, f"{name}: database")
        tls = answered.get("tlsVersion")
        if tls not in ("TLSv1.2", "TLSv1.3"):
            raise CheckFailedError(f"{name}: TLS version {tls}", "TLSv1.2 or TLSv1.3")
        found.add(f"database {answered['database']} over {tls}")
    return f"{', '.join(deployed.serving)}: {', '.join(sorted(found))}"


@check("The answer comes from the engine version that was asked for")
def engine(deployed: Deployed) -> str:
    """RDS's version, and the version that the server itself says."""
    version, asked = deployed.instance["EngineVersion"], deployed.settings.engine_version
    if not f"{version}.".startswith(f"{asked}."):
        raise CheckFailedError(f"engine version {version}", asked)
    if not deployed.is_aws:
        raise NotCheckableError(f"{deployed.endpoint} is not AWS: the server is not one of RDS")
    for name in deployed.serving:
        server = str(deployed.invoke(name)["answer"].get("serverVersion"))
        if not server.startswith(version):
            raise CheckFailedError(f"{name}: server version {server}", version)
    return f"MySQL {server}"


@check("An invocation uses the connection of the one before")
def kept_connection(deployed: Deployed) -> str:
    """By the handler's own log line; another execution environment may answer one of the invocations."""
    for name in deployed.serving:
        if not any(_reuses_connection(deployed.invoke(name)["log"]) for _ in range(ATTEMPTS)):
            raise CheckFailedError(f"{name}: {ATTEMPTS} invocations, each with a new connection", "a kept connection")
    return "used again"


def _reuses_connection(log: str) -> bool:
    lines = re.findall(r"^\{.*invocation\.finished.*\}$", log, re.MULTILINE)
    return any(json.loads(line)["connection_reused"] for line in lines)


@check("The extension's layer is the one that is pinned, or AWS's")
def extension(deployed: Deployed) -> str:
    """Of the version that callers invoke. AWS publishes new layers, and an unchanged function keeps the older."""
    pinned = deployed.settings.extension_layer_arn
    layers = {name: [each["Arn"] for each in live.get("Layers", [])] for name, live in deployed.live.items()}
    if pinned:
        expect(layers, {name: [pinned] for name in layers}, "layers")
        return pinned
    newest = str(deployed.newest_layer["Value"])
    for name, arns in layers.items():
        expect([each.rpartition(":")[0] for each in arns], [newest.rpartition(":")[0]], f"{name}: layers")
    used, latest = layer_versions(deployed)
    if used < latest:
        raise NotCheckableError(f"version {used}, and AWS's newest is {latest}: {deployed.move_layer}")
    return newest


def layer_versions(deployed: Deployed) -> tuple[int, int]:
    """Return the oldest version of the layer that callers get, and AWS's newest."""
    used = [live["Layers"][0]["Arn"] for live in deployed.live.values()]
    *versions, newest = (int(str(arn).rpartition(":")[2]) for arn in [*used, deployed.newest_layer["Value"]])
    return min(versions), newest


@check("Callers get one version, the newest that passed its smoke test")
def live_version(deployed: Deployed) -> str:
    """A release that is under way sends a part of the traffic to another version."""
    newest = dict(arn.split(":")[-2:] for arn in deployed.physical_ids("AWS::Lambda::Version", "Service").values())
    found = []
    for name in deployed.serving:
        function = deployed.functions[name]
        alias = deployed.client("lambda").get_alias(FunctionName=function, Name=ALIAS)
        others = alias.get("RoutingConfig", {}).get("AdditionalVersionWeights", {})
        if others:
            raise NotCheckableError(f"a release of {name} is under way: {others} of the traffic goes to a new version")
        expect(alias["FunctionVersion"], newest[function], f"{name}: {ALIAS} at version")
        found.append(f"{name}:{ALIAS} at version {newest[function]}")
    return ", ".join(found)


@check("Every function has the reserved concurrency of the settings")
def concurrency(deployed: Deployed) -> str:
    """As the templates declare it; `reserved_concurrency=0` reserves nothing for any."""
    client, found = deployed.client("lambda"), []
    for name, declared in deployed.declared_functions.items():
        reserved = client.get_function_concurrency(FunctionName=deployed.functions[name])
        number = reserved.get("ReservedConcurrentExecutions", 0)
        expect(number, declared.get("ReservedConcurrentExecutions", 0), f"{name}: reserved concurrency")
        found.append(f"{name} {number}")
    return ", ".join(found)
