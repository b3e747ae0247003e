"""Lambda, Parameter Store and Secrets Manager: what they refuse, and ministack takes.

Each refusal can go when ministack has it.
"""

import base64
import json
import re
from typing import Any, Final

from ministack.core.responses import error_response_json, json_response
from ministack.services import lambda_svc, secretsmanager, ssm

Response = tuple[int, dict[str, str], bytes]

PAYLOAD: Final = {"RequestResponse": 6_291_456, "Event": 1_048_576}
"""Bytes of an event, by type of invocation (https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html)."""
PARAMETER: Final = {"Standard": 4096, "Advanced": 8192}
"""Characters of a value by tier.

https://docs.aws.amazon.com/systems-manager/latest/userguide/parameter-store-advanced-parameters.html
"""
SECRET: Final = 65_536
"""Bytes of a value (https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_limits.html)."""
SECRET_NAME: Final = re.compile(r"[A-Za-z0-9/_+=.@!-]{1,512}")
"""https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_CreateSecret.html"""
SECRET_PATH: Final = "/aws/reference/secretsmanager/"  # noqa: S105 - a path
"""https://docs.aws.amazon.com/systems-manager/latest/userguide/integration-ps-secretsmanager.html"""

_PARTIAL_ARN: Final = re.compile(r"\d{12}:function:(.+)")
_INVOCATION: Final = re.compile(r".*/functions/([^/]+)/invocations")

_handle_lambda = lambda_svc.handle_request
_resolve = lambda_svc._resolve_name_and_qualifier
_create_alias = lambda_svc._create_alias
_update_alias = lambda_svc._update_alias
_put_parameter = ssm._put_parameter
_get_parameter = ssm._get_parameter
_create_secret = secretsmanager._create_secret
_update_secret = secretsmanager._update_secret


def install() -> None:
    """Refuse, with AWS's codes."""
    lambda_svc.handle_request = _handle
    lambda_svc._resolve_name_and_qualifier = _resolve_partial_arn
    lambda_svc._create_alias = lambda name, data: _unknown_version(name, data) or _create_alias(name, data)
    lambda_svc._update_alias = lambda name, alias, data: (
        _unknown_version(name, data) or _update_alias(name, alias, data)
    )
    ssm._put_parameter = lambda data: _parameter_refusal(data) or _put_parameter(data)
    ssm._get_parameter = _get_parameter_or_secret
    secretsmanager._create_secret = lambda data: _name_refusal(data) or _size_refusal(data) or _create_secret(data)
    secretsmanager._update_secret = lambda data: _size_refusal(data) or _update_secret(data)
    put_value = secretsmanager._put_secret_value  # Another patch's.
    secretsmanager._put_secret_value = lambda data: _size_refusal(data) or put_value(data)


async def _handle(method: str, path: str, headers: dict[str, str], body: bytes, query: dict[str, Any]) -> Any:
    """https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html."""
    found = _INVOCATION.fullmatch(lambda_svc.unquote(path))
    refusal = _invocation_refusal(found[1], headers, body, query) if found else None
    return refusal or await _handle_lambda(method, path, headers, body, query)


def _invocation_refusal(target: str, headers: dict[str, str], body: bytes, query: dict[str, Any]) -> Response | None:
    most = PAYLOAD.get(headers.get("x-amz-invocation-type", "RequestResponse"))
    if most and len(body) > most:
        message = f"Request must be smaller than {most} bytes for the InvokeFunction operation"
        return error_response_json("RequestTooLargeException", message, 413)
    try:
        json.loads(body or b"{}")
    except ValueError as error:
        message = f"Could not parse request body into json: {error}"
        return error_response_json("InvalidRequestContentException", message, 400)
    name, qualifier = lambda_svc._resolve_request_scoped_name_and_qualifier(target)
    asked = lambda_svc._qp_first(query, "Qualifier")
    if qualifier and asked and asked != qualifier:
        message = "The derived qualifier from the function name does not match the specified qualifier."
        return error_response_json("InvalidParameterValueException", message, 400)
    function = lambda_svc._functions.get(name)
    alias = function["aliases"].get(qualifier or asked) if function else None
    return _unknown_version(name, alias) if alias else None


