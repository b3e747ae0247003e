"""Reads a SQL file as MySQL's server does: what is a comment, a text, a name, and where a statement ends.

https://dev.mysql.com/doc/refman/8.4/en/language-structure.html. In linear time, because no text can be read
in two ways. Only characters are repeated possessively: before 3.11.5, Python loses its place in a group
(https://github.com/python/cpython/issues/106052). Libraries differ from the server where it matters here: they take
`--x` for a comment, and `/*! */` too, whose content the server runs.
"""

import re
import unicodedata
from dataclasses import dataclass
from typing import Final

TOKEN: Final = re.compile(
    r"""
    (?P<space>[ \t\n\v\f\r]++)
    | (?P<comment>\#[^\n]*+ | --(?=[\x00-\x20]|\Z)[^\n]*+ | /\*(?![!M])[^*]*+\*++(?:[^*/][^*]*+\*++)*/)
    | (?P<quoted>'[^'\\]*+(?:(?:\\.|'')[^'\\]*+)*'(?!')
              | "[^"\\]*+(?:(?:\\.|"")[^"\\]*+)*"(?!")
              | `[^`]*+(?:``[^`]*+)*`(?!`))
    | (?P<word>[\w$]++)
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)


class TextError(ValueError):
    """The server would not read the text as it is meant; `line` is where, the message says what would be right."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True)
class Token:
    """A word, a quoted text or name, or another character; no comment and no white space."""

    text: str
    line: int

    @property
    def word(self) -> str:
        """The word in capitals; empty for what is quoted, which is no keyword."""
        return self.text.upper() if re.fullmatch(r"[\w$]+", self.text) else ""

    @property
    def name(self) -> str:
        """The name, quoted or not, in small letters."""
        return self.text.strip("`").replace("``", "`").lower()


def decode(content: bytes) -> str:
    """Return a file's text.

    Raises:
        TextError: it is not UTF-8 without a byte order mark.
    """
    if content.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise TextError(1, "begins with a byte order mark, which MySQL takes for SQL: save it as UTF-8 without one")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise TextError(line, "not UTF-8, as Latin-1 is not: save it as UTF-8") from None


def tokens(text: str) -> list[Token]:
    """Return the text's tokens.

    Raises:
        TextError: something does not end, is the mysql client's, or is invisible and no white space.
    """
    found = []
    line = 1
    begins_line = True
    for match in TOKEN.finditer(text):
        token = Token(match[0], line)
        if match.lastgroup == "other":
            _check(token, text[match.start() : match.start() + 3], begins_line=begins_line)
        if match.lastgroup not in ("space", "comment"):
            found.append(token)
        begins_line = "\n" in match[0] or (begins_line and match.lastgroup == "space")
        line += match[0].count("\n")
    return found


def _check(token: Token, following: str, *, begins_line: bool) -> None:
    """Refuse a character that begins what does not end, or that only a client of the server knows."""
    if token.text in "'\"`":
        raise TextError(token.line, f"a quote {token.text} that does not end")
    if following.startswith(("/*!", "/*M")):
        raise TextError(token.line, "/*! is no comment: the server runs what is in it; write the statement by itself")
    if following.startswith("/*"):
        raise TextError(token.line, "a comment /* that does not end")
    if following.startswith("--") and begins_line:
        raise TextError(token.line, "-- begins a comment only with a space after it")
    if token.text == "\\":
        raise TextError(token.line, "\\ outside of quotes is of the mysql client, as \\G: end the statement with ;")
    if _is_invisible(token.text):
        raise TextError(
            token.line, f"an invisible character (U+{ord(token.text):04X}), which is no white space to MySQL"
        )


def _is_invisible(character: str) -> bool:
    return unicodedata.category(character) in ("Zs", "Zl", "Zp", "Cf", "Cc")
