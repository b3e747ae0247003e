"""The functions' environment variables are read and checked when a function starts."""

import os
import subprocess
import sys

import pytest

import application
from shared import frame
from shared.environment import RotationEnvironment, ServingEnvironment
from shared.errors import ConfigurationError
from stacks.packaging.bundling import SOURCE

VARIABLES = {"ENV": "dev", "APP_CONFIG_PATH": "notesApp/app_config", "CREDS_PATH": "arn", "AWS_REGION": "us-east-1"}
PORT = "PARAMETERS_SECRETS_EXTENSION_HTTP_PORT"


def test_the_variables_name_parameter_secret_region_and_port() -> None:
    expected = ServingEnvironment("/dev/notesApp/app_config", "arn", "us-east-1", 2773)
    assert ServingEnvironment.read(VARIABLES) == expected
    assert ServingEnvironment.read(VARIABLES | {PORT: "2774"}).extension_port == 2774


@pytest.mark.parametrize("name", VARIABLES)
@pytest.mark.parametrize("value", [None, "", " "])
def test_a_variable_that_is_missing_or_empty_is_named(name: str, value: str | None) -> None:
    variables = {key: each for key, each in VARIABLES.items() if key != name} | ({} if value is None else {name: value})
    with pytest.raises(ConfigurationError, match=f"missing or empty: {name}$"):
        ServingEnvironment.read(variables)


def test_all_missing_variables_are_named_at_once() -> None:
    with pytest.raises(ConfigurationError, match="missing or empty: ENV, APP_CONFIG_PATH, CREDS_PATH, AWS_REGION"):
        ServingEnvironment.read({})


@pytest.mark.parametrize("port", ["", "0", "65536", "x", "-1", "²"])
def test_an_invalid_port_is_named(port: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{PORT} is not a port from 1 to 65535"):
        ServingEnvironment.read(VARIABLES | {PORT: port})


def test_a_function_without_its_variables_fails_when_it_starts_and_logs_the_outcome() -> None:
    program = "import logging; logging.basicConfig(format='%(message)s %(outcome)s %(reason)s'); import handler"
    env = {"PYTHONPATH": os.pathsep.join([str(SOURCE), *sys.path]), "ENV": "dev", "AWS_REGION": "us-east-1"}
    started = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True)
    assert started.returncode == 1
    first = "start.failed ConfigurationError environment variables missing or empty: APP_CONFIG_PATH, CREDS_PATH"
    assert started.stderr.splitlines()[0] == first
    assert started.stderr.splitlines()[-1].endswith("missing or empty: APP_CONFIG_PATH, CREDS_PATH")


def test_a_start_without_variables_is_logged_with_its_outcome(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("CREDS_PATH")
    with pytest.raises(ConfigurationError, match="missing or empty: CREDS_PATH"):
        frame.start(application)
    assert vars(caplog.records[-1])["outcome"] == "ConfigurationError"


ROTATION = {
    "AWS_REGION": "us-east-1",
    "DATABASE_HOST": "host",
    "DATABASE_PORT": "3306",
    "DATABASE_NAME": "devDB",
    "MASTER_SECRET_ARN": "arn:master",
    "ROTATED_USERS": '{"arn:app": {"username": "notesapp", "privileges": {"demo": ["SELECT"]}}}',
}


def test_the_rotations_variables_declare_what_it_may_touch() -> None:
    users = {"arn:app": ("notesapp", {"demo": ["SELECT"]})}
    expected = RotationEnvironment("us-east-1", "host", 3306, "devDB", "arn:master", users)
    assert RotationEnvironment.read(ROTATION) == expected


@pytest.mark.parametrize("wrong", [{"DATABASE_PORT": "x"}, {"ROTATED_USERS": "[]"}, {"ROTATED_USERS": "x"}])
def test_a_wrong_declaration_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="DATABASE_PORT is not a number, or ROTATED_USERS not a JSON object"):
        RotationEnvironment.read(ROTATION | wrong)
