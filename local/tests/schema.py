"""The schema as the migrations leave it, for servers on which no deploy has run."""

from operations.commands import ROOT
from shared.schema import HISTORY, read


def statements() -> list[str]:
    """Return what creates it, each in one line, for the server's --init-file too."""
    migrations = read(ROOT / "migrations")
    sql = [
        HISTORY,
        *(each.sql for each in migrations),
        *(
            "INSERT INTO schema_history (version, name, checksum, finished_at) "
            f"VALUES ({each.version}, '{each.name}', '{each.checksum}', NOW())"
            for each in migrations
        ),
    ]
    # Without comments, which would end the one line.
    return [" ".join(line for line in each.splitlines() if not line.startswith("--")).strip(" ;") for each in sql]
