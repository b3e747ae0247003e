"""What the rule packs find in the templates; `make findings` prints it as docs/security.md has it.

Each variant is scanned raw, as if nothing were acknowledged, and as it is.
"""

import json
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final
from unittest import mock

import aws_cdk as cdk
import cdk_nag
from aws_cdk import cloudformation_include
from cdk_nag import AwsSolutionsChecks, HIPAASecurityChecks, NIST80053R5Checks, PCIDSS321Checks, ServerlessChecks

from app import build
from operations.commands import ROOT, environment
from proof.cost import VARIANTS
from proof.install import CHECKOV
from stacks.settings import from_context

PACKS: Final[Mapping[str, Callable[[cdk.App], cdk_nag.NagPack]]] = {
    "AwsSolutions": AwsSolutionsChecks,
    "NIST.800.53.R5": NIST80053R5Checks,
    "HIPAA.Security": HIPAASecurityChecks,
    "PCI.DSS.321": PCIDSS321Checks,
    "Serverless": ServerlessChecks,
}

Finding = tuple[str, str]
"""A rule's id and the path of the construct."""


@dataclass(frozen=True)
class Scan:
    """The findings in one variant."""

    acknowledged: Mapping[Finding, str]
    """Each acknowledged rule at a construct, with the reason."""
    native: frozenset[Finding]
    """By cdk-nag, in the constructs."""
    finished: frozenset[Finding]
    """By cdk-nag, in the finished templates."""
    checkov: frozenset[Finding]
    """By checkov, in the finished templates."""
    checkov_passed: int

    @property
    def found(self) -> frozenset[Finding]:
        """All findings, each once."""
        return self.native | self.finished | self.checkov

    @property
    def unexplained(self) -> set[Finding]:
        """What was found and is not acknowledged at its construct or above it."""
        return {finding for finding in self.found if not any(covers(each, finding) for each in self.acknowledged)}


def covers(acknowledged: Finding, found: Finding) -> bool:
    """Whether the acknowledgement speaks of the finding: the same rule, at the construct or above it."""
    return acknowledged[0] == found[0] and f"{found[1]}/".startswith(f"{acknowledged[1]}/")


@cache
def raw(env: str, egress: str) -> Scan:
    """Scan a variant without its acknowledgements, and take them down."""
    acknowledged: dict[Finding, str] = {}

    def record(construct: Any, reason: str, *ids: str) -> None:
        acknowledged.update({(each, construct.node.path): reason for each in ids})

    with mock.patch("stacks.acknowledgements.acknowledge", record), tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        native, templates = _native(folder, env, egress)
        checkov, passed = _checkov(folder, templates)
        finished = frozenset(finding for name in templates for finding in _finished(folder, name, templates))
    return Scan(acknowledged, native, finished, checkov, passed)


def as_is(env: str, egress: str) -> frozenset[Finding]:
    """Return what cdk-nag and checkov find in a variant beyond what is acknowledged where they look."""
    with tempfile.TemporaryDirectory() as folder:
        native, templates = _native(Path(folder), env, egress)
        return native | _checkov(Path(folder), templates)[0]


def _native(folder: Path, env: str, egress: str) -> tuple[frozenset[Finding], dict[str, dict[str, Any]]]:
    """Return what the packs find in the constructs, and the finished templates by their files' names."""
    flags = json.loads((ROOT / "cdk.json").read_text())["context"]
    flags |= {"aws:cdk:bundling-stacks": [], "aws:cdk:enable-path-metadata": True}
    app = cdk.App(context=flags, outdir=str(folder / "out"))
    cdk.Validations.of(app).add_plugins(*[pack(app) for pack in PACKS.values()])
    build(app, from_context({"env": env, "egress": egress, "github_repository": "owner/name"}))
    violations = _violations(app, folder / "out")
    templates = {file.name: json.loads(file.read_text()) for file in (folder / "out").glob("*.template.json")}
    return frozenset(violations), templates