def _resolve_partial_arn(name: str) -> tuple[str, str | None]:
    """A partial ARN, `123456789012:function:name`, with or without a qualifier.

    https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html
    """
    found = _PARTIAL_ARN.fullmatch(name or "")
    resolved: tuple[str, str | None] = _resolve(found[1] if found else name)
    return resolved


def _unknown_version(name: str, data: dict[str, Any]) -> Response | None:
    """An alias of a version that is not there.

    https://docs.aws.amazon.com/lambda/latest/api/API_UpdateAlias.html
    """
    weights = (data.get("RoutingConfig") or {}).get("AdditionalVersionWeights") or {}
    wanted = [data["FunctionVersion"]] if "FunctionVersion" in data else []
    for version in [*wanted, *weights]:
        if name in lambda_svc._functions and version not in ("$LATEST", *lambda_svc._functions[name]["versions"]):
            message = f"Function not found: {lambda_svc._func_arn(name)}:{version}"
            return error_response_json("ResourceNotFoundException", message, 404)
    return None


def _parameter_refusal(data: dict[str, Any]) -> Response | None:
    value, tier = data.get("Value") or "", data.get("Tier") or "Standard"
    if not value:
        message = (
            "1 validation error detected: Value '' at 'value' failed to satisfy constraint: "
            "Member must have length greater than or equal to 1."
        )
        return error_response_json("ValidationException", message, 400)
    most = PARAMETER.get(tier, PARAMETER["Advanced"])
    if len(value) > most:
        message = f"{tier} tier parameters support a maximum parameter value of {most} characters."
        return error_response_json("ValidationException", message, 400)
    return None


def _name_refusal(data: dict[str, Any]) -> Response | None:
    if SECRET_NAME.fullmatch(data.get("Name") or ""):
        return None
    message = "Invalid name. Must be a valid name containing alphanumeric characters, or any of the following: -/_+=.@!"
    return error_response_json("ValidationException", message, 400)


def _size_refusal(data: dict[str, Any]) -> Response | None:
    sizes = {
        "secretString": len((data.get("SecretString") or "").encode()),
        "secretBinary": len(base64.b64decode(data.get("SecretBinary") or "")),
    }
    for name, size in sizes.items():
        if size > SECRET:
            message = (
                f"1 validation error detected: Value at '{name}' failed to satisfy constraint: "
                f"Member must have length less than or equal to {SECRET}"
            )
            return error_response_json("ValidationException", message, 400)
    return None


def _get_parameter_or_secret(data: dict[str, Any]) -> Response:
    """A secret by its path in Parameter Store, of which a label is a stage or a version's id."""
    name = str(data.get("Name"))
    if not name.startswith(SECRET_PATH):
        answer: Response = _get_parameter(data)
        return answer
    if not data.get("WithDecryption"):
        message = "WithDecryption flag must be True for retrieving a Secret Manager secret."
        return error_response_json("ValidationException", message, 400)
    path, _, label = name.partition(":")
    _, secret = secretsmanager._resolve(path.removeprefix(SECRET_PATH))
    for version_id, version in ({} if not secret or secret.get("DeletedDate") else secret["Versions"]).items():
        value = version["SecretString"]
        if (label or "AWSCURRENT") not in (version_id, *version["Stages"]) or value is None:
            continue
        source = {"ARN": secret["ARN"], "name": secret["Name"], "versionId": version_id, "secretString": value}
        found = {
            "ARN": secret["ARN"],
            "Name": path,
            "Type": "SecureString",
            "Value": value,
            "Version": 0,
            "LastModifiedDate": version["CreatedDate"],
            "SourceResult": json.dumps(source | {"versionStages": list(version["Stages"])}),
        }
        return json_response({"Parameter": found | ({"Selector": f":{label}"} if label else {})})
    message = (
        f"An error occurred (ResourceNotFoundException) when referencing Secrets Manager: Secret {path} not found."
    )
    return error_response_json("ParameterNotFound", message, 400)
