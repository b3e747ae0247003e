"""IAM: the endpoint's policy, and the key's policy and grants for what AWS's services encrypt.

ministack evaluates the caller's policies and the resource's; a key's only for KMS's own API, and without grants. The
order is that of https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic_policy-eval-basics-request-context.html:
a Deny in any policy wins, and each kind of policy that applies must allow. This patch can go when ministack does so.
"""

from dataclasses import replace
from typing import Any, Final

from ministack.core import iam_evaluator
from ministack.core.iam_evaluator import AuthError, EvalContext, EvalResult, PrincipalInfo, evaluate_resource_policy
from ministack.core.lambda_runtime import ProvidedRuntimeError, execution_credentials
from ministack.core.responses import error_response_json, get_account_id, get_region
from ministack.services import cloudwatch, cloudwatch_logs, ec2, kms, secretsmanager, sns
from ministack.services.cloudformation import provisioners

from local.ministack_patches import Created, Properties
from local.ministack_patches.network import Record, passed

SECRETS: Final = {
    "secretsmanager:GetSecretValue": "kms:Decrypt",
    "secretsmanager:PutSecretValue": "kms:GenerateDataKey",
    "secretsmanager:UpdateSecret": "kms:GenerateDataKey",
}
"""What Secrets Manager does with a secret's own key in the caller's name.

https://docs.aws.amazon.com/secretsmanager/latest/userguide/security-encryption.html#security-encryption-using-cmk
"""
LOGS: Final = ("logs:FilterLogEvents", "logs:GetLogEvents", "logs:StartQuery")
_enforce = iam_evaluator.enforce
_put_key_policy = kms._put_key_policy
_is_topic = cloudwatch._is_sns_action_arn


def install() -> None:
    """Have both evaluated."""
    iam_evaluator.enforce = _enforce_all
    kms._put_key_policy = _put_policy_without_lockout
    cloudwatch._is_sns_action_arn = _is_topic_for_alarms
    groups, topics = (provisioners._RESOURCE_HANDLERS[f"AWS::{kind}"] for kind in ("Logs::LogGroup", "SNS::Topic"))
    create_any_group, create_any_topic = groups["create"], topics["create"]

    def create_group(logical_id: str, props: Properties, stack: str) -> Created:
        name, attributes = create_any_group(logical_id, props, stack)
        if not _logs_may(name, "kms:Encrypt", "kms:Decrypt", "kms:GenerateDataKey"):
            groups["delete"](name, props)
            arn = attributes["Arn"].removesuffix(":*")
            raise ValueError(f"The specified KMS key does not exist or is not allowed to be used with Arn '{arn}'")
        return name, attributes

    def create_topic(logical_id: str, props: Properties, stack: str) -> Created:
        arn, attributes = create_any_topic(logical_id, props, stack)
        sns._topics[arn]["attributes"]["KmsMasterKeyId"] = props.get("KmsMasterKeyId", "")
        return arn, attributes

    groups["create"], topics["create"] = create_group, create_topic


def _enforce_all(  # noqa: PLR0917 - its signature in ministack
    access_key_id: str, action: str, service: str, region: str, resource_arn: str = "*", service_context: Any = None
) -> Any:
    """Make the check of ministack, and the two that it lacks."""
    denied = _enforce(access_key_id, action, service, region, resource_arn, service_context)
    principal = iam_evaluator.resolve_principal(access_key_id, get_account_id())
    if isinstance(denied, AuthError) or isinstance(principal, AuthError):
        return denied
    if denied and denied.decision != "Deny" and service == "kms":
        key = kms._resolve_key(resource_arn)
        denied = None if key and may_use(principal, action, key) else denied
    return (
        denied
        or _denied_by_endpoint(principal, action, service, resource_arn, service_context or {})
        or _denied_by_key(principal, action, resource_arn)
    )


