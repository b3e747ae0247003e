r"""What a month costs, item by item (`make cost`): counted in the templates, priced by proof/prices.json.

The prices were copied by hand from AWS's pages. To check one, in an account:

    aws pricing get-products --region us-east-1 --service-code AmazonRDS --filters \
      Type=TERM_MATCH,Field=instanceType,Value=db.m7g.large Type=TERM_MATCH,Field=databaseEngine,Value=MySQL \
      Type=TERM_MATCH,Field=deploymentOption,Value=Multi-AZ Type=TERM_MATCH,Field=regionCode,Value=us-east-1
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from app import templates
from stacks.settings import ENVIRONMENTS

TABLE: Final = json.loads((Path(__file__).parent / "prices.json").read_text())
HOURS: Final = TABLE["hours_a_month"]

INVOCATIONS: Final = 1_000_000
"""Invocations a month, of 20 ms with 512 MB and 600 bytes of log each."""

VARIANTS: Final = [(env, egress) for env in ENVIRONMENTS for egress in ("endpoints", "nat")]

AWS_SAMPLE: Final = Counter(
    {
        "RDS for MySQL, Multi-AZ, db.t3.small": HOURS,
        "RDS storage, gp3 or gp2, Multi-AZ": 20,
        "NAT gateway": HOURS,
        "Public IPv4 address": HOURS,
        "Secret": 1,
    }
)
"""The AWS sample: one NAT gateway, one secret, no alarm.

Its db.t2.small is no longer offered; the next class is counted.
"""


EACH: Final = {
    "AWS::CloudWatch::Alarm": ("Alarm", 1),
    "AWS::CloudWatch::Dashboard": ("Dashboard", 1),
    "AWS::EC2::EIP": ("Public IPv4 address", HOURS),
    "AWS::EC2::NatGateway": ("NAT gateway", HOURS),
    "AWS::KMS::Key": ("KMS key", 1),
    "AWS::Logs::MetricFilter": ("Metric from logs", 1),
    "AWS::SecretsManager::Secret": ("Secret", 1),
}
"""What each resource of a type costs: the item of the price table, and its units a month."""


def quantities(env: str, egress: str) -> Counter[str]:
    """Count what is billed in one variant's templates: units a month of each item of the price table."""
    counted = _traffic()
    for resource in _resources(env, egress):
        kind, properties = resource["Type"], resource.get("Properties", {})
        if kind in EACH:
            item, units = EACH[kind]
            counted[item] += units
        elif kind == "AWS::EC2::VPCEndpoint":
            counted["Interface endpoint, each zone"] += HOURS * len(properties["SubnetIds"])
        elif kind == "AWS::RDS::DBInstance":
            counted[f"RDS for MySQL, Multi-AZ, {properties['DBInstanceClass']}"] += HOURS
            counted["RDS storage, gp3 or gp2, Multi-AZ"] += int(properties["AllocatedStorage"])
            counted["Secret"] += 1  # The master user's secret, which RDS creates.
    return counted


def monthly(counted: Mapping[str, float]) -> str:
    """The sum in the price table's currency; what has no price there is said with a question mark."""
    priced = {item: float(entry["price"]) for item, entry in TABLE["prices"].items()}
    known = sum(priced[item] * quantity for item, quantity in counted.items() if item in priced)
    return f"{known:.0f}{'' if set(counted) <= set(priced) else ' + ?'}"


def table() -> str:
    """Return the estimate as a table: an item a line, a variant a column."""
    columns = {f"{env}, {egress}": quantities(env, egress) for env, egress in VARIANTS}
    columns["the AWS sample"] = AWS_SAMPLE + _traffic()
    lines = [
        f"| {TABLE['currency']} a month, {TABLE['region']}, {TABLE['date']} | {' | '.join(columns)} |",
        f"|---|{'---:|' * len(columns)}",
    ]
    for item, entry in TABLE["prices"].items():
        costs = [entry["price"] * counted[item] for counted in columns.values()]
        lines.append(f"| {item} | {' | '.join(f'{cost:.2f}' if cost else '' for cost in costs)} |")
    for item in sorted(set().union(*columns.values()) - set(TABLE["prices"])):
        cells = ("no price" if counted[item] else "" for counted in columns.values())
        lines.append(f"| {item} | {' | '.join(cells)} |")
    totals = [f"**{monthly(counted)}**" for counted in columns.values()]
    lines.append(f"| **together** | {' | '.join(totals)} |")
    return "\n".join(lines)


def totals() -> str:
    """The table's head and its sums alone."""
    head, line, *_, together = table().splitlines()
    return f"{head}\n{line}\n{together}"


def _traffic() -> Counter[str]:
    counted: Counter[str] = Counter()
    counted["Lambda, million requests"] = INVOCATIONS // 1_000_000
    counted["Lambda, Arm, GB-second"] = INVOCATIONS // 100  # 0.5 GB for 0.02 s each
    counted["Logs taken in"] = INVOCATIONS * 600 // 10**9 + 1  # rounded up
    return counted


def _resources(env: str, egress: str) -> Iterator[dict[str, Any]]:
    for template in templates(env=env, egress=egress).values():
        yield from template["Resources"].values()


if __name__ == "__main__":
    print(table())
    if "no price" in table():
        print("\nproof/prices.json has no price of some items; proof/cost.py has the command that asks AWS.")
    print(f"\n{INVOCATIONS:,} invocations a month. Source: {TABLE['source']}.")
