"""`make watch`: an edit in lambda_src/ is answered by the deployed function a second later.

An edited module is put into the package that is deployed, and published as a new version for the
alias, without a synthesis. Any other edit (stacks/, migrations/, a new file) is deployed by CDK.
The functions' logs are printed as they arrive.
"""

import io
import json
import time
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from local.cloud import CloudError, LocalCloud
from operations.application import APPLICATION, application_files
from operations.commands import ROOT
from operations.logs import shown

PAUSE: Final = 0.2
"""Seconds between two looks at the files."""
ALIAS: Final = "live"


class Watcher:
    """The files of a tree, and the local cloud in which it is deployed."""

    def __init__(self, cloud: LocalCloud, root: Path = ROOT) -> None:
        self._cloud = cloud
        self._root = root
        self._seen = self._times()
        _, self._logged = cloud.function_log()

    def run(self) -> None:
        """Apply edits and print logs until it is interrupted."""
        print(f"watching {', '.join(APPLICATION)}; Ctrl-C ends this, and the cloud keeps running", flush=True)
        while True:
            self.step()
            time.sleep(PAUSE)

    def step(self) -> bool:
        """Apply what was edited since the last step, and print what was logged; whether there was an edit."""
        times = self._times()
        edited = {path for path in {*times, *self._seen} if times.get(path) != self._seen.get(path)}
        self._seen = times
        if edited:
            started = time.monotonic()
            print(f"edited: {', '.join(sorted(str(path.relative_to(self._root)) for path in edited))}", flush=True)
            try:
                done = self._replace(edited) or self._deploy()
            except CloudError as error:
                done = str(error)
            print(f"{done} in {time.monotonic() - started:.1f} s", flush=True)
        lines, self._logged = self._cloud.function_log(self._logged)
        for line in shown(lines):
            print(line, flush=True)
        return bool(edited)

    def _times(self) -> dict[Path, int]:
        times = {}
        for file in application_files(self._root):
            with suppress(FileNotFoundError):  # An editor has removed it meanwhile.
                times[file] = file.stat().st_mtime_ns
        return times

    def _deploy(self) -> str:
        self._cloud.deploy(root=self._root)
        return "deployed"

    def _replace(self, edited: set[Path]) -> str:
        """Put edited modules into the deployed packages; empty when that is not all that is needed."""
        source = self._root / "lambda_src"
        if not all(path.is_relative_to(source) and path.is_file() and path.suffix == ".py" for path in edited):
            return ""
        names = [path.relative_to(source) for path in edited]
        packages = {
            name: folder for name, folder in self._packages() if any((folder / each).exists() for each in names)
        }
        if not all(any((folder / each).exists() for folder in packages.values()) for each in names):
            return ""
        client = self._cloud.client("lambda")
        for function, folder in packages.items():
            client.update_function_code(FunctionName=function, ZipFile=self._package(folder))
            aliases = {each["Name"] for each in client.list_aliases(FunctionName=function)["Aliases"]}
            if ALIAS in aliases:
                version = client.publish_version(FunctionName=function)["Version"]
                client.update_alias(FunctionName=function, Name=ALIAS, FunctionVersion=version)
        return f"replaced in {len(packages)} function{'s' if len(packages) > 1 else ''}"

    def _packages(self) -> Iterator[tuple[str, Path]]:
        """The name of each deployed function, and the folder with its package."""
        folder, client = self._cloud.assembly, self._cloud.client("cloudformation")
        for file in folder.glob("*.template.json"):
            stack = file.name.removesuffix(".template.json")
            found = client.describe_stack_resources(StackName=stack)["StackResources"]
            names = {each["LogicalResourceId"]: each["PhysicalResourceId"] for each in found}
            for logical_id, resource in json.loads(file.read_text())["Resources"].items():
                if resource["Type"] == "AWS::Lambda::Function":
                    code = resource["Properties"]["Code"]["S3Key"].removesuffix(".zip")
                    yield names[logical_id], folder / f"asset.{code}"

    def _package(self, folder: Path) -> bytes:
        """The package with the modules as they are now, and without their bytecode, which nothing would check."""
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
            for file in sorted(each for each in folder.rglob("*") if each.is_file()):
                name = file.relative_to(folder)
                own = self._root / "lambda_src" / name
                is_own_bytecode = name.parts[0] in ("__pycache__", "shared") and name.suffix == ".pyc"
                if not is_own_bytecode:
                    entry = zipfile.ZipInfo(str(name))
                    entry.external_attr = 0o644 << 16  # A module in lambda_src/ has the modes of the user's umask.
                    target.writestr(entry, (own if own.is_file() else file).read_bytes(), zipfile.ZIP_DEFLATED)
        return archive.getvalue()
