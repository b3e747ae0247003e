"""Acknowledges the scanners' findings of stacks/acknowledgements.toml at their constructs."""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Final, cast

import aws_cdk as cdk
from constructs import Construct, IConstruct

from stacks.constructs.function import LeastPrivilegeFunction
from stacks.constructs.serving_function import ServingFunction
from stacks.settings import Settings

FINDINGS: Final = tomllib.loads(Path(__file__).with_suffix(".toml").read_text())["finding"]


def acknowledge_findings(app: Construct, settings: Settings) -> None:
    """Acknowledge the findings at every construct that has one."""
    prefix = settings.stack_prefix
    for place, construct in _places(app, prefix):
        for finding in FINDINGS:
            if finding["at"] == place and not getattr(settings, finding.get("unless", ""), False):
                ids = (each.replace("{prefix}", prefix).replace("{env}", settings.env) for each in finding["ids"])
                acknowledge(construct, finding["reason"], *ids)


def _places(app: Construct, prefix: str) -> Iterator[tuple[str, IConstruct]]:
    """Every construct at which a finding may be, by what `at` calls it."""
    for construct in app.node.find_all():
        stack, _, path = construct.node.path.removeprefix(prefix).partition("/")
        yield f"{stack}/{path}", construct
        if isinstance(construct, LeastPrivilegeFunction):
            yield "each function", construct
            yield "each function's policy", construct.own_policy
            if construct.interface_policy:
                yield "each function's interface policy", construct.interface_policy
        if isinstance(construct, ServingFunction):
            for each in construct.node.children:
                yield f"each serving function/{each.node.id}", each


def acknowledge(construct: IConstruct, reason: str, *ids: str) -> None:
    """Acknowledge the findings at a construct, by the ids that cdk-nag and checkov report."""
    for each in ids:
        if each.startswith("CKV_"):  # checkov reads only the template.
            resource = cast("cdk.CfnResource", construct.node.default_child)
            skipped = resource.get_metadata("checkov") or {"skip": []}
            skipped["skip"].append({"id": each, "comment": reason})
            resource.add_metadata("checkov", skipped)
        else:
            cdk.Validations.of(construct).acknowledge(cdk.Acknowledgment(id=each, reason=reason))
