"""Serves the extension's interface to a handler on a laptop, or to a function of the local cloud."""

import argparse
import os
import sys
import threading
from typing import Final

import local.extension
from local.extension import Configuration, ExtensionEmulator, Upstream
from local.signals import end_on_signals
from operations.commands import LOCAL

TOKEN_FILE: Final = LOCAL / "extension-token"


def main() -> None:
    """Serve until interrupted, or until standard input ends."""
    parser = argparse.ArgumentParser(
        prog="python -m local.extension", description=str(local.extension.__doc__).split("\n\n")[0]
    )
    parser.add_argument(
        "--lambda",
        dest="in_lambda",
        action="store_true",
        help="wait for a line on standard input before serving, and end with it, as in Lambda",
    )
    arguments = parser.parse_args()
    try:
        configuration = Configuration.read(os.environ)
    except ValueError as error:
        sys.exit(str(error))
    try:
        extension = ExtensionEmulator(configuration, Upstream(configuration))
    except OSError as error:
        sys.exit(f"port {configuration.port} of 127.0.0.1: {error.strerror}")
    threading.Thread(target=extension.serve_forever, daemon=True).start()
    if arguments.in_lambda:
        for _ in sys.stdin:
            if not extension.ready.is_set():
                extension.log("INFO", "ready to serve traffic")
                extension.ready.set()
        return
    extension.ready.set()
    if "AWS_SESSION_TOKEN" not in os.environ:
        TOKEN_FILE.unlink(missing_ok=True)
        TOKEN_FILE.touch(mode=0o600)
        TOKEN_FILE.write_text(configuration.token)
        print(
            f"The credentials have no session token. Start the function with the one in {TOKEN_FILE}:", file=sys.stderr
        )
        print(f'  AWS_SESSION_TOKEN="$(cat {TOKEN_FILE})"', file=sys.stderr, flush=True)
    end_on_signals()
    try:
        threading.Event().wait()
    except SystemExit:
        extension.shutdown()
        if "AWS_SESSION_TOKEN" not in os.environ:
            TOKEN_FILE.unlink()


if __name__ == "__main__":
    main()
