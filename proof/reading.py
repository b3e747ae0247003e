"""How long the first pages take to read (`make reading`): words of prose and lines of code."""

import re
from collections.abc import Mapping
from typing import Final

from operations.commands import ROOT

WORDS: Final = 200
"""Of prose, read in a minute."""
LINES: Final = 20
"""Of code, read in a minute."""

_CODE: Final = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_UNREAD: Final = re.compile(r"<!--.*?-->|!?\[([^\]]*)\]\([^)]*\)|^\|[-|: ]+$", re.MULTILINE)
"""Marks, rules of tables, and of a link all but its text."""


def counted(text: str) -> tuple[int, int]:
    """Return the words of prose and the lines of code in a page."""
    code = sum(len(block.splitlines()) - 2 for block in _CODE.findall(text))
    prose = _UNREAD.sub(r"\1", _CODE.sub("", text))
    return len(re.findall(r"\w[\w'./`-]*", prose)), code


def minutes(words: int, code: int) -> float:
    """Return the time that a reader takes."""
    return words / WORDS + code / LINES


def _page(name: str) -> str:
    return (ROOT / name).read_text()


PAGES: Final[Mapping[str, tuple[int, int]]] = {
    "README, first screen": counted(_page("README.md").partition("<!-- application -->")[0]),
    "README": counted(_page("README.md")),
    "make it yours": counted(_page("docs/make-it-yours.md")),
    "walk": counted(_page("docs/walk.md")),
}
"""Words and lines of each page."""


def main() -> None:
    """Print a line for each page."""
    print(f"at {WORDS} words of prose and {LINES} lines of code a minute:")
    for name, (words, code) in PAGES.items():
        print(f"  {name:22}{words:5} words {code:4} lines {minutes(words, code):5.1f} minutes")


if __name__ == "__main__":
    main()
