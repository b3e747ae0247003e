"""The one connection that an execution environment keeps to the database."""

import os
import random
import re
import ssl
import time
from pathlib import Path
from typing import Any, Final

import pymysql

from credentials import Credentials
from deadline import Deadline, connect, tls_context
from errors import (
    ConfigurationError,
    CredentialsRefusedError,
    DependencyUnavailableError,
    QueryFailedError,
    ServiceError,
    TLSVerificationError,
)

ROOT_CERTIFICATES: Final = Path(__file__).parent / "rds-root-certificates.pem"

CONNECT: Final = 2.5
"""Seconds for a connection: name, TCP, TLS and login, all tries and pauses together."""
TRIES: Final = 3
QUERY: Final = 2.5
"""Seconds for one query and its answer."""
IDLE: Final = 60.0
"""Seconds after which an unused connection is replaced and not tried: Lambda may have frozen
the environment meanwhile, and a peer that is gone without a word costs a whole `QUERY`."""
AGE: Final = 900.0
"""Seconds after which any connection is replaced, so that it ends up with current credentials."""


def _authorities(bundle: str) -> str:
    """Those of the function's own region, or all of a bundle that tells no regions apart.

    A database in the VPC is signed for by no other region; and all of them take 17 ms to
    load, of every cold start.
    """
    region = re.escape(os.environ.get("AWS_REGION", ""))
    return "".join(re.findall(rf"^# {region}\n(-----BEGIN [^#]*)", bundle, re.MULTILINE)) or bundle


class Database:
    """A kept connection, verified, bounded by the deadline, and never trusted for long."""

    def __init__(self, deadline: Deadline) -> None:
        """Load the certificates, before the first invocation and once.

        Raises:
            FileNotFoundError: they are not in the package.
        """
        self._deadline = deadline
        self._context = tls_context(_authorities(ROOT_CERTIFICATES.read_text()), deadline)
        self._connection: pymysql.Connection[Any] | None = None
        self._opened = self._used = 0.0
        self.tls_version = ""
        self.version_id = ""
        """The secret's version that the connection logged in with."""

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection young enough to be tried."""
        now = time.monotonic()
        if self._connection and (now - self._used > IDLE or now - self._opened > AGE):
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
        attempts = 0
        with self._deadline.limit(CONNECT):
            while self._connection is None:
                attempts += 1
                try:
                    self._connection, self.tls_version = self._open(credentials)
                    continue
                except Exception as error:  # noqa: BLE001 - a foreign peer's bytes can raise anything
                    failure = _error(
                        error,
                        stage="connect",
                        host=credentials.host,
                        version_id=credentials.version_id,
                        attempts=attempts,
                        elapsed_ms=round((time.monotonic() - started) * 1000),
                    )
                pause = 0.1 * 2**attempts * random.uniform(0.5, 1.5)  # noqa: S311 - jitter
                if (
                    not isinstance(failure, DependencyUnavailableError)
                    or attempts == TRIES
                    or pause + 0.1 > self._deadline.remaining()
                ):
                    raise failure
                time.sleep(pause)
        self._opened = self._used = time.monotonic()
        self.version_id = credentials.version_id

    def _open(self, credentials: Credentials) -> tuple["pymysql.Connection[Any]", str]:
        """Return a connection and the TLS version that the server says it uses."""
        connection = pymysql.Connection(
            host=credentials.host,
            port=credentials.port,
            user=credentials.username,
            password=credentials.password,
            database=credentials.dbname,
            ssl=self._context,
            autocommit=True,
            charset="utf8mb4",
            defer_connect=True,
        )
        connection.connect(connect((credentials.host, credentials.port), self._deadline))
        with connection.cursor() as cursor:
            cursor.execute("SHOW SESSION STATUS LIKE 'Ssl_version'")
            row = cursor.fetchone()
        return connection, row[1] if row else ""

    def query(self, sql: str, args: tuple[str, ...] = ()) -> tuple[Any, ...]:
        """Run one statement, with its values bound, and return its first row if it has rows.

        Once and never again: whether a lost statement may be repeated, the caller knows.

        Raises:
            DependencyUnavailableError: the connection broke or the server is busy.
            QueryFailedError, ConfigurationError: as `_error` tells them apart.
        """
        if self._connection is None:
            raise DependencyUnavailableError("database: not connected", stage="query")
        started = time.monotonic()
        try:
            with self._deadline.limit(QUERY), self._connection.cursor() as cursor:
                cursor.execute(sql, args or None)
                row = cursor.fetchone()
        except Exception as error:  # noqa: BLE001 - as above
            self.close()
            elapsed = round((time.monotonic() - started) * 1000)
            failure = _error(error, stage="query", version_id=self.version_id, elapsed_ms=elapsed)
        else:
            self._used = time.monotonic()
            return row or ()
        # Here and not in the except clause: what is raised there carries the other along.
        raise failure

    def close(self) -> None:
        """Drop the connection without a word to the server, who may be gone."""
        if self._connection is not None:
            # PyMySQL's own close() sends a farewell first, and waits.
            self._connection._force_close()  # type: ignore[attr-defined]  # noqa: SLF001
            self._connection = None


_DENIED: Final = frozenset({1045})
_NO_TLS: Final = frozenset({2026, 3159})
_UNAVAILABLE: Final = frozenset(
    # Lost, killed or shut down; read-only after a failover; too many; deadlock or lock wait.
    {0, 1053, 1927, 2003, 2006, 2013, 2055, 4031} | {1290, 1836} | {1040, 1203, 1226} | {1205, 1213}
)


def _error(error: Exception, **facts: object) -> ServiceError:
    """Tell the errors apart by their numbers (MySQL error message reference); their texts stay here."""
    cause = getattr(error, "original_exception", error)
    if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError):
        reason = getattr(cause, "verify_message", None) or cause.reason
        return TLSVerificationError("database: TLS failed", **facts, cause=reason)
    errno = error.args[0] if isinstance(error, pymysql.Error) and error.args else None
    facts |= {"errno": errno} if isinstance(errno, int) else {"cause": type(cause).__name__}
    if errno in _NO_TLS:
        return TLSVerificationError("database: no TLS", **facts)
    if errno in _DENIED:
        return CredentialsRefusedError("database: access denied", **facts)
    if errno in _UNAVAILABLE or isinstance(error, OSError):
        return DependencyUnavailableError("database: unavailable", **facts)
    if facts["stage"] == "connect":
        # No grant, no such database, a locked account, a blocked host; or no MySQL server at all.
        return ConfigurationError("database: the server refuses", **facts)
    return QueryFailedError("database: query failed", **facts)
