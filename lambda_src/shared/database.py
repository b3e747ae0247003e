"""The one connection that an execution environment keeps to the database."""

import os
import random
import re
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import pymysql
from pymysql import converters
from pymysql.constants import FIELD_TYPE, SERVER_STATUS

from shared.attempts import attempts
from shared.credentials import Credentials
from shared.deadline import Deadline
from shared.errors import (
    ConfigurationError,
    CredentialsRefusedError,
    DependencyUnavailableError,
    InvocationError,
    QueryFailedError,
    TLSVerificationError,
)
from shared.sockets import AnswerTooLargeError, has_unread, open_connection, tls_context

ROOT_CERTIFICATES: Final = Path(__file__).parent / "rds-root-certificates.pem"

CONNECT: Final = 2.5
"""Seconds to connect: name, TCP, TLS and login, with all tries and pauses."""
TRIES: Final = 3
QUERY: Final = 2.5
"""Seconds for one query and its answer, by default."""
LARGEST: Final = 8 * 1024 * 1024
"""Bytes of one answer; Lambda itself returns at most 6 MB (Lambda quotas)."""
IDLE: Final = 60.0
"""Seconds after which an unused connection is replaced and not tried:

Lambda may have frozen the environment meanwhile, and a dead peer that sent no FIN or RST costs a
whole `QUERY`.
"""
AGE: Final = 900.0
"""Seconds after which a connection is replaced, so that it uses current credentials."""
STRICT: Final = "time_zone = '+00:00', sql_mode = 'TRADITIONAL,ONLY_FULL_GROUP_BY'"
"""RDS's own mode cuts what is too long, and stores it (https://github.com/awsdocs/amazon-rds-user-guide/issues/160)."""

Args = Sequence[Any] | Mapping[str, Any]
"""A statement's values, as PyMySQL binds them: `%s` for each of a sequence, `%(name)s` for those of a mapping."""
Row = tuple[Any, ...]
Result = TypeVar("Result")

READ_ONLY_TRANSACTION: Final = 0x2000
OPEN_TRANSACTION: Final = SERVER_STATUS.SERVER_STATUS_IN_TRANS | SERVER_STATUS.SERVER_STATUS_AUTOCOMMIT
"""What the server says in a transaction that may write, on a session that commits each other statement by itself.

https://dev.mysql.com/doc/dev/mysql-server/latest/mysql__com_8h.html
"""


def _moment(text: str | bytes) -> Any:
    """Read a TIMESTAMP: a moment, which the server gives in the session's time zone, UTC."""
    value = converters.convert_datetime(text)
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) else value


def _bind_moment(value: datetime, _: object = None) -> str:
    """Write a datetime: one with an offset as UTC, one without as it is."""
    return str(converters.escape_datetime(value.astimezone(UTC) if value.tzinfo else value))


CONVERSIONS: Final = converters.conversions | {FIELD_TYPE.TIMESTAMP: _moment, datetime: _bind_moment}


def _authorities(bundle: str, region: str) -> str:
    """Return the region's certificates.

    The database is in the function's own region. Loading all certificates would slow every cold start.

    Raises:
        ConfigurationError: the bundle has none for the region.
    """
    found = re.findall(rf"^# {re.escape(region)}\n(-----BEGIN [^#]*)", bundle, re.MULTILINE)
    if not found:
        raise ConfigurationError(f"no root certificate of RDS for the region {region} is in {ROOT_CERTIFICATES.name}")
    return "".join(found)


