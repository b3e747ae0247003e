"""Reads that bypass the extension, and the session token where Lambda sets no variable."""

import http.server
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

import application
import handler
from local.mysql import free_port
from local.tests.aws import AWS, AWSError
from local.tests.functions import PARAMETER, SECRET_ID
from shared import direct_read, extension
from shared.deadline import Deadline
from shared.errors import ConfigurationError, DependencyUnavailableError
from shared.frame import Frame


def _deadline(seconds: float = 20) -> Deadline:
    deadline = Deadline()
    deadline.start(seconds)
    return deadline


def test_the_current_version_is_read(aws: AWS) -> None:
    assert direct_read.secret(SECRET_ID, _deadline())["VersionId"] == aws.current(SECRET_ID)[0]


def test_the_parameter_is_read_too(aws: AWS) -> None:
    assert json.loads(direct_read.parameter(PARAMETER, _deadline())["Value"])["app"] == "NotesApp"
    with pytest.raises(ConfigurationError, match="code=ParameterNotFound"):
        direct_read.parameter("/dev/other", _deadline())
    assert aws.calls["GetParameter"] == 2


def test_a_read_is_not_started_without_enough_time_to_end(aws: AWS) -> None:
    with pytest.raises(DependencyUnavailableError, match="too little time left"):
        direct_read.secret(SECRET_ID, _deadline(direct_read.BUDGET - 0.1))
    assert not aws.calls


@pytest.mark.parametrize(
    ("code", "status", "error"),
    [
        ("AccessDeniedException", 400, ConfigurationError),
        ("ThrottlingException", 400, DependencyUnavailableError),
        ("Throttling", 400, DependencyUnavailableError),
        ("TooManyRequestsException", 429, DependencyUnavailableError),
        ("InternalFailure", 500, DependencyUnavailableError),
        ("ServiceUnavailable", 503, DependencyUnavailableError),
    ],
)
def test_a_refusal_is_permanent_and_a_throttle_or_a_servers_error_is_not(
    aws: AWS, code: str, status: int, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """https://docs.aws.amazon.com/secretsmanager/latest/apireference/CommonErrors.html."""

    def refuse(_: object) -> None:
        raise AWSError(code, status=status)

    monkeypatch.setattr(aws, "GetSecretValue", refuse)
    with pytest.raises(error, match=f"code={code}"):
        direct_read.secret(SECRET_ID, _deadline())


@pytest.mark.usefixtures("aws")
def test_no_answer_is_transient_and_within_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    deadline = _deadline()
    before = deadline.remaining()
    with pytest.raises(DependencyUnavailableError, match="cause=EndpointConnectionError"):
        direct_read.secret(SECRET_ID, deadline)
    assert before - deadline.remaining() < direct_read.BUDGET


@pytest.fixture
def container_credentials(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What SnapStart gives in place of the variables: an endpoint that hands out credentials."""
    expiry = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    document = {"AccessKeyId": "ASIA", "SecretAccessKey": "s", "Token": "snapstart-token", "Expiration": expiry}

    class Endpoint(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(document).encode())

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    for name in ("AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://127.0.0.1:{server.server_address[1]}/")
    extension._credential_chain.cache_clear()
    yield
    extension._credential_chain.cache_clear()
    server.shutdown()
    server.server_close()


@pytest.mark.usefixtures("container_credentials")
def test_under_snapstart_the_token_comes_from_the_credential_chain() -> None:
    assert extension._session_token("parameter") == "snapstart-token"


def test_lambda_calls_the_frame_around_the_application() -> None:
    frame = vars(handler)["lambda_handler"].__self__
    assert isinstance(frame, Frame)
    assert frame._application is application
