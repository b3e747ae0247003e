"""Emulator of the AWS Parameters and Secrets Lambda Extension.

The extension itself is a closed binary that runs in Lambda only. This serves the same
HTTP interface on 127.0.0.1, with the caching, the errors and the environment variables
that AWS documents, and reads from AWS (or from the emulated cloud) with the credentials
that botocore finds. `python -m local.extension` serves a handler on a laptop; the local
cloud starts one for each execution environment, as Lambda does.

What is known of the extension, and from where, stands in docs/extension.md.
"""

import argparse
import base64
import json
import os
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

TOKEN_HEADER: Final = "X-Aws-Parameters-Secrets-Token"  # noqa: S105 - a header's name
NOT_READY: Final = (400, "not ready to serve traffic, please wait")
FAILED: Final = (400, "an unexpected error occurred while executing request")
UNAUTHORIZED: Final = (401, "unauthorized")
"""Neither status nor text of this one is documented or recorded anywhere."""
NOT_FOUND: Final = (404, "404 page not found\n")

LEVELS: Final = ("DEBUG", "INFO", "WARN", "ERROR", "NONE")
LONGEST_TTL: Final = 300
"""Seconds."""


@dataclass(frozen=True)
class Configuration:
    """The documented environment variables; TTLs and timeouts in seconds, 0 for none."""

    port: int = 2773
    cache_size: int = 1000
    parameter_ttl: float = 300
    secret_ttl: float = 300
    parameter_timeout: float = 0
    secret_timeout: float = 0
    max_connections: int = 3
    log_level: str = "INFO"
    token: str = ""

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> "Configuration":
        """Read the variables.

        Raises:
            ValueError: naming every one that is out of its range.
        """
        faults: list[str] = []

        def number(name: str, default: int, least: int, most: int | None) -> int:
            text = environ.get(name, str(default))
            if not text.isdigit() or int(text) < least or (most is not None and int(text) > most):
                faults.append(f"{name}={text}: a whole number from {least}" + (f" to {most}" if most else ""))
                return default
            return int(text)

        prefix = "PARAMETERS_SECRETS_EXTENSION_"
        enabled = environ.get(f"{prefix}CACHE_ENABLED", "TRUE").upper()
        if enabled not in ("TRUE", "FALSE"):
            faults.append(f"{prefix}CACHE_ENABLED={enabled}: TRUE or FALSE")
        log_level = environ.get(f"{prefix}LOG_LEVEL", "INFO").upper()
        if log_level not in LEVELS:
            faults.append(f"{prefix}LOG_LEVEL={log_level}: one of {', '.join(LEVELS)}")
        size = number(f"{prefix}CACHE_SIZE", 1000, 0, 1000)
        configuration = cls(
            port=number(f"{prefix}HTTP_PORT", 2773, 1, 65535),
            cache_size=size if enabled == "TRUE" else 0,
            # A longer TTL is shortened, not refused (aws-samples/aws-lambda-extensions#104).
            parameter_ttl=min(number("SSM_PARAMETER_STORE_TTL", 300, 0, None), LONGEST_TTL),
            secret_ttl=min(number("SECRETS_MANAGER_TTL", 300, 0, None), LONGEST_TTL),
            parameter_timeout=number("SSM_PARAMETER_STORE_TIMEOUT_MILLIS", 0, 0, None) / 1000,
            secret_timeout=number("SECRETS_MANAGER_TIMEOUT_MILLIS", 0, 0, None) / 1000,
            max_connections=number(f"{prefix}MAX_CONNECTIONS", 3, 1, None),
            log_level=log_level,
            token=environ.get("AWS_SESSION_TOKEN", ""),
        )
        if faults:
            raise ValueError("\n".join(faults))
        return configuration


class Cache:
    """Least recently used, of limited size; what is too old is forgotten when it is asked for."""

    def __init__(self, size: int, now: Callable[[], float] = time.monotonic) -> None:
        self._size = size
        self._now = now
        self._entries: OrderedDict[object, tuple[float, str]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: object) -> str | None:
        """Return the value, or None when there is none or its time is up."""
        with self._lock:
            expiry, value = self._entries.pop(key, (0.0, None))
            if value is None or expiry <= self._now():
                return None
            self._entries[key] = (expiry, value)
            return value

    def put(self, key: object, value: str, ttl: float) -> None:
        """Keep the value for so many seconds; not at all when TTL or size is 0."""
        if self._size == 0 or ttl == 0:
            return
        with self._lock:
            self._entries.pop(key, None)
            self._entries[key] = (self._now() + ttl, value)
            while len(self._entries) > self._size:
                self._entries.popitem(last=False)


class Upstream:
    """Parameter Store and Secrets Manager, with their answers as the extension gives them on."""

    def __init__(self, configuration: Configuration) -> None:
        import botocore.session
        from botocore.config import Config

        def client(service: str, timeout: float) -> Any:
            config = Config(
                connect_timeout=timeout or None,
                read_timeout=timeout or None,
                max_pool_connections=configuration.max_connections,
                retries={"total_max_attempts": 3, "mode": "standard"},
            )
            return session.create_client(service, config=config)

        session = botocore.session.get_session()
        self._parameters = client("ssm", configuration.parameter_timeout)
        self._secrets = client("secretsmanager", configuration.secret_timeout)

    def parameter(self, name: str, selector: str, *, with_decryption: bool) -> str:
        """GetParameter's answer as JSON."""
        answer = self._parameters.get_parameter(Name=name + selector, WithDecryption=with_decryption)
        given = answer["Parameter"]
        keys = ["ARN", "DataType", "LastModifiedDate", "Name", "Selector", "SourceResult", "Type", "Value", "Version"]
        return _go_json({"Parameter": {key: given.get(key) for key in keys}, "ResultMetadata": {}})

    def secret(self, secret_id: str, version: Mapping[str, str]) -> str:
        """GetSecretValue's answer as JSON."""
        given = self._secrets.get_secret_value(SecretId=secret_id, **version)
        keys = ["ARN", "CreatedDate", "Name", "SecretBinary", "SecretString", "VersionId", "VersionStages"]
        return _go_json({key: given.get(key) for key in keys} | {"ResultMetadata": {}})


