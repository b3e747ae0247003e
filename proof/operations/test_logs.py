"""What `make logs` and `make watch` show of a log."""

import pytest

from operations.logs import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ärger 🙂", "ärger 🙂"),
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("a\rb\nc", "a\\rb\\nc"),
        ("\x9b31m", "\\x9b31m"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
    ],
)
def test_no_line_of_a_log_repaints_the_terminal(text: str, shown: str) -> None:
    assert printable(text) == shown
