#!/usr/bin/env python3
"""The whole system on one page: settings in, stacks wired, nothing else."""

import sys
from typing import Any

import aws_cdk as cdk

from stacks.database import DatabaseStack
from stacks.deployment import DeploymentStack
from stacks.monitoring import MonitoringStack
from stacks.network import NetworkStack
from stacks.service import ServiceStack
from stacks.settings import Settings, SettingsError, from_context


def build(app: cdk.App, settings: Settings) -> None:
    """Add the stacks of one environment to the app.

    Arrows point from what changes often to what hardly changes: monitoring → service →
    database → network. Whoever opens a connection also opens the way (`allow_to`), so that security
    group rules live with the caller; the other direction would make the stable stack wait
    for the volatile one, and two stacks that open ways for each other are a cycle that
    CloudFormation refuses. Objects cross from stack to stack, never ARNs: an imported
    resource has lost the grants and rules that CDK would have made for it.
    """
    prefix = settings.env.capitalize()
    common: Any = {"settings": settings, "termination_protection": settings.is_prod}
    network = NetworkStack(app, f"{prefix}-Network", **common)
    database = DatabaseStack(app, f"{prefix}-Database", network=network, **common)
    service = ServiceStack(app, f"{prefix}-Service", network=network, database=database, **common)
    MonitoringStack(app, f"{prefix}-Monitoring", network=network, database=database, service=service, **common)
    if settings.github_repository:
        DeploymentStack(app, f"{prefix}-Deployment", **common)
    cdk.Tags.of(app).add("application", "demoapp")
    cdk.Tags.of(app).add("environment", settings.env)


def main() -> None:
    app = cdk.App()
    try:
        settings = from_context(app.node.get_all_context())
    except SettingsError as error:
        sys.exit("\n".join(["Settings refused:", *(f"  {fault}" for fault in error.faults)]))
    build(app, settings)
    app.synth()


if __name__ == "__main__":
    main()
