"""Parameter Store and Secrets Manager as a process of their own; a line on standard input asks for the calls so far."""

import json
import sys

from local.tests.aws import AWS, serve


def main() -> None:
    """Serve the parameters and secrets that the first line of standard input holds, until it ends."""
    given = json.loads(sys.stdin.readline())
    aws = AWS()
    aws.parameters.update(given["parameters"])
    for secret_id, value in given["secrets"].items():
        aws.add_secret(secret_id, value)
    with serve(aws) as endpoint:
        print(endpoint, flush=True)
        for _ in sys.stdin:
            print(json.dumps(aws.calls), flush=True)


if __name__ == "__main__":
    main()
