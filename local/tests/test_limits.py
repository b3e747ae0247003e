"""What AWS refuses real clients, the local cloud refuses too; local/ministack_patches/limits.py has the pages."""

import json
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.cloud import LocalCloud
from local.extension import Configuration, Upstream

Calls = dict[str, tuple[Callable[[], object], str, str]]


@pytest.fixture
def name(outputs: dict[str, str]) -> str:
    """The serving function's, without its alias."""
    return outputs["FunctionName"].split(":")[-2]


@pytest.fixture
def calls(cloud: LocalCloud, outputs: dict[str, str], name: str) -> Calls:
    """Calls, and the code and a part of the message with which they are refused."""
    functions, parameters, secrets = cloud.client("lambda"), cloud.client("ssm"), cloud.client("secretsmanager")
    not_found = ("ResourceNotFoundException", ":99")

    def invoke(target: str = name, **asked: object) -> Callable[[], object]:
        return lambda: functions.invoke(FunctionName=target, **asked)

    def alias(**changed: object) -> Callable[[], object]:
        return lambda: functions.update_alias(FunctionName=name, Name="live", **changed)

    def parameter(**given: str) -> Callable[[], object]:
        return lambda: parameters.put_parameter(Name=f"/{uuid.uuid4()}", Type="String", **given)

    def secret(secret_name: str, **value: str | bytes) -> Callable[[], object]:
        return lambda: secrets.create_secret(Name=secret_name, **value)

    def changed(call: str, **value: str | bytes) -> Callable[[], object]:
        return lambda: getattr(secrets, call)(SecretId=outputs["DatabaseSecretArn"], **value)

    too_long = ("ValidationException", "less than or equal to 65536")

    return {
        "an alias of an absent version": (alias(FunctionVersion="99"), *not_found),
        "a weight of one": (alias(RoutingConfig={"AdditionalVersionWeights": {"99": 0.1}}), *not_found),
        "an absent version": (invoke(Qualifier="99"), *not_found),
        # https://docs.aws.amazon.com/lambda/latest/api/API_DeleteFunction.html
        "a version that an alias has": (
            lambda: functions.delete_function(
                FunctionName=name, Qualifier=functions.get_alias(FunctionName=name, Name="live")["FunctionVersion"]
            ),
            "ResourceConflictException",
            "referenced by an alias",
        ),
        "two qualifiers": (
            invoke(f"{name}:live", Qualifier="1"),
            "InvalidParameterValueException",
            "does not match the specified qualifier",
        ),
        "7 MB": (invoke(Payload=json.dumps("x" * 7_000_000)), "RequestTooLargeException", "6291456"),
        "2 MB, asynchronous": (
            invoke(Payload=json.dumps("x" * 2_000_000), InvocationType="Event"),
            "RequestTooLargeException",
            "1048576",
        ),
        "no JSON": (invoke(Payload='{"a"'), "InvalidRequestContentException", "Could not parse request body into json"),
        "a long parameter": (parameter(Value="x" * 4097), "ValidationException", "maximum parameter value of 4096"),
        "one of the other tier": (
            parameter(Value="x" * 8193, Tier="Advanced"),
            "ValidationException",
            "maximum parameter value of 8192",
        ),
        "an empty parameter": (parameter(Value=""), "ValidationException", "greater than or equal to 1"),
        "a long secret": (secret("a", SecretString="x" * 65_537), *too_long),
        "a long secret of bytes": (secret("a", SecretBinary=b"x" * 65_537), *too_long),
        "a long new value": (changed("put_secret_value", SecretString="x" * 65_537), *too_long),
        "a long new value of bytes": (changed("put_secret_value", SecretBinary=b"x" * 65_537), *too_long),
        "a long update": (changed("update_secret", SecretString="x" * 65_537), *too_long),
        "a long update of bytes": (changed("update_secret", SecretBinary=b"x" * 65_537), *too_long),
        "a name with a space": (secret("a b", SecretString="x"), "ValidationException", "Invalid name"),
    }


def test_each_is_refused_with_awss_code(calls: Calls) -> None:
    for what, (call, code, message) in calls.items():
        with pytest.raises(ClientError) as refused:
            call()
        error = refused.value.response["Error"]
        assert error["Code"] == code, what
        assert message in error["Message"], what


