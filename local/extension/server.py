"""The extension's HTTP interface, on 127.0.0.1 only."""

import hmac
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from local.extension.cache import Cache
from local.extension.configuration import LEVELS, Configuration
from local.peer import is_this_user

TOKEN_HEADER: Final = "X-Aws-Parameters-Secrets-Token"  # noqa: S105 - a header's name
NOT_READY: Final = (400, "not ready to serve traffic, please wait")
FAILED: Final = (400, "an unexpected error occurred while executing request")
BAD_TOKEN: Final = (403, "Bad Token")
NOT_ALLOWED: Final = (405, "Not allowed")
FORWARDED: Final = (400, "Forwarded")
"""AWS documents none of these three of the extension: they are those of its open Secrets Manager Agent.

https://github.com/aws/aws-secretsmanager-agent/blob/main/aws_secretsmanager_agent/src/server.rs
"""
FORBIDDEN: Final = (403, "the Host header must be localhost or 127.0.0.1")
NOT_FOUND: Final = (404, "404 page not found\n")


class ExtensionEmulator(ThreadingHTTPServer):
    """The extension's server; `ready` is set when the INVOKE phase has begun."""

    daemon_threads = True

    def __init__(self, configuration: Configuration, upstream: Any) -> None:
        self.configuration = configuration
        self.ready = threading.Event()
        self._upstream = upstream
        self._cache = Cache(configuration.cache_size)
        super().__init__(("127.0.0.1", configuration.port), _Request)
        self.log("INFO", f"Serving on port {self.server_address[1]}")

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Return whether the client is this user; in Lambda nobody else is in the execution environment."""
        return is_this_user(client_address, (str(self.server_address[0]), self.server_address[1]))

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
        """Return status and body for a GET of the target."""
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
        if not token or not hmac.compare_digest(token.encode(), self.configuration.token.encode()):
            return BAD_TOKEN
        return route(query)

    def _parameter(self, query: list[tuple[str, str]]) -> tuple[int, str]:
        given = dict(reversed(query))
        # Of version and label only the first counts (docs/extension.md).
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
    server: ExtensionEmulator
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # Head and body are sent in one segment, without waiting for an acknowledgement.
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        # With DNS rebinding, a page in a browser could reach this port under another name.
        host = self.headers.get("Host", "").rpartition(":")[0] or self.headers.get("Host", "")
        if host not in ("localhost", "127.0.0.1"):
            self._send(*FORBIDDEN)
            return
        if "X-Forwarded-For" in self.headers:
            self._send(*FORWARDED)
            return
        self._send(*self.server.answer(self.path, self.headers.get(TOKEN_HEADER)))

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer a request that has no method above, or that is none, and close: its body is not read."""
        self.close_connection = True
        self._send(*(NOT_ALLOWED if code == 501 else (code, message or "")))

    def _send(self, status: int, body: str) -> None:
        data = body.encode()
        self.send_response_only(status)
        self.send_header("Date", self.date_time_string())
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as in http.server
        """Do nothing: the extension does not log requests."""