class Database:
    """One kept connection: with a verified certificate, bounded by the deadline, replaced after a while."""

    def __init__(
        self,
        deadline: Deadline,
        region: str,
        query_seconds: float = QUERY,
        session: Sequence[str] = (),
        *,
        keeps_session: bool = False,
    ) -> None:
        """Load the region's root certificates, once, before the first invocation.

        Args:
            deadline: the end of every wait.
            region: of the database.
            query_seconds: the longest time for one statement and its answer.
            session: statements for each new connection.
            keeps_session: keep the connection, and the locks with it, when the server answers with an error.

        Raises:
            ConfigurationError: there are none for the region.
            FileNotFoundError: they are not in the package.
        """
        self._deadline = deadline
        self._query_seconds = query_seconds
        self._session = session
        self._keeps_session = keeps_session
        self._context = tls_context(_authorities(ROOT_CERTIFICATES.read_text(), region), deadline, LARGEST)
        self._connection: pymysql.Connection[Any] | None = None
        self._opened = self._used = 0.0
        self.tls_version = ""
        self.version_id = ""
        """The secret's version that the connection logged in with."""

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection that is recent and has no unread bytes."""
        now = time.monotonic()
        if self._connection and (now - self._used > IDLE or now - self._opened > AGE or has_unread(self._connection)):
            self.close()
        return self._connection is not None

    def connect(self, credentials: Credentials) -> None:
        """Replace the connection by a new one, trying again while the server is unavailable.

        Raises:
            TLSVerificationError: the server's certificate or its lack of TLS; never tried again.
            CredentialsRefusedError: access denied; never tried again.
            ConfigurationError, DependencyUnavailableError: as `_error` tells them apart.
        """
        self.close()
        started = time.monotonic()
        with self._deadline.limit(CONNECT):
            for tries in attempts(self._deadline, lambda tried: 0.1 * 2**tried * random.uniform(0.5, 1.5), 0.1):  # noqa: S311 - jitter
                try:
                    self._connection, self.tls_version = self._open(credentials)
                    break
                except Exception as error:  # noqa: BLE001 - a foreign peer's bytes can raise anything
                    failure = _error(
                        error,
                        operation="connect",
                        host=credentials.host,
                        version_id=credentials.version_id,
                        attempts=tries,
                        elapsed_ms=round((time.monotonic() - started) * 1000),
                    )
                if not isinstance(failure, DependencyUnavailableError) or tries == TRIES:
                    raise failure
            else:
                raise failure
        self._opened = self._used = time.monotonic()
        self.version_id = credentials.version_id

    def _open(self, credentials: Credentials) -> tuple["pymysql.Connection[Any]", str]:
        """Return a connection and the TLS version that the server says it uses."""
        connection = pymysql.Connection(
            host=credentials.host,
            port=credentials.port,
            user=credentials.username,
            # As bytes: PyMySQL would encode text as Latin-1, and the connection uses UTF-8.
            password=credentials.password.encode(),
            database=credentials.dbname,
            ssl=self._context,
            autocommit=True,
            charset="utf8mb4",
            conv=CONVERSIONS,
            defer_connect=True,
        )
        connection.connect(open_connection((credentials.host, credentials.port), self._deadline, LARGEST))
        with connection.cursor() as cursor:
            for statement in self._session:
                cursor.execute(statement)
            cursor.execute("SHOW SESSION STATUS LIKE 'Ssl_version'")
            row = cursor.fetchone()
        return connection, row[1] if row else ""

    @property
    def is_broken(self) -> bool:
        """Whether the connection is closed, or bytes have arrived on it that belong to no statement."""
        return self._connection is None or has_unread(self._connection)

    @property
    def in_transaction(self) -> bool:
        """Whether the server's last answer said that a transaction is open that may write."""
        status: int = getattr(self._connection, "server_status", 0)
        return status & (OPEN_TRANSACTION | READ_ONLY_TRANSACTION) == OPEN_TRANSACTION

    def query(self, sql: str, args: Args = ()) -> Row:
        """Run one statement and return its first row; raises QueryFailedError without one, and otherwise as `rows`."""
        rows = self.rows(sql, args)
        if not rows:
            raise QueryFailedError("database: the query returned no row", operation="query", version_id=self.version_id)
        return rows[0]

    def rows(self, sql: str, args: Args = ()) -> list[Row]:
        """Run one statement, with its values bound, and return its rows, if it has any.

        The statement is sent once: only the caller knows whether it may be repeated.

        Raises:
            DependencyUnavailableError: the connection broke or the server is busy.
            QueryFailedError, ConfigurationError: as `_error` tells them apart.
        """
        return self._run(sql, args, lambda cursor: list(cursor.fetchall()))

    def execute(self, sql: str, args: Args = ()) -> tuple[int, int]:
        """Run one statement; return the number of rows it changed, and the id it generated or 0. Raises as `rows`."""
        return self._run(sql, args, lambda cursor: (cursor.rowcount, cursor.lastrowid or 0))

    def _run(self, sql: str, args: Args, result: Callable[[Any], Result]) -> Result:
        if self._connection is None:
            raise DependencyUnavailableError("database: not connected", operation="query")
        was_in_transaction = self.in_transaction
        started = time.monotonic()
        try:
            with self._deadline.limit(self._query_seconds), self._connection.cursor() as cursor:
                cursor.execute(sql, args or None)
                if was_in_transaction and cursor.description and not sql.lstrip().upper().startswith("SELECT"):
                    self._connection.ping(reconnect=False)  # PyMySQL reads no status from the end of rows.
                found = result(cursor)
        except Exception as error:  # noqa: BLE001 - as above
            elapsed = round((time.monotonic() - started) * 1000)
            failure = _error(error, operation="query", version_id=self.version_id, elapsed_ms=elapsed)
            # The transaction or the session goes on after an error that the server itself sent.
            kept = self._keeps_session or (was_in_transaction and isinstance(failure, QueryFailedError))
            if not (kept and is_answer(failure)):
                self.close()
        except BaseException:
            # Cut off between question and answer: the next answer would be the wrong one.
            self.close()
            raise
        else:
            self._used = time.monotonic()
            return found
        if self._connection is not None:
            # An error has no status: the transaction goes on, or what was refused has ended it.
            try:
                with self._deadline.limit(self._query_seconds):
                    self._connection.ping(reconnect=False)
            except Exception:  # noqa: BLE001 - as above
                self.close()
        # Raised here, because an exception raised in the except clause would contain the other one.
        raise failure

    def close(self) -> None:
        """Close the connection without sending COM_QUIT: the server may not answer."""
        if self._connection is not None:
            # PyMySQL's close() sends COM_QUIT first.
            self._connection._force_close()  # type: ignore[attr-defined]  # noqa: SLF001
            self._connection = None


