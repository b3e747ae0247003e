"""Reading JSON that somebody else wrote, without letting any of it into an error.

The standard library's JSONDecodeError holds the whole document (`doc`), and whatever is
raised while it is handled carries it along.
"""

import json
from typing import Any


def json_object(text: object) -> dict[str, Any] | None:
    """Return the object that a str or bytes holds, or None for anything else.

    None too for an object with a key twice: which of the two was meant, nobody knows.
    """
    if not isinstance(text, str | bytes):
        return None
    try:
        value = json.loads(text, object_pairs_hook=_once_each)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("duplicate key")
    return value
