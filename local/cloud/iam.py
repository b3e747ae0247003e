"""IAM: what a request asks for, and which function's code it comes from."""

from typing import Any

from ministack.core import iam_actions, iam_evaluator
from ministack.services import lambda_svc

_action = iam_actions._lambda_action
_execution_credentials = lambda_svc.execution_credentials
_principal_keys = iam_evaluator._principal_keys
_source_functions: dict[str, str] = {}
"""The function's ARN of each access key that a function's code was given."""


def install() -> None:
    """Have IAM know what ministack's does not: the action `GetAlias`, the key `lambda:SourceFunctionArn`."""
    iam_actions._lambda_action = _action_of_one_alias_or_several
    lambda_svc.execution_credentials = _credentials_of_code
    iam_evaluator._principal_keys = _keys_of_code


def _action_of_one_alias_or_several(method: str, path: str) -> str | None:
    """IAM's action of a request; ministack takes GetAlias for ListAliases."""
    if method == "GET" and path.rstrip("/").split("/")[-2:-1] == ["aliases"]:
        return "GetAlias"
    action: str | None = _action(method, path)
    return action


def _credentials_of_code(config: dict[str, Any]) -> dict[str, str]:
    """The role's credentials for the code of one function, known again when they are used."""
    given: dict[str, str] = _execution_credentials(config)
    _source_functions[given["AWS_ACCESS_KEY_ID"]] = ":".join(config["FunctionArn"].split(":")[:7])
    return given


def _keys_of_code(credential: Any) -> dict[str, Any]:
    """IAM's condition keys, with that of calls from a function's code, which ministack leaves out."""
    keys: dict[str, Any] = _principal_keys(credential)
    source = _source_functions.get(credential.access_key_id)
    return keys | ({"lambda:sourcefunctionarn": source} if source else {})
