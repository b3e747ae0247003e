"""What a demo did: its steps, and what the local cloud's logs, trail and stacks tell of them."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from local.cloud import LocalCloud
from local.watch import json_record

Kind = Literal["cold start", "new connection", "kept connection", "failed"]
Lane = Literal["calls to AWS", "rotations", "cut connections", "changes"]

KINDS: Final[Sequence[Kind]] = ("kept connection", "new connection", "cold start", "failed")
LANES: Final[Sequence[Lane]] = ("calls to AWS", "rotations", "cut connections", "changes")
WINDOW: Final = 5
"""Seconds of one look-up in the trail."""


@dataclass(frozen=True)
class Invocation:
    """One invocation; `ended` is in seconds since 1970, `duration` in milliseconds."""

    ended: float
    duration: float
    kind: Kind

    @property
    def began(self) -> float:
        """When it began, in seconds since 1970."""
        return self.ended - self.duration / 1000


@dataclass(frozen=True)
class Event:
    """What happened in a lane, at a time in seconds since 1970."""

    time: float
    lane: Lane
    what: str


@dataclass(frozen=True)
class Step:
    """One step, with its first and its last second since 1970."""

    what: str
    began: float
    ended: float


@dataclass
class Recording:
    """What a demo did, as the cloud's logs and the steps tell it.

    Attributes:
        stacks: how many resources of each type a stack has.
    """

    server: str = ""
    summary: list[str] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    invocations: list[Invocation] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    stacks: dict[str, Counter[str]] = field(default_factory=dict)

    def read(self, cloud: LocalCloud, function_name: str) -> None:
        """Take from the cloud what happened in it since the first step."""
        since = self.steps[0].began
        self.invocations = list(_invocations(cloud, function_name, since))
        self.events += _calls(cloud, since)
        self.stacks = dict(_stacks(cloud))


def _invocations(cloud: LocalCloud, function_name: str, since: float) -> Iterator[Invocation]:
    """The invocations that the function logged.

    The local cloud gives each invocation a log stream of its own, and the extension's first line is in
    the stream of the invocation for which the execution environment was started.
    """
    function = cloud.client("lambda").get_function_configuration(FunctionName=function_name)
    pages = cloud.client("logs").get_paginator("filter_log_events")

    def logged(pattern: str) -> Iterator[dict[str, Any]]:
        group = function["LoggingConfig"]["LogGroup"]
        for page in pages.paginate(logGroupName=group, filterPattern=pattern, startTime=int(since * 1000)):
            yield from page["events"]

    cold = {each["logStreamName"] for each in logged('"Serving on port"')}
    for event in logged('"invocation.finished"'):
        record = json_record(event["message"])
        if record:
            kind: Kind = "kept connection" if record["connection_reused"] else "new connection"
            if event["logStreamName"] in cold:
                kind = "cold start"
            if record["outcome"] != "ok":
                kind = "failed"
            yield Invocation(event["timestamp"] / 1000, record["duration_ms"], kind)


def _calls(cloud: LocalCloud, since: float) -> Iterator[Event]:
    """The calls for the parameter and for secrets that reached the cloud, whoever made them.

    They are asked for by some seconds each, because the local cloud returns 50 events and no next page.
    """
    client = cloud.client("cloudtrail")
    found: dict[str, Event] = {}
    for name in ("GetParameter", "GetSecretValue"):
        for second in range(int(since), int(time.time()) + 1, WINDOW):
            answer = client.lookup_events(
                LookupAttributes=[{"AttributeKey": "EventName", "AttributeValue": name}],
                StartTime=second,
                EndTime=second + WINDOW,
            )
            for event in answer["Events"]:
                found[event["EventId"]] = Event(event["EventTime"].timestamp(), "calls to AWS", name)
    yield from found.values()


def _stacks(cloud: LocalCloud) -> Iterator[tuple[str, Counter[str]]]:
    client = cloud.client("cloudformation")
    for stack in client.describe_stacks()["Stacks"]:
        resources = client.describe_stack_resources(StackName=stack["StackName"])["StackResources"]
        yield stack["StackName"], Counter(each["ResourceType"] for each in resources)
