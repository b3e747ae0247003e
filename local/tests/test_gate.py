"""What listens on 127.0.0.1, and who may use it: nobody without this cloud's key."""

import ipaddress
import json
import os
import pwd
import socket
import ssl
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

import boto3
import botocore.exceptions
import psutil
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from local.cloud import LocalCloud
from local.processes import Running, running
from shared.frame import HEALTH

Send = Callable[..., tuple[int, str]]


@pytest.fixture
def send(cloud: LocalCloud) -> Send:
    """Send a request as it is; its status and body."""
    context = ssl.create_default_context(cafile=cloud.variables["AWS_CA_BUNDLE"])

    def send(
        path: str, headers: Mapping[str, str], body: bytes | None = b"{}", method: str = "POST"
    ) -> tuple[int, str]:
        url = cloud.variables["AWS_ENDPOINT_URL"] + path
        request = urllib.request.Request(url, body, dict(headers), method=method)  # noqa: S310 - https
        try:
            with urllib.request.urlopen(request, context=context) as response:  # noqa: S310 - https
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    return send


def _signed(cloud: LocalCloud, key: str, secret: str, body: bytes = b"{}", token: str | None = None) -> dict[str, str]:
    """The headers of a signed ListSecrets."""
    headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "secretsmanager.ListSecrets"}
    request = AWSRequest("POST", cloud.variables["AWS_ENDPOINT_URL"] + "/", headers=headers, data=body)
    SigV4Auth(Credentials(key, secret, token), "secretsmanager", "us-east-1").add_auth(request)
    return dict(request.headers)


def _administrator(cloud: LocalCloud) -> tuple[str, str]:
    return cloud.variables["AWS_ACCESS_KEY_ID"], cloud.variables["AWS_SECRET_ACCESS_KEY"]


def _forged(cloud: LocalCloud, key: str, **more: str) -> str:
    """The lines of a request that somebody without the secret has signed."""
    headers = _signed(cloud, key, "guessed") | more
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items())


@pytest.mark.parametrize("length", ["Content-Length: 75497472", "Transfer-Encoding: chunked"])
@pytest.mark.parametrize("signed", ["not", "with another key", "with the administrator's, the body's hash beside it"])
def test_a_request_that_nobody_signed_is_refused_before_its_body_is_sent(
    cloud: LocalCloud, length: str, signed: str
) -> None:
    place = urllib.parse.urlsplit(cloud.variables["AWS_ENDPOINT_URL"])
    context = ssl.create_default_context(cafile=cloud.variables["AWS_CA_BUNDLE"])
    headers = {
        "not": "",
        "with another key": _forged(cloud, "AKIAUNKNOWN000000000"),
        "with the administrator's, the body's hash beside it": _forged(
            cloud, _administrator(cloud)[0], **{"X-Amz-Content-SHA256": "0" * 64}
        ),
    }[signed]
    with (
        socket.create_connection((place.hostname, place.port), 10) as plain,
        context.wrap_socket(plain, server_hostname=place.hostname) as connection,
    ):
        connection.sendall(f"POST / HTTP/1.1\r\nHost: {place.netloc}\r\n{headers}{length}\r\n\r\n".encode())
        assert connection.recv(12) in (b"HTTP/1.1 403", b"HTTP/1.1 400")


@pytest.mark.parametrize(
    ("authorisation", "answer"),
    [("AWS_IAM", '{"message": "Forbidden"}'), ("NONE", "Request is missing Authentication Token")],
    ids=["with an authoriser", "without"],
)
def test_an_api_refuses_itself_only_where_it_has_an_authoriser(
    cloud: LocalCloud, send: Send, authorisation: str, answer: str
) -> None:
    """Without one it would serve everybody, as on AWS; here the gate refuses."""
    apis = cloud.client("apigatewayv2")
    api = apis.create_api(Name="gate", ProtocolType="HTTP")["ApiId"]
    try:
        apis.create_stage(ApiId=api, StageName="$default", AutoDeploy=True)
        integration = apis.create_integration(
            ApiId=api, IntegrationType="HTTP_PROXY", IntegrationMethod="POST", IntegrationUri="https://127.0.0.1:1/"
        )["IntegrationId"]
        apis.create_route(
            ApiId=api, RouteKey="POST /", Target=f"integrations/{integration}", AuthorizationType=authorisation
        )
        for place in (f"/_aws/execute-api/{api}/", f"/_aws/execute-api/{api}/$default/"):
            status, body = send(place, {})
            assert (status, answer in body) == (403, True), (place, body)
    finally:
        apis.delete_api(ApiId=api)


