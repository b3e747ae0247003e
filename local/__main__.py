"""`python -m local up` starts the local cloud with the application in it; `down` ends it.

`watch` also applies edits, and `debug` also lets a debugger attach. `sql` asks the database.
"""

import argparse
import shlex
import shutil
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from local import sql
from local.cloud import CloudError, LocalCloud
from local.signals import set_up_terminal
from local.watch import Watcher
from operations.commands import LOCAL
from operations.install import busy

UP: Final = LOCAL / "up"
DEMO: Final = LOCAL / "demo"
EXPORTS: Final = LOCAL / "env"
DEBUG_PORT: Final = 5678
"""debugpy's own default (https://github.com/microsoft/debugpy)."""


def up(debug_port: int = 0) -> None:
    """Start the cloud, deploy, and write a file of exports that points any AWS client at it."""
    print(
        f"To come: a cloud, and a deploy to it; about half a minute on an idle machine.\n{busy()}", end="", flush=True
    )
    cloud = LocalCloud(UP)
    # An interrupted start is begun again, and so is a cloud without the debugger that is asked for.
    if not cloud.is_bootstrapped or debug_port not in (0, cloud.debug_port):
        _timed("starting the cloud", partial(cloud.start, debug_port=debug_port))
        _timed("cdk bootstrap", cloud.bootstrap)
    write_exports(cloud, EXPORTS)  # Before a deploy that may fail: `make logs` then says why.
    _timed("cdk deploy --all", cloud.deploy)
    outputs = cloud.outputs("Service")
    print(
        # Not those that CDK makes for another stack.
        "\n".join(f"{name} = {value}" for name, value in outputs.items() if not name.startswith("ExportsOutput")),
        "\nNow, in any shell:",
        f"  . {shlex.quote(str(EXPORTS))}",
        "  aws cloudformation list-stacks --query 'StackSummaries[].StackName'",
        "and here:",
        """  make invoke EVENT='{"note": "hello"}'""",
        "  make sql STATEMENT='SELECT * FROM note'",
        "`make logs` and `make alarms` say more; `make down` ends it.",
        sep="\n",
    )


def watch(debug_port: int = 0) -> None:
    """Deploy what is here as `up` does, and apply edits to it."""
    up(debug_port)
    if debug_port:
        where = f"127.0.0.1:{debug_port}"
        print(f"The serving function waits for a debugger on {where}, for which .vscode/launch.json is made.")
        print("Every user of this machine can attach to it and run code as you. Invoke with `--cli-read-timeout 0`.")
    Watcher(LocalCloud(UP)).run()


def down() -> None:
    """End what `up` started, and what an interrupted `up` or demo left running."""
    print("ending the cloud" if any(LocalCloud(each).has_processes for each in (UP, DEMO)) else "nothing is running")
    for each in (UP, DEMO):
        LocalCloud(each).stop()
        shutil.rmtree(each, ignore_errors=True)
    EXPORTS.unlink(missing_ok=True)


def ask() -> None:
    """Ask the database of what `up` started."""
    cloud = LocalCloud(UP)
    if not cloud.is_running:
        raise CloudError("nothing is running on this laptop: make up")
    sql.main(cloud)


def write_exports(cloud: LocalCloud, path: Path) -> None:
    """Write a file for the shell's `.` that only this user can read."""
    path.unlink(missing_ok=True)  # An existing file may be readable by others.
    path.touch(mode=0o600)
    lines = [f"export {name}={shlex.quote(value)}" for name, value in cloud.variables.items()]
    path.write_text("\n".join(["unset AWS_PROFILE AWS_SESSION_TOKEN AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", *lines, ""]))


def _timed(what: str, action: Callable[[], object]) -> None:
    print(f"{what} ...", end=" ", flush=True)
    started = time.monotonic()
    action()
    print(f"{time.monotonic() - started:.1f} s", flush=True)


if __name__ == "__main__":
    set_up_terminal()
    parser = argparse.ArgumentParser(prog="python -m local", description=__doc__)
    commands: dict[str, Callable[[], None]] = {
        "up": up,
        "watch": watch,
        "debug": partial(watch, DEBUG_PORT),
        "down": down,
        "sql": ask,
    }
    parser.add_argument("command", choices=commands)
    try:
        commands[parser.parse_args().command]()
    except CloudError as error:
        sys.exit(str(error))