def _denied_by_endpoint(
    principal: PrincipalInfo, action: str, service: str, resource: str, context: Record
) -> AuthError | None:
    """The refusal of the endpoint that the request passed, or None.

    https://docs.aws.amazon.com/vpc/latest/privatelink/vpc-endpoints-access.html
    """
    if not passed.get():
        return None
    endpoint = ec2._vpc_endpoints.get(passed.get(), {"ServiceName": "", "PolicyDocument": {"Statement": []}})
    if not endpoint["ServiceName"].endswith(f".{service}"):
        return AuthError("UnknownOperationException", f"this endpoint does not serve {service}")
    policy, asked = endpoint.get("PolicyDocument"), _context(principal, action, resource, context)
    decision = evaluate_resource_policy(policy, asked).decision if policy else "Allow"  # Without one, all pass.
    if decision == "Allow":
        return None
    why = f"because no VPC endpoint policy allows the {action} action"
    if decision == "Deny":
        why = "with an explicit deny in a VPC endpoint policy"
    told = f"User: {principal.arn} is not authorized to perform: {action} on resource: {resource} {why}"
    return AuthError("AccessDeniedException", told)


def _denied_by_key(principal: PrincipalInfo, action: str, resource: str) -> AuthError | None:
    """The refusal of the key under which a secret or a log is encrypted, or None."""
    if action in SECRETS:
        _, secret = secretsmanager._resolve(resource)
        key = kms._resolve_key((secret or {}).get("KmsKeyId"))
        if key and not may_use(principal, SECRETS[action], key, {"SecretARN": secret["ARN"]}, "secretsmanager"):
            return AuthError("AccessDeniedException", "Access to KMS is not allowed")
    if action in LOGS:
        name = resource.partition(":log-group:")[2].partition(":")[0]
        if not _logs_may(name, "kms:Decrypt"):
            return AuthError("AccessDeniedException", f"CloudWatch Logs may not use the KMS key of {name}")
    return None


def _logs_may(group: str, *actions: str) -> bool:
    """Whether CloudWatch Logs may use the log group's key, if it has one.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/encrypt-log-data-kms.html
    """
    key_id = cloudwatch_logs._log_groups.get(group, {}).get("kmsKeyId")
    key = kms._resolve_key(key_id)
    logs = PrincipalInfo(f"logs.{get_region()}.amazonaws.com", "Service", "", [])
    context = {"aws:logs:arn": f"arn:aws:logs:{get_region()}:{get_account_id()}:log-group:{group}"}
    return not key_id or (bool(key) and all(may_use(logs, each, key, context) for each in actions))


def _is_topic_for_alarms(action: str) -> bool:
    """An alarm's message reaches a topic only if CloudWatch may use the topic's key.

    https://docs.aws.amazon.com/sns/latest/dg/sns-key-management.html#compatibility-with-aws-services
    """
    if not _is_topic(action):
        return False
    key = kms._resolve_key(sns._topics.get(action, {}).get("attributes", {}).get("KmsMasterKeyId"))
    alarms = PrincipalInfo("cloudwatch.amazonaws.com", "Service", "", [], {"aws:sourceaccount": get_account_id()})
    needed, context = ("kms:Decrypt", "kms:GenerateDataKey"), {"aws:sns:topicArn": action}
    return not key or all(may_use(alarms, each, key, context) for each in needed)


def grant_variables(function: Record) -> None:
    """Give the function's role a grant to decrypt the function's variables, as Lambda does for who creates it.

    https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars-encryption.html. Deploys are made by CDK's
    own role, whose policies allow everything.

    Raises:
        ValueError: the key's policy does not let that role give it.
    """
    key = _key_of_variables(function)
    if not key:
        return
    arn = f"arn:aws:sts::{get_account_id()}:assumed-role/deploying/session"
    deploying = PrincipalInfo(arn, "AssumedRole", get_account_id(), None)
    for action in ("kms:CreateGrant", "kms:Encrypt"):
        if not may_use(deploying, action, key, via="lambda"):
            raise ValueError(
                "Lambda was unable to configure access to your environment variables because the KMS key is invalid "
                f"for {action.partition(':')[2]}. Please check your KMS key settings."
            )
    given = {"KeyId": key["KeyId"], "GranteePrincipal": function["Role"], "Name": function["FunctionName"]}
    constraints = {"EncryptionContextSubset": _context_of_variables(function)}
    kms._create_grant(given | {"Operations": ["Decrypt", "RetireGrant"], "Constraints": constraints})


