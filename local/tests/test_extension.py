"""The emulator behaves as docs/extension.md says the extension does, over real sockets."""

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import pytest

from local.extension import TOKEN_HEADER, Cache, Configuration, ExtensionEmulator
from local.extension.__main__ import TOKEN_FILE
from local.extension.upstream import _go_json
from local.mysql import free_port
from local.signals import SIGNALS
from local.tests.aws import AWS, serve
from operations.commands import ROOT
from shared.deadline import Deadline
from shared.extension import ExtensionClient, _names

TOKEN = "session-token"
SECRET = {
    "ARN": "arn:aws:secretsmanager:us-east-1:123456789012:secret:NAME-MFUBmH",
    "CreatedDate": datetime(2022, 11, 16, 8, 22, 40, 499000, UTC),
    "Name": "NAME",
    "SecretBinary": None,
    "SecretString": '{"a":"<&>"}',
    "VersionId": "b1c367b9",
    "VersionStages": ["AWSCURRENT"],
}


class Upstream:
    """A fake of AWS's two services: answers, counts calls, and fails on demand."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.failure: Exception | None = None

    def _answer(self, *asked: Any) -> str:
        self.asked.append(asked)
        if self.failure:
            raise self.failure
        return _go_json({**SECRET, "ResultMetadata": {}})

    def parameter(self, name: str, selector: str, *, with_decryption: bool) -> str:
        return self._answer("parameter", name, selector, with_decryption)

    def secret(self, secret_id: str, version: Mapping[str, str]) -> str:
        return self._answer("secret", secret_id, dict(version))


class Served:
    """A served extension and a plain HTTP client for it."""

    def __init__(self, extension: ExtensionEmulator, upstream: Upstream) -> None:
        self.extension = extension
        self.upstream = upstream

    def get(self, path: str, token: str | None = TOKEN, method: str = "GET") -> tuple[int, str, Mapping[str, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.extension.server_address[1], timeout=5)
        connection.request(method, path, headers={TOKEN_HEADER: token} if token else {})
        response = connection.getresponse()
        body = response.read().decode()
        connection.close()
        return response.status, body, dict(response.getheaders())


@contextmanager
def _serve(**environ: str) -> Iterator[Served]:
    configuration = Configuration.read({"AWS_SESSION_TOKEN": TOKEN, **environ})
    upstream = Upstream()
    extension = ExtensionEmulator(Configuration(**{**vars(configuration), "port": 0}), upstream)
    threading.Thread(target=extension.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield Served(extension, upstream)
    finally:
        extension.shutdown()
        extension.server_close()


@pytest.fixture
def served() -> Iterator[Served]:
    with _serve() as served:
        served.extension.ready.set()
        yield served


SECRET_PATH = "/secretsmanager/get?secretId=NAME"
PARAMETER_PATH = "/systemsmanager/parameters/get?name=%2Fdev%2Fx"


def test_before_the_first_invocation_it_is_not_ready() -> None:
    with _serve() as served:
        assert served.get(SECRET_PATH)[:2] == (400, "not ready to serve traffic, please wait")
        served.extension.ready.set()
        assert served.get(SECRET_PATH)[0] == 200


def test_a_secret_is_written_as_gos_json_encoder_writes_it(served: Served) -> None:
    status, body, headers = served.get(SECRET_PATH)
    assert status == 200
    assert body == (
        '{"ARN":"arn:aws:secretsmanager:us-east-1:123456789012:secret:NAME-MFUBmH",'
        '"CreatedDate":"2022-11-16T08:22:40.499Z","Name":"NAME","SecretBinary":null,'
        '"SecretString":"{\\"a\\":\\"\\u003c\\u0026\\u003e\\"}","VersionId":"b1c367b9",'
        '"VersionStages":["AWSCURRENT"],"ResultMetadata":{}}'
    )
    assert headers["Content-Type"].startswith("text/plain")
    assert int(headers["Content-Length"]) == len(body)
    assert "Server" not in headers


def test_binary_secrets_are_base64_and_whole_seconds_have_no_fraction() -> None:
    assert _go_json({"SecretBinary": b"\xff\x00"}) == '{"SecretBinary":"/wA="}'
    assert _go_json([datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)]) == '["2026-01-02T03:04:05Z"]'


@pytest.mark.parametrize("path", [PARAMETER_PATH, PARAMETER_PATH.replace("?", "/?")])
def test_both_spellings_of_the_path_are_served(served: Served, path: str) -> None:
    assert served.get(path)[0] == 200
    assert served.upstream.asked == [("parameter", "/dev/x", "", False)]


@pytest.mark.parametrize("name", ["/a/b", "a+b", "a%b", "a&b=c", "a#b", "ä€"])
def test_an_encoded_name_arrives_as_it_was(served: Served, name: str) -> None:
    served.get("/secretsmanager/get?secretId=" + quote(name, safe=""))
    assert served.upstream.asked == [("secret", name, {})]


@pytest.mark.parametrize(
    ("query", "selector"),
    [("&version=3", ":3"), ("&label=Dev", ":Dev"), ("&version=3&label=Dev", ":3"), ("&label=Dev&version=3", ":Dev")],
)
def test_a_version_id_takes_precedence_over_a_staging_label(served: Served, query: str, selector: str) -> None:
    served.get(PARAMETER_PATH + query)
    assert served.upstream.asked == [("parameter", "/dev/x", selector, False)]


def test_decryption_is_only_on_request(served: Served) -> None:
    served.get(PARAMETER_PATH + "&withDecryption=true")
    assert served.upstream.asked == [("parameter", "/dev/x", "", True)]


def test_unknown_query_parameters_are_ignored(served: Served) -> None:
    assert served.get(SECRET_PATH + "&region=eu-west-1")[0] == 200


@pytest.mark.parametrize("token", [None, "another"])
def test_without_the_functions_token_nothing_is_served(served: Served, token: str | None) -> None:
    assert served.get(SECRET_PATH, token)[:2] == (403, "Bad Token")
    assert not served.upstream.asked


@pytest.mark.parametrize("path", ["/", "/secretsmanager"])
def test_an_unknown_path_is_not_found(served: Served, path: str) -> None:
    assert served.get(path)[:2] == (404, "404 page not found\n")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"])
def test_only_get_is_allowed(served: Served, method: str) -> None:
    status, body, headers = served.get(SECRET_PATH, method=method)
    assert (status, body) == (405, "Not allowed")
    assert headers["Content-Type"].startswith("text/plain")
    assert not served.upstream.asked


def test_a_forwarded_request_is_refused(served: Served) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", served.extension.server_address[1], timeout=5)
    connection.request("GET", SECRET_PATH, headers={TOKEN_HEADER: TOKEN, "X-Forwarded-For": "203.0.113.9"})
    response = connection.getresponse()
    assert (response.status, response.read()) == (400, b"Forwarded")
    connection.close()
    assert not served.upstream.asked


def test_every_failure_upstream_is_one_400_and_its_cause_only_in_the_log(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    served.upstream.failure = RuntimeError("AccessDeniedException: User is not authorized")
    assert served.get(SECRET_PATH)[:2] == (400, "an unexpected error occurred while executing request")
    assert "GetSecretValue request encountered an error: AccessDenied" in capsys.readouterr().err


def test_a_failure_is_not_cached(served: Served) -> None:
    served.upstream.failure = RuntimeError("throttled")
    served.get(SECRET_PATH)
    served.upstream.failure = None
    status, body, _ = served.get(SECRET_PATH)
    assert (status, json.loads(body)["Name"]) == (200, "NAME")


def test_a_value_is_read_once_within_its_ttl_each_spelling_by_itself(served: Served) -> None:
    for _ in range(3):
        served.get(SECRET_PATH)
        served.get(SECRET_PATH + "&versionStage=AWSCURRENT")
    assert served.upstream.asked == [("secret", "NAME", {}), ("secret", "NAME", {"VersionStage": "AWSCURRENT"})]


@pytest.mark.parametrize(
    "environ",
    [
        {"SECRETS_MANAGER_TTL": "0"},
        {"PARAMETERS_SECRETS_EXTENSION_CACHE_SIZE": "0"},
        {"PARAMETERS_SECRETS_EXTENSION_CACHE_ENABLED": "false"},
    ],
)
def test_the_cache_can_be_off(environ: dict[str, str]) -> None:
    with _serve(**environ) as served:
        served.extension.ready.set()
        for _ in range(3):
            served.get(SECRET_PATH)
        assert len(served.upstream.asked) == 3


def _cache(size: int = 1000) -> tuple[Cache, Callable[[float], None]]:
    now = [0.0]

    def set_time(value: float) -> None:
        now[0] = value

    return Cache(size, lambda: now[0]), set_time


def test_an_expired_value_is_not_served() -> None:
    cache, set_time = _cache()
    cache.put("key", "value", 300)
    set_time(299.9)
    assert cache.get("key") == "value"
    set_time(300)
    assert cache.get("key") is None


def test_reading_does_not_prolong_a_values_time() -> None:
    cache, set_time = _cache()
    cache.put("key", "value", 10)
    for moment in range(0, 10, 3):
        set_time(moment)
        assert cache.get("key") == "value"
    set_time(10)
    assert cache.get("key") is None


def test_the_least_recently_used_goes_first_and_both_services_share_one_size() -> None:
    cache, _ = _cache(2)
    cache.put("a", "1", 300)
    cache.put("b", "2", 300)
    cache.get("a")
    cache.put("c", "3", 300)
    assert (cache.get("a"), cache.get("b"), cache.get("c")) == ("1", None, "3")


def test_the_documented_defaults() -> None:
    assert Configuration.read({"AWS_SESSION_TOKEN": TOKEN}) == Configuration(
        port=2773, cache_size=1000, parameter_ttl=300, secret_ttl=300, max_connections=3, log_level="INFO", token=TOKEN
    )


def test_without_a_session_token_the_emulator_makes_a_random_one() -> None:
    first, second = Configuration.read({}), Configuration.read({})
    assert len(first.token) >= 32
    assert first.token != second.token
    assert first.token not in repr(first)


@pytest.mark.parametrize(
    "host", ["attacker.example", "attacker.example:2773", "", "localhost.attacker.example", "[::1]"]
)
def test_a_request_for_another_host_name_is_refused(served: Served, host: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", served.extension.server_address[1], timeout=5)
    connection.request("GET", SECRET_PATH, headers={TOKEN_HEADER: TOKEN, "Host": host})
    assert connection.getresponse().status == 403
    connection.close()
    assert not served.upstream.asked


def test_a_longer_ttl_is_shortened_and_milliseconds_are_seconds() -> None:
    configuration = Configuration.read({"SECRETS_MANAGER_TTL": "900", "SSM_PARAMETER_STORE_TIMEOUT_MILLIS": "1500"})
    assert (configuration.secret_ttl, configuration.parameter_timeout) == (300, 1.5)


def test_wrong_variables_are_named_together() -> None:
    with pytest.raises(ValueError, match="CACHE_SIZE") as refused:
        Configuration.read(
            {
                "PARAMETERS_SECRETS_EXTENSION_HTTP_PORT": "70000",
                "PARAMETERS_SECRETS_EXTENSION_CACHE_SIZE": "1001",
                "PARAMETERS_SECRETS_EXTENSION_LOG_LEVEL": "loud",
                "PARAMETERS_SECRETS_EXTENSION_CACHE_ENABLED": "maybe",
                "SECRETS_MANAGER_TTL": "soon",
            }
        )
    assert len(str(refused.value).splitlines()) == 5


def test_ttls_of_the_two_services_are_their_own() -> None:
    with _serve(SSM_PARAMETER_STORE_TTL="0") as served:
        served.extension.ready.set()
        for _ in range(2):
            served.get(SECRET_PATH)
            served.get(PARAMETER_PATH)
    assert [asked[0] for asked in served.upstream.asked] == ["secret", "parameter", "parameter"]


def test_the_body_is_json_that_any_parser_undoes(served: Served) -> None:
    assert json.loads(served.get(SECRET_PATH)[1])["SecretString"] == SECRET["SecretString"]


@pytest.mark.parametrize("ended_by", SIGNALS, ids=lambda each: each.name)
def test_alone_it_serves_a_handler_on_a_laptop_and_ends_on_a_signal(
    monkeypatch: pytest.MonkeyPatch, ended_by: signal.Signals
) -> None:
    aws = AWS()
    odd = "a/b+c=d.e@f-g&h#i%j k\u00fc"
    aws.add_secret(odd, {"a": 1})
    aws.parameters["/dev/x"] = "value"
    port = free_port()
    with serve(aws) as endpoint:
        variables = {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "AKIATEST",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "PARAMETERS_SECRETS_EXTENSION_HTTP_PORT": str(port),
        }
        command = [sys.executable, "-m", "local.extension"]
        # As a shell starts a job in the background: with SIGINT ignored.
        command = ["sh", "-c", 'trap "" INT HUP; exec "$@"', "sh", *command]
        alone = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **variables}, stderr=subprocess.PIPE, text=True)
        try:
            assert alone.stderr is not None
            assert "Serving on port" in alone.stderr.readline()
            for name, value in variables.items():
                monkeypatch.setenv(name, value)
            assert "no session token" in alone.stderr.readline()
            alone.stderr.readline()
            assert TOKEN_FILE.stat().st_mode & 0o077 == 0
            monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN_FILE.read_text())
            deadline = Deadline()
            deadline.start(10)
            client = ExtensionClient(deadline, port)
            assert client.secret(odd)["SecretString"] == '{"a": 1}'
            assert client.parameter("/dev/x")["Value"] == "value"
            alone.send_signal(ended_by)
            assert alone.wait(20) == 0
            assert not TOKEN_FILE.exists()
        finally:
            alone.kill()
            alone.communicate()


def test_a_port_that_is_taken_is_one_clear_line() -> None:
    with _serve() as served:
        port = str(served.extension.server_address[1])
        command = [sys.executable, "-m", "local.extension"]
        variables = {"PARAMETERS_SECRETS_EXTENSION_HTTP_PORT": port, "AWS_DEFAULT_REGION": "us-east-1"}
        refused = subprocess.run(command, cwd=ROOT, env={**os.environ, **variables}, capture_output=True, text=True)
    assert refused.returncode == 1
    assert refused.stderr.strip() == f"port {port} of 127.0.0.1: Address already in use"


SECRET_ARN = "arn:aws:secretsmanager:us-east-1:123456789012:secret:app"


@pytest.mark.parametrize(
    ("name", "answer", "is_about"),
    [
        ("app", {"Name": "app", "ARN": SECRET_ARN + "-AbCdEf"}, True),
        (SECRET_ARN + "-AbCdEf", {"Name": "app", "ARN": SECRET_ARN + "-AbCdEf"}, True),
        (SECRET_ARN, {"Name": "app", "ARN": SECRET_ARN + "-AbCdEf"}, True),
        (SECRET_ARN, {"Name": "app-x", "ARN": SECRET_ARN + "-x-AbCdEf"}, False),
        ("/a", {"Parameter": {"Name": "/a", "ARN": "arn:aws:ssm:us-east-1:1:parameter/a"}}, True),
        ("/a:3", {"Parameter": {"Name": "/a", "Selector": ":3"}}, True),
        ("/a:live", {"Parameter": {"Name": "/a", "Selector": ":live"}}, True),
        ("/a:3", {"Parameter": {"Name": "/a", "Selector": ":4"}}, False),
        ("/a:3", {"Parameter": {"Name": "/a"}}, False),
        ("/a", {"Parameter": {}}, True),
        ("/a", {"Parameter": 1}, True),
    ],
)
def test_an_answer_is_known_by_name_arn_partial_arn_and_selector(
    name: str,
    answer: dict[str, Any],
    is_about: bool,  # noqa: FBT001
) -> None:
    assert _names(answer, name) is is_about