def test_the_longest_are_taken(cloud: LocalCloud) -> None:
    """Characters of a parameter and bytes of a secret, before their form of a request."""
    parameters, secrets, name = cloud.client("ssm"), cloud.client("secretsmanager"), str(uuid.uuid4())
    for tier, size in (("Standard", 4096), ("Advanced", 8192)):
        parameters.put_parameter(Name=f"/{name}", Type="String", Value="x" * size, Tier=tier, Overwrite=True)
    parameters.delete_parameter(Name=f"/{name}")
    secrets.create_secret(Name=name, SecretString="x" * 65_536)
    secrets.put_secret_value(SecretId=name, SecretBinary=b"x" * 65_536)
    secrets.delete_secret(SecretId=name, ForceDeleteWithoutRecovery=True)


def test_a_function_is_found_by_each_form_of_its_name(cloud: LocalCloud, name: str) -> None:
    client = cloud.client("lambda")
    arn = client.get_function_configuration(FunctionName=name)["FunctionArn"]
    partial = ":".join(arn.split(":")[4:])
    for form in (arn, f"{arn}:live", partial, f"{partial}:live", name, f"{name}:live"):
        assert client.get_function_configuration(FunctionName=form)["FunctionName"] == name, form
    assert client.invoke(FunctionName=f"{name}:live", Qualifier="live")["StatusCode"] == 200


def test_a_secret_is_read_through_parameter_store_decrypted_only(cloud: LocalCloud, outputs: dict[str, str]) -> None:
    secrets, parameters = cloud.client("secretsmanager"), cloud.client("ssm")
    secret = secrets.get_secret_value(SecretId=outputs["DatabaseSecretArn"])
    path = f"/aws/reference/secretsmanager/{secret['Name']}"
    for form in (path, f"{path}:AWSCURRENT", f"{path}:{secret['VersionId']}"):
        found = parameters.get_parameter(Name=form, WithDecryption=True)["Parameter"]
        assert (found["Value"], found["ARN"], found["Version"]) == (secret["SecretString"], secret["ARN"], 0)
        assert json.loads(found["SourceResult"])["versionId"] == secret["VersionId"]
    for form, decrypted, code in ((path, False, "ValidationException"), (f"{path}x", True, "ParameterNotFound")):
        with pytest.raises(ClientError, match=code):
            parameters.get_parameter(Name=form, WithDecryption=decrypted)


def test_the_emulator_reads_a_secret_through_parameter_store(
    cloud: LocalCloud, outputs: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in cloud.variables.items():
        monkeypatch.setenv(name, value)
    secret = cloud.client("secretsmanager").get_secret_value(SecretId=outputs["DatabaseSecretArn"])
    name, emulator = f"/aws/reference/secretsmanager/{secret['Name']}", Upstream(Configuration())
    parameter = json.loads(emulator.parameter(name, "", with_decryption=True))["Parameter"]
    assert (parameter["Value"], parameter["Version"]) == (secret["SecretString"], 0)
    with pytest.raises(ClientError, match="ValidationException"):
        emulator.parameter(name, "", with_decryption=False)


def test_pages_of_a_log_lose_nothing_and_a_pattern_chooses(cloud: LocalCloud) -> None:
    logs, group = cloud.client("logs"), f"/test/{uuid.uuid4()}"
    logs.create_log_group(logGroupName=group)
    now = int(time.time() * 1000)
    written = []
    for stream in ("a", "b"):
        logs.create_log_stream(logGroupName=group, logStreamName=stream)
        messages = [json.dumps({"stream": stream, "number": number}) for number in range(12)]
        events = [{"timestamp": now + number // 5, "message": each} for number, each in enumerate(messages)]
        logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=events)
        written += messages

    def read(**asked: Any) -> list[str]:
        pages = logs.get_paginator("filter_log_events").paginate(logGroupName=group, **asked)
        return [each["message"] for page in pages for each in page["events"]]

    try:
        for size in (1, 5, 7, 100):
            assert sorted(read(limit=size)) == sorted(written)
        assert read(filterPattern="{ $.number = 11 && $.stream = b }", limit=2) == [written[-1]]
        for asked in ({"filterPattern": "{ $.number = "}, {"nextToken": "another"}):
            with pytest.raises(ClientError, match="InvalidParameterException"):
                logs.filter_log_events(logGroupName=group, **asked)
    finally:
        logs.delete_log_group(logGroupName=group)
