"""The database users whose passwords rotate: each exists, has exactly its privileges, and must use TLS."""

import re
from collections.abc import Mapping
from typing import Final

from shared.database import Database
from shared.errors import QueryFailedError

REUSED: Final = 3638  # The password, in the history of the user: an earlier try of this step has set it.
REFUSED: Final = 1819  # The password, by the server's policy.
UNLIMITED: Final = (
    "WITH MAX_QUERIES_PER_HOUR 0 MAX_UPDATES_PER_HOUR 0 MAX_CONNECTIONS_PER_HOUR 0 MAX_USER_CONNECTIONS 0"
)
_NAME: Final = r"(?:\*|`(?:[^`]|``)*`)"
_GRANT: Final = re.compile(rf"GRANT (.+?) ON ({_NAME}\.{_NAME}) TO (?:.*( WITH GRANT OPTION)$)?")


class DatabaseUsers:
    """The users of some databases, changed by their master on an open connection."""

    def __init__(self, database: Database, privileges: Mapping[str, list[str]]) -> None:
        """Ask the server, as its master, how it writes a grant; the privileges are by the database's name.

        Raises:
            InvocationError: as `Database.rows`, here and in each method.
        """
        self._database = database
        # With ANSI_QUOTES, SHOW GRANTS would quote otherwise.
        database.rows("SET SESSION sql_mode = ''")
        found: dict[str, str] = dict(
            database.rows("SHOW VARIABLES WHERE Variable_name IN ('partial_revokes', 'lower_case_table_names')")
        )
        # With partial_revokes the server takes a database name literally; otherwise `_` and `%` are wildcards
        # (https://dev.mysql.com/doc/refman/8.4/en/partial-revokes.html).
        escapes = "" if found.get("partial_revokes") == "ON" else "_%"
        self._as_written = str if found.get("lower_case_table_names") == "0" else str.lower
        self._allowed: dict[str, set[str]] = {}
        for name, allowed in privileges.items():
            quoted = "".join(f"\\{each}" if each in escapes else each for each in name.replace("`", "``"))
            self._allowed[self._as_written(f"`{quoted}`.*")] = {*allowed}
        # By name, because ALTER USER keeps an old plugin, which MySQL 9 does not load
        # (https://dev.mysql.com/doc/refman/8.4/en/alter-user.html).
        plugin = "caching_sha2_password"
        is_active = "SELECT 1 FROM information_schema.plugins WHERE plugin_name = %s AND plugin_status = 'ACTIVE'"
        self._plugin = f"WITH {plugin} " * bool(database.rows(is_active, (plugin,)))

    def ensure(self, username: str, password: str, *, is_in_use: bool) -> None:
        """Create the user if it does not exist, and give it its privileges.

        An existing user keeps its password. One with more is dropped and created again, because no other statement
        removes every role and privilege; but not while it is in use: then the next rotation does it.
        """
        if not self._exists(username):
            try:
                self._run("CREATE USER IF NOT EXISTS", username, password)
            except QueryFailedError as error:
                if is_in_use and error.facts.get("errno") == REFUSED:
                    return  # Nobody has logged in with it, and the next rotation has another.
                raise
        if not is_in_use and any(each - self._allowed.get(scope, set()) for scope, each in self._granted(username)):
            self._take_over_views(username)
            self._database.rows("DROP USER %s@'%%'", (username,))
            self._run("CREATE USER", username, password)
        granted = dict(self._granted(username))
        for scope, allowed in self._allowed.items():
            if missing := allowed - granted.get(scope, set()):
                grant = f"GRANT {', '.join(sorted(missing))} ON {scope}".replace("%", "%%")
                self._database.rows(f"{grant} TO %s@'%%'", (username,))

    def set_password(self, username: str, password: str) -> None:
        """Change the user's password, and lift its lock and limits."""
        try:
            self._run("ALTER USER", username, password, f" {UNLIMITED} ACCOUNT UNLOCK")
        except QueryFailedError as error:
            if error.facts.get("errno") != REUSED:
                raise

    def take_over(self, username: str, password: str) -> None:
        """Give a user the password of a secret that has not rotated, or lock it where the server's policy refuses that.

        Who has the secret loses nothing by it; who knows an older password can no longer log in.
        """
        try:
            self.set_password(username, password)
        except QueryFailedError as error:
            if error.facts.get("errno") != REFUSED:
                raise
            if self._exists(username):
                self._database.rows("ALTER USER %s@'%%' ACCOUNT LOCK", (username,))

    def _exists(self, username: str) -> bool:
        return bool(self._database.rows("SELECT 1 FROM mysql.user WHERE user = %s AND host = '%%'", (username,)))

    def _run(self, verb: str, username: str, password: str, options: str = "") -> None:
        # MySQL removes passwords from the statements that it logs
        # (https://dev.mysql.com/doc/refman/8.4/en/password-logging.html).
        sql = f"{verb} %s@'%%' IDENTIFIED {self._plugin}BY %s REQUIRE SSL{options}"
        self._database.rows(sql, (username, password))

    def _granted(self, username: str) -> list[tuple[str, set[str]]]:
        """Return what the user is granted on each scope, without USAGE; a role has no scope."""
        found = []
        for (text,) in self._database.rows("SHOW GRANTS FOR %s@'%%'", (username,)):
            grant = _GRANT.match(text)
            privileges = {*grant[1].split(", "), *filter(None, [grant[3]])} if grant else {text}
            found.append((self._as_written(grant[2]) if grant else "", privileges - {"USAGE"}))
        return found

    def _take_over_views(self, username: str) -> None:
        """Make the master the definer of the user's views, because MySQL drops no definer.

        They run with the rights of whoever reads them, so that nobody gains the master's.
        """
        views = "SELECT table_schema, table_name FROM information_schema.views WHERE definer = %s"
        for names in self._database.rows(views, (f"{username}@%",)):
            schema, name = (each.replace("`", "``") for each in names)
            self._database.rows(f"USE `{schema}`")
            text = self._database.query(f"SHOW CREATE VIEW `{name}`")[1]
            head = r"^CREATE (ALGORITHM=\w+) DEFINER=`(?:[^`]|``)*`@`[^`]*` SQL SECURITY \w+"
            self._database.rows(re.sub(head, r"CREATE OR REPLACE \1 SQL SECURITY INVOKER", text, count=1))
