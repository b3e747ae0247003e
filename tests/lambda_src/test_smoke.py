"""The smoke test: what it asks Lambda and what it answers CloudFormation, on real sockets."""

import json
import logging
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3
import botocore.exceptions
import pytest

import smoke

CANARY = "canary0session"
VERSION = "arn:aws:lambda:us-east-1:123456789012:function:demo:7"


class Edge:
    """Lambda's Invoke, CloudFormation's DescribeStacks and response address.

    `errors` are the answers to come, empty when well.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.errors: list[str] = []
        self.invoked: list[str] = []
        self.told: list[dict[str, Any]] = []
        self.status = 200
        self.stack = "UPDATE_IN_PROGRESS"
        self.payloads: list[bytes] = []
        self.refusals: list[tuple[int, str]] = []
        """The services' own errors to come, each a status and a code; empty codes are no error."""
        self.redirect = ""

    def invoke(self, path: str) -> tuple[dict[str, str], bytes]:
        self.invoked.append(path)
        error = self.errors.pop(0) if self.errors else ""
        if error:
            return {"X-Amz-Function-Error": "Unhandled"}, json.dumps({"errorType": error, "errorMessage": "x"}).encode()
        return {}, b'{"message": "NotesApp"}'


class _Handler(BaseHTTPRequestHandler):
    edge: Edge

    def do_POST(self) -> None:
        payload = self.rfile.read(int(self.headers["Content-Length"]))
        is_description = payload.startswith(b"Action=DescribeStacks&")
        if self._refused(is_xml=is_description):
            return
        if is_description:
            status = f"<StackStatus>{self.edge.stack}</StackStatus>"
            wrapped = f"<DescribeStacksResult><Stacks><member>{status}</member></Stacks></DescribeStacksResult>"
            self._answer(200, {}, f"<DescribeStacksResponse>{wrapped}</DescribeStacksResponse>".encode())
        else:
            self.edge.payloads.append(payload)
            self._answer(200, *self.edge.invoke(self.path))

    def do_PUT(self) -> None:
        assert not self.headers["Content-Type"]
        self.edge.told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self._answer(self.edge.status, {"Location": self.edge.redirect} if self.edge.redirect else {}, b"")

    def _refused(self, *, is_xml: bool) -> bool:
        """Answer with the next of the services' own errors, if there is one."""
        status, code = self.edge.refusals.pop(0) if self.edge.refusals else (200, "")
        if not code:
            return False
        body = f"<ErrorResponse><Error><Code>{code}</Code></Error></ErrorResponse>" if is_xml else "{}"
        self._answer(status, {"X-Amzn-ErrorType": code}, body.encode())
        return True

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def edge(monkeypatch: pytest.MonkeyPatch) -> Iterator[Edge]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    at_edge = _Handler.edge = Edge(f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    keys = {"aws_access_key_id": "x", "aws_secret_access_key": CANARY, "aws_session_token": CANARY}
    clients = [
        boto3.client(service, endpoint_url=at_edge.url, region_name="us-east-1", config=smoke.CONFIG, **keys)
        for service in ("lambda", "cloudformation")
    ]
    monkeypatch.setattr(smoke, "_lambda", clients[0])
    monkeypatch.setattr(smoke, "_cloudformation", clients[1])
    monkeypatch.setenv("AWS_ENDPOINT_URL", at_edge.url)
    monkeypatch.setattr(smoke, "PAUSE", 0.01)
    yield at_edge
    for client in clients:
        client.close()
    server.shutdown()
    server.server_close()


class Context:
    def get_remaining_time_in_millis(self) -> int:
        return 300_000


def _tell(edge: Edge, request: str, **more: Any) -> dict[str, Any]:
    event = {
        "RequestType": request,
        "ResponseURL": f"{edge.url}/response",
        "StackId": "stack",
        "RequestId": "request",
        "LogicalResourceId": "SmokeTestResult",
        "ResourceProperties": {"FunctionVersion": VERSION, "InvocationSeconds": "35"},
    }
    smoke.lambda_handler(event | more, Context())
    (told,) = edge.told
    return told


def test_a_version_that_answers_lets_the_deploy_go_on(edge: Edge) -> None:
    told = _tell(edge, "Create")
    assert told == {
        "Status": "SUCCESS",
        "PhysicalResourceId": VERSION,
        "StackId": "stack",
        "RequestId": "request",
        "LogicalResourceId": "SmokeTestResult",
    }
    assert len(edge.invoked) == 1


def test_a_version_that_fails_for_good_fails_the_deploy_at_once(edge: Edge) -> None:
    edge.errors = ["ConfigurationError"]
    told = _tell(edge, "Update", PhysicalResourceId="before")
    assert told["Status"] == "FAILED"
    assert told["PhysicalResourceId"] == "before"
    assert "ConfigurationError" in told["Reason"]
    assert len(edge.invoked) == 1


def test_a_transient_failure_is_retried(edge: Edge) -> None:
    edge.errors = ["CredentialsRefusedError", "DependencyUnavailableError"]
    assert _tell(edge, "Create")["Status"] == "SUCCESS"
    assert len(edge.invoked) == 3


def test_a_transient_failure_that_lasts_fails_the_deploy(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smoke, "PATIENCE", 0.2)
    monkeypatch.setattr(smoke, "_is_rollback", lambda _: False)
    edge.errors = ["CredentialsRefusedError"] * 1000
    started = time.monotonic()
    assert "CredentialsRefusedError" in _tell(edge, "Create")["Reason"]
    assert time.monotonic() - started < 5


def test_cloudformation_always_gets_a_response(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smoke, "answer", lambda *_: 1 / 0)
    told = _tell(edge, "Create")
    assert told["Status"] == "FAILED"
    assert "ZeroDivisionError" in told["Reason"]


@pytest.mark.parametrize("tried", [":6", ":8", "-of-a-replaced-construct:1"])
def test_a_rollback_invokes_nothing_whatever_the_versions_numbers(edge: Edge, tried: str) -> None:
    edge.stack, edge.errors = "UPDATE_ROLLBACK_IN_PROGRESS", ["ConfigurationError"]
    old = {"FunctionVersion": VERSION.replace(":7", tried)}
    told = _tell(edge, "Update", PhysicalResourceId="before", OldResourceProperties=old)
    assert told["Status"] == "SUCCESS"
    assert edge.invoked == []


@pytest.mark.parametrize("live", [":6", ":8", "-of-a-replaced-construct:9"])
def test_a_version_of_a_deploy_is_invoked_whatever_its_number(edge: Edge, live: str) -> None:
    """A replaced function's versions begin at 1 again."""
    edge.errors = ["ConfigurationError"]
    old = {"FunctionVersion": VERSION.replace(":7", live)}
    assert _tell(edge, "Update", PhysicalResourceId="before", OldResourceProperties=old)["Status"] == "FAILED"
    assert len(edge.invoked) == 1


def test_a_deleted_version_is_not_invoked(edge: Edge) -> None:
    assert _tell(edge, "Delete", PhysicalResourceId=VERSION)["Status"] == "SUCCESS"
    assert edge.invoked == []


def test_the_function_fails_when_the_response_cannot_be_sent(edge: Edge) -> None:
    edge.status = 403
    with pytest.raises(smoke.SmokeTestError, match="403"):
        _tell(edge, "Create")


REFUSALS = [
    (429, "TooManyRequestsException"),
    (409, "ResourceConflictException"),
    (500, "ServiceException"),
    (502, "EC2UnexpectedException"),
    (403, "AccessDeniedException"),
    (502, "KMSAccessDeniedException"),
]


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_transient_refusal_of_lambda_is_retried(edge: Edge, refusal: tuple[int, str]) -> None:
    edge.refusals = [(200, ""), refusal, refusal]
    assert _tell(edge, "Create")["Status"] == "SUCCESS"
    assert len(edge.invoked) == 1


def test_a_permanent_refusal_of_lambda_fails_the_deploy_at_once(edge: Edge) -> None:
    edge.refusals = [(200, ""), (404, "ResourceNotFoundException")]
    assert "ResourceNotFoundException" in _tell(edge, "Create")["Reason"]


@pytest.mark.parametrize("refusal", [*REFUSALS, (400, "Throttling"), (403, "AccessDenied")])
def test_a_throttled_description_does_not_break_a_rollback(edge: Edge, refusal: tuple[int, str]) -> None:
    edge.stack, edge.errors = "UPDATE_ROLLBACK_IN_PROGRESS", ["ConfigurationError"]
    edge.refusals = [refusal, refusal]
    assert _tell(edge, "Update", PhysicalResourceId="before")["Status"] == "SUCCESS"
    assert edge.invoked == []


@pytest.mark.parametrize(
    "url",
    [
        "https://attacker.example/",
        "https://169.254.169.254/",
        "http://cloudformation-custom-resource-response-useast1.s3.amazonaws.com/x",
        "https://cloudformation-custom-resource-response-useast1.s3.attacker.example/x",
        "https://cloudformation-custom-resource-response-x.s3.amazonaws.com.attacker.example/x",
        "https://attacker.s3.amazonaws.com/x",
        "https://attacker.example@127.0.0.1/",
        "https://attacker.example\\@cloudformation-custom-resource-response-x.s3.amazonaws.com/",
        "https://attacker.example\\.cloudformation-custom-resource-response-x.s3.amazonaws.com/",
        "https://user:word@cloudformation-custom-resource-response-x.s3.amazonaws.com/x",
        "https://cloudformation-custom-resource-response-x.s3.amazonaws.com:444/x",
        "https://cloudformation-custom-resource-response-x.s3.amazonaws.com/x y",
        "https://cloudformation-custom-resource-response-x.s3.amazonaws.com/x\\y",
        "https://cloudformation-custom-resource-response-x.s3.amazonaws.com/x\r\nHost: attacker.example",
        "https://cloudformation-custom-resource-response-x.s3.amazonaws.com?x",
        "https://cloudformation-custom-resource-response-x.s3.amazonaws.com#@attacker.example/",
        "https://cloudformation-custom-resource-response-x.s3./attacker.example/.amazonaws.com/",
        " https://cloudformation-custom-resource-response-x.s3.amazonaws.com/x",
        "HTTPS://cloudformation-custom-resource-response-x.s3.amazonaws.com/x",
        "file:///etc/passwd",
        "",
    ],
)
def test_the_result_goes_to_cloudformation_and_nowhere_else(
    edge: Edge, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    monkeypatch.setattr("urllib3.request", lambda *given, **_: asked.append(given))
    with pytest.raises(smoke.SmokeTestError, match="not an address of CloudFormation"):
        _tell(edge, "Delete", ResponseURL=url)
    assert asked == []


@pytest.mark.parametrize(
    "url",
    [
        "https://cloudformation-custom-resource-response-useast1.s3.amazonaws.com/arn?X-Amz-Signature=1",
        "https://cloudformation-custom-resource-response-euwest3.s3.eu-west-3.amazonaws.com/arn",
        "https://cloudformation-custom-resource-response-cnnorth1.s3.cn-north-1.amazonaws.com.cn/arn",
    ],
)
def test_cloudformations_own_addresses_are_taken(url: str) -> None:
    assert smoke._response_url(url) == url


def test_a_redirect_of_the_result_is_not_followed(edge: Edge) -> None:
    edge.status, edge.redirect = 307, f"{edge.url}/elsewhere"
    with pytest.raises(smoke.SmokeTestError, match="answered 307"):
        _tell(edge, "Create")
    assert len(edge.told) == 1


def test_no_credential_is_in_any_record_at_any_level(edge: Edge, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    edge.errors = ["CredentialsRefusedError"]
    _tell(edge, "Create")
    said = "".join(record.getMessage() + repr(vars(record)) for record in caplog.records)
    assert CANARY not in said


def test_an_address_beside_the_configured_endpoint_is_refused(edge: Edge) -> None:
    with pytest.raises(smoke.SmokeTestError, match="not an address of CloudFormation"):
        _tell(edge, "Delete", ResponseURL=f"{edge.url}0/response")


def test_an_invocation_that_is_not_answered_is_waited_for(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one is told so: it waits for the end of the one that may still run."""
    invoke = smoke._lambda.invoke
    answers = iter([TimeoutError(), botocore.exceptions.ReadTimeoutError(endpoint_url=edge.url), None])

    def invoked(**request: Any) -> Any:
        if error := next(answers):
            raise error
        return invoke(**request)

    monkeypatch.setattr(smoke._lambda, "invoke", invoked)
    assert _tell(edge, "Create")["Status"] == "SUCCESS"
    assert json.loads(edge.payloads[0]) == smoke.HEALTH | {"repeat": True}


def test_an_unanswered_invocation_has_its_whole_time_to_end(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where that is longer than the patience with failures."""
    monkeypatch.setattr(smoke, "PATIENCE", 0.05)
    monkeypatch.setattr(smoke, "_is_rollback", lambda _: False)
    invoke = smoke._lambda.invoke
    asked: list[float] = []

    def invoked(**request: Any) -> Any:
        asked.append(time.monotonic())
        if len(asked) < 5:
            time.sleep(0.05)
            raise TimeoutError
        return invoke(**request)

    monkeypatch.setattr(smoke._lambda, "invoke", invoked)
    assert _tell(edge, "Create")["Status"] == "SUCCESS"


def test_a_first_invocation_is_not_told_of_another(edge: Edge) -> None:
    _tell(edge, "Create")
    assert [json.loads(each) for each in edge.payloads] == [smoke.HEALTH]


def test_the_deploy_fails_in_time_when_a_failure_outlasts_the_function(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smoke, "TELLING", 298.0)  # Of 299 seconds.
    edge.errors = ["DependencyUnavailableError"] * 1000
    assert f"{VERSION} fails: " in _tell(edge, "Create")["Reason"]


def test_the_deploy_fails_in_time_when_cloudformation_does_not_answer(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smoke, "PATIENCE", 5)
    monkeypatch.setattr(smoke, "PAUSE", 6)
    edge.refusals = [(500, "ServiceException")]
    assert "ServiceException" in _tell(edge, "Create")["Reason"]


def test_a_description_that_is_not_answered_is_asked_for_again(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    describe = smoke._cloudformation.describe_stacks
    answers = iter([botocore.exceptions.ReadTimeoutError(endpoint_url=edge.url), None])

    def asked(**request: Any) -> Any:
        if error := next(answers):
            raise error
        return describe(**request)

    monkeypatch.setattr(smoke._cloudformation, "describe_stacks", asked)
    edge.stack = "UPDATE_ROLLBACK_IN_PROGRESS"
    assert _tell(edge, "Update", PhysicalResourceId="before")["Status"] == "SUCCESS"
    assert edge.invoked == []


def test_a_permanent_refusal_of_the_description_fails_the_deploy_at_once(edge: Edge) -> None:
    edge.refusals = [(400, "ValidationError")]
    assert "ValidationError" in _tell(edge, "Update", PhysicalResourceId="before")["Reason"]
    assert edge.invoked == []
