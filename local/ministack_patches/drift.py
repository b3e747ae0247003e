"""CloudFormation's drift detection: it reads in the name of who asks, and more than ministack does.

Read too is an instance's storage, which RDS lets grow. This patch can go when ministack reads it, and with the
caller's rights.
https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/using-cfn-stack-drift.html
"""

from collections.abc import Callable
from typing import Any, Final

from ministack.core import iam_evaluator
from ministack.core.responses import get_account_id, get_region
from ministack.services import rds
from ministack.services.cloudformation import drift

from local.ministack_patches import Properties

_RIGHTS: Final = {
    "AWS::IAM::Role": ("iam:GetRole", "*"),
    "AWS::Lambda::Function": ("lambda:GetFunction", "arn:aws:lambda:{region}:{account}:function:{id}"),
    "AWS::Logs::LogGroup": ("logs:DescribeLogGroups", "*"),
    "AWS::RDS::DBInstance": ("rds:DescribeDBInstances", "*"),
    "AWS::SNS::Topic": ("sns:GetTopicAttributes", "*"),
    "AWS::SSM::Parameter": ("ssm:GetParameters", "arn:aws:ssm:{region}:{account}:parameter{id}"),
    "AWS::SecretsManager::Secret": ("secretsmanager:GetSecretValue", "{id}"),
}
"""The right that reading a type takes, of those in its schema the one that tells roles apart."""


def install() -> None:
    """Have each type read so."""
    drift._DRIFT_READERS["AWS::RDS::DBInstance"] = (_read_instance, frozenset({"AllocatedStorage"}))
    for kind, (action, resource) in _RIGHTS.items():
        reader, properties = drift._DRIFT_READERS[kind]
        drift._DRIFT_READERS[kind] = (_as_caller(reader, action, resource), properties)


def _as_caller(read: Callable[[str, Properties], Any], action: str, resource: str) -> Callable[[str, Properties], Any]:
    def read_if_allowed(physical_id: str, props: Properties) -> Any:
        arn, account = iam_evaluator.caller_arn(), get_account_id()
        if ":assumed-role/" in arn:
            place = resource.format(region=get_region(), account=account, id=physical_id)
            context = iam_evaluator.EvalContext(arn, "AssumedRole", account, action, place, get_region())
            policies = iam_evaluator._gather_role_policies(iam_evaluator._role_name_from_assumed_arn(arn), account)
            if iam_evaluator.evaluate(context, policies).decision != "Allow":
                raise PermissionError(f"User: {arn} is not authorized to perform: {action} on resource: {place}")
        return read(physical_id, props)

    return read_if_allowed


def _read_instance(physical_id: str, props: Properties) -> Properties | None:
    found = rds._instances.get(physical_id)
    return found and {"AllocatedStorage": found["AllocatedStorage"]}
