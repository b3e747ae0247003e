"""What `make logs` and `make watch` show of a log."""

import json
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3
import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EndpointConnectionError

from local.cloud import LocalCloud, short_name
from operations import alarms, invocation, sql
from operations.commands import ROOT, environment
from operations.environment import Environment, EnvironmentUnknownError, command, ending
from operations.logs import LastErrors, is_error, last_errors, printable, shown, told
from operations.waiting import wait_until
from stacks.settings import SettingsError

RUNTIME = {
    "timestamp": "2026-11-28T08:53:22Z",
    "level": "ERROR",
    "errorMessage": "'customer'",
    "errorType": "KeyError",
    "requestId": "7751b7d0",
    "stackTrace": ['  File "/var/task/application.py", line 2, in answer\n    event["customer"]\n'],
}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ärger 🙂", "ärger 🙂"),
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("a\rb\nc", "a\\rb\\nc"),
        ("\x9b31m", "\\x9b31m"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
    ],
)
def test_no_line_of_a_log_repaints_the_terminal(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert told(text.replace("\n", " ")) == [shown.replace("\\n", " ")]
    assert told(json.dumps({"message": text})) == [shown]


@pytest.mark.parametrize(
    ("line", "lines"),
    [
        ("printed", ["printed"]),
        ('{"a": 1}', ["a=1"]),
        ("[1]", ["[1]"]),
        ('{"level": "INFO", "message": "done", "requestId": "1", "outcome": "ok"}', ["INFO done outcome=ok"]),
        ("START RequestId: 1 Version: 1", []),
        ("END RequestId: 1", []),
        ("REPORT RequestId: 1\tDuration: 1 ms", []),
        ('{"type": "platform.report", "record": {"status": "success"}}', []),
        (
            '{"type": "platform.report", "record": {"status": "timeout", "errorType": "Sandbox.Timedout"}}',
            ["ERROR Lambda: timeout Sandbox.Timedout"],
        ),
        (
            json.dumps(RUNTIME),
            [
                "ERROR KeyError: 'customer'",
                '      File "lambda_src/application.py", line 2, in answer',
                '        event["customer"]',
            ],
        ),
    ],
)
def test_a_line_is_told_whatever_it_is_and_lambdas_own_only_when_it_did_not_end_well(
    line: str, lines: list[str]
) -> None:
    assert told(line) == lines
    assert is_error(line) == any("ERROR" in each for each in lines)


def test_each_line_has_its_function_and_the_last_error_of_each_is_known() -> None:
    lines = [(1, "A", "one"), (2, "A", json.dumps(RUNTIME)), (3, "B", "[ERROR] two"), (4, "A", "[ERROR] three")]
    assert [each.partition(" ")[2] for each in shown(lines)][:2] == ["A  one", "A  ERROR KeyError: 'customer'"]
    assert last_errors(lines) == [(3, "B", "[ERROR] two"), (4, "A", "[ERROR] three")]


@pytest.mark.parametrize(
    ("function", "name"),
    [
        ("demoApp-dev-Service-ServingFunction76856677-E43459D6501B0", "ServingFunction"),
        ("orders-pre-prod-Service-SmokeTestE1E0118C-1a2B3c", "SmokeTest"),
        ("mine", "mine"),
    ],
)
def test_a_function_has_its_name_in_the_stack(function: str, name: str) -> None:
    assert short_name(function) == name


def test_an_error_is_kept_when_its_log_group_is_gone(cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("operations.logs.DEPLOY_PAUSE", 0.01)
    logs, group = cloud.client("logs"), "/test/gone"

    class Deploying(Environment):
        log_groups = {"Function": group}  # noqa: RUF012 - as the property

    logs.create_log_group(logGroupName=group)
    logs.create_log_stream(logGroupName=group, logStreamName="a")
    with LastErrors(lambda: Deploying("dev", cloud.session())) as errors:
        record = {"message": "mine", "level": "ERROR"}
        event = {"timestamp": int(time.time() * 1000) + 1000, "message": json.dumps(record)}
        logs.put_log_events(logGroupName=group, logStreamName="a", logEvents=[event])
        assert wait_until(lambda: bool(errors.shown()), 60)
        logs.delete_log_group(logGroupName=group)
    (line,) = errors.shown()
    assert line.endswith("Function  ERROR mine")


def test_a_name_that_is_not_known_is_refused_with_those_that_are(cloud: LocalCloud) -> None:
    with pytest.raises(SystemExit, match=r"^ENV=nowhere: expected one of dev, prod$"):
        command(alarms.main, ["nowhere"])
    with pytest.raises(EnvironmentUnknownError, match=r"FUNCTION=Fun: expected one of .*Serving"):
        Environment("dev", cloud.session()).function("Fun")
    with pytest.raises(EnvironmentUnknownError, match="make deploy ENV=prod"):
        _ = Environment("prod", cloud.session()).functions
    with pytest.raises(EnvironmentUnknownError, match=r"^no alarms of prod here: make up, or make deploy ENV=prod$"):
        alarms.main(Environment("prod", cloud.session()))


def _run(cloud: LocalCloud, module: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    with _start(cloud, module, **variables) as started:
        printed, said = started.communicate()
    return subprocess.CompletedProcess(started.args, started.returncode, printed, said)


def _start(cloud: LocalCloud, module: str, **variables: str) -> "subprocess.Popen[str]":
    ours = {key: value for key, value in environment().items() if not key.startswith("AWS_")}
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", f"operations.{module}", "dev"],
        cwd=ROOT,
        env=ours | cloud.variables | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_logs_invoke_alarms_and_the_ways_to_the_database(cloud: LocalCloud) -> None:
    """As in an account: by AWS's variables alone."""
    invoked = _run(cloud, "invocation", EVENT='{"note": ""}')
    assert invoked.returncode == 0
    assert '"errorType": "BadRequestError"' in invoked.stdout
    assert "answered in " in invoked.stdout
    assert "INFO invocation.finished" in invoked.stdout
    logged = _run(cloud, "logs", FUNCTION="Serving", SINCE="1d").stdout.splitlines()
    assert any("Serving  INFO invocation.finished" in line and "outcome=BadRequestError" in line for line in logged)
    assert "Migration" in _run(cloud, "logs", SINCE="1d").stdout
    alarms = _run(cloud, "alarms").stdout
    assert "FunctionErrors: " in alarms
    assert " in alarm" in alarms.splitlines()[-1]
    ways = _run(cloud, "sql").stdout
    (instance,) = cloud.client("rds").describe_db_instances()["DBInstances"]
    for part in (instance["Endpoint"]["Address"], instance["MasterUserSecret"]["SecretArn"], "VERIFY_IDENTITY"):
        assert part in ways
    for module, variables, sentence in (
        ("invocation", {"EVENT": "{"}, "EVENT is no JSON"),
        ("logs", {"SINCE": "soon"}, "SINCE=soon: expected a number and a unit"),
        ("logs", {"FUNCTION": "Nothing"}, "FUNCTION=Nothing: expected one of"),
    ):
        refused = _run(cloud, module, **variables)
        assert refused.returncode == 1
        assert refused.stderr.splitlines()[-1].startswith(sentence)


def test_the_ways_to_an_instance_that_was_made_without_a_database(
    cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As to one that was adopted."""
    rds = cloud.client("rds")
    described = rds.describe_db_instances()
    del described["DBInstances"][0]["DBName"]
    monkeypatch.setattr(rds, "describe_db_instances", lambda **_: described)
    environment = Environment("dev", cloud.session())
    monkeypatch.setattr(environment, "client", lambda name: rds if name == "rds" else cloud.client(name))
    sql.main(environment)
    assert " --ssl-ca=rds.pem devDB\n" in capsys.readouterr().out
    described["DBInstances"][0] |= {"DBInstanceStatus": "creating"}
    del described["DBInstances"][0]["Endpoint"]
    with pytest.raises(EnvironmentUnknownError, match="dev-demoapp is creating, without an address yet"):
        sql.main(environment)


def test_a_function_that_takes_long_is_invoked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """With an SDK that waits for a fifth of a second where it otherwise waits for a minute."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.path)
            time.sleep(1)
            self.send_response(500)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    class Deployed(Environment):
        functions = {"Migration": "migrates"}  # noqa: RUF012 - as the property
        serving = {}  # noqa: RUF012

    core = botocore.session.get_session()
    core.set_default_client_config(Config(read_timeout=0.2))
    session = boto3.Session("AKIATEST", "secret", region_name="us-east-1", botocore_session=core)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("FUNCTION", "Migration")
    try:
        with pytest.raises(ClientError, match="500"):
            invocation.main(Deployed("dev", session))
    finally:
        server.shutdown()
        server.server_close()
    assert asked == ["/2015-03-31/functions/migrates/invocations"]


def test_a_wrong_cdk_json_is_told_in_a_sentence() -> None:
    with pytest.raises(SystemExit, match=r"Settings refused, in cdk.json or after -c:\n  line 3"), ending():
        raise SettingsError(["line 3"])


def test_a_cloud_that_has_ended_is_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a restart of the machine."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://127.0.0.1:1")
    with pytest.raises(SystemExit, match=r"nothing is running at https://127\.0\.0\.1:1: make up"), ending():
        raise EndpointConnectionError(endpoint_url="https://127.0.0.1:1")


def test_a_reader_that_has_seen_enough_ends_the_command_without_an_error(cloud: LocalCloud) -> None:
    """As `make logs | head`."""
    _run(cloud, "invocation")
    with _start(cloud, "logs", SINCE="1d") as logs:
        assert logs.stdout
        assert logs.stderr
        logs.stdout.close()
        assert logs.stderr.read() == ""
    assert logs.returncode == 0


def test_logs_that_are_followed_go_on_until_they_are_ended(cloud: LocalCloud) -> None:
    asked = {"FUNCTION": "Serving", "SINCE": "1d"}
    _run(cloud, "invocation")
    before = _run(cloud, "logs", **asked).stdout.count("invocation.finished")
    with _start(cloud, "logs", **asked, FOLLOW="1") as following:
        assert following.stdout
        try:
            finished = (line for line in following.stdout if "Serving  INFO invocation.finished" in line)
            for _ in range(before):
                next(finished)
            _run(cloud, "invocation", EVENT='{"note": ""}')
            assert "outcome=BadRequestError" in next(finished, "")
            assert following.poll() is None
        finally:
            following.terminate()


def _made(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """What make would run."""
    return subprocess.run(
        ["make", "--no-print-directory", "--dry-run", *arguments],
        cwd=ROOT,
        env={**os.environ, "MAKEFLAGS": ""},
        capture_output=True,
        text=True,
    )


def test_without_env_a_command_asks_the_laptop_and_with_it_the_account() -> None:
    for target in ("logs", "invoke", "alarms", "sql"):
        here, there = (_made(target, *given).stdout.splitlines()[-1] for given in ([], ["ENV=prod"]))
        assert ". .local/env" in here
        assert ".local/env" not in there
        assert there.endswith(" prod")


@pytest.mark.parametrize(
    ("target", "flag", "value", "option"),
    [
        ("deploy", "MOVED", "yes", " moved"),
        ("restore", "DELETE", "yes", " --delete"),
        ("logs", "FOLLOW", "1", ""),
        ("sql", "MASTER", "1", ""),
    ],
)
def test_a_flag_is_not_given_by_a_word_that_means_the_opposite(target: str, flag: str, value: str, option: str) -> None:
    for other in ("no", "0", "false", f"{value} {value}s"):
        refused = _made(target, f"{flag}={other}")
        assert refused.returncode == 2
        assert f"{flag}={other}: expected {flag}={value} or nothing" in refused.stderr
    given, empty = _made(target, f"{flag}={value}"), _made(target, f"{flag}=")
    assert (given.returncode, empty.returncode) == (0, 0)
    assert option in given.stdout.splitlines()[-1]
    assert not option or option not in empty.stdout
