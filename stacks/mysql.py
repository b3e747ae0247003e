"""What RDS for MySQL offers and what it refuses."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from aws_cdk import aws_rds as rds

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
"""Memory of the instance classes offered, in GiB (RDS user guide, "Hardware specifications")."""


def _mysql_versions() -> list[str]:
    constants = [name for name in dir(rds.MysqlEngineVersion) if re.match("VER_(5_7|[89])_[0-9]+", name)]
    versions = [name[4:].lower().replace("_rds_", "-rds.").replace("_", ".") for name in constants]
    return sorted(versions, key=lambda version: [int(part) for part in re.findall("[0-9]+", version)])


MYSQL_VERSIONS: Final = _mysql_versions()
"""The versions of RDS for MySQL from 5.7 on that this aws-cdk-lib knows, oldest first."""


def name_faults(name: str, value: str, longest: int, taken: frozenset[str]) -> list[str]:
    """Return what RDS for MySQL refuses in a name, if anything (RDS API reference, CreateDBInstance)."""
    if not re.fullmatch(rf"[A-Za-z][A-Za-z0-9_]{{0,{longest - 1}}}", value):
        return [f"{name}={value}: a letter, then letters, digits or underscores, {longest} in all at the most"]
    if value.lower() in RESERVED_WORDS or (value.lower().endswith("_schema") and name == "database_name"):
        return [f"{name}={value}: a reserved word of MySQL; choose another name"]
    if value.lower() in taken:
        return [f"{name}={value}: taken by RDS or by this application; choose another name"]
    return []
