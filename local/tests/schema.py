"""The schema and its history as the migrations leave them, for servers on which no deploy has run."""

from operations.commands import ROOT
from shared.schema import HISTORY, MAKE_HISTORY, read


def statements() -> list[str]:
    """Return what creates them, each in one line, for the server's --init-file too."""
    # Without comments, which would end the one line.
    return [
        " ".join(line for line in each.splitlines() if not line.startswith("--")).strip(" ;")
        for each in (*(migration.sql for migration in read(ROOT / "migrations")), *history())
    ]


def history() -> list[str]:
    """Return what creates the history alone."""
    return [
        *MAKE_HISTORY[:-1],
        *(
            f"INSERT INTO {HISTORY}.schema_history (version, name, checksum, finished_at) "
            f"VALUES ({each.version}, '{each.name}', '{each.checksum}', NOW())"
            for each in read(ROOT / "migrations")
        ),
    ]