def test_the_administrators_signature_is_taken(cloud: LocalCloud, send: Send) -> None:
    status, body = send("/", _signed(cloud, *_administrator(cloud)))
    assert status == 200
    assert json.loads(body)["SecretList"]


@pytest.mark.parametrize("key", ["test", "000000000000", "123456789012", "AKIAUNKNOWN000000000", "", "administrator"])
@pytest.mark.parametrize("secret", ["test", "", "right"])
def test_no_other_key_is_taken_whatever_its_signature(cloud: LocalCloud, send: Send, key: str, secret: str) -> None:
    own_key, own_secret = _administrator(cloud)
    if key == "administrator":
        key, secret = own_key, "wrong" + secret
    status, body = send("/", _signed(cloud, key, own_secret if secret == "right" else secret))
    assert status in (400, 403), body
    assert "SecretList" not in body


@pytest.mark.parametrize(
    "spoil",
    [
        lambda headers: headers.pop("Authorization"),
        lambda headers: headers.update(Authorization=headers["Authorization"][:-64] + "00"),
        lambda headers: headers.update(Authorization=headers["Authorization"][:-64] + "0" * 64),
        lambda headers: headers.update(Authorization="AWS4-HMAC-SHA256 Credential=test"),
        lambda headers: headers.update(Authorization="Bearer x"),
        lambda headers: headers.update({"X-Amz-Date": "20200101T000000Z"}),
        lambda headers: headers.update({"X-Amz-Security-Token": "x"}),
        lambda headers: headers.update({"X-Amz-Target": "secretsmanager.GetSecretValue"}, Host="x"),
    ],
)
def test_a_wrong_signature_is_refused(cloud: LocalCloud, send: Send, spoil: Callable[[Any], Any]) -> None:
    headers = _signed(cloud, *_administrator(cloud))
    spoil(headers)
    status, body = send("/", headers)
    assert status in (400, 403), body
    assert "SecretList" not in body


def test_a_body_other_than_the_signed_one_is_refused(cloud: LocalCloud, send: Send) -> None:
    status, _ = send("/", _signed(cloud, *_administrator(cloud)), b'{"MaxResults": 1}')
    assert status in (400, 403)


def test_a_roles_session_must_sign_with_its_own_secret_and_token(cloud: LocalCloud, send: Send) -> None:
    role = cloud.client("iam").list_roles()["Roles"][0]["Arn"]
    given = cloud.client("sts").assume_role(RoleArn=role, RoleSessionName="session")["Credentials"]
    key, secret, token = given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"]
    for wrong in ((key, "wrong", token), (key, secret, "wrong"), (key, secret, None)):
        status, body = send("/", _signed(cloud, wrong[0], wrong[1], token=wrong[2]))
        assert status in (400, 403), body


