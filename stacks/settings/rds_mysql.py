"""What RDS for MySQL offers and what it refuses."""

import re
from collections.abc import Mapping
from typing import Final

RDS_SCHEMAS: Final = frozenset({"information_schema", "innodb", "mysql", "performance_schema", "sys"})
HISTORY: Final = "migrations_history"
"""The database of the migrations' history, which the serving function's users only read."""
REHEARSAL: Final = "migrations_rehearsal"
"""The database in which the migration function tries a statement on empty tables; it makes and drops it."""
RDS_USERS: Final = frozenset({"rdsadmin", "rdsrepladmin", "rdsproxyadmin", "mysql"})

INSTANCE_CLASS: Final = re.compile(r"[a-z][1-9]\d*[a-z]*\.(micro|small|medium|large|([1-9]\d*)?xlarge)")
"""A family and a size, as m7g.large. CDK's own validation knows which of them RDS offers with the engine's version."""
GRAVITON: Final = re.compile(r"[a-z]\d+g")
"""How the families with AWS's own processors begin."""

SERIES: Final = ("5.7", "8.0", "8.4", "9.7")
"""The series that RDS for MySQL offers (https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/MySQL.Concepts.VersionMgmt.html).
"""

SNAPSHOT: Final = r"(arn:aws[\w-]*:rds:[\w-]+:\d{12}:snapshot:)?[A-Za-z](-?[A-Za-z0-9]){0,254}"
"""The name of a manual snapshot, or its ARN; an automated one's has a colon.

https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_CreateDBSnapshot.html
"""

OUT_OF_SUPPORT: Final[Mapping[str, str]] = {"5.7": "2024-02-29", "8.0": "2026-07-31"}
"""The series that have left standard support, and when: RDS takes them with extended support alone."""

TAKEN_MEMORY_MIB: Final = 300
"""Memory of an instance class that the operating system and RDS use, which DBInstanceClassMemory does not include.

Inferred from users' reports: about 60 connections on the micro classes, where the formula with the
whole memory gives 85.
"""


def memory_gib(instance_class: str) -> int:
    """Return the memory of an instance class by its family's first letter and its size.

    Each size has twice the memory of the one before. x2iedn has twice as much as x2g and is counted like
    it: as carrying fewer connections than it does.
    https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/Concepts.DBInstanceClass.Summary.html
    """
    family, _, size = instance_class.partition(".")
    of_m = {"micro": 1, "small": 2, "medium": 4, "large": 8, "xlarge": 16}
    times = {"r": 2, "x": 4}
    return times.get(family[0], 1) * (of_m.get(size) or 16 * int(size.removesuffix("xlarge")))


def name_faults(name: str, value: str, longest: int, taken: frozenset[str]) -> list[str]:
    """Return what RDS for MySQL refuses in a name, if anything.

    https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_CreateDBInstance.html
    """
    if not re.fullmatch(rf"[A-Za-z][A-Za-z0-9_]{{0,{longest - 1}}}", value):
        return [f"{name}={value}: a letter, then letters, digits or underscores, {longest} in all at the most"]
    if value.lower() in taken:
        return [f"{name}={value}: taken by RDS or by this application; choose another name"]
    return []