def check_variables(function: Record) -> None:
    """Decrypt the function's variables, when an environment starts.

    Raises:
        ProvidedRuntimeError: KMS does not let the function's role.
    """
    key = _key_of_variables(function)
    session = execution_credentials(function)["AWS_ACCESS_KEY_ID"]
    # Lambda asks for it, so that the keys of a call from the function's code are not there.
    role = replace(iam_evaluator.resolve_principal(session, get_account_id()), keys={})
    if key and not may_use(role, "kms:Decrypt", key, _context_of_variables(function), "lambda"):
        raise ProvidedRuntimeError(
            "Lambda was unable to decrypt the environment variables because KMS access was denied. "
            "Please check the function's KMS key settings.",
            "KMSAccessDeniedException",
        )


def _context_of_variables(function: Record) -> dict[str, str]:
    """Return the encryption context of a function's variables: its ARN without a version."""
    return {"aws:lambda:FunctionArn": ":".join(function["FunctionArn"].split(":")[:7])}


def _key_of_variables(function: Record) -> Any:
    has_any = (function.get("Environment") or {}).get("Variables")
    return kms._resolve_key(function.get("KMSKeyArn")) if has_any else None


def _put_policy_without_lockout(data: Record) -> Any:
    """Refuse a policy by which nobody could change it again.

    https://docs.aws.amazon.com/kms/latest/APIReference/API_PutKeyPolicy.html#KMS-PutKeyPolicy-request-BypassPolicyLockoutSafetyCheck
    """
    key = kms._resolve_key(data.get("KeyId"))
    caller = PrincipalInfo(iam_evaluator.caller_arn(), "", get_account_id(), None)
    is_open = key and may_use(caller, "kms:PutKeyPolicy", key | {"Policy": data["Policy"], "KeyState": "Enabled"})
    if key and not is_open and not data.get("BypassPolicyLockoutSafetyCheck"):
        told = "The new key policy will not allow you to update the key policy in the future."
        return error_response_json("MalformedPolicyDocumentException", told, 400)
    return _put_key_policy(data)


def may_use(principal: PrincipalInfo, action: str, key: Record, context: Record | None = None, via: str = "") -> bool:
    """Whether a principal, or a service of AWS, may do this with the key.

    The key's policy must allow it, to the principal itself or by leaving it to the account's policies, or a grant
    must; a Deny anywhere wins (https://docs.aws.amazon.com/kms/latest/developerguide/policy-evaluation.html).

    Args:
        principal: of type "Service", with the service's name for an ARN, or without policies where all is allowed.
        action: of KMS.
        key: KMS's record.
        context: the encryption context.
        via: the service that asks in the principal's name.
    """
    if key["KeyState"] != "Enabled":
        return False
    # https://docs.aws.amazon.com/kms/latest/developerguide/conditions-kms.html
    given = {f"kms:encryptioncontext:{name}": value for name, value in (context or {}).items()}
    given |= {"kms:viaservice": f"{via}.{get_region()}.amazonaws.com"} if via else {}
    asked = _context(principal, action, key["Arn"], given | {"kms:calleraccount": get_account_id()})
    if principal.type == "Service":
        result = evaluate_resource_policy(key["Policy"], asked, service=principal.arn)
    else:
        policies, limits = principal.policies, tuple(principal.limits)
        identity = EvalResult("Allow") if policies is None else iam_evaluator.evaluate(asked, policies, *limits)
        decisions = (identity, asked, key["Policy"], get_account_id())
        result = iam_evaluator.combine_resource_policy(*decisions, required=True, limits=limits)
    is_granted = any(_gives(grant, principal, action, key, context or {}) for grant in kms._grants.values())
    return result.decision == "Allow" or (result.decision != "Deny" and is_granted)


def _gives(grant: Record, principal: PrincipalInfo, action: str, key: Record, context: Record) -> bool:
    """Whether a grant allows it: https://docs.aws.amazon.com/kms/latest/developerguide/grants.html."""
    constraints = grant.get("Constraints") or {}
    return (
        grant["KeyId"] == key["Arn"]
        and action.partition(":")[2] in grant["Operations"]
        and iam_evaluator._principal_matches({"AWS": grant["GranteePrincipal"]}, principal.arn)
        and constraints.get("EncryptionContextEquals", context) == context
        and constraints.get("EncryptionContextSubset", {}).items() <= context.items()
    )


def _context(principal: PrincipalInfo, action: str, resource: str, given: Record) -> EvalContext:
    who = (principal.arn, principal.type, principal.account)
    keys = {name.lower(): value for name, value in given.items()}
    return EvalContext(*who, action, resource, get_region(), service_context=keys, principal_keys=principal.keys)
