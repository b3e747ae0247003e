"""Secrets Manager: `Ref` of a secret is its ARN, a secret has a value, and a rotation runs its function.

ministack's `Ref` is the name, an empty GenerateSecretString makes no value, and RotateSecret runs nothing.
This patch can go when these are as on AWS.
"""

import contextvars
import json
import logging
import threading
import time
from typing import Any, Final

from ministack.core.responses import error_response_json, json_response, new_uuid
from ministack.services import lambda_svc, secretsmanager
from ministack.services.cloudformation import drift, provisioners

from local.ministack_patches import Created, Properties, invocations, provide

STEPS: Final = ("createSecret", "setSecret", "testSecret", "finishSecret")
ATTEMPTS: Final = 5
"""How often a rotation is begun anew after a step has failed."""

Response = tuple[int, dict[str, str], bytes]

logger = logging.getLogger("local.secrets")

_create_by_name = provisioners._sm_secret_create
_update_by_name = provisioners._sm_secret_update
_delete_by_name = provisioners._sm_secret_delete
_get_any_value = secretsmanager._get_secret_value
_put_any_value = secretsmanager._put_secret_value
_describe_any = secretsmanager._describe_secret
_read_by_name, _drift_properties = drift._DRIFT_READERS["AWS::SecretsManager::Secret"]


def install() -> None:
    """Mend references and rotation."""
    provisioners._RESOURCE_HANDLERS["AWS::SecretsManager::Secret"] |= {
        "create": _create,
        "update": _update,
        "delete": _delete,
    }
    provide("AWS::SecretsManager::RotationSchedule", _create_schedule, _delete_schedule, _update_schedule)
    provide("AWS::SecretsManager::ResourcePolicy", _create_policy, _delete_policy)
    secretsmanager._get_secret_value = _get_secret_value
    secretsmanager._put_secret_value = _put_secret_value
    secretsmanager._describe_secret = _describe_secret
    secretsmanager._rotate_secret = _rotate_secret
    drift._DRIFT_READERS["AWS::SecretsManager::Secret"] = (_read_by_arn, _drift_properties)


def _create(logical_id: str, props: Properties, stack: str) -> Created:
    """`Ref` is the ARN, where ministack gives the name; an empty GenerateSecretString makes a password all the same.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-properties-secretsmanager-secret-generatesecretstring.html
    """
    if props.get("GenerateSecretString") == {}:
        props = props | {"GenerateSecretString": {"PasswordLength": 32}}
    _, attributes = _create_by_name(logical_id, props, stack)
    return attributes["Arn"], attributes


def _update(physical_id: str, old: Properties, new: Properties, stack: str, logical_id: str) -> Created:
    name, _ = secretsmanager._resolve(physical_id)
    _, attributes = _update_by_name(name, old, new, stack, logical_id)
    return attributes["Arn"], attributes


def _read_by_arn(physical_id: str, props: Properties) -> dict[str, Any] | None:
    """Drift detection finds a secret by its ARN too."""
    name, _ = secretsmanager._resolve(physical_id)
    return _read_by_name(name, props) if name else None


def _delete(physical_id: str, props: Properties) -> None:
    name, _ = secretsmanager._resolve(physical_id)
    if name:
        _delete_by_name(name, props)


def _create_policy(logical_id: str, props: Properties, stack: str) -> Created:
    policy = props["ResourcePolicy"]
    secretsmanager._put_resource_policy({"SecretId": props["SecretId"], "ResourcePolicy": json.dumps(policy)})
    return props["SecretId"], {"Id": props["SecretId"]}


def _delete_policy(physical_id: str, props: Properties) -> None:
    secretsmanager._delete_resource_policy({"SecretId": physical_id})


def _create_schedule(logical_id: str, props: Properties, stack: str) -> Created:
    status, _, body = _rotate_secret({"SecretId": props["SecretId"], **_rotation(props)})
    if status >= 400:
        raise ValueError(f"AWS::SecretsManager::RotationSchedule: {body.decode()}")
    return props["SecretId"], {"Id": props["SecretId"]}


def _update_schedule(physical_id: str, old: Properties, new: Properties, stack: str) -> Created:
    return _create_schedule("", new, stack)


def _delete_schedule(physical_id: str, props: Properties) -> None:
    _, secret = secretsmanager._resolve(physical_id)
    if secret:
        secret["RotationEnabled"] = False


def _rotation(props: Properties) -> Properties:
    return {key: props[key] for key in ("RotationLambdaARN", "RotationRules") if key in props}


