"""Acknowledges the scanners' findings of stacks/acknowledgements.toml at their constructs."""

import tomllib
from pathlib import Path
from typing import Final

import aws_cdk as cdk
from constructs import Construct, IConstruct

from stacks.constructs.function import LeastPrivilegeFunction
from stacks.deployment import DeploymentStack
from stacks.settings import Settings

FINDINGS: Final = tomllib.loads(Path(__file__).with_suffix(".toml").read_text())["finding"]


def acknowledge_findings(app: Construct, settings: Settings) -> None:
    """Acknowledge the findings at every construct that has one."""
    for stack in app.node.children:
        if isinstance(stack, DeploymentStack):
            for policy, rule, reason in stack.wide_policies:
                acknowledge(policy, reason, rule)
        for construct in stack.node.children:
            places = {f"{stack.node.id.partition('-')[2]}/{construct.node.id}"}
            if isinstance(construct, LeastPrivilegeFunction):
                places.add("each function")
                for policy, rule, reason in construct.wide_policies:
                    acknowledge(policy, reason, rule)
            for finding in FINDINGS:
                if finding["at"] in places and not getattr(settings, finding.get("unless", ""), False):
                    acknowledge(construct, finding["reason"], *finding["ids"])


def acknowledge(construct: IConstruct, reason: str, *ids: str) -> None:
    """Acknowledge the findings at a construct, by the ids that cdk-nag and checkov report."""
    for each in ids:
        if each.startswith("CKV_"):  # checkov reads only the template.
            resource = construct.node.default_child
            assert isinstance(resource, cdk.CfnResource)  # noqa: S101 - checkov finds resources, not constructs
            skipped = resource.get_metadata("checkov") or {"skip": []}
            skipped["skip"].append({"id": each, "comment": reason})
            resource.add_metadata("checkov", skipped)
        else:
            cdk.Validations.of(construct).acknowledge(cdk.Acknowledgment(id=each, reason=reason))
