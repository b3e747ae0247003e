"""Faults of migrations and rotations, put into a copy of today's code: the exploration must find each."""

from pathlib import Path
from typing import Final, NamedTuple


class Fault(NamedTuple):
    """A fault: the scenario that shows it, and what takes what's place in which module."""

    scenario: str
    patch: dict[str, str]
    module: str = "migration.py"
    runs: int = 1
    """How many at once it takes."""


_FREED: Final = {
    "keeps_session=True": "keeps_session=False",
    "            said = [row[2]": "            self._connect(is_repeat=True)\n            said = [row[2]",
}
"""An error ends the session, and with it the lock."""

FAULTS: Final = {
    "an error frees the lock, and what exists already is taken for done": Fault(
        "another shape",
        _FREED
        | {
            "            self._run(migration, schema)": (
                "            self.was_begun = record is not _NONE and not record.failed\n"
                "            self._run(migration, schema)"
            ),
            "        if self._schema() == before:": (
                "        if self.was_begun and number in (1050, 1060, 1061, 1091):\n"
                "            return\n"
                "        if self._schema() == before:"
            ),
        },
    ),
    "an error frees the lock, and the history is not read again": Fault("data in use", _FREED),
    "a changed schema is taken for the file's, also when it was edited": Fault(
        "edited",
        {
            "record.checksum != migration.checksum or self._rehearse(record.before, migration.sql) != schema": "False",
            "        self._database.rows(FINISH, (version,))": (
                "        values = version, migration.name, migration.checksum, json.dumps(schema)\n"
                "        self._database.rows(BEGIN, values)\n"
                "        self._database.rows(FINISH, (version,))"
            ),
        },
    ),
    "a changed schema is taken for the file's": Fault(
        "half by hand",
        {"self._rehearse(record.before, migration.sql) != schema": "False"},
    ),
    "a user in use is dropped": Fault(
        "the user in use has more", {"if not is_in_use and any(": "if any("}, "database_users.py"
    ),
    "a user keeps what it was granted": Fault(
        "the idle user has more", {"if not is_in_use and any(": "if False and any("}, "database_users.py"
    ),
    "a doubled step drops the user that the first has made current": Fault(
        "the idle user has more", {"SELECT GET_LOCK(%s, %s)": "SELECT 1 OR %s OR %s"}, "rotation.py", 2
    ),
    "a version that cannot be used stays pending": Fault(
        "the password is refused",
        {
            '        stage = {"VersionStage": "AWSPENDING", "RemoveFromVersionId": token}\n'
            '        self._ask("update_secret_version_stage", SecretId=secret_id, **stage)\n': ""
        },
        "rotation.py",
    ),
    "a late end of a rotation takes back the next one": Fault(
        "a late finishSecret",
        {'in one atomic call."""\n        self._take_turn(token)\n': 'in one atomic call."""\n'},
        "rotation.py",
        2,
    ),
}


def put_back(fault: Fault, copy: Path) -> None:
    """Change the copy of lambda_src/.

    Raises:
        ValueError: what is to be changed is not there once.
    """
    file = copy / fault.module
    source = file.read_text()
    for old, new in fault.patch.items():
        if source.count(old) != 1:
            raise ValueError(f"{fault.module} has this {source.count(old)} times: {old}")
        source = source.replace(old, new)
    file.write_text(source)
