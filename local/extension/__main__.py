"""Serves a handler on a laptop, or beside an execution environment of the local cloud."""

import argparse
import os
import sys
import threading

import local.extension
from local.extension import Configuration, Extension, Upstream


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
        extension = Extension(configuration, Upstream(configuration))
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
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        extension.shutdown()


if __name__ == "__main__":
    main()
