"""The deployed rotation under a steady load of invocations, none of which fails."""

import json
import re
import time

import operations.aws
from local.cloud import LocalCloud
from local.tests.fixtures import wait_for_rotation
from operations.load import Load

ROTATIONS = 20
ENVIRONMENTS = 4
LEAST_LOAD = 45
"""Invocations between the beginnings of two rotations. The test waits for them: their rate depends on the machine."""


def test_twenty_rotations_under_load_fail_no_invocation(cloud: LocalCloud, outputs: dict[str, str]) -> None:
    client = cloud.client("lambda")
    configuration = client.get_function_configuration(FunctionName=outputs["FunctionName"])
    assert configuration["Environment"]["Variables"]["SECRETS_MANAGER_TTL"] == "300"
    wait_for_rotation(cloud, outputs["DatabaseSecretArn"])  # The first, which the deploy began.
    secrets = cloud.client("secretsmanager")
    failed: list[str] = []
    refreshed: list[str] = []
    cut = 0
    started = time.monotonic()
    versions = set()

    def invoke() -> str:
        result = operations.aws.invoke(client, outputs["FunctionName"])
        log, error = str(result["log"]), str(result["error"])
        failed.extend([log] if error else [])
        refreshed.extend([log] if "credentials.refreshed" in log else [])
        return error

    with Load(invoke, ENVIRONMENTS) as load:
        for _ in range(ROTATIONS):
            enough = load.made + LEAST_LOAD
            secrets.rotate_secret(SecretId=outputs["DatabaseSecretArn"])
            wait_for_rotation(cloud, outputs["DatabaseSecretArn"])
            versions.add(secrets.get_secret_value(SecretId=outputs["DatabaseSecretArn"])["VersionId"])
            # A kept connection would outlive them all; cut, each must log in with what is cached.
            cut += cloud.cut_connections(outputs["DatabaseSecretArn"])
            while load.made < enough:
                time.sleep(0.01)
    elapsed = time.monotonic() - started
    print(f"{ROTATIONS} rotations, {cut} connections cut: {dict(load.outcomes)} in {elapsed:.0f} s")
    assert len(versions) == ROTATIONS
    assert failed == []
    assert load.failed == 0
    # All within one TTL: every environment's cached credentials were stale again and again.
    assert cut >= ROTATIONS
    assert len(refreshed) >= ROTATIONS
    pages = cloud.client("logs").get_paginator("filter_log_events")
    group = configuration["LoggingConfig"]["LogGroup"]
    lines = [event["message"] for page in pages.paginate(logGroupName=group) for event in page["events"]]
    # Each environment has an extension of its own.
    assert len({port for line in lines for port in re.findall(r"Serving on port (\d+)", line)}) >= ENVIRONMENTS


def test_no_password_is_in_any_functions_log(cloud: LocalCloud, outputs: dict[str, str]) -> None:
    secrets = cloud.client("secretsmanager")
    value = json.loads(secrets.get_secret_value(SecretId=outputs["DatabaseSecretArn"])["SecretString"])
    master = json.loads(secrets.get_secret_value(SecretId=value["masterarn"])["SecretString"])
    logs = cloud.client("logs")
    seen = 0
    for group in logs.describe_log_groups()["logGroups"]:
        for page in logs.get_paginator("filter_log_events").paginate(logGroupName=group["logGroupName"]):
            for event in page["events"]:
                seen += 1
                assert value["password"] not in event["message"]
                assert master["password"] not in event["message"]
    assert seen > ROTATIONS
