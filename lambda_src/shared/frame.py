"""The frame of a serving function: configuration and credentials through the extension, a connection, and the log.

What the function answers is the application's: a module such as `application.py`.
"""

import logging
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Protocol

from shared import direct_read, schema
from shared.application_database import SESSION, ApplicationDatabase
from shared.attempts import attempts
from shared.credentials import Credentials
from shared.database import Database
from shared.deadline import Deadline
from shared.encoding import encode
from shared.environment import ServingEnvironment
from shared.errors import (
    BadRequestError,
    ConfigurationError,
    CredentialsRefusedError,
    DependencyUnavailableError,
    InvocationError,
    QueryFailedError,
    SchemaVersionError,
)
from shared.extension import ExtensionClient, UnexplainedRefusalError
from shared.json_object import json_object

BUDGET: Final = 34.0
"""Seconds for one invocation; less than the function's timeout."""
MARGIN: Final = 0.5
"""Seconds kept from Lambda's remaining time, so that the error is logged before Lambda's timeout."""

THROTTLE_PAUSE: Final = 12.0
"""Seconds, at most, before a throttled read is repeated. In this time Parameter Store's default quota of 40 calls a
second serves some 500 environments (https://docs.aws.amazon.com/general/latest/gr/ssm.html)."""

HEALTH: Final = {"reserved": "health"}
"""The event that the frame answers itself; the smoke test and `make verify` send it."""

NO_SUCH_TABLE: Final = 1146
COMMAND_DENIED: Final = 1142
SCHEMA_CHECK: Final = 1.0
"""Seconds to read the schema's version, once for each connection."""

logger = logging.getLogger("application")


class Application(Protocol):
    """A module with the application; it may have `check(config, database)` too, for the health event."""

    __name__: str
    SCHEMA: int
    """The schema version that it needs: the number of a file in migrations/."""

    def answer(self, event: Any, context: Any, config: dict[str, Any], database: ApplicationDatabase) -> object:
        """Return the answer to one event, of values that `encoding` takes."""