PATHS = [
    ("GET", "/_ministack/health", 200),
    *(
        (method, path, 403)
        for method, path in (
            ("GET", "/"),
            ("GET", "/_localstack/health"),
            ("GET", "/health"),
            ("GET", "/_ministack/ready"),
            ("POST", "/_ministack/reset"),
            ("POST", "/_ministack/config"),
            ("GET", "/_ministack/ses/messages"),
            ("GET", "/_ministack/sqs/messages"),
            ("GET", "/_ministack/rds/ca.pem"),
            ("POST", "/_ministack/rds/iam-auth"),
            ("GET", "/_ministack/lambda-code/notesApp-dev-Service-Function"),
            ("GET", "/_ministack/lambda-layers/x/1/content"),
            ("PUT", "/_ministack/cfn-signal/x"),
            ("POST", "/_ministack/eks-auth/x"),
            ("POST", "/2015-03-31/functions/notesApp-dev-Service-Function/invocations"),
            ("GET", "/2015-03-31/functions"),
            ("GET", "/cdk-hnb659fds-assets-000000000000-us-east-1"),
            ("PUT", "/a-bucket"),
            ("GET", "/oauth2/authorize"),
            ("GET", "/x/.well-known/jwks.json"),
        )
    ),
]


@pytest.mark.parametrize(("method", "path", "status"), PATHS, ids=str)
def test_an_unsigned_request_gets_the_health_check_only(send: Send, method: str, path: str, status: int) -> None:
    got, body = send(path, {}, None if method == "GET" else b"{}", method)
    assert got == status, body
    if status == 200:
        assert body == ""


def test_a_custom_resources_result_needs_the_token_of_its_address(send: Send) -> None:
    assert send("/_ministack/cfn-response/guessed", {}, b'{"Status": "SUCCESS"}', "PUT")[0] == 403


def test_another_key_is_refused_to_the_sdk_as_aws_refuses_it(cloud: LocalCloud) -> None:
    client = boto3.client(
        "secretsmanager",
        endpoint_url=cloud.variables["AWS_ENDPOINT_URL"],
        region_name="us-east-1",
        verify=cloud.variables["AWS_CA_BUNDLE"],
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    with pytest.raises(botocore.exceptions.ClientError, match="UnrecognizedClientException"):
        client.list_secrets()


CONNECT = """
import socket, sys
for port in map(int, sys.argv[1:]):
    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        try:
            connection.sendall(b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
            print(len(connection.recv(1)))
        except ConnectionResetError:
            print(0)
"""


def _listening(processes: list[Running]) -> set[tuple[str, int]]:
    """The addresses and ports on which these processes listen."""
    connections = [each for process in processes for each in psutil.Process(process.pid).net_connections("tcp")]
    return {(each.laddr.ip, each.laddr.port) for each in connections if each.status == psutil.CONN_LISTEN}


def _processes(cloud: LocalCloud) -> list[Running]:
    return [each for each in running() if each.group == cloud._given["pid"]]


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs Linux, and root to be somebody else")
def test_another_user_gets_nothing_from_the_runtime_api_and_the_extension(
    cloud: LocalCloud, invoke: Callable[..., dict[str, Any]]
) -> None:
    assert not invoke(HEALTH)["error"]
    gateway = int(cloud.variables["AWS_ENDPOINT_URL"].rpartition(":")[2])
    (instance,) = cloud.client("rds").describe_db_instances()["DBInstances"]
    ports = {port for _, port in _listening(_processes(cloud))} - {gateway, instance["Endpoint"]["Port"]}
    assert len(ports) >= 2
    nobody = pwd.getpwnam("nobody")
    stranger = subprocess.run(
        ["/usr/bin/python3", "-c", CONNECT, *map(str, sorted(ports))],
        user=nobody.pw_uid,
        group=nobody.pw_gid,
        extra_groups=[],
        cwd="/",
        capture_output=True,
        text=True,
    )
    assert stranger.stdout.split() == ["0"] * len(ports), stranger.stderr
    assert not invoke(HEALTH)["error"]


@pytest.mark.skipif(sys.platform != "linux", reason="macOS shows the connections of root's processes to root alone")
def test_everything_listens_on_localhost_only(cloud: LocalCloud, invoke: Callable[..., dict[str, Any]]) -> None:
    assert not invoke(HEALTH)["error"]
    listening = _listening(_processes(cloud))
    assert len(listening) >= 4  # The gateway, the Runtime API, the extension and the database.
    assert all(ipaddress.ip_address(address).is_loopback for address, _ in listening)
