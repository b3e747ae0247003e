"""The database users whose passwords rotate: each exists, has exactly its privileges, and must use TLS."""

import re
from collections.abc import Mapping

from shared.database import Database


class DatabaseUsers:
    """The users of some databases, changed by their master on an open connection."""

    def __init__(self, database: Database, privileges: Mapping[str, list[str]]) -> None:
        """Ask the server how it reads a database's name in a grant.

        Args:
            database: connected as the master.
            privileges: of each user, by the database's name.

        Raises:
            InvocationError: as `Database.rows`, here and in each method.
        """
        self._database = database
        # With partial_revokes the server takes a database name literally; otherwise `_` and `%` are wildcards
        # (https://dev.mysql.com/doc/refman/8.4/en/partial-revokes.html).
        revokes = database.rows("SHOW VARIABLES LIKE 'partial_revokes'")
        self._granted = []
        for name, allowed in privileges.items():
            quoted = name.replace("`", "``")
            if not revokes or revokes[0][1] != "ON":
                quoted = quoted.replace("_", "\\_").replace("%", "\\%")
            self._granted.append(f"GRANT {', '.join(allowed)} ON `{quoted}`.*")

    def ensure(self, username: str, password: str) -> None:
        """Create the user if it does not exist, and give it exactly its privileges.

        An existing user keeps its password, and is not changed if its grants are right. A user with
        more is dropped and created again: no other statement removes every role and privilege.
        """
        self._run("CREATE USER IF NOT EXISTS", username, password)
        right = {_normal(grant) for grant in self._granted}
        if self._grants(username) != right:
            self._grant_to(username)
        if self._grants(username) != right:
            self._database.rows("DROP USER %s@'%%'", (username,))
            self._run("CREATE USER", username, password)
            self._grant_to(username)

    def set_password(self, username: str, password: str) -> None:
        """Change the user's password."""
        self._run("ALTER USER", username, password)

    def _run(self, verb: str, username: str, password: str) -> None:
        # MySQL removes passwords from the statements that it logs
        # (https://dev.mysql.com/doc/refman/8.4/en/password-logging.html).
        self._database.rows(f"{verb} %s@'%%' IDENTIFIED BY %s REQUIRE SSL", (username, password))

    def _grant_to(self, username: str) -> None:
        for grant in self._granted:
            self._database.rows(f"{grant.replace('%', '%%')} TO %s@'%%'", (username,))

    def _grants(self, username: str) -> set[str]:
        """Return the user's grants and roles, without the USAGE that every user has."""
        rows = self._database.rows("SHOW GRANTS FOR %s@'%%'", (username,))
        return {_normal(row[0]) for row in rows if not row[0].startswith("GRANT USAGE ON *.*")}


def _normal(grant: str) -> str:
    """Return a GRANT without the user, its privileges in alphabetical order."""
    privileges, _, rest = grant.removeprefix("GRANT ").partition(" ON ")
    return f"{sorted(privileges.split(', '))} {re.sub(r' TO [`][^`]*[`]@[`]%[`]', '', rest, count=1)}"