class Frame:
    """What one execution environment keeps between its invocations."""

    def __init__(self, application: Application, environment: ServingEnvironment) -> None:
        self._application = application
        self._environment = environment
        self._deadline = Deadline()
        self._extension = ExtensionClient(self._deadline, environment.extension_port)
        self._database = Database(self._deadline, environment.region, session=SESSION)
        self._refused_version_id = ""
        self._schema_version = 0
        self._durations: dict[str, float] = {}
        self._secret_age_hours: float | None = None

    def handle(self, event: object, context: Any) -> Any:
        """Answer one invocation, with Lambda's context; this is Lambda's entry point.

        Returns:
            What the application's `answer` returns, as `encoding` says; for a bad request, its type and message,
            as Lambda itself tells an error. Lambda counts no error then, and repeats nothing.

        Raises:
            InvocationError: one of the classes of `shared.errors`, with what an operator needs.
        """
        self._deadline.start(min(BUDGET, context.get_remaining_time_in_millis() / 1000 - MARGIN))
        self._durations = {}
        self._secret_age_hours = None
        facts: dict[str, object] = {"outcome": "ok"}
        started = time.monotonic()
        try:
            answer, _ = encode(self._answer(event, context))
            return answer
        except BadRequestError as error:
            facts = {"outcome": type(error).__name__, "reason": str(error)}
            if _is_health(event):
                raise  # The smoke test's event is not at fault.
            return {"errorType": type(error).__name__, "errorMessage": str(error)}
        except InvocationError as error:
            error.facts.setdefault("elapsed_ms", round((time.monotonic() - started) * 1000))
            error.facts["remaining_ms"] = round(self._deadline.remaining() * 1000)
            facts = {"outcome": type(error).__name__, **error.facts}
            raise
        except BaseException as error:
            facts = {"outcome": type(error).__name__}
            raise
        finally:
            logger.info(
                "invocation.finished",
                extra={
                    "remaining_ms": round(self._deadline.remaining() * 1000),
                    **facts,
                    "duration_ms": round((time.monotonic() - started) * 1000, 1),
                    "connection_reused": "query_ms" in self._durations and "connect_ms" not in self._durations,
                    "version_id": self._database.version_id,
                    "secret_age_hours": self._secret_age_hours,
                    **{name: round(seconds * 1000, 1) for name, seconds in self._durations.items()},
                },
            )

    def _answer(self, event: object, context: Any) -> object:
        with self._timed("parameter_ms"):
            config = self._config()
        with self._timed("secret_ms"):
            secret = self._read(self._extension.secret, direct_read.secret, self._environment.secret_id)
            credentials = Credentials.parse(secret)
        self._secret_age_hours = credentials.age_hours
        database = ApplicationDatabase(
            self._application.__name__, lambda: self._connected(credentials), self._deadline, self._timed
        )
        if _is_health(event):
            return self._health(config, database)
        return self._application.answer(event, context, config, database)

    def _health(self, config: dict[str, Any], database: ApplicationDatabase) -> dict[str, object]:
        """Return what the deploy wants to know, and what the application's `check` returns, if it has one."""
        ((name, version),) = database.rows("SELECT DATABASE(), VERSION()")
        check = getattr(self._application, "check", None)
        return {
            "database": name,
            "serverVersion": version,
            "schemaVersion": self._schema_version,
            "tlsVersion": self._database.tls_version,
            "check": check(config, database) if check else None,
        }

    def _config(self) -> dict[str, Any]:
        name = self._environment.parameter_name
        parameter = self._read(self._extension.parameter, direct_read.parameter, name)
        facts = {"operation": "parameter"}
        if parameter.get("Type") == "SecureString":
            raise ConfigurationError(f"parameter {name}: a SecureString, where a String is read", **facts)
        config = json_object(parameter.get("Value"))
        if config is None:
            raise ConfigurationError(f"parameter {name}: not a JSON object", **facts)
        if not isinstance(config.setdefault("enableVersion", False), bool):
            raise ConfigurationError(f"parameter {name}: enableVersion is not true or false", **facts)
        return config

    def _read(
        self,
        from_extension: Callable[[str], dict[str, Any]],
        from_aws: Callable[[str, Deadline], dict[str, Any]],
        name: str,
    ) -> dict[str, Any]:
        """Ask the extension; if it refuses without a reason, ask AWS; if AWS throttles, ask once more after a pause.

        The extension answers a throttled request, which may succeed later, and a missing permission,
        which does not go away, in the same way. The pause is random, so that environments that were
        throttled together do not ask together again.
        """
        try:
            return from_extension(name)
        except UnexplainedRefusalError as error:
            logger.warning("extension.refused", extra=error.facts)
        for tried in attempts(self._deadline, lambda _: random.uniform(0, THROTTLE_PAUSE), direct_read.BUDGET):  # noqa: S311 - jitter
            try:
                return from_aws(name, self._deadline)
            except DependencyUnavailableError as error:
                if not error.throttled or tried == 2:
                    raise
                failure = error
            logger.warning("aws.throttled", extra=failure.facts)
        raise failure

    def _connected(self, credentials: Credentials) -> Database:
        """Return the kept connection, or a new one on which the schema was checked."""
        if not self._database.is_connected:
            with self._timed("connect_ms"):
                self._log_in(credentials)
                self._check_schema()
        return self._database

    def _log_in(self, cached: Credentials) -> None:
        """Log in with the cached credentials; if they are refused, once with the current ones.

        After a rotation, the extension may serve the old version for its whole TTL, and it cannot
        be told to refresh. A refused version is not tried again, so that a stale cache does not
        cause a denied login for every connection.
        """
        is_known_to_be_refused = cached.version_id == self._refused_version_id
        if not is_known_to_be_refused:
            try:
                self._database.connect(cached)
                return
            except CredentialsRefusedError:
                self._refused_version_id = cached.version_id
        current = Credentials.parse(direct_read.secret(self._environment.secret_id, self._deadline))
        if not is_known_to_be_refused and current.version_id == cached.version_id:
            facts = {"operation": "connect", "secret": self._environment.secret_id, "version_id": current.version_id}
            raise CredentialsRefusedError("database: access denied, and the secret has no newer version", **facts)
        self._database.connect(current)
        if current.version_id == self._refused_version_id:
            self._refused_version_id = ""
        logger.warning(
            "credentials.refreshed",
            extra={"refused_version_id": cached.version_id, "version_id": current.version_id},
        )

    def _check_schema(self) -> None:
        """Read the schema's version on a new connection, and refuse an older one than the application needs.

        Raises:
            SchemaVersionError: it is older; the connection is closed, so that the next invocation reads it again.
        """
        try:
            with self._deadline.limit(SCHEMA_CHECK):
                (version,) = self._database.query(schema.VERSION)
        except QueryFailedError as error:
            if error.facts.get("errno") == COMMAND_DENIED:
                # The rotation that the deploy started has not come so far.
                raise DependencyUnavailableError("database: may not read the history yet", **error.facts) from None
            if error.facts.get("errno") != NO_SUCH_TABLE:
                raise
            version = None
        self._schema_version = version or 0
        if self._schema_version < self._application.SCHEMA:
            self._database.close()
            raise SchemaVersionError(
                f"database: schema version {self._schema_version}, where this version of the function needs "
                f"{self._application.SCHEMA}: deploy the migrations first",
                operation="connect",
            )

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            self._durations[name] = self._durations.get(name, 0) + time.monotonic() - started


def _is_health(event: object) -> bool:
    """Whether it is the reserved event; the smoke test says in it that it asks again."""
    return isinstance(event, dict) and event.get("reserved") == HEALTH["reserved"]


def start(application: Application) -> Frame:
    """Read the environment variables when the execution environment starts.

    A wrong variable is logged with an outcome too, because the alarms count outcomes.
    """
    try:
        return Frame(application, ServingEnvironment.read(os.environ))
    except ConfigurationError as error:
        logger.error("start.failed", extra={"outcome": type(error).__name__, "reason": str(error)})  # noqa: TRY400
        raise
