"""IAM: the action of a request, the function whose code sends it, and permissions that are late.

ministack takes some of Lambda's actions for others, does not know `lambda:SourceFunctionArn`, and its simulator passes
over a request's context. This patch can go when it does.
"""

import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final
from unittest import mock

from ministack.core import iam_actions, iam_evaluator
from ministack.services import iam, lambda_svc
from ministack.services.cloudformation import provisioners

from local.ministack_patches.network import keys_of_endpoint

_action = iam_actions._lambda_action
_extract_resource_arn = iam_actions.extract_resource_arn
_execution_credentials = lambda_svc.execution_credentials
_principal_keys = iam_evaluator._principal_keys
_simulate_principal_policy = iam._simulate_principal_policy
_READS: Final = {"concurrency": "GetFunctionConcurrency", "urls": "ListFunctionUrlConfigs"}
_gather_role_policies = iam_evaluator._gather_role_policies
_DELAY: Final = float(os.environ["LOCAL_PERMISSION_DELAY"])
"""Seconds until a changed policy holds."""
_policies: dict[str, list[tuple[float, list[Any]]]] = {}
"""The policies of each role, with the time since which it has had them, in order."""
_source_functions: dict[str, str] = {}
"""The function's ARN of each access key that a function's code was given."""


def install() -> None:
    """Have IAM know what ministack's does not: the actions, the key `lambda:SourceFunctionArn`."""
    iam_actions._lambda_action = _lambda_action
    lambda_svc.execution_credentials = _credentials_of_code
    iam_evaluator._principal_keys = _keys_of_code
    iam_actions.extract_resource_arn = _resource
    iam._IAM_HANDLERS["SimulatePrincipalPolicy"] = _simulate
    if _DELAY:
        iam_evaluator._gather_role_policies = _spread_policies
        for name in (
            "PutRolePolicy",
            "DeleteRolePolicy",
            "AttachRolePolicy",
            "DetachRolePolicy",
            "CreatePolicyVersion",
        ):
            iam._IAM_HANDLERS[name] = _noting(iam._IAM_HANDLERS[name])
        for kind in ("AWS::IAM::Role", "AWS::IAM::Policy", "AWS::IAM::RolePolicy", "AWS::IAM::ManagedPolicy"):
            handlers = provisioners._RESOURCE_HANDLERS.get(kind, {})
            handlers |= {verb: _noting(handler) for verb, handler in handlers.items() if callable(handler)}


def _noting(change: Callable[..., Any]) -> Callable[..., Any]:
    """Have a change of policies note which roles have others now."""

    def noted(*args: Any, **options: Any) -> Any:
        result = change(*args, **options)
        for name in iam._roles:
            policies = _gather_role_policies(name, iam.get_account_id())
            history = _policies.setdefault(name, [])
            if not history or history[-1][1] != policies:
                history.append((time.monotonic(), policies))
        return result

    return noted


def _spread_policies(role_name: str, account_id: str) -> list[Any]:
    """The role's policies of some seconds ago: AWS needs time until all its places know a change.

    An account is bootstrapped long before a deploy, so that its roles have theirs at once.
    https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot.html#troubleshoot_general_eventual-consistency
    """
    if role_name.startswith("cdk-"):
        return _gather_role_policies(role_name, account_id)
    history = _policies.get(role_name, [])
    known = [policies for since, policies in history if since + _DELAY <= time.monotonic()]
    if len(known) < len(history):
        print(f"iam: the policies of {role_name} do not hold yet", flush=True)
    return known[-1] if known else []


def _lambda_action(method: str, path: str) -> str | None:
    """IAM's action of a request; ministack takes some of those that read for others.

    https://docs.aws.amazon.com/service-authorization/latest/reference/list_awslambda.html
    """
    *_, before, last = path.rstrip("/").split("/")
    if method == "GET" and before == "aliases":
        return "GetAlias"
    if method == "GET" and last in _READS:
        return _READS[last]
    return _action(method, path)


def _resource(service: str, *args: Any, **options: Any) -> str:
    """The resource of a request; AWS's own parameters are in no account.

    https://docs.aws.amazon.com/systems-manager/latest/userguide/parameter-store-public-parameters.html
    """
    arn: str = _extract_resource_arn(service, *args, **options)
    if service == "ssm" and ":parameter/aws/service/" in arn:
        head, _, name = arn.partition(":parameter/")
        return f"{head.rpartition(':')[0]}::parameter/{name}"
    return arn


def _credentials_of_code(config: dict[str, Any]) -> dict[str, str]:
    """The role's credentials for the code of one function, known again when they are used."""
    given: dict[str, str] = _execution_credentials(config)
    _source_functions[given["AWS_ACCESS_KEY_ID"]] = ":".join(config["FunctionArn"].split(":")[:7])
    return given


def _keys_of_code(credential: Any) -> dict[str, Any]:
    """IAM's condition keys, with those of a function's code and of an endpoint, which ministack leaves out."""
    keys: dict[str, Any] = _principal_keys(credential)
    source = _source_functions.get(credential.access_key_id)
    return keys | keys_of_endpoint() | ({"lambda:sourcefunctionarn": source} if source else {})


def _simulate(params: dict[str, Any]) -> Any:
    """SimulatePrincipalPolicy with the request's context.

    https://docs.aws.amazon.com/IAM/latest/APIReference/API_SimulatePrincipalPolicy.html
    """
    given: dict[str, str] = {}
    number = 1
    while name := iam._p(params, f"ContextEntries.member.{number}.ContextKeyName"):
        given[name.lower()] = iam._p(params, f"ContextEntries.member.{number}.ContextKeyValues.member.1")
        number += 1
    # ministack answers one request at a time.
    with mock.patch.object(iam_evaluator, "EvalContext", partial(iam_evaluator.EvalContext, service_context=given)):
        return _simulate_principal_policy(params)
