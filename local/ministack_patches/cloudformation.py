"""CloudFormation: a client that waits for a stack learns of its end at once, and a resource names its stack.

The CDK asks every five seconds, which is long for a stack that is made in one. This patch can
go when the CDK asks more often. The application's own function asks in the middle of a deploy, and gets its answer
at once: it is Python's SDK that asks.
"""

import asyncio
import time
from typing import Any, Final
from urllib.parse import parse_qs

from ministack.services import cloudformation
from ministack.services.cloudformation import handlers

HOLD: Final = 4.0
"""Seconds, at most, for which the answer about a stack is held back while the stack is in progress."""

_handle_request = cloudformation.handle_request
_describe_by_stack = handlers._describe_stack_resources


def install() -> None:
    """Hold back the answers."""
    cloudformation.handle_request = _handle_request_when_settled
    handlers._ACTION_HANDLERS["DescribeStackResources"] = _describe_stack_resources


async def _handle_request_when_settled(method: str, path: str, headers: dict[str, str], body: bytes, query: Any) -> Any:
    if b"Action=DescribeStacks&" in body and "boto" not in headers.get("user-agent", "").lower():
        name = parse_qs(body.decode()).get("StackName", [""])[0]
        give_up = time.monotonic() + HOLD
        while _in_progress(name) and time.monotonic() < give_up:  # noqa: ASYNC110 - ministack sets no event
            await asyncio.sleep(0.05)
    return await _handle_request(method, path, headers, body, query)


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
