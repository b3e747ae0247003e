"""What functions logged, for a terminal (`make logs`): each line with the function, errors with their traceback."""

import json
import os
import re
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final, Self

from botocore.exceptions import BotoCoreError, ClientError

from operations.aws import listed
from operations.environment import Environment, EnvironmentUnknownError, command

LATE: Final = 60_000
"""Milliseconds within which a line may arrive after one with a later time."""
PAUSE: Final = 1.0
"""Seconds between two looks when following."""
DEPLOY_PAUSE: Final = 5.0
"""Seconds between two looks during a deploy."""
UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}

_PLATFORM: Final = re.compile(r"(START|END|REPORT|INIT_START) ")
_FRAME: Final = ("timestamp", "level", "message", "logger", "requestId", "tenantId")
"""What Lambda's runtime adds to every line."""
_ERROR: Final = ("errorType", "errorMessage", "stackTrace", "location", "exception")


_PLACE: Final = re.compile(r'"(?:/var/task|[^"]*/[0-9a-f]{64})/')
"""Where a function's package is unpacked, by Lambda and by the local cloud."""


def printable(text: str) -> str:
    """The text with what a terminal would obey, as control characters, escaped."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def told(line: str) -> list[str]:
    """What to print of a line of a function's log: nothing of Lambda's own, but for what did not end well.

    An error's traceback is in lines of its own.
    """
    record = _record(line)
    if record is None:
        return [] if _PLATFORM.match(line) else [printable(line.replace("\t", " "))]
    if "type" in record and "record" in record:
        status = record["record"].get("status", "success")
        return (
            []
            if status == "success"
            else [printable(f"ERROR Lambda: {status} {record['record'].get('errorType', '')}".rstrip())]
        )
    facts = [f"{key}={value}" for key, value in record.items() if key not in (*_FRAME, *_ERROR)]
    error = f"{record['errorType']}: {record.get('errorMessage')}" if "errorType" in record else ""
    words = [record.get("level", ""), str(record.get("message", "")), error, *facts]
    trace = record.get("stackTrace") or []
    frames = trace if isinstance(trace, list) else [str(trace)]
    return [printable(" ".join(filter(None, words)))] + [
        f"    {printable(each)}"
        for frame in frames
        for each in _PLACE.sub('"lambda_src/', str(frame)).rstrip().split("\n")
    ]


def is_error(line: str) -> bool:
    """Whether a line tells of an error."""
    record = _record(line)
    if record is None:
        return line.startswith("[ERROR]") or " Task timed out after " in line
    return (
        record.get("level") in ("ERROR", "CRITICAL") or "errorType" in record or bool(told(line) and "record" in record)
    )


def _record(line: str) -> dict[str, Any] | None:
    """The JSON object that a line is, if it is one."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


class Logs:
    """The logs of some functions, each line told once.

    Args:
        client: boto3's, of CloudWatch Logs.
        since: milliseconds since 1970.
    """

    def __init__(self, client: Any, since: int) -> None:
        self._client = client
        self._since: dict[str, int] = defaultdict(lambda: since)
        self._told: dict[str, set[str]] = defaultdict(set)

    def new(self, groups: Mapping[str, str]) -> list[tuple[int, str, str]]:
        """The lines that have come since the last call: milliseconds since 1970, function and line, in order.

        Args:
            groups: each function's log group, by the function's name.
        """
        found = []
        for name, group in groups.items():
            known, since = self._told[name], self._since[name]
            try:
                events = listed(self._client, "filter_log_events", "events", logGroupName=group, startTime=since)
            except self._client.exceptions.ResourceNotFoundException:
                continue  # Without a line yet, or deleted by a rollback.
            found += [(each["timestamp"], name, each["message"]) for each in events if each["eventId"] not in known]
            newest = max((each["timestamp"] for each in events), default=since)
            self._since[name] = max(since, newest - LATE)
            self._told[name] = {each["eventId"] for each in events if each["timestamp"] >= self._since[name]}
        return sorted(found, key=lambda each: each[0])


def shown(lines: list[tuple[int, str, str]]) -> Iterator[str]:
    """Those lines for a terminal, with their time and function."""
    for at, name, line in lines:
        clock = time.strftime("%H:%M:%S", time.localtime(at / 1000))
        for index, each in enumerate(told(line.rstrip("\n"))):
            yield f"{clock} {name}  {each}" if index == 0 else each


def last_errors(lines: list[tuple[int, str, str]]) -> list[tuple[int, str, str]]:
    """The last error of each function."""
    found = {name: (at, name, line) for at, name, line in lines if is_error(line)}
    return sorted(found.values())


class LastErrors:
    """Reads the logs of an environment while it is deployed, because a rollback deletes those of new functions.

    Args:
        environment: makes one; asked again and again, because functions come and go.
    """

    def __init__(self, environment: Callable[[], Environment]) -> None:
        self._environment = environment
        self._logs = Logs(environment().client("logs"), int(time.time() * 1000))
        self._found: list[tuple[int, str, str]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def shown(self) -> list[str]:
        """The last error of each function since the beginning, for a terminal."""
        return list(shown(last_errors(self._found)))

    def _read(self) -> None:
        while True:
            is_last = self._ended.wait(DEPLOY_PAUSE)
            # Functions that are not there yet or any more, and credentials that may not read logs, are no fault here.
            with suppress(EnvironmentUnknownError, BotoCoreError, ClientError):
                self._found += self._logs.new(self._environment().log_groups)
            if is_last:
                return


def _seconds(since: str) -> int:
    found = re.fullmatch(r"(\d+)([smhd])", since)
    if not found:
        raise EnvironmentUnknownError(f"SINCE={since}: expected a number and a unit, as 90s, 10m, 2h or 1d")
    return int(found[1]) * UNITS[found[2]]


def main(environment: Environment) -> None:
    """Print what is there since SINCE; with FOLLOW, go on until interrupted."""
    since = os.environ.get("SINCE") or "10m"
    asked = os.environ.get("FUNCTION", "")
    groups = environment.log_groups
    if asked:
        groups = {environment.function(asked): groups[environment.function(asked)]}
    logs = Logs(environment.client("logs"), int((time.time() - _seconds(since)) * 1000))
    lines = logs.new(groups)
    if not lines:
        print(f"no line in the last {since}: SINCE= looks further back", file=sys.stderr)
    while True:
        for line in shown(lines):
            print(line, flush=True)
        if not os.environ.get("FOLLOW"):
            return
        time.sleep(PAUSE)
        lines = logs.new(groups)


if __name__ == "__main__":
    command(main, sys.argv[1:])
