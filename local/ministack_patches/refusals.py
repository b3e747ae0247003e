"""CloudFormation: what it refuses on AWS, and ministack lets through. Each refusal can go when ministack has it."""

import copy
import json
import os
from typing import Any, Final

from ministack.services import lambda_svc, rds
from ministack.services.cloudformation import _exports, _stacks, handlers, provisioners, stacks

from local.ministack_patches import Created, Properties

OF_AN_UPDATE: Final = ("LastModified", "LastUpdate", "RevisionId", "State")
"""Beginnings of the names of fields that differ after an update that changed nothing else."""

_publish_version = lambda_svc._publish_version
_create_version = provisioners._lambda_version_create
_resolve_outputs = stacks._resolve_stack_outputs


def install() -> None:
    """Refuse, with AWS's words."""
    stacks._resolve_stack_outputs = _outputs_without_used_exports
    lambda_svc._publish_version = _publish
    provisioners._lambda_version_create = _create_new_version
    provisioners._RESOURCE_HANDLERS["AWS::Lambda::Version"]["create"] = _create_new_version
    groups = provisioners._RESOURCE_HANDLERS["AWS::Logs::LogGroup"]
    create_group = groups["create"]

    def create_log_group(logical_id: str, props: Properties, stack: str) -> Created:
        """A name that a retained log group still has is taken."""
        from ministack.services import cloudwatch_logs

        name = props.get("LogGroupName")
        if name and name in cloudwatch_logs._log_groups:
            identifier = json.dumps({"/properties/LogGroupName": name})
            raise ValueError(f"Resource of type 'AWS::Logs::LogGroup' with identifier '{identifier}' already exists.")
        return create_group(logical_id, props, stack)

    groups["create"] = create_log_group


def check_instance_update(identifier: str, old: Properties, new: Properties) -> None:
    """Refuse a change that RDS's resource provider refuses.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-rds-dbinstance.html
    and https://github.com/aws-cloudformation/aws-cloudformation-resource-providers-rds/issues/538.
    """
    if old.get("EngineLifecycleSupport") != new.get("EngineLifecycleSupport"):
        raise ValueError("EngineLifecycleSupport cannot be modified on an existing DB instance.")
    is_named = new.get("DBInstanceIdentifier") == old.get("DBInstanceIdentifier") == identifier
    if is_named and provisioners._requires_replacement("AWS::RDS::DBInstance", old, new):
        raise ValueError(
            "CloudFormation cannot update a stack when a custom-named resource requires replacing. "
            f"Rename {identifier} and update the stack again."
        )


def check_instance_delete(identifier: str) -> None:
    """Refuse to delete an instance that is protected.

    https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_DeleteDBInstance.html
    """
    if rds._instances.get(identifier, {}).get("DeletionProtection") in (True, "true"):
        raise ValueError("Cannot delete protected DB Instance, please disable deletion protection and try again.")


def check_concurrency(name: str, reserved: int) -> None:
    """Refuse a reservation that leaves the account too little (Lambda developer guide, "Reserved concurrency").

    `LOCAL_CONCURRENCY_LIMIT` is the account's limit; AWS keeps 100 of it unreserved, or all of a smaller one.
    """
    limit = int(os.environ.get("LOCAL_CONCURRENCY_LIMIT", "1000"))
    least = min(100, limit)
    others = sum(function.get("concurrency") or 0 for other, function in lambda_svc._functions.items() if other != name)
    if limit - others - reserved < least:
        raise ValueError(
            "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution "
            f"below its minimum value of [{least}]."
        )


def _publish(name: str, data: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
    """Keep what a version was made of."""
    _recognise(name)
    answer: tuple[int, dict[str, str], bytes] = _publish_version(name, data)
    if answer[0] == 201:
        function = lambda_svc._functions[name]
        function["versions"][json.loads(answer[2])["Version"]]["made_of"] = _content(function)
    return answer


def _create_new_version(logical_id: str, props: Properties, stack: str) -> Created:
    """CloudFormation's, which refuses where Lambda gives the version that there is.

    As after `cdk deploy --hotswap`, which published it: https://github.com/aws/aws-cdk/issues/35540
    """
    _recognise(lambda_svc._resolve_name_and_qualifier(props["FunctionName"])[0])
    created: Created = _create_version(logical_id, props, stack)
    return created


def _recognise(name: str) -> None:
    """Tell ministack of an update that changed nothing since the last version; it goes by the number of updates.

    https://docs.aws.amazon.com/lambda/latest/api/API_PublishVersion.html
    """
    function = lambda_svc._functions.get(name)
    if function and function["versions"]:
        last = function["versions"][max(function["versions"], key=int)]
        if last.get("made_of") == _content(function):
            last["function_revision"] = function["config"]["RevisionId"]


def _content(function: dict[str, Any]) -> dict[str, Any]:
    """A function's configuration and the hash of its code."""
    configuration = function["config"]
    return copy.deepcopy({name: configuration[name] for name in configuration if not name.startswith(OF_AN_UPDATE)})


def _outputs_without_used_exports(*args: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """An export that another stack imports is neither changed nor deleted.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/using-cfn-stack-exports.html
    """
    outputs, exports = _resolve_outputs(*args)
    stack_name, stack_id = args[-2:]
    for export, record in list(_exports.items()):
        new = exports.get(export)
        if record["StackId"] != stack_id or (new and new["Value"] == record["Value"]):
            continue
        for other, stack in _stacks.items():
            is_there = stack.get("StackStatus", "").endswith("_COMPLETE") and "DELETE" not in stack["StackStatus"]
            if other != stack_name and is_there and export in handlers._imported_export_names(stack, other):
                verb = "updated" if new else "deleted"
                raise ValueError(f"Export {export} cannot be {verb} as it is in use by {other}")
    return outputs, exports