def _get_secret_value(data: dict[str, Any]) -> Response:
    """A version that was staged and never given a value has none to give."""
    response = _get_any_value(data)
    answer = json.loads(response[2])
    if response[0] == 200 and not answer.get("SecretString") and not answer.get("SecretBinary"):
        stage = data.get("VersionStage", "AWSCURRENT")
        return _error(
            "ResourceNotFoundException",
            f"Secrets Manager can't find the specified secret value for staging label: {stage}",
        )
    return response


def _describe_secret(data: dict[str, Any]) -> Response:
    """With the time of the last rotation that came to its end."""
    response = _describe_any(data)
    _, secret = secretsmanager._resolve(data.get("SecretId"))
    if response[0] != 200 or "LastRotatedDate" not in secret:
        return response
    return json_response(json.loads(response[2]) | {"LastRotatedDate": secret["LastRotatedDate"]})


def _put_secret_value(data: dict[str, Any]) -> Response:
    """A version is written once: the same again changes nothing, another is refused."""
    _, secret = secretsmanager._resolve(data.get("SecretId"))
    token = data.get("ClientRequestToken")
    version = secret["Versions"].get(token) if secret else None
    if version and version["SecretString"] is not None:
        if version["SecretString"] != data.get("SecretString"):
            return _error(
                "ResourceExistsException",
                f"You can't use ClientRequestToken {token} because that value is already in use",
            )
        stages = list(version["Stages"])
        return json_response(
            {"ARN": secret["ARN"], "Name": secret["Name"], "VersionId": token, "VersionStages": stages}
        )
    for stage in data.get("VersionStages", []):
        if secret:
            secretsmanager._remove_stage_everywhere(secret, stage, except_version_id=token)
    return _put_any_value(data)


def _rotate_secret(data: dict[str, Any]) -> Response:
    """Stage a new version and have the rotation function take its steps, in the background."""
    _, secret = secretsmanager._resolve(data.get("SecretId"))
    if not secret or secret.get("DeletedDate"):
        return _error("ResourceNotFoundException", "Secrets Manager can't find the specified secret.")
    secret |= _rotation(data)
    function_arn = secret.get("RotationLambdaARN")
    if not function_arn:
        return _error("InvalidRequestException", "No Lambda rotation function ARN is associated with this secret.")
    function = lambda_svc._functions.get(function_arn.rpartition(":")[2])
    if not function or not _may_be_invoked(function):
        return _error(
            "AccessDeniedException",
            f"Secrets Manager cannot invoke the specified Lambda function: {function_arn}",
        )
    for stages in (version["Stages"] for version in secret["Versions"].values()):
        if "AWSPENDING" in stages and "AWSCURRENT" not in stages:
            return _error(
                "InvalidRequestException",
                "A previous rotation isn't complete. That rotation will be reattempted.",
            )
    secret["RotationEnabled"] = True
    token = data.get("ClientRequestToken") or new_uuid()
    secretsmanager._remove_stage_everywhere(secret, "AWSPENDING")
    secret["Versions"][token] = {
        "SecretString": None,
        "SecretBinary": None,
        "CreatedDate": int(time.time()),
        "Stages": ["AWSPENDING"],
    }
    context = contextvars.copy_context()
    threading.Thread(
        target=context.run, args=(_run_steps, function, secret, token), name=f"rotation-{token}", daemon=True
    ).start()
    return json_response({"ARN": secret["ARN"], "Name": secret["Name"], "VersionId": token})


def _run_steps(function: dict[str, Any], secret: dict[str, Any], token: str) -> None:
    for attempt in range(ATTEMPTS):
        for step in STEPS:
            event = {"Step": step, "SecretId": secret["ARN"], "ClientRequestToken": token}
            is_refused = invocations.wakes(function["config"]["FunctionName"])
            if is_refused or lambda_svc._execute_function(function, event).get("error"):
                logger.warning("rotation of %s: %s failed", secret["Name"], step)
                break
        else:
            secret["LastRotatedDate"] = int(time.time())
            return
        time.sleep(2**attempt)


def _may_be_invoked(function: dict[str, Any]) -> bool:
    """Whether the function's own policy lets Secrets Manager invoke it."""
    return any(
        "secretsmanager.amazonaws.com" in json.dumps(statement.get("Principal"))
        for statement in function["policy"]["Statement"]
    )


def _error(code: str, message: str) -> Response:
    return error_response_json(code, message, 400)
