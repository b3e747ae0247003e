"""The finished templates of one environment, without packaging the functions' code."""

import json
import os
from typing import Any, Final

import aws_cdk as cdk

from app import build
from stacks.settings import from_context
from tools import assemblies
from tools.commands import CACHE, ROOT

TEMPLATES: Final = CACHE / "templates"
KEPT: Final = 100


def lasting_context() -> dict[str, Any]:
    """CDK's context under version control: its feature flags, and the environments' lasting settings."""
    context: dict[str, Any] = json.loads((ROOT / "cdk.json").read_text())["context"]
    return context


def synthesise(**context: str) -> dict[str, dict[str, Any]]:
    """Return the templates by their stack's name without its environment; `context` overrides cdk.json's settings.

    A tree that was synthesised before with this context is not synthesised again.
    """
    kept = TEMPLATES / f"{assemblies.digest(ROOT, [f'{name}={value}' for name, value in sorted(context.items())])}.json"
    if kept.exists():
        os.utime(kept)
        templates: dict[str, dict[str, Any]] = json.loads(kept.read_text())
        return templates
    templates = synthesise_anew(**context)
    TEMPLATES.mkdir(parents=True, exist_ok=True)
    own = kept.with_suffix(f".{os.getpid()}")
    own.write_text(json.dumps(templates))
    own.rename(kept)
    for old in assemblies.oldest(TEMPLATES, KEPT):
        old.unlink(missing_ok=True)
    return templates


def synthesise_anew(**context: str) -> dict[str, dict[str, Any]]:
    """Return what `synthesise` returns, and use nothing that is kept."""
    given = lasting_context() | context
    app = cdk.App(context=given | {"aws:cdk:bundling-stacks": []})
    build(app, from_context(given))
    return {stack.stack_name.partition("-")[2]: stack.template for stack in app.synth().stacks}
