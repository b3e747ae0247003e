"""Name look-ups against a resolver that never answers, asked by the system's own library."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from operations.commands import ROOT
from proof.testbed import silent_resolver

PROGRAM = """
import json, os, time
import botocore.exceptions  # Not to be counted below.
from shared import direct_read
from shared.credentials import Credentials
from shared.database import Database
from shared.deadline import Deadline
from shared.errors import DependencyUnavailableError

def took(work, seconds):
    deadline.start(seconds)
    started = time.monotonic()
    try:
        work()
    except DependencyUnavailableError as error:
        return [time.monotonic() - started, str(error.facts.get("cause"))]

deadline = Deadline()
database = Database(deadline, "us-east-1")
credentials = Credentials("db.example", 3306, "d", "u", "p", "v")
print(json.dumps({
    "database": took(lambda: database.connect(credentials), 3),
    "secret": took(lambda: direct_read.secret("arn", deadline), 9),
}), flush=True)
os._exit(0)  # Not the threads that still wait for the resolver.
"""


@pytest.mark.skipif(not silent_resolver.is_possible(), reason="needs Linux namespaces")
def test_the_deadline_ends_a_look_up_that_is_never_answered(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    variables = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "lambda_src")]),
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
    }
    run = subprocess.run(
        silent_resolver.command(sys.executable, str(program)), env=variables, capture_output=True, text=True
    )
    took = json.loads(run.stdout)
    for seconds, cause in (took["database"], took["secret"]):
        assert cause == "TimeoutError"
        assert 1 < seconds < 4.5
