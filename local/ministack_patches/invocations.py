"""Lambda: what it counts of an invocation, its id, which version an alias of two chooses, and idle functions.

ministack counts the invocations of callers only, for the function as a whole, counts a throttled one twice, knows no
weights, gives each try of an asynchronous invocation an id of its own, and leaves an idle function as it is. This
patch can go when it does as Lambda does.
"""

import json
import os
import random
import threading
import time
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final

from ministack.core.responses import error_response_json
from ministack.services import cloudwatch, lambda_svc

FUNCTION_LOG: Final = Path(os.environ["LOCAL_RUN"]) / "functions"
"""What every function printed: JSON lists of milliseconds since 1970, the function's name and a line."""
IDLE: Final = Path(os.environ["LOCAL_RUN"]) / "idle"
"""A file with the name of each function that has been idle for weeks; LocalCloud.let_idle writes it."""

_writing = threading.Lock()
_alias: ContextVar[str] = ContextVar("the alias by which the function is called", default="")
_asynchronous: ContextVar[str] = ContextVar("the id of an asynchronous invocation", default="")
_invoke = lambda_svc._invoke
_configuration = lambda_svc._get_function_config
_invoke_asynchronously = lambda_svc.invoke_async_with_retry
_dispatch = lambda_svc._execute_function_dispatch
_acquire_slot = lambda_svc._acquire_execution_slot


def install() -> None:
    """Have invocations counted, and weights obeyed."""
    lambda_svc.invoke_async_with_retry = _invoke_with_one_id
    lambda_svc._emit_lambda_metrics = lambda *_, **__: None
    lambda_svc._execute_function_dispatch = _dispatch_and_count
    lambda_svc._acquire_execution_slot = _acquire_or_count
    lambda_svc._invoke = _invoke_unless_idle
    lambda_svc._get_function_config = _configuration_with_state


def wakes(name: str) -> bool:
    """Whether a function was idle, and is so no more: the invocation that wakes it fails.

    https://docs.aws.amazon.com/lambda/latest/dg/functions-states.html
    """
    try:
        (IDLE / name).unlink()
    except FileNotFoundError:
        return False
    return True


def _configuration_with_state(name: str, qualifier: str | None = None) -> Any:
    status, headers, body = _configuration(name, qualifier)
    if (IDLE / name).exists():
        body = json.dumps(json.loads(body) | {"State": "Inactive", "StateReasonCode": "Idle"}).encode()
    return status, headers, body


async def _invoke_unless_idle(name: str, *arguments: Any, **named: Any) -> Any:
    if wakes(name):
        message = "The operation cannot be performed at this time. The function is currently in the following state: "
        return error_response_json("ResourceConflictException", message + "Pending", 409)
    return await _invoke_one_of_two(name, *arguments, **named)


async def _invoke_one_of_two(
    name: str, event: Any, headers: Any, path_qualifier: str | None = None, query_params: Any = None
) -> Any:
    """An alias with weights sends its part of the calls to the other version.

    https://docs.aws.amazon.com/lambda/latest/dg/configuring-alias-routing.html
    """
    query = query_params or {}
    qualifier = path_qualifier or lambda_svc._qp_first(query, "Qualifier")
    alias = lambda_svc._functions.get(name, {}).get("aliases", {}).get(qualifier)
    _alias.set(qualifier if alias else "")
    weights = (alias or {}).get("RoutingConfig", {}).get("AdditionalVersionWeights", {})
    if alias and weights:
        shares = [1 - sum(weights.values()), *weights.values()]
        (path_qualifier,) = random.choices([alias["FunctionVersion"], *weights], shares)  # noqa: S311 - no secret
    return await _invoke(name, event, headers, path_qualifier, query)


def _invoke_with_one_id(function: dict[str, Any], event: Any) -> None:
    """Give an asynchronous invocation an id, which its repeats have too.

    https://docs.aws.amazon.com/lambda/latest/dg/python-context.html
    """
    before = _asynchronous.set(lambda_svc.new_uuid())
    _invoke_asynchronously(function, event)  # Its thread has a copy of the context.
    _asynchronous.reset(before)


def _dimensions(config: dict[str, Any]) -> list[dict[str, str]]:
    """The sets of dimensions under which Lambda counts an invocation.

    https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-view.html
    """
    name, version, alias = config["FunctionName"], config.get("Version", "$LATEST"), _alias.get()
    found: list[dict[str, str]] = [{}, {"FunctionName": name}]
    qualifier = alias or ("" if version == "$LATEST" else version)
    if qualifier:
        found.append({"FunctionName": name, "Resource": f"{name}:{qualifier}"})
    if alias:
        found.append({"FunctionName": name, "Resource": f"{name}:{alias}", "ExecutedVersion": version})
    return found


def _count(config: dict[str, Any], metric: str, value: float, unit: str = "Count") -> None:
    for dimensions in _dimensions(config):
        cloudwatch.record_metric("AWS/Lambda", metric, value, unit, dimensions)


def _acquire_or_count(function: dict[str, Any], config: dict[str, Any]) -> Any:
    """A call without a free environment is throttled, and no invocation; versions share the function's.

    https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html
    """
    # The version that an alias chose has no reservation of its own: the function's counts.
    slot = _acquire_slot(lambda_svc._functions.get(config["FunctionName"], function), config)
    if slot[0] is None:
        _count(config, "Throttles", 1)
    return slot


def _dispatch_and_count(function: Any, config: dict[str, Any], event: Any, request_id: str, started: float) -> Any:
    """Invocations of callers, services and custom resources alike, each try of an asynchronous one by itself."""
    running = lambda_svc._inflight.get(lambda_svc._inflight_key(config), 1)
    _count(config, "ConcurrentExecutions", running)
    alias = _alias.get()
    if alias:  # The context names what was called, and not the version that was chosen.
        config["FunctionArn"] = f"{lambda_svc._func_arn(config['FunctionName'])}:{alias}"
    began = time.monotonic()
    result = _dispatch(function, config, event, _asynchronous.get() or request_id, started)
    _count(config, "Invocations", 1)
    _count(config, "Errors", 1 if result.get("error") else 0)
    _count(config, "Duration", (time.monotonic() - began) * 1000, "Milliseconds")
    _count(config, "Throttles", 0)
    _keep(config["FunctionName"], result.get("log") or "")
    return result


def _keep(function: str, log: str) -> None:
    """Write the lines of an invocation to a file that outlives the function's log group."""
    lines = [json.dumps([int(time.time() * 1000), function, line]) for line in log.splitlines()]
    with _writing, FUNCTION_LOG.open("a") as file:
        file.write("".join(f"{line}\n" for line in lines))
