"""Checks of the stacks: that they are what this checkout deploys, and that nobody changed them by hand."""

import json
import time
from functools import partial
from typing import Any

from operations.verify.deployed import STACKS, Deployed
from operations.verify.report import CheckFailedError, check

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
    """Paths at which two templates differ; metadata that only the command line adds is passed over."""
    if not (isinstance(one, dict) and isinstance(other, dict)):
        return [] if one == other else [path]
    return [
        difference
        for key in sorted({*one, *other} - {"Metadata"})
        for difference in _differences(one.get(key), other.get(key), f"{path}/{key}")
    ]


@check("Nobody has changed a resource by hand since the deploy")
def drift(deployed: Deployed) -> str:
    """CloudFormation's drift detection, which changes nothing but its own record."""
    client = deployed.client("cloudformation")
    begun = {
        stack: client.detect_stack_drift(StackName=deployed.stack_name(stack))["StackDriftDetectionId"]
        for stack in STACKS
    }
    drifted = []
    for stack, detection in begun.items():
        ask = partial(client.describe_stack_drift_detection_status, StackDriftDetectionId=detection)
        while (status := ask())["DetectionStatus"] == "DETECTION_IN_PROGRESS":
            time.sleep(1)
        if status["DetectionStatus"] == "DETECTION_FAILED":
            raise CheckFailedError(f"{stack}: {status.get('DetectionStatusReason')}", "a finished drift detection")
        found = client.describe_stack_resource_drifts(
            StackName=deployed.stack_name(stack), StackResourceDriftStatusFilters=["MODIFIED", "DELETED"]
        )
        drifted += [
            f"{stack}/{each['LogicalResourceId']} {each['StackResourceDriftStatus'].lower()}"
            for each in found["StackResourceDrifts"]
        ]
    if drifted:
        raise CheckFailedError(", ".join(drifted), "no drift")
    return "in sync"
