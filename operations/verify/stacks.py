"""Checks of the stacks: that they are what this checkout deploys, and that nobody changed them by hand."""

import json
import time
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Final

from operations.verify.deployed import STACKS, Deployed
from operations.verify.report import CheckFailedError, NotCheckableError, check

SECRET: Final = ("AWS::SecretsManager::Secret", "AWS::SecretsManager::SecretTargetAttachment")
"""Types of which CloudFormation reads the secret's value, for which a reading role has no right."""
_RULES: Final = "of this and of other stacks, which CloudFormation does not tell apart; security-groups compares each"
NO_DRIFT: Final[Mapping[tuple[str, str], str]] = {
    ("AWS::EC2::SecurityGroup", "SecurityGroupIngress"): f"rules {_RULES}",
    ("AWS::EC2::SecurityGroup", "SecurityGroupEgress"): f"rules {_RULES}",
    ("AWS::RDS::DBInstance", "AllocatedStorage"): "storage that RDS has let grow",
    ("AWS::SSM::Parameter", "Value"): "a value set without a deploy, which --revert-drift would take back",
}
"""What may differ from the template, by type and property, and why: by itself, or because it is there to be set.

https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/using-cfn-stack-drift.html#drift-considerations
"""
STABLE = ("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE")


@check("The stacks are what this checkout would deploy")
def checkout(deployed: Deployed) -> str:
    """Compares the templates; the functions' code is in them by its hash."""
    client = deployed.client("cloudformation")
    different = []
    for stack in STACKS:
        name = deployed.stack_name(stack)
        (described,) = client.describe_stacks(StackName=name)["Stacks"]
        if described["StackStatus"] not in STABLE:
            raise CheckFailedError(f"{name}: {described['StackStatus']}", " or ".join(STABLE))
        body = client.get_template(StackName=name)["TemplateBody"]
        there = json.loads(body) if isinstance(body, str) else body
        different += [f"{stack}{path}" for path in _differences(there, deployed.templates[stack])]
    if different:
        raise CheckFailedError(f"differences at {', '.join(different[:5])}", "none; see: make diff")
    return f"{len(STACKS)} stacks, no difference"


def _differences(one: Any, other: Any, path: str = "") -> list[str]:
    """Paths at which two templates differ; metadata that only the command line adds is passed over.

    A zone that was the first of a list stays so in the stack when the settings name it: CloudFormation sees no change
    and keeps its template. Another zone would be one.
    """
    if not (isinstance(one, dict) and isinstance(other, dict)):
        is_named_now = path.endswith("/AvailabilityZone") and "Fn::GetAZs" in str(one) and isinstance(other, str)
        return [] if one == other or is_named_now else [path]
    return [
        difference
        for key in sorted({*one, *other} - {"Metadata"})
        for difference in _differences(one.get(key), other.get(key), f"{path}/{key}")
    ]


@check("Nobody has changed a resource by hand since the deploy")
def drift(deployed: Deployed) -> str:
    """CloudFormation's drift detection, which changes nothing but its own record.

    CloudFormation reads each resource in the caller's name. What it may not read is not checked: the values of
    secrets always, when they are read without the right to it.
    """
    client = deployed.client("cloudformation")
    begun = {
        stack: client.detect_stack_drift(StackName=deployed.stack_name(stack))["StackDriftDetectionId"]
        for stack in STACKS
    }
    stacks, drifted, unread, notes = set(), [], [], []
    for stack, detection in begun.items():
        for each in _compared(client, deployed.stack_name(stack), detection):
            name, state = f"{stack}/{each['LogicalResourceId']}", each["StackResourceDriftStatus"]
            paths = [difference["PropertyPath"] for difference in each.get("PropertyDifferences", [])]
            if state == "UNKNOWN" and each["ResourceType"] in SECRET:
                notes.append(f"{name} not read")
            elif state == "UNKNOWN":
                unread.append(f"{name}: {each.get('DriftStatusReason')}")
            elif reasons := _own_changes(each["ResourceType"], paths):
                notes.append(f"{name}: {', '.join(reasons)}")
            elif state in ("MODIFIED", "DELETED"):
                stacks.add(deployed.stack_name(stack))
                drifted.append(" ".join([name, state.lower(), *paths]))
    if drifted:
        remedy = f"npx cdk deploy -c env={deployed.settings.env} {' '.join(sorted(stacks))} --revert-drift"
        raise CheckFailedError("; ".join([*drifted, *notes]), f"no drift; this puts it back: {remedy}")
    if unread:
        raise NotCheckableError(f"CloudFormation could not read {'; '.join(unread)}")
    return "; ".join(["in sync", *notes])


def _own_changes(kind: str, paths: list[str]) -> set[str]:
    """Why the properties differ, when each of them may."""
    reasons = [NO_DRIFT.get((kind, path.split("/")[1])) for path in paths]
    return {str(each) for each in reasons} if all(reasons) else set()


def _compared(client: Any, stack: str, detection: str) -> Iterator[dict[str, Any]]:
    """The resources that were compared, and one named * when others could not be read and are not named."""
    ask = partial(client.describe_stack_drift_detection_status, StackDriftDetectionId=detection)
    while (status := ask())["DetectionStatus"] == "DETECTION_IN_PROGRESS":
        time.sleep(1)
    states, page = set(), client.describe_stack_resource_drifts(StackName=stack)
    while True:  # The SDK has no paginator for it.
        for each in page["StackResourceDrifts"]:
            states.add(each["StackResourceDriftStatus"])
            yield each
        if "NextToken" not in page:
            break
        page = client.describe_stack_resource_drifts(StackName=stack, NextToken=page["NextToken"])
    if status["DetectionStatus"] == "DETECTION_FAILED" and "UNKNOWN" not in states:
        reason = {"DriftStatusReason": status.get("DetectionStatusReason")}
        yield {"LogicalResourceId": "*", "ResourceType": "", "StackResourceDriftStatus": "UNKNOWN", **reason}
