"""Invokes a function with an event (`make invoke EVENT='{"note": "hello"}'`): answer, duration and log."""

import json
import os
import sys
import time
from typing import Final

from botocore.config import Config

from operations.aws import invoke
from operations.environment import Environment, EnvironmentUnknownError, command
from operations.logs import printable, told

ONCE: Final = Config(read_timeout=900, tcp_keepalive=True, retries={"total_max_attempts": 1})
"""As long as any function may run: the SDK waits for a minute, and then invokes again while the first one runs still.

https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html
"""


def main(environment: Environment) -> None:
    """Invoke what callers invoke, or FUNCTION; end with status 1 when it fails."""
    text = os.environ.get("EVENT") or "{}"
    try:
        event = json.loads(text)
    except ValueError as error:
        raise EnvironmentUnknownError(f"EVENT is no JSON ({error}): {text}") from error
    asked = os.environ.get("FUNCTION", "")
    serving = environment.serving
    if not asked and len(serving) != 1:
        raise EnvironmentUnknownError(f"FUNCTION= is needed: one of {', '.join(environment.functions)}")
    name = environment.function(asked) if asked else next(iter(serving))
    began = time.monotonic()
    result = invoke(environment.client("lambda", ONCE), serving.get(name, environment.functions[name]), event)
    milliseconds = (time.monotonic() - began) * 1000
    answer = result["answer"]
    if result["error"]:  # Its log has the traceback.
        answer = {name: value for name, value in answer.items() if name != "stackTrace"}
    print(printable(json.dumps(answer, ensure_ascii=False)))
    print(
        f"{'failed' if result['error'] else 'answered'} in {milliseconds:.0f} ms by {name}, version {result['version']}"
    )
    for line in result["log"].splitlines():
        for each in told(line):
            print(f"  {each}")
    sys.exit(1 if result["error"] else 0)


if __name__ == "__main__":
    command(main, sys.argv[1:])
