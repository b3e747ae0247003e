"""The application's own queries and answer. Edit this file first: the rest of lambda_src/ supports it.

The handler repeats a query once when its connection breaks. So only read here: a statement that
writes may have run before the connection broke.
"""

import json
from collections.abc import Mapping
from typing import Any, Final, Protocol


class Query(Protocol):
    """Runs one statement with its values bound and returns its first row."""

    def __call__(self, sql: str, args: tuple[str, ...] = ()) -> tuple[Any, ...]:
        """Raises `shared.errors.InvocationError` when there is no answer in time, or no row."""


SCHEMA: Final = 1
"""The schema version that the queries here need: the number of a file in migrations/."""


def answer(config: Mapping[str, Any], query: Query) -> dict[str, Any]:
    """Return the function's answer, of values that JSON can hold.

    Args:
        config: the parameter's JSON object; `enableVersion` is true or false.
        query: runs a statement on the application's database.
    """
    database, notes, version = query("SELECT DATABASE(), (SELECT COUNT(*) FROM note), VERSION()")
    found = {
        "message": f"DemoApp successfully loaded config {json.dumps(config)} and connected to RDS database {database}!",
        "database": database,
        "notes": notes,
    }
    return found | ({"serverVersion": version} if config["enableVersion"] else {})