def _finished(folder: Path, name: str, templates: Mapping[str, dict[str, Any]]) -> Iterator[Finding]:
    """What the packs find in a finished template, where nothing is hidden inside a construct."""
    app = cdk.App(outdir=str(folder / f"included-{name}"))
    cdk.Validations.of(app).add_plugins(*[pack(app) for pack in PACKS.values()])
    without_version_rule = cdk.DefaultStackSynthesizer(generate_bootstrap_version_rule=False)  # The template has it.
    stack = cdk.Stack(app, "Included", synthesizer=without_version_rule)
    cloudformation_include.CfnInclude(stack, "Template", template_file=str(folder / "out" / name))
    paths = _paths(templates[name])
    for rule, path in _violations(app, folder / f"included-{name}"):
        yield rule, paths[path.split("/")[2]]


def _violations(app: cdk.App, out: Path) -> set[Finding]:
    try:
        app.synth()
    except RuntimeError as error:
        if "ValidationFailed" not in str(error):  # CDK raises this when the report has findings.
            raise
    report = json.loads((out / "validation-report.json").read_text())
    return {
        (violation["ruleName"], construct["constructPath"])
        for plugin in report["pluginReports"]
        # CDK's own validation runs in every synth, where stacks/database.py acknowledges what it finds.
        if plugin["pluginName"] != "CloudFormation Validate"
        for violation in plugin["violations"]
        for construct in violation["violatingConstructs"]
    }


def _checkov(folder: Path, templates: Mapping[str, dict[str, Any]]) -> tuple[frozenset[Finding], int]:
    """Return what checkov finds in the finished templates, and how many checks passed."""
    files = [str(folder / "out" / name) for name in templates]
    options = "--framework cloudformation --skip-download --quiet --compact --soft-fail --output json --file"
    run = subprocess.run(
        [CHECKOV / "bin" / "checkov", *options.split(), *files],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    report = json.loads(run.stdout)
    if report["summary"]["parsing_errors"]:
        raise ValueError(f"checkov could not read {report['results']['parsing_errors']}")
    findings = frozenset(
        (failed["check_id"], _paths(templates[Path(failed["file_path"]).name])[failed["resource"].rpartition(".")[2]])
        for failed in report["results"]["failed_checks"]
    )
    return findings, report["summary"]["passed"]


def _paths(template: Mapping[str, Any]) -> dict[str, str]:
    """The construct's path of each logical id."""
    return {
        logical_id: resource.get("Metadata", {}).get("aws:cdk:path", logical_id)
        for logical_id, resource in template["Resources"].items()
    }


def pack_of(rule: str) -> str:
    """The pack that a rule's id belongs to."""
    return "checkov" if rule.startswith("CKV") else next(pack for pack in PACKS if rule.startswith(pack))


def tables() -> str:
    """The findings by pack and variant, and each acknowledged one with its reason, once for all its places."""
    scans = {variant: raw(*variant) for variant in VARIANTS}
    lines = [
        f"| rules | {' | '.join(f'{env}, {egress}' for env, egress in VARIANTS)} | unexplained |",
        f"|---|{'---|' * (len(VARIANTS) + 1)}",
    ]
    for pack in [*PACKS, "checkov"]:
        counts = [sum(pack_of(rule) == pack for rule, _ in scan.found) for scan in scans.values()]
        unexplained = sum(pack_of(rule) == pack for scan in scans.values() for rule, _ in scan.unexplained)
        lines.append(f"| {pack} | {' | '.join(map(str, counts))} | {unexplained} |")
    passed = " | ".join(str(scan.checkov_passed) for scan in scans.values())
    lines += [f"| checkov, checks passed | {passed} | |", ""]
    lines += ["| acknowledged | at | in | reason |", "|---|---|---|---|"]
    rules: dict[tuple[str, str], list[str]] = {}
    variants: Counter[tuple[str, str]] = Counter()
    for (env, _), scan in scans.items():
        seen = set()
        for (rule, path), reason in scan.acknowledged.items():
            at = path.removeprefix(from_context({"env": env}).stack_prefix)
            named = rules.setdefault((at, reason), [])
            named += {re.sub(rf"\b{env}\b", "<env>", rule)} - {*named}
            seen.add((at, reason))
        variants.update(seen)
    places: dict[tuple[str, int, str], list[str]] = {}
    for (at, reason), named in sorted(rules.items()):
        names = ", ".join(f"`{rule}`" for rule in named)
        places.setdefault((names, variants[at, reason], reason), []).append(at)
    for (names, number, reason), found in places.items():
        lines.append(f"| {names} | {', '.join(found)} | {number} of {len(VARIANTS)} | {reason} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(tables())
