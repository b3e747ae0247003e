"""Tables as Markdown has them."""

from collections.abc import Iterable


def table(columns: list[str], rows: Iterable[Iterable[object]]) -> str:
    """Return a table whose first column is text and whose others are figures."""
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def span(values: list[float], digits: int) -> str:
    """The least and the most of some values."""
    return f"{min(values):.{digits}f}-{max(values):.{digits}f}"
