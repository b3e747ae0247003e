"""What the rule packs find in the templates; `make findings` prints it as docs/security.md has it.

Each variant is scanned raw, as if nothing were acknowledged, and as it is.
"""

import contextlib
import json
import re
import subprocess
import tarfile
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
from local.install import CHECKOV, ROOT, environment
from stacks.settings import from_context

PACKS: Final[Mapping[str, Callable[[cdk.App], cdk_nag.NagPack]]] = {
    "AwsSolutions": AwsSolutionsChecks,
    "NIST.800.53.R5": NIST80053R5Checks,
    "HIPAA.Security": HIPAASecurityChecks,
    "PCI.DSS.321": PCIDSS321Checks,
    "Serverless": ServerlessChecks,
}

PACK_FILES: Final = dict(
    zip(PACKS, ("aws-solutions", "nist-800-53-r5", "hipaa-security", "pci-dss-321", "serverless"), strict=True)
)

VARIANTS: Final = [(env, egress) for env in ("dev", "prod") for egress in ("endpoints", "nat")]

Finding = tuple[str, str]
"""A rule's id and the path of the construct it speaks of."""


@dataclass(frozen=True)
class Scan:
    """What was found in one variant by one way of looking."""

    acknowledged: Mapping[Finding, str]
    """Each acknowledged rule at a construct, with the reason."""
    native: frozenset[Finding]
    """By cdk-nag, in the constructs."""
    finished: frozenset[Finding]
    """By cdk-nag, in the finished templates."""
    checkov: frozenset[Finding]
    """By checkov, in the finished templates."""
    checkov_passed: int
    kinds: frozenset[str]
    """The types of the resources, as AWS::RDS::DBInstance."""

    @property
    def found(self) -> frozenset[Finding]:
        """Everything, the same finding by two ways of looking once."""
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

    with contextlib.ExitStack() as patches, tempfile.TemporaryDirectory() as temporary:
        for room in ("network", "database", "function", "service"):
            patches.enter_context(mock.patch(f"stacks.{room}.acknowledge", record))
        folder = Path(temporary)
        native, templates = _native(folder, env, egress)
        checkov, passed = _checkov(folder, templates)
        finished = frozenset(finding for name in templates for finding in _finished(folder, name, templates))
    kinds = frozenset(resource["Type"] for each in templates.values() for resource in each["Resources"].values())
    return Scan(acknowledged, native, finished, checkov, passed, kinds)


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
        if "ValidationFailed" not in str(error):  # That is how CDK says that the report has findings.
            raise
    report = json.loads((out / "validation-report.json").read_text())
    return {
        (violation["ruleName"], construct["constructPath"])
        for plugin in report["pluginReports"]
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


def _rules(pack: str, kinds: frozenset[str]) -> tuple[int, int]:
    """Count the pack's rules that look at one of these types of resource, and all its rules.

    cdk-nag does not report what it found in order; its own code says what each rule looks at.
    """
    (archive,) = Path(cdk_nag.__file__).parent.glob("_jsii/*.tgz")
    looks_at = {}
    with tarfile.open(archive) as files:
        for member in files:
            source = files.extractfile(member)
            rule = re.fullmatch(r"package/lib/rules/\w+/(\w+)\.js", member.name)
            if source and rule:
                types = re.findall(r"instanceof aws_(\w+)_1\.Cfn(\w+)", source.read().decode())
                looks_at[rule[1]] = {f"aws::{service}::{name}".lower() for service, name in types}
            elif source and member.name == f"package/lib/packs/{PACK_FILES[pack]}.js":
                names = set(re.findall(r"rule: \w+\.(\w+)", source.read().decode()))
    present = {kind.lower() for kind in kinds}
    return sum(not present.isdisjoint(looks_at[name]) for name in names), len(names)


def tables() -> str:
    """The findings by pack and variant, and each acknowledged one with its reason."""
    scans = {variant: raw(*variant) for variant in VARIANTS}
    lines = [
        f"| rules | that apply, of all | {' | '.join(f'{env}, {egress}' for env, egress in VARIANTS)} | unexplained |",
        f"|---|{'---|' * (len(VARIANTS) + 2)}",
    ]
    kinds = frozenset().union(*(scan.kinds for scan in scans.values()))
    for pack in [*PACKS, "checkov"]:
        counts = [sum(pack_of(rule) == pack for rule, _ in scan.found) for scan in scans.values()]
        unexplained = sum(pack_of(rule) == pack for scan in scans.values() for rule, _ in scan.unexplained)
        apply = "{} of {}".format(*_rules(pack, kinds)) if pack in PACKS else ""
        lines.append(f"| {pack} | {apply} | {' | '.join(map(str, counts))} | {unexplained} |")
    passed = " | ".join(str(scan.checkov_passed) for scan in scans.values())
    lines += [f"| checkov, checks passed | | {passed} | |", ""]
    lines += ["| acknowledged | at | in | reason |", "|---|---|---|---|"]
    reasons: dict[tuple[str, str], list[str]] = {}
    variants: Counter[tuple[str, str]] = Counter()
    for scan in scans.values():
        seen = set()
        for (rule, path), reason in scan.acknowledged.items():
            at = path.partition("-")[2]
            rules = reasons.setdefault((at, reason), [])
            if rule not in rules:
                rules.append(rule)
            seen.add((at, reason))
        variants.update(seen)
    for (at, reason), rules in sorted(reasons.items()):
        names = ", ".join(f"`{rule}`" for rule in rules)
        lines.append(f"| {names} | {at} | {variants[at, reason]} of {len(VARIANTS)} | {reason} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(tables())
