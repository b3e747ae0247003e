"""The functions' packages, as a real synthesis makes them."""

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import pytest

from operations.commands import ROOT, environment
from stacks.constructs import bundling
from stacks.constructs.bundling import FILES, SOURCE, LocalBundling, bytecode_of
from stacks.constructs.runtime_python import runtime_python


@pytest.fixture(scope="session")
def synthesised_package(synthesised: Path) -> dict[str, bytes]:
    """Every file of the serving function's package, by its path within it."""
    (package,) = [path.parent for path in synthesised.glob("asset.*/handler.py")]
    return {str(Path(path).relative_to(package)): path.read_bytes() for path in package.rglob("*") if path.is_file()}


def test_the_package_is_the_source_and_two_dependencies(synthesised_package: dict[str, bytes]) -> None:
    top = {name.partition("/")[0] for name in synthesised_package}
    named = {name for name in top if not name.endswith(".dist-info")} - {"__pycache__"}
    assert named == {*FILES["handler"], "pymysql", "urllib3"}


@pytest.mark.skipif(not runtime_python(), reason="needs the functions' Python")
def test_every_module_has_the_bytecode_of_its_source_bound_by_hash(synthesised_package: dict[str, bytes]) -> None:
    bytecode = {name: content for name, content in synthesised_package.items() if name.endswith(".pyc")}
    sources = sorted(name for name in synthesised_package if name.endswith(".py"))
    assert set(bytecode) == {bytecode_of(name) for name in sources}
    # Python's hash of a source depends on its version.
    program = (
        "import sys, json, importlib.util as u;"
        "print(json.dumps([u.source_hash(bytes.fromhex(each)).hex() for each in json.load(sys.stdin)]))"
    )
    given = json.dumps([synthesised_package[name].hex() for name in sources])
    python = runtime_python()
    assert python
    hashed = subprocess.run([python, "-c", program], input=given, capture_output=True, text=True, check=True).stdout
    for name, digest in zip(sources, json.loads(hashed), strict=True):
        # Flags 0b01: bound to the source by hash, and not checked when it is loaded (https://peps.python.org/pep-0552/).
        content = bytecode[bytecode_of(name)]
        assert content[4:8] == b"\x01\x00\x00\x00"
        assert content[8:16].hex() == digest
        assert b"/var/task/" in content


def test_bytecode_found_beside_the_source_is_not_shipped(tmp_path: Path) -> None:
    stale = SOURCE / "shared" / "__pycache__" / "deadline.cpython-313.pyc"
    stale.parent.mkdir(exist_ok=True)
    before = stale.read_bytes() if stale.exists() else None
    stale.write_bytes(b"stale")
    try:
        LocalBundling("smoke").try_bundle(str(tmp_path))
    finally:
        stale.unlink() if before is None else stale.write_bytes(before)
    assert b"stale" not in [path.read_bytes() for path in tmp_path.rglob("*.pyc")]


def test_the_same_files_make_the_same_package(tmp_path: Path) -> None:
    packages = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        bundling._dependencies.cache_clear()
        LocalBundling("handler").try_bundle(str(folder))
        files = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
        packages.append({name: path.read_bytes() for name, path in files.items() if "dist-info" not in name})
    assert packages[0] == packages[1]


def test_without_the_functions_python_the_package_has_no_bytecode_and_the_build_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with_bytecode = bundling._digest("handler")
    monkeypatch.setattr(bundling, "runtime_python", lambda: None)
    bundling._compiler.cache_clear()
    try:
        LocalBundling("handler").try_bundle(str(tmp_path))
        assert (bundling._digest("handler") != with_bytecode) == bool(runtime_python())
        assert list(tmp_path.rglob("*.pyc")) == []
        assert "This machine has no Python 3.13" in capsys.readouterr().err
    finally:
        bundling._compiler.cache_clear()


def test_the_package_is_made_again_only_when_its_source_has_changed(synthesised: Path) -> None:
    (package,) = [path.parent for path in synthesised.glob("asset.*/handler.py")]
    made = package.stat().st_ctime_ns
    # What is no source does not count: other times, and what Python leaves beside it.
    (SOURCE / "handler.py").touch()
    (SOURCE / "__pycache__").mkdir(exist_ok=True)
    (SOURCE / "__pycache__" / "left.pyc").touch()
    subprocess.run(["cdk", "synth", "--quiet", "--output", synthesised], cwd=ROOT, env=environment(), check=True)
    assert [path.parent for path in synthesised.glob("asset.*/handler.py")] == [package]
    assert package.stat().st_ctime_ns == made


@pytest.mark.parametrize("entry_point", FILES)
def test_an_entry_points_package_holds_all_that_it_imports(synthesised: Path, entry_point: str) -> None:
    (package,) = [path.parent for path in synthesised.glob(f"asset.*/{entry_point}.py")]
    boto3 = next(iter(importlib.metadata.files("boto3") or ())).locate()  # Lambda's runtime brings it.
    variables = {"AWS_REGION": "us-east-1", "ENV": "dev", "APP_CONFIG_PATH": "x", "CREDS_PATH": "x"}
    variables |= {"DATABASE_HOST": "x", "DATABASE_PORT": "3306", "DATABASE_NAME": "x", "MASTER_SECRET_ARN": "x"}
    variables |= {"ROTATED_USERS": '{"x": {"username": "x", "privileges": ["SELECT"]}}'}
    run = subprocess.run(
        [sys.executable, "-S", "-c", f"import {entry_point}; print({entry_point}.__file__)"],
        cwd=package,
        env=variables
        | {"PYTHONPATH": f"{package}:{Path(str(boto3)).parent.parent}", "AWS_DEFAULT_REGION": "us-east-1"},
        capture_output=True,
        text=True,
    )
    assert run.stdout.strip() == str(package / f"{entry_point}.py"), run.stderr
