"""The functions' packages, made by pip and by CDK's command line: what is in them, and which name they have."""

import importlib.metadata
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import aws_cdk as cdk
import pytest

from local.cloud import HERE, CloudError, LocalCloud
from local.tests.fixtures import assembly, local_cloud
from operations.commands import ROOT, VENV, environment
from operations.packages import BASE_PYTHON, UV
from proof.conftest import copied
from stacks.packaging import bundling
from stacks.packaging.bundling import FILES, SOURCE, LocalBundling, bytecode_of, function_code
from stacks.packaging.dependencies import DependenciesError, dependencies
from stacks.packaging.runtime_python import runtime_python

LOCK = SOURCE / "requirements.txt"


@pytest.fixture(autouse=True)
def _installed_anew() -> None:
    """Each test installs the dependencies itself."""
    dependencies.cache_clear()


@pytest.fixture(scope="session")
def synthesised_package(synthesised: Path) -> dict[str, bytes]:
    """Every file of the functions' package, by its path within it."""
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
        dependencies.cache_clear()
        LocalBundling("handler").try_bundle(str(folder))
        files = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
        packages.append({name: path.read_bytes() for name, path in files.items() if "dist-info" not in name})
    assert packages[0] == packages[1]


def test_without_the_functions_python_the_package_has_no_bytecode_and_the_build_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with_bytecode = bundling._digest("handler")
    monkeypatch.setattr(bundling, "runtime_python", lambda: None)
    bundling._bytecode_version.cache_clear()
    try:
        LocalBundling("handler").try_bundle(str(tmp_path))
        assert (bundling._digest("handler") != with_bytecode) == bool(runtime_python())
        assert list(tmp_path.rglob("*.pyc")) == []
        assert "This machine has no Python 3.13" in capsys.readouterr().err
    finally:
        bundling._bytecode_version.cache_clear()


@pytest.mark.skipif(not runtime_python(), reason="needs the functions' Python")
def test_a_patch_release_of_python_makes_the_package_of_the_same_name_and_other_bytecode_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, python = bundling._digest("handler"), tmp_path / "python3.13"
    monkeypatch.setattr(bundling, "runtime_python", lambda: python)
    digests = []
    for otherwise in (f'exec {runtime_python()} "$@"', "echo 00000000"):
        python.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo Python 3.13.99 && exit\n{otherwise}\n')
        python.chmod(0o755)
        bundling._bytecode_version.cache_clear()
        digests.append(bundling._digest("handler"))
    bundling._bytecode_version.cache_clear()
    assert digests[0] == before
    assert digests[1] != before


def test_the_package_is_made_again_only_when_its_source_has_changed(synthesised: Path, tmp_path: Path) -> None:
    out = copied(synthesised, tmp_path / "dev")
    (package,) = [path.parent for path in out.glob("asset.*/handler.py")]
    made = package.stat().st_ctime_ns
    # What is no source does not count: other times, and what Python leaves beside it.
    (SOURCE / "handler.py").touch()
    (SOURCE / "__pycache__").mkdir(exist_ok=True)
    (SOURCE / "__pycache__" / "left.pyc").touch()
    subprocess.run(["cdk", "synth", "--quiet", "--output", out], cwd=ROOT, env=environment(), check=True)
    assert [path.parent for path in out.glob("asset.*/handler.py")] == [package]
    assert package.stat().st_ctime_ns == made


@pytest.mark.parametrize("entry_point", FILES)
def test_an_entry_points_package_holds_all_that_it_imports(synthesised: Path, entry_point: str) -> None:
    (package,) = [path.parent for path in synthesised.glob(f"asset.*/{entry_point}.py")]
    boto3 = next(iter(importlib.metadata.files("boto3") or ())).locate()  # Lambda's runtime brings it.
    variables = {"AWS_REGION": "us-east-1", "ENV": "dev", "APP_CONFIG_PATH": "x", "CREDS_PATH": "x"}
    variables |= {"DATABASE_HOST": "x", "DATABASE_PORT": "3306", "DATABASE_NAME": "x", "MASTER_SECRET_ARN": "x"}
    variables |= {"ROTATED_USERS": '{"x": {"username": "x", "privileges": {"x": ["SELECT"]}}}'}
    run = subprocess.run(
        [sys.executable, "-S", "-c", f"import {entry_point}; print({entry_point}.__file__)"],
        cwd=package,
        env=variables
        | {"PYTHONPATH": f"{package}:{Path(str(boto3)).parent.parent}", "AWS_DEFAULT_REGION": "us-east-1"},
        capture_output=True,
        text=True,
    )
    assert run.stdout.strip() == str(package / f"{entry_point}.py"), run.stderr


