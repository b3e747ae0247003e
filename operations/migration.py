"""Makes the next numbered file of migrations/ (`make migration NAME=add_priority_to_note`)."""

import re
import sys

from operations.commands import ROOT


def main(name: str) -> None:
    """Write the file and print its path; exit with 1 when the name would not do."""
    if not re.fullmatch("[a-z0-9_]+", name):
        sys.exit(
            f"NAME={name}: lower-case letters, digits and _ only; for example: make migration NAME=add_priority_to_note"
        )
    numbers = [int(file.name[:4]) for file in (ROOT / "migrations").glob("[0-9][0-9][0-9][0-9]_*.sql")]
    file = ROOT / "migrations" / f"{max(numbers, default=0) + 1:04}_{name}.sql"
    file.write_text("-- One statement. The code that is live now must work after it: docs/migrations.md.\n")
    print(file.relative_to(ROOT))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