_DENIED: Final = frozenset({1045})
_NO_TLS: Final = frozenset({2026, 3159})
_UNAVAILABLE: Final = frozenset(
    # Lost, killed or shut down (1317 is MySQL's, 1927 MariaDB's); read-only after a failover; too many; deadlock
    # or lock wait.
    {0, 1053, 1317, 1927, 2003, 2006, 2013, 2055, 4031}
    | {1290, 1836}
    | {1040, 1203, 1226}
    | {1205, 1213}
    # The server is short of memory or threads, its network fails, or it is offline for a moment.
    | {1041, 1042, 1135, 1152, 1158, 1159, 1160, 1161, 3032, 3168}
)


def is_answer(failure: InvocationError) -> bool:
    """Whether the server itself sent the error: the client's own numbers are 0 and from 2000 to 2999.

    https://dev.mysql.com/doc/mysql-errors/8.4/en/client-error-reference.html
    """
    errno = failure.facts.get("errno")
    return isinstance(errno, int) and (1000 <= errno < 2000 or errno >= 3000)


def _error(error: Exception, **facts: object) -> InvocationError:
    """Return the error class for an error, by its number; its text is dropped, because it may quote data.

    On a laptop the text is told. The local cloud says that it is one, in a variable of Lambda's own, to which no
    template can give a value (https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html,
    https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html).
    """
    cause = getattr(error, "original_exception", error)
    if isinstance(cause, AnswerTooLargeError) or isinstance(error.__context__, AnswerTooLargeError):
        return QueryFailedError("database: answer too large", **facts)
    if isinstance(cause, ssl.SSLError) and not isinstance(cause, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        reason = getattr(cause, "verify_message", None) or cause.reason
        return TLSVerificationError("database: TLS failed", **facts, cause=reason)
    errno = error.args[0] if isinstance(error, pymysql.Error) and error.args else None
    facts |= {"errno": errno} if isinstance(errno, int) else {"cause": type(cause).__name__}
    if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "local":
        facts |= {"says": str(error)}
    if errno in _NO_TLS:
        return TLSVerificationError("database: no TLS", **facts)
    if errno in _DENIED and facts["operation"] == "connect":
        return CredentialsRefusedError("database: access denied", **facts)
    if errno in _UNAVAILABLE or isinstance(error, OSError):
        unavailable = DependencyUnavailableError("database: unavailable", **facts)
        unavailable.connection_lost = facts["operation"] == "query"
        return unavailable
    if facts["operation"] == "connect":
        # No grant, no such database, a locked account, a blocked host; or no MySQL server at all.
        return ConfigurationError("database: the server refuses", **facts)
    return QueryFailedError("database: query failed", **facts)
