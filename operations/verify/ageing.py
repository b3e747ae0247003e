"""What ends or grows old while nobody deploys: a weekly workflow asks (`make verify ENV=dev OPTIONS=--ageing`)."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509

from operations.aws import listed
from operations.verify.deployed import Deployed
from operations.verify.function import layer_versions
from operations.verify.report import CheckFailedError, check
from stacks.settings.checks import ROOT_CERTIFICATES

LAYER_DAYS: Final = 30
"""Days after which an older layer may have a hole that is known."""
NOTICE: Final = timedelta(days=180)
"""Before the end of a root certificate, or of the engine's standard support."""


@check("Nothing that runs is old, near its end or asleep: layer, root certificates, engine, functions", loud=True)
def ageing(deployed: Deployed) -> str:
    """Changes nothing, but a deploy need not wait for it."""
    questions: tuple[Callable[[Deployed, datetime], Iterator[str]], ...] = (_layer, _certificates, _engine, _asleep)
    found = [fault for question in questions for fault in question(deployed, datetime.now(UTC))]
    if found:
        raise CheckFailedError("; ".join(found), "nothing old, near its end or asleep")
    return "layer, root certificates, engine and functions"


def _layer(deployed: Deployed, now: datetime) -> Iterator[str]:
    """By when callers' version took the layer as the newest, or when AWS published what is the newest now."""
    published = [datetime.fromisoformat(live["LastModified"]) for live in deployed.live.values()]
    days = (now - min([*published, deployed.newest_layer["LastModifiedDate"]])).days
    used, latest = layer_versions(deployed)
    if used < latest and days > LAYER_DAYS:
        yield f"layer version {used}, and AWS has {latest}, for {days} days: {deployed.move_layer}"


def _certificates(deployed: Deployed, now: datetime) -> Iterator[str]:
    """The region's root certificates in the functions' package."""
    _, *blocks = ROOT_CERTIFICATES.read_text().split(f"\n# {deployed.region}\n")
    ends = min(x509.load_pem_x509_certificate(each.encode()).not_valid_after_utc for each in blocks)
    if ends < now + NOTICE:
        yield f"a root certificate of RDS ends on {ends:%Y-%m-%d}: make certificates, then deploy"


def _engine(deployed: Deployed, now: datetime) -> Iterator[str]:
    """Standard support; RDS upgrades the instance itself when that has ended, or bills extended support."""
    series = ".".join(deployed.instance["EngineVersion"].split(".")[:2])
    versions = listed(
        deployed.client("rds"),
        "describe_db_major_engine_versions",
        "DBMajorEngineVersions",
        Engine="mysql",
        MajorEngineVersion=series,
    )
    for lifecycle in (each for version in versions for each in version["SupportedEngineLifecycles"]):
        ends = lifecycle["LifecycleSupportEndDate"]
        if lifecycle["LifecycleSupportName"] == "open-source-rds-standard-support" and ends < now + NOTICE:
            yield f"MySQL {series} leaves standard support on {ends:%Y-%m-%d}: docs/operations.md, Upgrade the engine"


def _asleep(deployed: Deployed, now: datetime) -> Iterator[str]:
    """Lambda takes the interfaces of a function that was not invoked for weeks; its next invocation fails.

    https://docs.aws.amazon.com/lambda/latest/dg/functions-states.html
    """
    for name, function in deployed.functions.items():
        state = deployed.client("lambda").get_function_configuration(FunctionName=function).get("State")
        if state == "Inactive":
            yield f"{name} is Inactive: aws lambda invoke --function-name {function} /dev/null, and again when Active"