def _go_json(value: object) -> str:
    """JSON as Go's encoding/json writes it: compact, and HTML's characters escaped."""
    text = json.dumps(value, default=_go_value, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _go_value(value: object) -> str:
    """Bytes as standard base64, times as RFC 3339 in UTC without trailing zeros."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime):
        text = value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
        return text.rstrip("0").rstrip(".") + "Z"
    raise TypeError(type(value).__name__)


class Extension(ThreadingHTTPServer):
    """The extension's server; `ready` is set when the INVOKE phase has begun."""

    daemon_threads = True

    def __init__(self, configuration: Configuration, upstream: Any) -> None:
        self.configuration = configuration
        self.ready = threading.Event()
        self._upstream = upstream
        self._cache = Cache(configuration.cache_size)
        super().__init__(("127.0.0.1", configuration.port), _Request)
        self.log("INFO", f"Serving on port {self.server_address[1]}")

    def log(self, level: str, message: str) -> None:
        """Print a line as the extension does, when the level is on."""
        if LEVELS.index(level) >= LEVELS.index(self.configuration.log_level):
            now = time.strftime("%Y/%m/%d %H:%M:%S")
            print(
                f"[AWS Parameters and Secrets Lambda Extension] {now} {level} {message}",
                file=sys.stderr,
                flush=True,
            )

    def answer(self, target: str, token: str | None) -> tuple[int, str]:
        """Status and body for a GET of that target."""
        url = urlsplit(target)
        query = parse_qsl(url.query, keep_blank_values=True)
        routes = {
            "/systemsmanager/parameters/get": self._parameter,
            "/secretsmanager/get": self._secret,
        }
        route = routes.get(url.path.rstrip("/"))
        if route is None:
            return NOT_FOUND
        if not self.ready.is_set():
            return NOT_READY
        # A developer's long-lived keys have no session token; then any will do.
        if not token or (self.configuration.token and token != self.configuration.token):
            return UNAUTHORIZED
        return route(query)

    def _parameter(self, query: list[tuple[str, str]]) -> tuple[int, str]:
        given = dict(reversed(query))
        # Of version and label only the first counts (Systems Manager user guide).
        selector = next((f":{value}" for key, value in query if key in ("version", "label")), "")
        name, decrypt = given.get("name", ""), given.get("withDecryption", "false").lower() == "true"
        return self._cached(
            "GetParameter",
            (name, selector, decrypt),
            self.configuration.parameter_ttl,
            lambda: self._upstream.parameter(name, selector, with_decryption=decrypt),
        )

    def _secret(self, query: list[tuple[str, str]]) -> tuple[int, str]:
        given = dict(reversed(query))
        names = {"versionId": "VersionId", "versionStage": "VersionStage"}
        version = {names[key]: value for key, value in given.items() if key in names}
        secret_id = given.get("secretId", "")
        return self._cached(
            "GetSecretValue",
            (secret_id, *sorted(version.items())),
            self.configuration.secret_ttl,
            lambda: self._upstream.secret(secret_id, version),
        )

    def _cached(self, action: str, key: tuple[object, ...], ttl: float, read: Callable[[], str]) -> tuple[int, str]:
        entry = (action, *key)
        body = self._cache.get(entry)
        if body is None:
            try:
                body = read()
            except Exception as error:  # noqa: BLE001 - whatever it was, the client hears one thing
                self.log("ERROR", f"{action} request encountered an error: {error}")
                return FAILED
            self.log("DEBUG", f"{action} asked of AWS")
            self._cache.put(entry, body, ttl)
        return 200, body


class _Request(BaseHTTPRequestHandler):
    server: Extension
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # One segment for head and body, and none held back for the peer's word.
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._send(*self.server.answer(self.path, self.headers.get(TOKEN_HEADER)))

    def do_POST(self) -> None:
        self.close_connection = True
        self._send(*NOT_FOUND)

    def _send(self, status: int, body: str) -> None:
        data = body.encode()
        self.send_response_only(status)
        self.send_header("Date", self.date_time_string())
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as in http.server
        """Nothing: the extension does not log requests."""


def main() -> None:
    """Serve until interrupted, or until standard input ends."""
    parser = argparse.ArgumentParser(prog="python -m local.extension", description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--lambda",
        dest="in_lambda",
        action="store_true",
        help="wait for a line on standard input before serving, and end with it, as in Lambda",
    )
    arguments = parser.parse_args()
    try:
        configuration = Configuration.read(os.environ)
    except ValueError as error:
        sys.exit(str(error))
    try:
        extension = Extension(configuration, Upstream(configuration))
    except OSError as error:
        sys.exit(f"port {configuration.port} of 127.0.0.1: {error.strerror}")
    threading.Thread(target=extension.serve_forever, daemon=True).start()
    if arguments.in_lambda:
        for _ in sys.stdin:
            if not extension.ready.is_set():
                extension.log("INFO", "ready to serve traffic")
                extension.ready.set()
        return
    extension.ready.set()
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        extension.shutdown()


if __name__ == "__main__":
    main()
