"""Writes the generated parts of the documents (`make docs`); a test names those that are stale.

A part stands between `<!-- name -->` and `<!-- /name -->`. What takes minutes to make is
written by its own command: proof/hardening.md by `make mutants`, proof/performance.md by `make bench`.
"""

import ast
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
    """Return the table of settings."""
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


def wiring() -> str:
    """Return what connects the stacks."""
    return _python("app.py", "build")


def unit_test() -> str:
    """Return a test of the application."""
    return _python("tests/lambda_src/test_application.py", "test_the_newest_notes_are_read")


def _python(file: str, name: str) -> str:
    """Return a function of a file, as a block of code, without its docstring."""
    text = (ROOT / file).read_text()
    function = _defined(ast.parse(text), name)
    lines = text.splitlines()[function.lineno - 1 : function.end_lineno]
    if isinstance(function, ast.FunctionDef) and ast.get_docstring(function):
        first, last = function.body[0].lineno, function.body[0].end_lineno
        assert last
        del lines[first - function.lineno : last - function.lineno + 1]
    return "\n".join(["```python", *lines, "```", ""])


LINK: Final = re.compile(r"\[(`?)([\w. ]+)`?\]\(\.\./([\w/]+\.py)(?:#L\d+)?\)")
"""A link of docs/walk.md to code: a name in code's letters is defined in the file, on the line that is linked."""


def walk() -> str:
    """Return the walk with each link to the line that defines its name."""

    def linked(link: re.Match[str]) -> str:
        mark, name, file = link.groups()
        line = f"#L{_defined(ast.parse((ROOT / file).read_text()), name).lineno}" if mark else ""
        return f"[{mark}{name}{mark}](../{file}{line})"

    return LINK.sub(linked, part("docs/walk.md", "walk")[2])


def _defined(tree: ast.Module, name: str) -> ast.stmt:
    """Return the statement that defines a name of a module, as `Class.method`, or fail."""
    found: ast.stmt | ast.Module = tree
    for each in name.split("."):
        assert isinstance(found, ast.Module | ast.ClassDef), name
        found = next(statement for statement in found.body if each in _names(statement))
    assert isinstance(found, ast.stmt)
    return found


def _names(statement: ast.stmt) -> list[str]:
    match statement:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return [name]
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            return [name]
    return []


FINDINGS: Final = ("docs/security.md", "findings")
PARTS: Final[Mapping[tuple[str, str], Callable[[], str]]] = {
    ("README.md", "application"): application,
    ("README.md", "test"): unit_test,
    ("README.md", "wiring"): wiring,
    ("README.md", "cost"): lambda: cost.monthly(cost.quantities("dev", "endpoints")),
    ("docs/settings.md", "settings"): settings,
    ("docs/settings.md", "concurrency"): concurrency,
    ("docs/settings.md", "cost"): lambda: cost.totals() + "\n",
    ("docs/walk.md", "walk"): walk,
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
