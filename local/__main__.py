"""`python -m local up` starts the local cloud with the application in it; `down` ends it."""

import argparse
import shlex
import shutil
import sys
import time
from pathlib import Path
from typing import Final

from local.install import LOCAL
from local.running import CloudError, LocalCloud

UP: Final = LOCAL / "up"
EXPORTS: Final = LOCAL / "env"


def up() -> None:
    """Start, deploy, and write the exports with which any AWS client finds this cloud."""
    cloud = LocalCloud(UP)
    if not cloud.is_running:
        _timed("starting the cloud", cloud.start)
        _timed("cdk bootstrap", cloud.bootstrap)
    _timed("cdk deploy --all", cloud.deploy)
    write_exports(cloud, EXPORTS)
    outputs = cloud.outputs("Dev-Service")
    print(
        "\n".join(f"{name} = {value}" for name, value in outputs.items()),
        "\nNow, in any shell:",
        f"  . {EXPORTS}",
        f"  aws lambda invoke --function-name {outputs['FunctionName']} /dev/stdout",
        "`make down` ends it.",
        sep="\n",
    )


def down() -> None:
    """End what `up` started."""
    cloud = LocalCloud(UP)
    print("ending the cloud" if cloud.is_running else "nothing is running")
    cloud.stop()
    shutil.rmtree(UP, ignore_errors=True)
    EXPORTS.unlink(missing_ok=True)


def write_exports(cloud: LocalCloud, path: Path) -> None:
    """Write a file for the shell's `.`, which this user alone can read."""
    path.touch(mode=0o600)
    lines = [f"export {name}={shlex.quote(value)}" for name, value in cloud.variables.items()]
    path.write_text("\n".join(["unset AWS_PROFILE AWS_SESSION_TOKEN", *lines, ""]))


def _timed(what: str, action: object) -> None:
    print(f"{what} ...", end=" ", flush=True)
    started = time.monotonic()
    assert callable(action)  # noqa: S101
    action()
    print(f"{time.monotonic() - started:.1f} s", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m local", description=__doc__)
    parser.add_argument("command", choices=["up", "down"])
    try:
        {"up": up, "down": down}[parser.parse_args().command]()
    except CloudError as error:
        sys.exit(str(error))
