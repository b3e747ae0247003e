"""Findings of rule packs that stay, each with a reason that a reviewer could dispute."""

import aws_cdk as cdk
from constructs import IConstruct


def acknowledge(construct: IConstruct, reason: str, *ids: str) -> None:
    """Acknowledge the findings at a construct, by the ids that cdk-nag reports.

    A test proves that what is acknowledged is what is found, no more and no less.
    """
    for each in ids:
        cdk.Validations.of(construct).acknowledge(cdk.Acknowledgment(id=each, reason=reason))
