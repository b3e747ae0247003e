"""What RDS for MySQL offers and what it refuses."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

RESERVED_WORDS: Final = frozenset((Path(__file__).parent / "mysql_reserved_words.txt").read_text().split())
"""Words reserved by MySQL 8.0 to 8.4 (MySQL reference manual, 11.3), lower case."""

RDS_SCHEMAS: Final = frozenset({"innodb", "mysql", "sys"})
RDS_USERS: Final = frozenset({"rdsadmin", "rdsrepladmin", "rdsproxyadmin", "mysql"})

INSTANCE_MEMORY_GIB: Final[Mapping[str, int]] = {
    f"{family}.{size}": gib
    for families, sizes in {
        ("t3", "t4g"): {"micro": 1, "small": 2, "medium": 4, "large": 8, "xlarge": 16, "2xlarge": 32},
        ("m6g", "m7g", "m8g"): {"large": 8, "xlarge": 16, "2xlarge": 32, "4xlarge": 64},
        ("r6g", "r7g", "r8g"): {"large": 16, "xlarge": 32, "2xlarge": 64, "4xlarge": 128},
    }.items()
    for family in families
    for size, gib in sizes.items()
}
"""In GiB (https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/Concepts.DBInstanceClass.Summary.html)."""


SERIES: Final = ("5.7", "8.0", "8.4", "9.7")
"""The series that RDS for MySQL offers (https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/MySQL.Concepts.VersionMgmt.html).
"""

OUT_OF_SUPPORT: Final[Mapping[str, str]] = {"5.7": "2024-02-29", "8.0": "2026-07-31"}
"""The series that have left standard support, and when: RDS takes them with extended support alone."""

TAKEN_MEMORY_MIB: Final = 300
"""Memory of an instance class that the operating system and RDS use, which DBInstanceClassMemory does not include.

Inferred from users' reports: about 60 connections on the micro classes, where the formula with the
whole memory gives 85.
"""


def name_faults(name: str, value: str, longest: int, taken: frozenset[str]) -> list[str]:
    """Return what RDS for MySQL refuses in a name, if anything.

    https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_CreateDBInstance.html
    """
    if not re.fullmatch(rf"[A-Za-z][A-Za-z0-9_]{{0,{longest - 1}}}", value):
        return [f"{name}={value}: a letter, then letters, digits or underscores, {longest} in all at the most"]
    if value.lower() in RESERVED_WORDS or (value.lower().endswith("_schema") and name == "database_name"):
        return [f"{name}={value}: a reserved word of MySQL; choose another name"]
    if value.lower() in taken:
        return [f"{name}={value}: taken by RDS or by this application; choose another name"]
    return []
