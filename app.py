#!/usr/bin/env python3
"""The CDK app: reads the settings, and creates and connects the stacks of one environment."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import aws_cdk as cdk

from stacks.acknowledgements import acknowledge_findings
from stacks.constructs.ownership import keep_others_from_deploying
from stacks.database import DatabaseStack
from stacks.deployment import DeploymentStack
from stacks.monitoring import MonitoringStack
from stacks.network import NetworkStack
from stacks.packaging.dependencies import DependenciesError
from stacks.packaging.migrations import MigrationsError, check_migrations
from stacks.service import ServiceStack
from stacks.settings import Settings, SettingsError, from_context


def build(app: cdk.App, settings: Settings) -> None:
    """Add the stacks of one environment to the app.

    Stacks that change often depend on stacks that rarely change: monitoring → service → database → network.
    The stack that opens a connection also adds the security group rules (`allow_to`), so the rules are
    declared with the caller. In the other direction the two stacks would depend on each other, which
    CloudFormation refuses. Stacks pass objects to each other, not ARNs: CDK creates no grants and rules for
    an imported resource.
    """
    prefix = settings.stack_prefix
    app.node.set_context("@aws-cdk/core:bootstrapQualifier", settings.bootstrap_qualifier)
    network = NetworkStack(app, f"{prefix}Network", settings=settings)
    database = DatabaseStack(app, f"{prefix}Database", settings=settings, network=network)
    service = ServiceStack(app, f"{prefix}Service", settings=settings, network=network, database=database)
    MonitoringStack(app, f"{prefix}Monitoring", settings=settings, network=network, database=database, service=service)
    if settings.github_repository:
        DeploymentStack(app, f"{prefix}Deployment", settings=settings)
    keep_others_from_deploying(app, settings)
    cdk.Tags.of(app).add("application", settings.application)
    cdk.Tags.of(app).add("environment", settings.env)
    acknowledge_findings(app, settings)


def lasting_context() -> dict[str, Any]:
    """Return cdk.json's context: CDK's feature flags, the application's name, and the environments' lasting settings.

    Raises:
        SettingsError: the file is not JSON, or holds something else.
    """
    try:
        content = json.loads(Path(__file__).with_name("cdk.json").read_text())
    except json.JSONDecodeError as error:
        raise SettingsError([f"cdk.json: line {error.lineno}, column {error.colno}: {error.msg}"]) from None
    context = content.get("context", {}) if isinstance(content, dict) else None
    if not isinstance(context, dict):
        raise SettingsError(["cdk.json: not an object with an object `context`"])
    return context


def lasting_settings(env: str = "dev", region: str = "") -> Settings:
    """Return an environment's settings as cdk.json has them.

    Raises:
        SettingsError: naming every fault.
    """
    return from_context(lasting_context() | {"env": env}, region)


def templates(**context: str) -> dict[str, dict[str, Any]]:
    """Return the finished templates by their stack's name without its environment; no code is packaged.

    Args:
        context: settings that override those of cdk.json.

    Raises:
        SettingsError: naming every fault.
    """
    given = lasting_context() | context
    settings = from_context(given)
    app = cdk.App(context=given | {"aws:cdk:bundling-stacks": []})
    build(app, settings)
    return {stack.stack_name.removeprefix(settings.stack_prefix): stack.template for stack in app.synth().stacks}


def main() -> None:
    app = cdk.App()
    try:
        settings = from_context(app.node.get_all_context(), os.environ.get("CDK_DEFAULT_REGION", ""))
        check_migrations()
        build(app, settings)
    except SettingsError as error:
        sys.exit(str(error))
    except MigrationsError as error:
        sys.exit(f"Migrations refused:\n{error}")
    except DependenciesError as error:
        sys.exit(f"The functions cannot be packaged: {error}")
    app.synth()


if __name__ == "__main__":
    main()
