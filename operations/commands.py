"""The folders of a clone, and the environment of the commands that are started from it.

Uses the standard library only, because it runs before anything is installed.
"""

import os
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
VENV: Final = ROOT / ".venv"
LOCAL: Final = ROOT / ".local"
CACHE: Final = LOCAL / "cache"
TEMPORARY: Final = LOCAL / "tmp"
LOCAL_ADDRESSES: Final = "localhost,127.0.0.1"


def environment() -> dict[str, str]:
    """Return this process's variables, made fit for a local run.

    With the tools' paths first, every cache under the clone, and nothing of the user's AWS configuration.
    """
    caches = {
        "PIP_CACHE_DIR": CACHE / "pip",
        "npm_config_cache": CACHE / "npm",
        "JSII_RUNTIME_PACKAGE_CACHE_ROOT": CACHE / "jsii",
        "CDK_HOME": CACHE / "cdk",
        "TMPDIR": TEMPORARY,
    }
    paths = [VENV / "bin", ROOT / "node_modules" / ".bin", os.environ.get("PATH", os.defpath)]
    inherited = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith("AWS_") and key != "PYTHONDONTWRITEBYTECODE"
    }
    no_proxy = ",".join(filter(None, [os.environ.get("no_proxy") or os.environ.get("NO_PROXY"), LOCAL_ADDRESSES]))
    return {
        **inherited,
        **{name: str(path) for name, path in caches.items()},
        "PATH": os.pathsep.join(map(str, paths)),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        # No profile, credentials or endpoints of the user's own AWS configuration.
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        # Local addresses use no proxy, and the CDK command line sends no telemetry.
        "no_proxy": no_proxy,
        "NO_PROXY": no_proxy,
        "CDK_DISABLE_CLI_TELEMETRY": "true",
        "CDK_DISABLE_VERSION_CHECK": "true",
    }


def isolate() -> None:
    """Give this process, and the SDK within it, the environment of the commands that it starts."""
    isolated = environment()
    os.environ.clear()
    os.environ.update(isolated)
