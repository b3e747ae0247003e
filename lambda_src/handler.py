"""The function: configuration and credentials through the extension, an answer from MySQL."""

import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Protocol

import upstream
from credentials import Credentials
from database import Database
from deadline import Deadline
from errors import ConfigurationError, CredentialsRefusedError, DependencyUnavailableError, ServiceError
from extension import Extension, UnexplainedRefusalError
from json_object import json_object

BUDGET: Final = 33.0
"""Seconds for one invocation; less than the function's timeout."""
MARGIN: Final = 0.5
"""Seconds kept from Lambda's remaining time, to fail in words rather than be cut off."""

logger = logging.getLogger("demoapp")


class Context(Protocol):
    """What this function uses of Lambda's context object."""

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until Lambda ends the invocation."""


class Service:
    """What one execution environment keeps between its invocations."""

    def __init__(self) -> None:
        self._deadline = Deadline()
        self._extension = Extension(self._deadline)
        self._database = Database(self._deadline)
        self._refused_version_id = ""
        self._durations: dict[str, float] = {}
        self._secret_age_hours: float | None = None

    def handle(self, event: object, context: Context) -> dict[str, Any]:
        """Answer one invocation.

        Returns:
            `message` (the sentence), `database`, `tlsVersion`, and `serverVersion` when the
            configuration's `enableVersion` is true.

        Raises:
            ServiceError: one of the four of `errors`, with what an operator needs.
        """
        self._deadline.start(min(BUDGET, context.get_remaining_time_in_millis() / 1000 - MARGIN))
        self._durations = {}
        self._secret_age_hours = None
        reused = self._database.is_connected
        facts: dict[str, object] = {"outcome": "ok"}
        started = time.monotonic()
        try:
            return self._answer()
        except ServiceError as error:
            error.facts.setdefault("elapsed_ms", round((time.monotonic() - started) * 1000))
            error.facts["remaining_ms"] = round(self._deadline.remaining() * 1000)
            facts = {"outcome": type(error).__name__, **error.facts}
            raise
        except Exception as error:
            facts = {"outcome": type(error).__name__}
            raise
        finally:
            logger.info(
                "invocation.finished",
                extra={
                    "remaining_ms": round(self._deadline.remaining() * 1000),
                    **facts,
                    "duration_ms": round((time.monotonic() - started) * 1000, 1),
                    "connection_reused": reused and "connect_ms" not in self._durations,
                    "version_id": self._database.version_id,
                    "secret_age_hours": self._secret_age_hours,
                    **{name: round(seconds * 1000, 1) for name, seconds in self._durations.items()},
                },
            )

    def _answer(self) -> dict[str, Any]:
        with self._timed("parameter_ms"):
            config = self._config(f"/{os.environ['ENV']}/{os.environ['APP_CONFIG_PATH']}")
        with self._timed("secret_ms"):
            secret = self._ask_extension(self._extension.secret, upstream.secret, os.environ["CREDS_PATH"])
            credentials = Credentials.parse(secret)
        self._secret_age_hours = credentials.age_hours
        columns = "DATABASE(), VERSION()" if config["enableVersion"] else "DATABASE()"
        dbname, *version = self._query(f"SELECT {columns}", credentials)
        answer = {
            "message": f"DemoApp successfully loaded config {json.dumps(config)} "
            f"and connected to RDS database {dbname}!",
            "database": dbname,
            "tlsVersion": self._database.tls_version,
        }
        if version:
            answer["serverVersion"] = version[0]
        return answer

    def _config(self, name: str) -> dict[str, Any]:
        parameter = self._ask_extension(self._extension.parameter, upstream.parameter, name)
        if parameter.get("Type") == "SecureString":
            raise ConfigurationError(f"parameter {name}: a SecureString, where a String is read", stage="parameter")
        config = json_object(parameter.get("Value"))
        if config is None:
            raise ConfigurationError(f"parameter {name}: not a JSON object", stage="parameter")
        if not isinstance(config.setdefault("enableVersion", False), bool):
            raise ConfigurationError(f"parameter {name}: enableVersion is not true or false", stage="parameter")
        return config

    def _ask_extension(
        self,
        through: Callable[[str], dict[str, Any]],
        around: Callable[[str, Deadline], dict[str, Any]],
        name: str,
    ) -> dict[str, Any]:
        """Ask the extension; when it refuses and does not say why, AWS itself, once.

        A throttle of the whole account passes, a missing permission does not, and the
        extension answers both with the same words.
        """
        try:
            return through(name)
        except UnexplainedRefusalError as error:
            logger.warning("extension.refused", extra=error.facts)
        return around(name, self._deadline)

    def _query(self, sql: str, credentials: Credentials) -> tuple[Any, ...]:
        """Ask on the kept connection or a new one; when it breaks, once more on another.

        For reads only, which may be asked again: what broke may have run.
        """
        try:
            return self._ask(sql, credentials)
        except DependencyUnavailableError as error:
            if error.facts["stage"] != "query":
                raise
            logger.warning("database.reconnecting", extra=error.facts)
        return self._ask(sql, credentials)

    def _ask(self, sql: str, credentials: Credentials) -> tuple[Any, ...]:
        if not self._database.is_connected:
            with self._timed("connect_ms"):
                self._connect(credentials)
        with self._timed("query_ms"):
            return self._database.query(sql)

    def _connect(self, cached: Credentials) -> None:
        """Log in with the cached credentials; when they are refused, once with those of now.

        The extension may serve a version for its whole TTL after a rotation has replaced it,
        and knows no forced refresh. A cached version once refused is not tried again, so
        that a stale cache does not cost the server a denied login for each connection.
        """
        tried = ""
        if cached.version_id != self._refused_version_id:
            try:
                self._database.connect(cached)
                return
            except CredentialsRefusedError:
                self._refused_version_id = tried = cached.version_id
        current = Credentials.parse(upstream.secret(os.environ["CREDS_PATH"], self._deadline))
        if current.version_id == tried:
            raise CredentialsRefusedError(
                "database: access denied, and the secret has no newer version",
                stage="connect",
                version_id=tried,
            )
        self._database.connect(current)
        if current.version_id == self._refused_version_id:
            self._refused_version_id = ""
        logger.warning(
            "credentials.refreshed",
            extra={"refused_version_id": cached.version_id, "version_id": current.version_id},
        )

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            self._durations[name] = self._durations.get(name, 0) + time.monotonic() - started


_service = Service()


def lambda_handler(event: object, context: Context) -> dict[str, Any]:
    """Lambda's entry point; see `Service.handle`."""
    return _service.handle(event, context)
