"""IAM: the endpoint's policy, and the key's policy and grants for what AWS's services encrypt.

ministack evaluates the caller's policies and the resource's; a key's only for KMS's own API, and without grants. The
order is that of https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic_policy-eval-basics-request-context.html:
a Deny in any policy wins, and each kind of policy that applies must allow. This patch can go when ministack does so.
"""

from typing import Any, Final

from ministack.core import iam_evaluator
from ministack.core.iam_evaluator import (
    AuthError,
    EvalContext,
    PrincipalInfo,
    _principal_matches,
    evaluate,
    evaluate_resource_policy,
)
from ministack.core.lambda_runtime import ProvidedRuntimeError
from ministack.core.responses import error_response_json, get_account_id, get_region
from ministack.services import cloudwatch, ec2, iam, kms, secretsmanager, sns
from ministack.services.cloudformation import provisioners

from local.ministack_patches import Created, Properties
from local.ministack_patches.network import passed

Context = dict[str, Any]

SECRETS: Final = {
    "secretsmanager:GetSecretValue": "kms:Decrypt",
    "secretsmanager:PutSecretValue": "kms:GenerateDataKey",
    "secretsmanager:UpdateSecret": "kms:GenerateDataKey",
}
"""What Secrets Manager does with a secret's own key in the caller's name.

https://docs.aws.amazon.com/secretsmanager/latest/userguide/security-encryption.html#security-encryption-using-cmk
"""
LOGS: Final = ("logs:FilterLogEvents", "logs:GetLogEvents", "logs:StartQuery")
EVERYTHING: Final = iam_evaluator.parse_policy_document(
    {"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}
)
_enforce = iam_evaluator.enforce
_put_key_policy = kms._put_key_policy
_is_topic = cloudwatch._is_sns_action_arn


def install() -> None:
    """Have both evaluated."""
    iam_evaluator.enforce = _enforce_all
    kms._put_key_policy = _put_policy_without_lockout
    cloudwatch._is_sns_action_arn = _is_topic_for_alarms
    groups = provisioners._RESOURCE_HANDLERS["AWS::Logs::LogGroup"]
    create_group = groups["create"]
    topics = provisioners._RESOURCE_HANDLERS["AWS::SNS::Topic"]
    create_any_topic = topics["create"]

    def create_log_group(logical_id: str, props: Properties, stack: str) -> Created:
        name, attributes = create_group(logical_id, props, stack)
        if not _logs_may(name, props.get("KmsKeyId"), "kms:Encrypt", "kms:Decrypt", "kms:GenerateDataKey"):
            groups["delete"](name, props)
            arn = attributes["Arn"].removesuffix(":*")
            raise ValueError(f"The specified KMS key does not exist or is not allowed to be used with Arn '{arn}'")
        return name, attributes

    def create_topic(logical_id: str, props: Properties, stack: str) -> Created:
        arn, attributes = create_any_topic(logical_id, props, stack)
        sns._topics[arn]["attributes"]["KmsMasterKeyId"] = props.get("KmsMasterKeyId", "")
        return arn, attributes

    groups["create"] = create_log_group
    topics["create"] = create_topic


def _enforce_all(  # noqa: PLR0917 - its signature in ministack
    access_key_id: str, action: str, service: str, region: str, resource_arn: str = "*", service_context: Any = None
) -> Any:
    """Make the check of ministack, and the two that it lacks."""
    account = get_account_id()
    denied = _enforce(access_key_id, action, service, region, resource_arn, service_context)
    principal = iam_evaluator.resolve_principal(access_key_id, account)
    if isinstance(denied, AuthError) or isinstance(principal, AuthError):
        return denied
    if denied and denied.decision != "Deny" and service == "kms":
        key = kms._resolve_key(resource_arn)
        denied = None if key and may_use(principal, action, key, {}) else denied
    return (
        denied
        or _denied_by_endpoint(principal, action, service, resource_arn, service_context or {})
        or _denied_by_key(principal, action, resource_arn)
    )


def _denied_by_endpoint(
    principal: PrincipalInfo, action: str, service: str, resource: str, context: Context
) -> AuthError | None:
    """The refusal of the endpoint that the request passed, or None.

    https://docs.aws.amazon.com/vpc/latest/privatelink/vpc-endpoints-access.html
    """
    if not passed.get():
        return None
    endpoint = ec2._vpc_endpoints.get(passed.get(), {"ServiceName": "", "PolicyDocument": {"Statement": []}})
    if not endpoint["ServiceName"].endswith(f".{service}"):
        return AuthError("UnknownOperationException", f"this endpoint does not serve {service}")
    decision = "Allow"
    if endpoint.get("PolicyDocument"):  # Without one, all requests pass.
        asked = _context(principal, action, resource, context)
        decision = evaluate_resource_policy(endpoint["PolicyDocument"], asked).decision
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
        key = kms._resolve_key((secret or {}).get("KmsKeyId") or "")
        context = _via("secretsmanager", {"SecretARN": secret["ARN"]}) if key else {}
        if key and not may_use(principal, SECRETS[action], key, context):
            return AuthError("AccessDeniedException", "Access to KMS is not allowed")
    if action in LOGS:
        from ministack.services import cloudwatch_logs

        name = resource.partition(":log-group:")[2].partition(":")[0]
        group = cloudwatch_logs._log_groups.get(name, {})
        if not _logs_may(name, group.get("kmsKeyId"), "kms:Decrypt"):
            return AuthError("AccessDeniedException", f"CloudWatch Logs may not use the KMS key of {name}")
    return None


def _logs_may(group: str, key_id: str | None, *actions: str) -> bool:
    """Whether CloudWatch Logs may use the log group's key, if it has one.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/encrypt-log-data-kms.html
    """
    arn = f"arn:aws:logs:{get_region()}:{get_account_id()}:log-group:{group}"
    key = kms._resolve_key(key_id or "")
    service = f"logs.{get_region()}.amazonaws.com"
    context = {"kms:encryptioncontext:aws:logs:arn": arn}
    return not key_id or (bool(key) and all(may_use(service, each, key, context) for each in actions))


def _is_topic_for_alarms(action: str) -> bool:
    """An alarm's message reaches a topic only if CloudWatch may use the topic's key.

    https://docs.aws.amazon.com/sns/latest/dg/sns-key-management.html#compatibility-with-aws-services
    """
    if not _is_topic(action):
        return False
    key = kms._resolve_key(sns._topics.get(action, {}).get("attributes", {}).get("KmsMasterKeyId") or "")
    context = {"aws:sourceaccount": get_account_id(), "kms:encryptioncontext:aws:sns:topicarn": action}
    needed = ("kms:Decrypt", "kms:GenerateDataKey")
    return not key or all(may_use("cloudwatch.amazonaws.com", each, key, context) for each in needed)


def grant_variables(function: dict[str, Any]) -> None:
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
    deploying = PrincipalInfo(arn, "AssumedRole", get_account_id(), [EVERYTHING])
    for action in ("kms:CreateGrant", "kms:Encrypt"):
        if not may_use(deploying, action, key, _via("lambda", {})):
            raise ValueError(
                "Lambda was unable to configure access to your environment variables because the KMS key is invalid "
                f"for {action.partition(':')[2]}. Please check your KMS key settings."
            )
    given = {"KeyId": key["KeyId"], "GranteePrincipal": function["Role"], "Name": function["FunctionName"]}
    constraints = {"EncryptionContextSubset": {"aws:lambda:FunctionArn": _unqualified(function)}}
    kms._create_grant(given | {"Operations": ["Decrypt", "RetireGrant"], "Constraints": constraints})


def check_variables(function: dict[str, Any]) -> None:
    """Decrypt the function's variables, when an environment starts.

    Raises:
        ProvidedRuntimeError: KMS does not let the function's role.
    """
    key = _key_of_variables(function)
    name = function["Role"].rpartition("/")[2]
    arn = f"arn:aws:sts::{get_account_id()}:assumed-role/{name}/{function['FunctionName']}"
    policies = iam_evaluator._gather_role_policies(name, get_account_id())
    limits = iam_evaluator._permissions_boundary(iam._roles, name, get_account_id())
    role = PrincipalInfo(arn, "AssumedRole", get_account_id(), policies, {}, limits)
    context = _via("lambda", {"aws:lambda:FunctionArn": _unqualified(function)})
    if key and not may_use(role, "kms:Decrypt", key, context):
        raise ProvidedRuntimeError(
            "Lambda was unable to decrypt the environment variables because KMS access was denied. "
            "Please check the function's KMS key settings.",
            "KMSAccessDeniedException",
        )


def _unqualified(function: dict[str, Any]) -> str:
    """Return the function's ARN without a version."""
    return ":".join(function["FunctionArn"].split(":")[:7])


def _key_of_variables(function: dict[str, Any]) -> dict[str, Any] | None:
    has_any = bool((function.get("Environment") or {}).get("Variables"))
    key: dict[str, Any] | None = kms._resolve_key(function.get("KMSKeyArn") or "") if has_any else None
    return key


def _put_policy_without_lockout(data: dict[str, Any]) -> Any:
    """Refuse a policy by which nobody could change it again.

    https://docs.aws.amazon.com/kms/latest/APIReference/API_PutKeyPolicy.html#KMS-PutKeyPolicy-request-BypassPolicyLockoutSafetyCheck
    """
    key = kms._resolve_key(data.get("KeyId", ""))
    caller = PrincipalInfo(iam_evaluator.caller_arn(), "", get_account_id(), [EVERYTHING])
    is_open = key and may_use(caller, "kms:PutKeyPolicy", key | {"Policy": data["Policy"]}, {})
    if key and not is_open and not data.get("BypassPolicyLockoutSafetyCheck"):
        told = "The new key policy will not allow you to update the key policy in the future."
        return error_response_json("MalformedPolicyDocumentException", told, 400)
    return _put_key_policy(data)


def may_use(principal: PrincipalInfo | str, action: str, key: dict[str, Any], context: Context) -> bool:
    """Whether a principal, or a service of AWS by its name, may do this with the key.

    The key's policy must allow it, to the principal itself or by leaving it to the account's policies, or a grant
    must; a Deny anywhere wins (https://docs.aws.amazon.com/kms/latest/developerguide/policy-evaluation.html,
    https://docs.aws.amazon.com/kms/latest/developerguide/grants.html).
    """
    if key["KeyState"] != "Enabled":
        return False
    if isinstance(principal, str):
        asked = _context(PrincipalInfo("", "Service", "", []), action, key["Arn"], context)
        result = evaluate_resource_policy(key["Policy"], asked, service=principal)
    else:
        asked = _context(principal, action, key["Arn"], context)
        policies, limits = principal.policies, tuple(principal.limits)
        identity = evaluate(asked, [EVERYTHING] if policies is None else policies, *limits)
        given = (identity, asked, key["Policy"], get_account_id())
        result = iam_evaluator.combine_resource_policy(*given, required=True, limits=limits)
    return result.decision == "Allow" or (result.decision != "Deny" and _is_granted(principal, action, key, context))


def _is_granted(principal: PrincipalInfo | str, action: str, key: dict[str, Any], context: Context) -> bool:
    prefix = "kms:encryptioncontext:"
    given = {name.removeprefix(prefix): value for name, value in context.items() if name.startswith(prefix)}
    for grant in kms._grants.values():
        to = grant["GranteePrincipal"]
        is_principal = to == principal if isinstance(principal, str) else _principal_matches({"AWS": to}, principal.arn)
        constraints = grant.get("Constraints") or {}
        equal, subset = (
            {name.lower(): value for name, value in constraints.get(f"EncryptionContext{kind}", {}).items()}
            for kind in ("Equals", "Subset")
        )
        fits = (not equal or given == equal) and subset.items() <= given.items()
        if grant["KeyId"] == key["Arn"] and action.partition(":")[2] in grant["Operations"] and is_principal and fits:
            return True
    return False


def _context(principal: PrincipalInfo, action: str, resource: str, context: Context) -> EvalContext:
    return EvalContext(
        principal_arn=principal.arn,
        principal_type=principal.type,
        principal_account=principal.account,
        action=action,
        resource_arn=resource,
        region=get_region(),
        service_context={name.lower(): value for name, value in context.items()},
        principal_keys=principal.keys,
    )


def _via(service: str, encryption_context: dict[str, str]) -> Context:
    """The condition keys of a call that a service makes in the caller's name.

    https://docs.aws.amazon.com/kms/latest/developerguide/conditions-kms.html
    """
    given = {f"kms:encryptioncontext:{name}".lower(): value for name, value in encryption_context.items()}
    return given | {"kms:viaservice": f"{service}.{get_region()}.amazonaws.com", "kms:calleraccount": get_account_id()}
