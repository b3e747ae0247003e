"""The application: what the function answers. Edit this file first: the rest of lambda_src/ supports it.

An event stores a note, `{"note": "hello"}`, or reads the newest ones, `{"latest": 10}`; any other gets the
sentence of the AWS sample. The deploy's own event, `frame.HEALTH`, does not come here.
"""

import json
from typing import Any, Final

from shared.application_database import ApplicationDatabase, Transaction
from shared.errors import BadRequestError
from shared.keys import Key

SCHEMA: Final = 2
"""The schema version that this file needs: the number of a file in migrations/."""


def answer(event: Any, context: Any, config: dict[str, Any], database: ApplicationDatabase) -> object:
    """Return the answer to what the caller sent: any of the values in the table of `shared/encoding.py`.

    `context` is Lambda's (https://docs.aws.amazon.com/lambda/latest/dg/python-context.html), and `config` the JSON
    object in the parameter; in it, `enableVersion` is true or false.

    Raises:
        BadRequestError: the caller is told its message, and no alarm counts it.
    """
    match event:
        case {"note": str(text)} if 0 < len(text) <= 200 and "latest" not in event:
            # The same key never stores a second note. The caller's own key is best: Lambda's id of the request is
            # the same only when Lambda itself repeats an asynchronous invocation.
            key = Key("note", context.aws_request_id if event.get("key") is None else event["key"], text)
            return {"stored": database.transaction(lambda transaction: _store(transaction, text), key)}
        case {"latest": int(number)} if number is not True and 0 < number <= 100 and "note" not in event:
            rows = database.rows("SELECT id, text, created_at FROM note ORDER BY id DESC LIMIT %s", (number,))
            return {"notes": [dict(zip(("id", "text", "created_at"), row, strict=True)) for row in rows]}
        case {"note": _} | {"latest": _}:
            raise BadRequestError("either note, 1 to 200 characters, or latest, 1 to 100")
    return _sentence(config, database)


def check(config: dict[str, Any], database: ApplicationDatabase) -> object:
    """Raise an error while the application does not work: then no caller reaches a new version."""
    return _sentence(config, database)["notes"]


def _store(transaction: Transaction, text: str) -> int:
    """Store a note and return its id. This is run again when nothing was stored, so it writes to the database only."""
    _, number = transaction.execute("INSERT INTO note (text) VALUES (%s)", (text,))
    return number


def _sentence(config: dict[str, Any], database: ApplicationDatabase) -> dict[str, Any]:
    ((name, notes, version),) = database.rows("SELECT DATABASE(), (SELECT COUNT(*) FROM note), VERSION()")
    loaded = f"{config.get('app', 'The application')} successfully loaded config {json.dumps(config)}"
    found = {
        "message": f"{loaded} and connected to RDS database {name}!",
        "database": name,
        "notes": notes,
    }
    return found | ({"serverVersion": version} if config["enableVersion"] else {})
