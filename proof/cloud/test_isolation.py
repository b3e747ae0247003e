"""The user's own configuration is not used, and no host outside the machine is looked up."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from operations.commands import LOCAL, ROOT, environment
from proof.testbed import silent_resolver

PROGRAM = """
import json, sys
from pathlib import Path
from local.cloud import LocalCloud
from local.signals import set_up_terminal

set_up_terminal()
cloud = LocalCloud(Path(sys.argv[1]))
try:
    cloud.start()
    cloud.bootstrap()
    cloud.cdk("deploy", "--all", "--require-approval=never", f"--app={sys.argv[2]}")
    function = cloud.outputs("Service")["FunctionName"]
    print(cloud.client("lambda").invoke(FunctionName=function)["Payload"].read().decode())
finally:
    cloud.stop()
"""

CONFIG = """
[default]
ignore_configured_endpoint_urls = true
aws_session_token = canary0token
region = eu-central-1
services = elsewhere
[services elsewhere]
sts =
  endpoint_url = https://sts.attacker.example
"""


@pytest.mark.skipif(not silent_resolver.is_possible(), reason="needs a network namespace (Linux)")
def test_a_deploy_uses_nothing_of_the_users_and_asks_for_no_host(synthesised: Path, tmp_path: Path) -> None:
    (tmp_path / ".aws").mkdir()
    for name in ("config", "credentials"):
        (tmp_path / ".aws" / name).write_text(CONFIG)
    asked = tmp_path / "asked"
    folder = LOCAL / f"test-isolated-{os.getpid()}"
    users = {
        "HOME": str(tmp_path),
        "AWS_PROFILE": "gone",
        "AWS_SESSION_TOKEN": "canary0token",
        "AWS_ENDPOINT_URL_STS": "https://sts.attacker.example",
        "https_proxy": "http://proxy.attacker.example:3128",
        "HTTPS_PROXY": "http://proxy.attacker.example:3128",
    }
    command = [sys.executable, "-c", PROGRAM, str(folder), str(synthesised)]
    run = subprocess.run(
        silent_resolver.command(*command, record=str(asked)),
        cwd=ROOT,
        env=environment() | users | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    shutil.rmtree(folder)
    assert '"database": "devDB"' in run.stdout, run.stdout + run.stderr
    assert "canary0" not in run.stdout + run.stderr
    # The command line looks for notices of CDK; without an answer it goes on.
    assert set(asked.read_text().split() if asked.exists() else []) == set()
