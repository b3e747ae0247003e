"""Findings of rule packs that stay, each with a reason that a reviewer could dispute."""

import aws_cdk as cdk
from constructs import IConstruct


def acknowledge(construct: IConstruct, reason: str, *ids: str) -> None:
    """Acknowledge the findings at a construct, by the ids that cdk-nag and checkov report.

    A test proves that what is acknowledged is what is found, no more and no less.
    """
    for each in ids:
        if each.startswith("CKV_"):  # checkov reads the template, and knows only what is written there.
            resource = construct.node.default_child
            assert isinstance(resource, cdk.CfnResource)  # noqa: S101 - checkov finds resources, not constructs
            skipped = resource.get_metadata("checkov") or {"skip": []}
            skipped["skip"].append({"id": each, "comment": reason})
            resource.add_metadata("checkov", skipped)
        else:
            cdk.Validations.of(construct).acknowledge(cdk.Acknowledgment(id=each, reason=reason))
