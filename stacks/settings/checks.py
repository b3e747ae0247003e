"""Reads the settings from CDK's context.

Wrong ones are refused, with every fault named at once; nothing is corrected silently.
"""

import difflib
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import Field, fields, replace
from itertools import combinations
from pathlib import Path
from typing import Any, Final

from stacks.settings.rds_mysql import (
    GRAVITON,
    INSTANCE_CLASS,
    OUT_OF_SUPPORT,
    RDS_SCHEMAS,
    RDS_USERS,
    SERIES,
    name_faults,
)
from stacks.settings.settings import APPLICATION_USERNAME, ENVIRONMENTS, SCHEMA_USERNAME, Settings

ROOT_CERTIFICATES: Final = Path(__file__).parent.parent.parent / "lambda_src/shared/rds-root-certificates.pem"


class SettingsError(ValueError):
    """One or more settings are wrong; the message has a line for each fault."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


def from_context(context: Mapping[str, Any], region: str = "") -> Settings:
    """Return the settings of the environment that the context chooses (`env`, default dev).

    A key with the environment's name holds that environment's lasting choices, as an object:
    they are in cdk.json, so that everybody deploys the same. Other keys override them. Keys
    that hold `:`, `@` or `-` belong to CDK itself and are passed over.

    Args:
        context: CDK's context.
        region: where it will be deployed, if that is known.

    Raises:
        SettingsError: naming every fault, with what would be right.
    """
    given = {key: value for key, value in context.items() if not re.search("[:@-]", key)}
    faults: list[str] = []
    env = str(given.pop("env", "dev"))
    if env not in ENVIRONMENTS:
        faults.append(f"env={env}: unknown environment; allowed: {', '.join(ENVIRONMENTS)}")
    base = ENVIRONMENTS.get(env, ENVIRONMENTS["dev"])
    overrides: dict[str, Any] = {}
    for name in ENVIRONMENTS:
        lasting = given.pop(name, {})
        if not isinstance(lasting, Mapping):
            faults.append(f"cdk.json: {name}={lasting}: not an object of settings")
            continue
        # The other environments' settings are checked too, so that their faults are found early.
        read = _read(lasting, f"cdk.json: {name}.", faults)
        overrides |= read if name == env else {}
    settings = replace(base, **overrides | _read(given, "", faults))
    faults += _faults(settings, _KNOWN)
    if region and f"\n# {region}\n" not in ROOT_CERTIFICATES.read_text():
        faults.append(
            f"{region}: {ROOT_CERTIFICATES.name} has no root certificate of RDS for this region; "
            "`make certificates` writes it anew from AWS's trust stores"
        )
    if faults:
        raise SettingsError(faults)
    return settings


_KNOWN: Final[Mapping[str, Field[Any]]] = {each.name: each for each in fields(Settings) if each.name != "env"}


def _read(given: Mapping[str, Any], where: str, faults: list[str]) -> dict[str, Any]:
    """Return the settings by name, each of its type; those at fault are added to the faults."""
    read: dict[str, Any] = {}
    for key, value in given.items():
        declared = _KNOWN.get(key)
        if declared is None:
            nearest = difflib.get_close_matches(key, [*_KNOWN, "env"], n=1, cutoff=0)[0]
            faults.append(f"{where}{key}={value}: unknown setting; did you mean {nearest}?")
        elif declared.type is int and not re.fullmatch("[0-9]+", str(value)):
            faults.append(f"{where}{key}={value}: not a whole number; {_allowed(declared)}")
        elif declared.type is bool and str(value).lower() not in declared.metadata["allowed"]:
            faults.append(f"{where}{key}={value}: {_allowed(declared)}")
        elif declared.type is bool:
            read[key] = str(value).lower() == "true"
        else:
            read[key] = int(value) if declared.type is int else str(value)
    return read


def _allowed(declared: Field[Any]) -> str:
    if declared.metadata["allowed"]:
        return f"allowed: {', '.join(declared.metadata['allowed'])}"
    return f"allowed: {declared.metadata['least']} to {declared.metadata['most']}"


def _faults(settings: Settings, known: Mapping[str, Field[Any]]) -> list[str]:
    faults = []
    for name, declared in known.items():
        value = getattr(settings, name)
        if declared.type is bool:
            continue
        least, most = declared.metadata["least"], declared.metadata["most"]
        if (least is not None and not least <= value <= most) or (
            declared.metadata["allowed"] and value not in declared.metadata["allowed"]
        ):
            faults.append(f"{name}={value}: {_allowed(declared)}")
    faults += _address_faults(settings)
    faults += name_faults("database_name", settings.database_name, 64, RDS_SCHEMAS)
    faults += name_faults(
        "database_username",
        settings.database_username,
        16,
        RDS_USERS | {f"{name}{clone}" for name in (APPLICATION_USERNAME, SCHEMA_USERNAME) for clone in ("", "_clone")},
    )
    faults += _engine_faults(settings)
    zones = settings.availability_zones.split(",")
    if settings.availability_zones and (
        len(set(zones)) != 2 or not all(re.fullmatch(r"[a-z]{2}(-[a-z]+)+-\d[a-z]", zone) for zone in zones)
    ):
        faults.append(
            f"availability_zones={settings.availability_zones}: not two different zones, as us-east-1a,us-east-1b"
        )
    if settings.extension_layer_arn and not re.fullmatch(
        r"arn:aws[\w-]*:lambda:[\w-]+:\d{12}:layer:[\w-]+:\d+", settings.extension_layer_arn
    ):
        faults.append(
            f"extension_layer_arn={settings.extension_layer_arn}: not a layer version's ARN, as "
            "arn:aws:lambda:us-east-1:177933569100:layer:AWS-Parameters-and-Secrets-Lambda-Extension-Arm64:99"
        )
    if settings.github_repository and not re.fullmatch(
        r"[\w.-]+/[\w.-]+|[\w.-]+@\d+/[\w.-]+@\d+", settings.github_repository
    ):
        faults.append(
            f"github_repository={settings.github_repository}: not a repository, as owner/name or owner@ID/name@ID"
        )
    if settings.alarm_email and not re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+", settings.alarm_email):
        faults.append(f"alarm_email={settings.alarm_email}: not a mail address, as oncall@example.com")
    if not INSTANCE_CLASS.fullmatch(settings.instance_class):
        faults.append(f"instance_class={settings.instance_class}: not a family and a size, as t4g.micro or m7g.large")
    elif settings.reserved_concurrency > settings.connections:
        faults.append(
            f"reserved_concurrency={settings.reserved_concurrency}: each execution environment holds one "
            f"connection, and {settings.instance_class} carries {settings.connections}; "
            f"allowed: 0 to {settings.connections}, or a larger instance_class"
        )
    return faults


def _engine_faults(settings: Settings) -> list[str]:
    faults = []
    if not re.fullmatch(rf"({'|'.join(map(re.escape, SERIES))})(\.\d+(-rds\.\d+)?)?", settings.engine_version):
        faults.append(
            f"engine_version={settings.engine_version}: not a version of RDS for MySQL; "
            f"allowed: {', '.join(SERIES)}, or an exact one of these, as {SERIES[-1]}.4"
        )
    if settings.series in OUT_OF_SUPPORT and not settings.extended_support:
        faults.append(
            f"engine_version={settings.engine_version}: left standard support on {OUT_OF_SUPPORT[settings.series]}; "
            f"allowed: a later series, or extended_support=true, which RDS bills for every vCPU-hour"
        )
    if settings.engine_version.startswith("5.") and GRAVITON.match(settings.instance_class):
        faults.append(
            f"instance_class={settings.instance_class}: MySQL 5.7 does not run on Graviton; "
            "allowed: a family of other processors, as t3.micro"
        )
    return faults


def _address_faults(settings: Settings) -> list[str]:
    faults = []
    networks: dict[str, ipaddress.IPv4Network] = {}
    for name in ("vpc_cidr", "public_subnet_cidr", "private_subnet_a_cidr", "private_subnet_b_cidr"):
        value = getattr(settings, name)
        try:
            network = ipaddress.IPv4Network(value, strict=False)
        except ValueError:
            faults.append(f"{name}={value}: not an IPv4 address range, as 172.31.0.0/16")
            continue
        if str(network) != value:
            faults.append(f"{name}={value}: not in the form of a range's first address and length, as {network}")
        elif not 16 <= network.prefixlen <= 28:
            faults.append(f"{name}={value}: a VPC and its subnets are /16 to /28")
        else:
            networks[name] = network
    vpc = networks.pop("vpc_cidr", None)
    for name, network in networks.items():
        if vpc and not network.subnet_of(vpc):
            faults.append(f"{name}={network}: outside vpc_cidr={vpc}")
    for (name, network), (other, other_network) in combinations(networks.items(), 2):
        if network.overlaps(other_network):
            faults.append(f"{name}={network}: overlaps {other}={other_network}")
    return faults
