"""Writes the generated parts of the documents (`make docs`); a test names those that are stale.

A part stands between `<!-- name -->` and `<!-- /name -->`. What takes minutes to make is
written by its own command: proof/hardening.md by `make mutants`, proof/performance.md by `make bench`.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Final

from app import templates
from operations.commands import ROOT
from proof import cost, diagram, findings
from proof.cloud import test_changes
from proof.functions import test_faults, test_transactions
from stacks.settings import ENVIRONMENTS, Settings


def settings() -> str:
    """Return README's table of settings."""
    rows = [f"| setting | {' | '.join(ENVIRONMENTS)} | meaning |\n|---|{'---|' * len(ENVIRONMENTS)}---|\n"]
    for each in fields(Settings):
        if each.name != "env":
            values = [getattr(settings, each.name) for settings in ENVIRONMENTS.values()]
            cells = " | ".join(f"`{value}`" if value != "" else "" for value in values)
            rows.append(f"| `{each.name}` | {cells} | {each.metadata['doc']} |\n")
    return "".join(rows)


def concurrency() -> str:
    """Return what each environment reserves of the account's concurrent executions."""
    reserved = {
        env: sum(
            resource["Properties"].get("ReservedConcurrentExecutions", 0)
            for template in templates(env=env).values()
            for resource in template["Resources"].values()
            if resource["Type"] == "AWS::Lambda::Function"
        )
        for env in ENVIRONMENTS
    }
    first, *others = (f"{env}{{}} {number}" for env, number in reserved.items())
    return ", ".join([first.format(" takes"), *(each.format("") for each in others)])


def application() -> str:
    """Return the file that a reader edits, whole."""
    return f"```python\n{(ROOT / 'lambda_src/application.py').read_text()}```\n"


FINDINGS: Final = ("docs/security.md", "findings")
PARTS: Final[Mapping[tuple[str, str], Callable[[], str]]] = {
    ("README.md", "application"): application,
    ("README.md", "settings"): settings,
    ("README.md", "concurrency"): concurrency,
    ("README.md", "cost"): lambda: cost.totals() + "\n",
    ("proof/faults.md", "faults"): test_faults.table,
    ("proof/faults.md", "writes"): test_transactions.table,
    ("docs/changes.md", "changes"): test_changes.table,
    FINDINGS: lambda: findings.tables() + "\n",
}
"""What makes each part, by its file and its name."""


def part(file: str, name: str) -> re.Match[str]:
    """Return the part as it stands in the file: group 2 is its text."""
    found = re.search(rf"(<!-- {name} -->\n?)(.*?)(<!-- /{name} -->)", (ROOT / file).read_text(), re.DOTALL)
    assert found, f"{file} has no part {name}"
    return found


def main() -> None:
    """Write every part that is stale, and the pictures."""
    for (file, name), make in PARTS.items():
        stands, made = part(file, name), make()
        if stands[2] != made:
            text = (ROOT / file).read_text()
            (ROOT / file).write_text(text[: stands.start(2)] + made + text[stands.end(2) :])
            print(f"{file}: {name}")
    diagram.main()


if __name__ == "__main__":
    main()