def _without_pip(monkeypatch: pytest.MonkeyPatch, folder: Path, *programs: str) -> None:
    """As in an environment that uv made, on a machine with these programs alone."""
    monkeypatch.setitem(sys.modules, "pip", None)
    for program in programs:
        (folder / program).symlink_to(UV if program == "uv" else VENV / "bin" / program)
    monkeypatch.setenv("PATH", str(folder))


@pytest.mark.parametrize("program", ["uv", "wheel", "pip3"])
def test_the_dependencies_are_installed_without_pip_in_the_environment(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _without_pip(monkeypatch, tmp_path, *({program} - {"wheel"}))
    if program != "wheel":
        monkeypatch.setattr("stacks.packaging.dependencies.WHEELS", ())
    assert {"pymysql", "urllib3"} <= {path.name for path in dependencies(LOCK).iterdir()}


def test_without_anything_that_installs_one_sentence_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _without_pip(monkeypatch, tmp_path)
    monkeypatch.setattr("stacks.packaging.dependencies.WHEELS", ())
    with pytest.raises(
        DependenciesError, match=r"^pymysql==\S+ and urllib3==\S+ are downloaded with pip or uv, and .*"
    ):
        dependencies(LOCK)


@pytest.mark.parametrize("program", ["pip", "wheel"])
@pytest.mark.parametrize("place", ["environment", "file"])
def test_no_setting_of_pip_moves_or_refuses_what_is_installed(
    place: str, program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "constraints").write_text("urllib3==1.26.0\n")
    settings = {name: tmp_path / name for name in ("prefix", "root", "target")}
    settings |= {"user": Path("1"), "require-virtualenv": Path("1"), "constraint": tmp_path / "constraints"}
    if place == "environment":
        for name, value in settings.items():
            monkeypatch.setenv(f"PIP_{name.upper().replace('-', '_')}", str(value))
    else:
        (tmp_path / "pip.conf").write_text("\n".join(["[global]", *(f"{key} = {it}" for key, it in settings.items())]))
        monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    if program == "wheel":
        (tmp_path / "bin").mkdir()
        _without_pip(monkeypatch, tmp_path / "bin")
        monkeypatch.setattr(sys, "executable", str(BASE_PYTHON))  # Outside every environment.
    assert {"pymysql", "urllib3"} <= {path.name for path in dependencies(LOCK).iterdir()}
    assert not any((tmp_path / name).exists() for name in ("prefix", "root", "target"))


def _unreachable(folder: Path) -> dict[str, str]:
    """Settings with which pip finds no index and no wheel that it downloaded before."""
    settings = {"INDEX_URL": "http://127.0.0.1:9", "FIND_LINKS": "", "RETRIES": "1", "CONFIG_FILE": os.devnull}
    return {f"PIP_{name}": value for name, value in {**settings, "CACHE_DIR": str(folder)}.items()}


def test_without_a_network_the_synthesis_ends_with_one_sentence_that_has_the_cause(tmp_path: Path) -> None:
    out = tmp_path / "cdk.out"
    run = subprocess.run(
        ["cdk", "synth", "--quiet", "--output", out],
        cwd=ROOT,
        env=environment() | _unreachable(tmp_path / "cache") | {"FORCE_COLOR": "1"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 1
    bundled, said, status = (run.stdout + run.stderr).strip().splitlines()
    assert bundled.startswith("Bundling asset")
    assert "python3 app.py: Subprocess exited with error 1" in status
    assert re.match(r"The functions cannot be packaged: pymysql==\S+ and urllib3==\S+ cannot be downloaded: ", said)
    assert "Connection refused" in said
    assert "\x1b" not in said
    assert "right would be" in said
    assert not list(out.glob("*.template.json"))


def test_a_wheel_with_another_hash_is_refused(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.txt"
    lock.write_text(re.sub("sha256:.{8}", f"sha256:{'0' * 8}", LOCK.read_text()))
    with pytest.raises(DependenciesError, match="DO NOT MATCH THE HASHES"):
        dependencies(lock)


def _templates(out: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in out.glob("*.template.json")}


def _wrong_modes(out: Path) -> list[Path]:
    paths = [path for package in out.glob("asset.*/") for path in (package, *package.rglob("*"))]
    assert paths
    return [path for path in paths if path.stat().st_mode & 0o777 != (0o755 if path.is_dir() else 0o644)]


def test_all_may_read_a_package_whatever_the_umask_is(tmp_path: Path) -> None:
    out = tmp_path / "cdk.out"
    command = ["cdk", "synth", "--quiet", "--output", str(out), *(f"--context={each}" for each in HERE)]
    subprocess.run(command, cwd=ROOT, env=environment(), umask=0o077, check=True)
    assert _wrong_modes(out) == []
    assert _templates(out) == _templates(assembly())


def _package(out: Path, entry_point: str = "handler") -> Path:
    """What a synthesis in this process makes."""
    stack = cdk.Stack(cdk.App(outdir=str(out)), "Stack")
    function_code(stack, entry_point).bind(stack)
    (package,) = [file.parent for file in out.glob(f"asset.*/{entry_point}.py")]
    return package


def test_a_package_whose_modes_were_changed_is_made_again_and_so_is_its_archive(tmp_path: Path) -> None:
    made = _package(tmp_path)
    (made / "pymysql" / "err.py").chmod(0o600)
    archive = tmp_path / ".cache" / f"{made.name.removeprefix('asset.')}.zip"
    archive.parent.mkdir()
    archive.touch()
    # CDK keeps what one process has made: another one synthesises again.
    program = f"from proof.stacks.test_package import _package, Path; _package(Path({str(tmp_path)!r}))"
    subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment() | {"PYTHONPATH": str(SOURCE)}, check=True
    )
    assert _wrong_modes(tmp_path) == []
    assert not archive.exists()


def test_a_package_that_was_made_otherwise_has_another_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = _package(tmp_path / "now").name
    monkeypatch.setattr(bundling, "FORMAT", "")
    assert _package(tmp_path / "otherwise").name != made


def test_what_was_not_packaged_has_no_packages_name(tmp_path: Path) -> None:
    packages = {package.name.removeprefix("asset.") for package in assembly().glob("asset.*/")}
    subprocess.run(["cdk", "ls", "--output", tmp_path], cwd=ROOT, env=environment(), check=True, capture_output=True)
    listed = [json.loads(file.read_text()) for file in tmp_path.glob("*.template.json")]
    names = {
        resource["Properties"]["Code"]["S3Key"].removesuffix(".zip")
        for template in listed
        for resource in template["Resources"].values()
        if resource["Type"] == "AWS::Lambda::Function"
    }
    assert len(names) == len(packages) == len(FILES)
    assert not names & packages


def _interrupt(out: Path) -> None:
    """Kill a synthesis while it makes a package."""
    command = ["cdk", "synth", "--quiet", "--output", str(out)]
    synthesis = subprocess.Popen(command, cwd=ROOT, env=environment(), start_new_session=True)
    while not list(out.glob("asset.*/pymysql")):
        assert synthesis.poll() is None
        time.sleep(0.002)
    os.killpg(synthesis.pid, signal.SIGKILL)
    synthesis.wait()


def _import_errors(cloud: LocalCloud) -> list[str]:
    """The functions that cannot be imported, each in what was deployed last."""
    client = cloud.client("lambda")
    names = [each["FunctionName"] for each in client.list_functions()["Functions"]]
    assert len(names) == len(FILES)
    answers = {name: client.invoke(FunctionName=name, Payload=b"{}")["Payload"].read() for name in names}
    return [name for name, answer in answers.items() if b"ImportModuleError" in answer]


def test_after_a_synthesis_that_packaged_nothing_or_not_all_a_deploy_is_refused_or_its_functions_all_import(
    tmp_path: Path,
) -> None:
    out = tmp_path / "cdk.out"
    deploy = ("deploy", "--require-approval=never")
    here = [f"--context={each}" for each in HERE]
    _interrupt(out)
    with local_cloud("bundling") as cloud:
        cloud.bootstrap()
        for command in (("ls",), (*deploy, "demoApp-dev-Network", "--exclusively")):
            cloud.cdk(*command, f"--output={out}", *here)
            with pytest.raises(CloudError, match="right would be cdk synth first"):
                cloud.cdk(*deploy, "--all", f"--app={out}")
        stacks = cloud.client("cloudformation").describe_stacks()["Stacks"]
        assert {each["StackName"] for each in stacks} == {"CDKToolkit", "demoApp-dev-Network"}
        cloud.cdk("synth", "--quiet", f"--output={out}", *here)
        cloud.cdk(*deploy, "--all", f"--app={out}")
        assert _import_errors(cloud) == []


def test_an_editors_own_files_are_in_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {entry_point: [*bundling.source_files(entry_point)] for entry_point in FILES}
    copy = shutil.copytree(SOURCE, tmp_path / "lambda_src")
    for name in (".database.py.swp", "database.py~", "#database.py#"):
        (copy / "shared" / name).touch()
    monkeypatch.setattr(bundling, "SOURCE", copy)
    assert {entry_point: [*bundling.source_files(entry_point)] for entry_point in FILES} == before
