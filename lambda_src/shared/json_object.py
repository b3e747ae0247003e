"""Reads JSON without quoting any of it in an error.

The standard library's JSONDecodeError contains the whole document (`doc`), and so does every
exception that is raised while it is handled.
"""

import json
from typing import Any


def json_object(text: object) -> dict[str, Any] | None:
    """Return the object in a str or bytes; None for anything else, and for an object that has a key twice."""
    if not isinstance(text, str | bytes):
        return None
    try:
        value = _DECODER.decode(text if isinstance(text, str) else text.decode())
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("duplicate key")
    return value


_DECODER = json.JSONDecoder(object_pairs_hook=_once_each)
"""`json.loads` would make one at every call."""
