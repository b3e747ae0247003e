"""PyMySQL by hand: both values through urllib3, and a transaction on a kept connection; a lost one is not noticed."""

from typing import Any

from connection import connection
from libraries import read


def lambda_handler(event: Any, context: object) -> int:
    """Store a note, and return its id."""
    _, secret = read()
    kept = connection(secret)
    kept.begin()
    with kept.cursor() as cursor:
        cursor.execute("INSERT INTO note (text) VALUES (%s)", (event["note"],))
        number = int(cursor.lastrowid)
    kept.commit()
    return number
