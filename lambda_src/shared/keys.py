"""Keys: work that is done at most once, however often and however many at once ask for it.

A key's row is inserted first and its answer last, in the transaction of the work itself, so that all of it is
stored or none. Whoever inserts the same key meanwhile waits for that transaction to end
(https://dev.mysql.com/doc/refman/8.4/en/innodb-locks-set.html), and then reads its answer or takes its place.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Final, Protocol

from shared.encoding import encode
from shared.errors import AnswerError, BadRequestError, QueryFailedError

KEPT_DAYS: Final = 30
"""Days in which a key is known: more than a message can be in a queue and its dead-letter queue (14)."""
REMOVED: Final = 20
"""Old keys that are removed at a time."""
REMOVE_ONE_IN: Final = 10
"""Of the transactions with a key, those that remove old ones: twice as many as are made."""


@dataclass(frozen=True)
class Key:
    """Which work is done at most once.

    Attributes:
        kind: of the work; each kind of each function has keys of its own.
        value: names this work among its kind, as `encoding` takes it. The best is one that the caller made. A queue's
            message id is the same in each delivery of the message. Lambda's `aws_request_id` is the same only when
            Lambda itself repeats an asynchronous invocation, and another when a caller, an API or a queue repeats.
        request: what the work is asked to do, as `encoding` takes it. The same key with another request is refused;
            its SHA-256 is stored, so that the two can be told apart.
    """

    kind: str
    value: object
    request: object


class Statements(Protocol):
    """The part of a transaction that is used here."""

    def rows(self, sql: str, args: Any = ()) -> list[tuple[Any, ...]]:
        """Read rows."""

    def execute(self, sql: str, args: Any = ()) -> tuple[int, int]:
        """Write."""


def claim(transaction: Statements, function: str, key: Key) -> str | None:
    """Insert the key; return the answer of the work that has been done for it, or None when there was none.

    Raises:
        BadRequestError: the key was used for another request, or has no form in JSON, as half of a surrogate pair.
        QueryFailedError: that work ended its transaction half-way, so that it is stored without an answer.
        InvocationError: as the transaction's statements.
    """
    name, request = _name(function, key), _digest(key.request)
    # IGNORE makes a warning of the duplicate; deadlocks and lock waits stay errors.
    inserted, _ = transaction.execute(
        "INSERT IGNORE INTO transaction_key (id, request) VALUES (%s, %s)", (name, request)
    )
    if inserted:
        return None
    # A locking read, which sees what is committed now. The insert has locked the row, so that it is there.
    ((stored, answer),) = transaction.rows(
        "SELECT request, answer FROM transaction_key WHERE id = %s LOCK IN SHARE MODE", (name,)
    )
    if stored != request:
        raise BadRequestError("this key was used for another request")
    if answer is None:
        raise QueryFailedError("database: the key's work is stored without an answer", operation="query")
    return str(answer)


def store(transaction: Statements, function: str, key: Key, answer: object) -> str:
    """Store the answer beside the key; return it as it is stored.

    Raises:
        AnswerError: it cannot be given, so that the work must not be stored.
        InvocationError: as the transaction's statements.
    """
    _, text = encode(answer)
    transaction.execute("UPDATE transaction_key SET answer = %s WHERE id = %s", (text, _name(function, key)))
    return text


def remove_old(transaction: Statements) -> None:
    """Remove a few keys that are older than `KEPT_DAYS`, and wait for none that is in use.

    Raises:
        QueryFailedError: MySQL 5.7, which cannot skip a locked row; there old keys stay.
    """
    old = transaction.rows(
        "SELECT id FROM transaction_key WHERE created_at < NOW() - INTERVAL %s DAY"
        " ORDER BY created_at LIMIT %s FOR UPDATE SKIP LOCKED",
        (KEPT_DAYS, REMOVED),
    )
    for (name,) in old:
        transaction.execute("DELETE FROM transaction_key WHERE id = %s", (name,))


def _name(function: str, key: Key) -> bytes:
    return _digest([function, key.kind, key.value])


def _digest(value: object) -> bytes:
    try:
        plain, _ = encode(value)
    except AnswerError as error:
        if "type" in error.facts:
            raise  # No caller sends such a value.
        raise BadRequestError("the key and its request must have a form in JSON", **error.facts) from None
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).digest()
