"""The finished templates of one environment, without packaging the functions' code."""

import json
from typing import Any

import aws_cdk as cdk

from app import build
from stacks.settings import from_context
from tools.commands import ROOT


def lasting_context() -> dict[str, Any]:
    """CDK's context under version control: its feature flags, and the environments' lasting settings."""
    context: dict[str, Any] = json.loads((ROOT / "cdk.json").read_text())["context"]
    return context


def synthesise(**context: str) -> dict[str, dict[str, Any]]:
    """Return the templates by their stack's name without its environment; `context` overrides cdk.json's settings."""
    given = lasting_context() | context
    app = cdk.App(context=given | {"aws:cdk:bundling-stacks": []})
    build(app, from_context(given))
    return {stack.stack_name.partition("-")[2]: stack.template for stack in app.synth().stacks}
