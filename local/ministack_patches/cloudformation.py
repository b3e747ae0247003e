"""CloudFormation: a stack's end is told at once, an event names its deploy, and a resource its stack.

The CDK asks every five seconds, which is long for a stack that is made in one. This patch can
go when the CDK asks more often. The application's own function asks in the middle of a deploy, and gets its answer
at once: it is Python's SDK that asks.
"""

import asyncio
import re
import time
from typing import Any, Final
from urllib.parse import parse_qs

from ministack.services import cloudformation
from ministack.services.cloudformation import handlers

HOLD: Final = 4.0
"""Seconds, at most, for which the answer about a stack is held back while the stack is in progress."""

_BEGINNINGS: Final = [f"{each}_IN_PROGRESS" for each in ("CREATE", "UPDATE", "DELETE", "ROLLBACK", "UPDATE_ROLLBACK")]
"""Statuses of a stack with which an operation begins."""

_handle_request = cloudformation.handle_request
_describe_events = handlers._describe_stack_events
_describe_by_stack = handlers._describe_stack_resources


def install() -> None:
    """Hold back the answers, and name the operations."""
    cloudformation.handle_request = _handle_request_when_settled
    handlers._ACTION_HANDLERS["DescribeStackEvents"] = _events_with_operations
    handlers._ACTION_HANDLERS["DescribeStackResources"] = _describe_stack_resources


async def _handle_request_when_settled(method: str, path: str, headers: dict[str, str], body: bytes, query: Any) -> Any:
    if b"Action=DescribeStacks&" in body and "boto" not in headers.get("user-agent", "").lower():
        name = parse_qs(body.decode()).get("StackName", [""])[0]
        give_up = time.monotonic() + HOLD
        while _in_progress(name) and time.monotonic() < give_up:  # noqa: ASYNC110 - ministack sets no event
            await asyncio.sleep(0.05)
    return await _handle_request(method, path, headers, body, query)


def _events_with_operations(params: dict[str, Any]) -> Any:
    """An event names the operation that it belongs to, by which CDK tells a deploy's errors from an earlier one's.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_StackEvent.html
    """
    answer = _describe_events(params)
    operations: dict[str, str] = {}
    for stack_id, events in cloudformation._stack_events.items():
        operation = ""
        for event in events:
            if event["PhysicalResourceId"] == stack_id and event["ResourceStatus"] in _BEGINNINGS:
                operation = event["EventId"]
            operations[event["EventId"]] = operation
    status, headers, body = answer
    text = body.decode() if isinstance(body, bytes) else body
    named = re.sub(
        "<EventId>(.*?)</EventId>",
        lambda found: f"{found[0]}<OperationId>{operations.get(found[1], '')}</OperationId>",
        text,
    )
    return status, headers, named.encode() if isinstance(body, bytes) else named


def _describe_stack_resources(params: dict[str, Any]) -> Any:
    """Describe a stack's resources, also of the stack that has a given one.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_DescribeStackResources.html
    """
    resource = handlers._p(params, "PhysicalResourceId")
    for name, stack in cloudformation._stacks.items():
        of_stack = [each.get("PhysicalResourceId") for each in stack.get("_resources", {}).values()]
        if resource and resource in of_stack and not stack["StackStatus"].startswith("DELETE"):
            params = params | {"StackName": [name]}
    return _describe_by_stack(params)


def _in_progress(name: str) -> bool:
    """Return whether the stack of this name or id is being made, changed or deleted."""
    return any(
        name in (stack.get("StackName"), stack.get("StackId"))
        and stack.get("StackStatus", "").endswith("_IN_PROGRESS")
        and stack["StackStatus"] != "REVIEW_IN_PROGRESS"  # It has a change set, and waits for nothing.
        for stack in cloudformation._stacks.values()
    )
