"""The smoke test: what it asks of Lambda and what it tells CloudFormation, on real sockets."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3
import pytest

import smoke_test

VERSION = "arn:aws:lambda:us-east-1:123456789012:function:demo:7"


class Edge:
    """Lambda's Invoke and CloudFormation's response address; `errors` are the answers to come, empty when well."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.errors: list[str] = []
        self.invoked: list[str] = []
        self.told: list[dict[str, Any]] = []
        self.status = 200
        self.live = ""

    def invoke(self, path: str) -> tuple[dict[str, str], bytes]:
        self.invoked.append(path)
        error = self.errors.pop(0) if self.errors else ""
        if error:
            return {"X-Amz-Function-Error": "Unhandled"}, json.dumps({"errorType": error, "errorMessage": "x"}).encode()
        return {}, b'{"message": "DemoApp"}'


@pytest.fixture
def edge(monkeypatch: pytest.MonkeyPatch) -> Iterator[Edge]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            headers, body = at_edge.invoke(self.path)
            self._answer(200, headers, body)

        def do_GET(self) -> None:
            assert self.path.endswith("/aliases/live")
            if at_edge.live:
                self._answer(200, {}, json.dumps({"FunctionVersion": at_edge.live}).encode())
            else:
                self._answer(404, {"X-Amzn-ErrorType": "ResourceNotFoundException"}, b"{}")

        def do_PUT(self) -> None:
            assert not self.headers["Content-Type"]
            at_edge.told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self._answer(at_edge.status, {}, b"")

        def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    at_edge = Edge(f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    keys = {"aws_access_key_id": "x", "aws_secret_access_key": "x"}
    client = boto3.client("lambda", endpoint_url=at_edge.url, region_name="us-east-1", **keys)
    monkeypatch.setattr(smoke_test, "_client", client)
    monkeypatch.setattr(smoke_test, "PAUSE", 0.01)
    yield at_edge
    client.close()
    server.shutdown()
    server.server_close()


class Context:
    def get_remaining_time_in_millis(self) -> int:
        return 300_000


def _tell(edge: Edge, request: str, **more: str) -> dict[str, Any]:
    event = {
        "RequestType": request,
        "ResponseURL": f"{edge.url}/response",
        "StackId": "stack",
        "RequestId": "request",
        "LogicalResourceId": "SmokeTestResult",
        "ResourceProperties": {"FunctionVersion": VERSION, "Alias": "live"},
    }
    smoke_test.lambda_handler(event | more, Context())
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


def test_what_may_pass_is_waited_for(edge: Edge) -> None:
    edge.errors = ["CredentialsRefusedError", "DependencyUnavailableError"]
    assert _tell(edge, "Create")["Status"] == "SUCCESS"
    assert len(edge.invoked) == 3


def test_what_does_not_pass_fails_the_deploy_when_patience_ends(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smoke_test, "PATIENCE", 0.2)
    edge.errors = ["CredentialsRefusedError"] * 1000
    started = time.monotonic()
    assert "CredentialsRefusedError" in _tell(edge, "Create")["Reason"]
    assert time.monotonic() - started < 5


def test_whatever_happens_cloudformation_is_told(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smoke_test, "answer", lambda *_: 1 / 0)
    told = _tell(edge, "Create")
    assert told["Status"] == "FAILED"
    assert "ZeroDivisionError" in told["Reason"]


def test_a_rollback_to_the_version_that_callers_have_asks_it_nothing(edge: Edge) -> None:
    edge.live, edge.errors = "7", ["ConfigurationError"]
    assert _tell(edge, "Update", PhysicalResourceId="before")["Status"] == "SUCCESS"
    assert edge.invoked == []
    edge.live = "6"
    edge.told.clear()
    assert _tell(edge, "Update", PhysicalResourceId="before")["Status"] == "FAILED"


def test_a_version_that_goes_is_asked_nothing(edge: Edge) -> None:
    assert _tell(edge, "Delete", PhysicalResourceId=VERSION)["Status"] == "SUCCESS"
    assert edge.invoked == []


def test_when_cloudformation_does_not_hear_it_the_function_fails(edge: Edge) -> None:
    edge.status = 403
    with pytest.raises(smoke_test.SmokeTestError, match="403"):
        _tell(edge, "Create")
