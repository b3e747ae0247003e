"""What functions logged, for a terminal (`make logs`): each line with the function, errors with their traceback."""

import json
import os
import re
import sys
import time
from collections.abc import Iterator
from typing import Any, Final

from operations.aws import listed
from operations.environment import Environment, EnvironmentUnknownError, command

LATE: Final = 60_000
"""Milliseconds within which a line may arrive after one with a later time."""
PAUSE: Final = 1.0
"""Seconds between two looks when following."""
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
        environment: of the functions.
        names: of the functions; none means all.
        since: milliseconds since 1970.
    """

    def __init__(self, environment: Environment, since: int, names: list[str] | None = None) -> None:
        self._client = environment.client("logs")
        self._groups = {name: environment.log_groups[name] for name in names or environment.functions}
        self._since = dict.fromkeys(self._groups, since)
        self._told: dict[str, set[str]] = {name: set() for name in self._groups}

    def new(self) -> list[tuple[int, str, str]]:
        """The lines that have come since the last call: milliseconds since 1970, function and line, in order."""
        found = []
        for name, group in self._groups.items():
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


def _seconds(since: str) -> int:
    found = re.fullmatch(r"(\d+)([smhd])", since)
    if not found:
        raise EnvironmentUnknownError(f"SINCE={since}: expected a number and a unit, as 90s, 10m, 2h or 1d")
    return int(found[1]) * UNITS[found[2]]


def main(environment: Environment) -> None:
    """Print what is there since SINCE; with FOLLOW, go on until interrupted."""
    since = os.environ.get("SINCE") or "10m"
    asked = os.environ.get("FUNCTION", "")
    names = [environment.function(asked)] if asked else None
    logs = Logs(environment, int((time.time() - _seconds(since)) * 1000), names)
    lines = logs.new()
    if not lines:
        print(f"no line in the last {since}: SINCE= looks further back", file=sys.stderr)
    while True:
        for line in shown(lines):
            print(line, flush=True)
        if not os.environ.get("FOLLOW"):
            return
        time.sleep(PAUSE)
        lines = logs.new()


if __name__ == "__main__":
    command(main, sys.argv[1:])
