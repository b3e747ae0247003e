"""Each folder has one meaning, and no folder imports from one above it."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from operations.commands import ROOT

BELOW = {
    "app": {"stacks"},
    "stacks": set(),
    "lambda_src": set(),
    "tests": {"app", "lambda_src", "stacks"},
    "operations": {"app", "stacks"},
    "local": {"app", "lambda_src", "operations", "stacks", "tests"},
    "proof": {"app", "lambda_src", "local", "operations", "stacks", "tests"},
}
"""Each folder, and the folders that it may import from: product, operations, local, proof."""

FILES = [path for folder in BELOW for path in [*ROOT.glob(f"{folder}.py"), *ROOT.glob(f"{folder}/**/*.py")]]
MODULES = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in FILES}
# lambda_src/ is the root of what runs in Lambda.
MODULES |= {name.removeprefix("lambda_src."): path for name, path in MODULES.items() if name.startswith("lambda_src.")}


def _imports(path: Path) -> set[Path]:
    """Our own modules that the file imports when it is imported."""
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import"
            imported |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {MODULES[name] for name in imported if name in MODULES} - {path}


def _folder(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_imports_from_its_own_folder_and_the_folders_below(path: Path) -> None:
    above = {_folder(each) for each in _imports(path)} - {_folder(path)} - BELOW[_folder(path)]
    assert above == set()


def test_every_folder_with_python_has_its_place() -> None:
    made = ("node_modules", "cdk.out")
    folders = {each.name for each in ROOT.iterdir() if each.name[0] != "." and each.name not in made}
    assert {name.removesuffix(".py") for name in folders if any(ROOT.glob(f"{name}/**/*.py")) or ".py" in name} == set(
        BELOW
    )


def test_no_modules_import_each_other_in_a_circle() -> None:
    # A package's __init__ imports its modules, which may not import it.
    TopologicalSorter({path: _imports(path) for path in FILES}).prepare()


def test_only_tests_of_local_runs_import_the_products_tests() -> None:
    importing = {path for path in FILES if any(_folder(each) == "tests" for each in _imports(path))}
    outside = {path.relative_to(ROOT).parts[:2] for path in importing if _folder(path) not in ("tests", "proof")}
    assert outside <= {("local", "tests")}


@pytest.mark.parametrize("stack", ["network", "database", "service", "monitoring"])
def test_stacks_import_only_stacks_that_change_less_often(stack: str) -> None:
    order = ["network", "database", "service", "monitoring"]
    imported = {path.stem for path in _imports(ROOT / "stacks" / f"{stack}.py") if path.stem in order}
    assert imported <= set(order[: order.index(stack)])


def test_pytest_collects_nothing_from_the_functions_source() -> None:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "lambda_src"]
    collected = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert "no tests collected" in collected.stdout
