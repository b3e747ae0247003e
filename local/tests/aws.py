"""A fake of Secrets Manager and Parameter Store: an HTTP server with the actions that the functions use.

For tests of lambda_src and of the extension's emulator in one process, with the real SDK
on the other side. The semantics are those of the services' API references; the local
cloud's tests do the same against the deployed application.
"""

import json
import secrets
import string
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Version = dict[str, Any]


class AWSError(Exception):
    def __init__(self, code: str, message: str = "", status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


class AWS:
    """The state of both services, by action; `calls` counts what was asked."""

    def __init__(self) -> None:
        self.parameters: dict[str, str] = {}
        self.secrets: dict[str, dict[str, Version]] = {}
        self.calls: Counter[str] = Counter()
        self.created = time.time() - 7200
        """When every version was stored: two hours ago, as seconds since 1970."""
        self._lock = threading.RLock()

    def add_secret(self, secret_id: str, value: object) -> str:
        """Store a first version and return its id."""
        token = str(uuid.uuid4())
        self.secrets[secret_id] = {token: {"SecretString": json.dumps(value), "Stages": {"AWSCURRENT"}}}
        return token

    def stage_rotation(self, secret_id: str) -> str:
        """Begin a rotation as RotateSecret does: a version without a value, labelled AWSPENDING."""
        token = str(uuid.uuid4())
        with self._lock:
            self._move("AWSPENDING", secret_id, token)
        return token

    def set_current(self, secret_id: str, value: object) -> str:
        """Make another value the current one, as an operator would."""
        answer = self.PutSecretValue({"SecretId": secret_id, "SecretString": json.dumps(value)})
        return str(answer["VersionId"])

    def stages(self, secret_id: str) -> dict[str, set[str]]:
        return {token: version["Stages"] for token, version in self.secrets[secret_id].items()}

    def current(self, secret_id: str) -> tuple[str, dict[str, Any]]:
        """The current version's id and value."""
        ((token, version),) = [
            (token, version) for token, version in self.secrets[secret_id].items() if "AWSCURRENT" in version["Stages"]
        ]
        return token, json.loads(version["SecretString"])

    def value(self, secret_id: str, token: str) -> dict[str, Any]:
        """What a version holds."""
        value: dict[str, Any] = json.loads(self.secrets[secret_id][token]["SecretString"])
        return value

    def answer(self, action: str, request: dict[str, Any]) -> dict[str, Any]:
        self.calls[action] += 1
        with self._lock:
            result: dict[str, Any] = getattr(self, action)(request)
            return result

    def GetParameter(self, request: Mapping[str, Any]) -> dict[str, Any]:  # noqa: N802
        name, colon, version = request["Name"].partition(":")
        if name not in self.parameters:
            raise AWSError("ParameterNotFound")
        if version not in ("", "3"):
            raise AWSError("ParameterVersionNotFound")
        parameter = {"Name": name, "Type": "String", "Value": self.parameters[name], "Version": 3}
        return {"Parameter": parameter | ({"Selector": colon + version} if version else {})}

    def GetSecretValue(self, request: Mapping[str, Any]) -> dict[str, Any]:  # noqa: N802
        # A partial ARN lacks the hyphen and the six random characters.
        secret_id = next((each for each in self.secrets if each[:-7] == request["SecretId"]), request["SecretId"])
        versions = self._versions({"SecretId": secret_id})
        stage = request.get("VersionStage")
        wanted = request.get("VersionId")
        for token, version in versions.items():
            if (wanted is None or token == wanted) and (
                (stage or ("" if wanted else "AWSCURRENT")) in version["Stages"] | {""}
            ):
                if version["SecretString"] is None:
                    break
                return {
                    "ARN": secret_id,
                    "Name": secret_id.rpartition(":")[2][:-7],
                    "VersionId": token,
                    "CreatedDate": self.created,
                    "SecretString": version["SecretString"],
                    "VersionStages": sorted(version["Stages"]),
                }
        raise AWSError("ResourceNotFoundException", "Secrets Manager can't find the specified secret value")

    def DescribeSecret(self, request: Mapping[str, Any]) -> dict[str, Any]:  # noqa: N802
        versions = self._versions(request)
        stages = {token: sorted(version["Stages"]) for token, version in versions.items() if version["Stages"]}
        enabled = not request["SecretId"].endswith("-not-rotated")
        return {"ARN": request["SecretId"], "RotationEnabled": enabled, "VersionIdsToStages": stages}

    def PutSecretValue(self, request: Mapping[str, Any]) -> dict[str, Any]:  # noqa: N802
        versions = self._versions(request)
        token = request.get("ClientRequestToken") or str(uuid.uuid4())
        there = versions.get(token)
        if there and there["SecretString"] not in (None, request["SecretString"]):
            raise AWSError("ResourceExistsException")
        stages = set(there["Stages"]) if there else set()
        versions[token] = {"SecretString": request["SecretString"], "Stages": stages}
        for stage in request.get("VersionStages", ["AWSCURRENT"]):
            self._move(stage, request["SecretId"], token)
        return {"ARN": request["SecretId"], "VersionId": token}

    def UpdateSecretVersionStage(self, request: Mapping[str, Any]) -> dict[str, Any]:  # noqa: N802
        versions = self._versions(request)
        stage, to, source = request["VersionStage"], request.get("MoveToVersionId"), request.get("RemoveFromVersionId")
        holders = [token for token, version in versions.items() if stage in version["Stages"]]
        if holders != [source]:
            raise AWSError("InvalidParameterException", f"{stage} is attached to {holders}, not to {source}")
        if to:
            self._move(stage, request["SecretId"], to)
        else:
            versions[str(source)]["Stages"].discard(stage)
        return {"ARN": request["SecretId"]}

    def GetRandomPassword(self, request: Mapping[str, Any]) -> dict[str, Any]:  # noqa: N802
        kinds = {"Lowercase": string.ascii_lowercase, "Uppercase": string.ascii_uppercase, "Numbers": string.digits}
        kept = [text for kind, text in kinds.items() if not request.get(f"Exclude{kind}")]
        characters = set("".join([*kept, string.punctuation])) - set(request["ExcludeCharacters"])
        return {"RandomPassword": "".join(secrets.choice(sorted(characters)) for _ in range(request["PasswordLength"]))}

    def _versions(self, request: Mapping[str, Any]) -> dict[str, Version]:
        if request["SecretId"] not in self.secrets:
            raise AWSError("ResourceNotFoundException", "Secrets Manager can't find the specified secret")
        return self.secrets[request["SecretId"]]

    def _move(self, stage: str, secret_id: str, token: str) -> None:
        versions = self.secrets[secret_id]
        versions.setdefault(token, {"SecretString": None, "Stages": set()})
        for each in versions.values():
            if stage == "AWSCURRENT" and stage in each["Stages"]:
                for other in versions.values():
                    other["Stages"].discard("AWSPREVIOUS")
                each["Stages"].add("AWSPREVIOUS")
            each["Stages"].discard(stage)
        versions[token]["Stages"].add(stage)
        versions[token]["Stages"].discard("AWSPREVIOUS")


@contextmanager
def serve(aws: AWS) -> Iterator[str]:
    """Serve both services; yields the endpoint's address."""

    class Request(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            action = self.headers["X-Amz-Target"].rpartition(".")[2]
            try:
                status, answer = 200, aws.answer(action, json.loads(body))
            except AWSError as error:
                status, answer = error.status, {"__type": error.code, "message": str(error)}
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Request)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
