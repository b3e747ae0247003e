"""Reads the settings from CDK's context.

Wrong ones are refused, with every fault named at once; nothing is corrected silently.
"""

import difflib
import ipaddress
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import Field, fields, replace
from itertools import combinations
from pathlib import Path
from typing import Any, Final

from stacks.settings.names import application_faults, environment_faults
from stacks.settings.rds_mysql import (
    GRAVITON,
    HISTORY,
    INSTANCE_CLASS,
    OUT_OF_SUPPORT,
    RDS_SCHEMAS,
    RDS_USERS,
    REHEARSAL,
    SERIES,
    SNAPSHOT,
    name_faults,
)
from stacks.settings.settings import ENVIRONMENTS, Settings

ROOT_CERTIFICATES: Final = Path(__file__).parent.parent.parent / "lambda_src/shared/rds-root-certificates.pem"

_KNOWN: Final[Mapping[str, Field[Any]]] = {each.name: each for each in fields(Settings) if each.name != "env"}
_ZONE: Final = r"[a-z]{2}(-[a-z]+)+-\d[a-z]"
_LAYER: Final = "arn:aws:lambda:us-east-1:177933569100:layer:AWS-Parameters-and-Secrets-Lambda-Extension-Arm64:99"
_PROCESSORS: Final[Mapping[str, str]] = {
    "AWS-Parameters-and-Secrets-Lambda-Extension": "x86_64",
    "AWS-Parameters-and-Secrets-Lambda-Extension-Arm64": "arm64",
}
"""Of AWS's own layers, by name.

https://docs.aws.amazon.com/systems-manager/latest/userguide/ps-integration-lambda-extensions.html
"""
_FORMS: Final[Mapping[str, tuple[str | re.Pattern[str], str]]] = {
    "engine_version": (
        rf"({'|'.join(map(re.escape, SERIES))})(\.\d+(-rds\.\d+)?)?",
        f"a version of RDS for MySQL; allowed: {', '.join(SERIES)}, or an exact one of these, as {SERIES[-1]}.4",
    ),
    "owner": (r"([A-Za-z0-9][\w.-]{0,63})?", "at the most 64 letters, digits, hyphens, dots or underscores"),
    "account": (r"(\d{12})?", "an account, as 123456789012"),
    "region": (r"([a-z]{2}(-[a-z]+)+-\d)?", "a region, as us-east-1"),
    "snapshot": (
        rf"({SNAPSHOT})?",
        "a manual snapshot's name or ARN, as before-the-move; an automated one is deleted with its instance",
    ),
    "availability_zones": (
        rf"((?P<one>{_ZONE}),(?!(?P=one)$){_ZONE})?",
        "two different zones, as us-east-1a,us-east-1b",
    ),
    "extension_layer_arn": (
        r"(arn:aws[\w-]*:lambda:(?P<region>[\w-]+):\d{12}:layer:(?P<name>[\w-]+):\d+)?",
        f"a layer version's ARN, as {_LAYER}",
    ),
    "github_repository": (
        r"([\w.-]+/[\w.-]+|[\w.-]+@\d+/[\w.-]+@\d+)?",
        "a repository, as owner/name or owner@ID/name@ID",
    ),
    "bootstrap_qualifier": (r"[a-z0-9]{1,10}", "one to ten small letters and digits"),
    "alarm_email": (r"([^@\s]+@[^@\s]+\.[^@\s]+)?", "a mail address, as oncall@example.com"),
    "instance_class": (INSTANCE_CLASS, "a family and a size, as t4g.micro or m7g.large"),
}
"""The form of settings that are text, and in words what one without it is not."""


OF_ALL: Final = ("application", "owner")
"""The settings that are the same for all environments."""


class SettingsError(ValueError):
    """One or more settings are wrong; the message has a line for each fault."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n  ".join(["Settings refused, in cdk.json or after -c:", *faults]))
        self.faults = faults


def from_context(context: Mapping[str, Any], region: str = "") -> Settings:
    """Return the settings of the environment that the context chooses (`env`, default dev).

    A key with the environment's name holds that environment's lasting choices, as an object:
    they are in cdk.json, so that everybody deploys the same. Other keys override them. Keys
    that hold `:` or `@` belong to CDK itself and are passed over, as are those with `-` that
    hold no object and with `_` are no setting's name.

    Args:
        context: CDK's context.
        region: that of the shell, if it is known; the setting goes before it.

    Raises:
        SettingsError: naming every fault, with what would be right.
    """
    given = {
        key: value
        for key, value in context.items()
        if not re.search("[:@]", key)
        and ("-" not in key or key in ENVIRONMENTS or isinstance(value, Mapping) or key.replace("-", "_") in _KNOWN)
    }
    env = str(given.pop("env", "dev"))
    faults = [] if env in ENVIRONMENTS else [f"env={env}: unknown environment; allowed: {', '.join(ENVIRONMENTS)}"]
    lasting: dict[str, Any] = {}
    for name in ENVIRONMENTS:
        choices = given.pop(name, {})
        if not isinstance(choices, Mapping):
            faults.append(f"cdk.json: {name}={choices}: not an object of settings")
            continue
        # The other environments' settings are checked too, so that their faults are found early.
        read, wrong = _read(choices, f"cdk.json: {name}.")
        faults += wrong
        lasting |= read if name == env else {}
    overrides, wrong = _read(given, "")
    settings = replace(ENVIRONMENTS.get(env, ENVIRONMENTS["dev"]), **lasting | overrides)
    named = [replace(each, application=settings.application) for each in ENVIRONMENTS.values()]
    faults += [*wrong, *environment_faults(ENVIRONMENTS), *application_faults(named), *_faults(settings)]
    region = settings.region or region
    faults += _layer_faults(settings, region)
    if region and f"\n# {region}\n" not in ROOT_CERTIFICATES.read_text():
        faults.append(
            f"{region}: {ROOT_CERTIFICATES.name} has no root certificate of RDS for this region; "
            "`make certificates` writes it anew from AWS's trust stores"
        )
    if faults:
        raise SettingsError(faults)
    return settings


def _read(given: Mapping[str, Any], where: str) -> tuple[dict[str, Any], list[str]]:
    """Return the settings by name, each of its type, and the faults of those that are left out."""
    read: dict[str, Any] = {}
    faults = []
    for key, value in given.items():
        text = value if isinstance(value, str) else json.dumps(value)
        declared = _KNOWN.get(key)
        if where and key in OF_ALL:
            faults.append(f"{where}{key}={text}: one for all environments; right would be beside them in context")
        elif declared is None:
            faults.append(f"{where}{key}={text}: {_unknown(key, value)}")
        elif declared.type is str and isinstance(value, bool | Mapping | Sequence | None) and value is not text:
            faults.append(f"{where}{key}={text}: not a text; without it the default holds")
        elif declared.type is bool and text.lower() not in ("true", "false"):
            faults.append(f"{where}{key}={text}: allowed: true, false")
        elif declared.type is int and not re.fullmatch("[0-9]+", text):
            faults.append(f"{where}{key}={text}: not a whole number; {_allowed(declared)}")
        elif declared.type is bool:
            read[key] = text.lower() == "true"
        else:
            read[key] = int(text) if declared.type is int else text
    return read, faults


def _unknown(key: str, value: object) -> str:
    """Say that there is no such setting or environment, and what was meant if something is like it."""
    kind, known = ("environment", list(ENVIRONMENTS)) if isinstance(value, Mapping) else ("setting", [*_KNOWN, "env"])
    like = difflib.get_close_matches(key.lower(), known, n=1)
    return f"unknown {kind}; " + (
        f"did you mean {like[0]}?" if like else f"stacks/settings/settings.py has each {kind}"
    )


def _allowed(declared: Field[Any]) -> str:
    allowed = declared.metadata["allowed"]
    words = f"{allowed[0]} to {allowed[-1]}" if isinstance(allowed, range) else ", ".join(allowed)
    return f"allowed: {words}"


def _faults(settings: Settings) -> Iterator[str]:
    for name, declared in _KNOWN.items():
        value = getattr(settings, name)
        if declared.metadata["allowed"] and value not in declared.metadata["allowed"]:
            yield f"{name}={value}: {_allowed(declared)}"
    for name, (form, words) in _FORMS.items():
        value = getattr(settings, name)
        if not re.fullmatch(form, value):
            yield f"{name}={value}: not {words}"
    yield from _address_faults(settings)
    yield from name_faults("database_name", settings.database_name, 64, RDS_SCHEMAS | {HISTORY, REHEARSAL})
    users = (settings.application_username, settings.schema_username)
    own = {f"{name}{clone}" for name in users for clone in ("", "_clone")}
    yield from name_faults("database_username", settings.database_username, 16, RDS_USERS | own)
    if settings.series in OUT_OF_SUPPORT and not settings.extended_support:
        yield (
            f"engine_version={settings.engine_version}: left standard support on {OUT_OF_SUPPORT[settings.series]}; "
            f"allowed: a later series, or extended_support=true, which RDS bills for every vCPU-hour"
        )
    if settings.engine_version.startswith("5.") and GRAVITON.match(settings.instance_class):
        yield (
            f"instance_class={settings.instance_class}: MySQL 5.7 does not run on Graviton; "
            "allowed: a family of other processors, as t3.micro"
        )
    if INSTANCE_CLASS.fullmatch(settings.instance_class) and settings.reserved_concurrency > settings.connections:
        yield (
            f"reserved_concurrency={settings.reserved_concurrency}: each execution environment holds one "
            f"connection, and {settings.instance_class} carries {settings.connections}; "
            f"allowed: 0 to {settings.connections}, or a larger instance_class"
        )


def _layer_faults(settings: Settings, region: str) -> Iterator[str]:
    arn = settings.extension_layer_arn
    layer = re.fullmatch(_FORMS["extension_layer_arn"][0], arn) if arn else None
    if layer and region and layer["region"] != region:
        yield f"extension_layer_arn={arn}: the functions are in {region}; allowed: a layer of their region"
    processor = layer and _PROCESSORS.get(layer["name"])
    if processor and processor != settings.architecture:
        yield (
            f"extension_layer_arn={arn}: AWS's for {processor}; allowed: that for {settings.architecture}, "
            f"or architecture={processor}"
        )


def _address_faults(settings: Settings) -> Iterator[str]:
    networks: dict[str, ipaddress.IPv4Network] = {}
    for name in ("vpc_cidr", "public_subnet_cidr", "private_subnet_a_cidr", "private_subnet_b_cidr"):
        value = getattr(settings, name)
        try:
            network = ipaddress.IPv4Network(value, strict=False)
        except ValueError:
            yield f"{name}={value}: not an IPv4 address range, as 172.31.0.0/16"
            continue
        if str(network) != value:
            yield f"{name}={value}: not in the form of a range's first address and length, as {network}"
        elif not 16 <= network.prefixlen <= 28:
            yield f"{name}={value}: a VPC and its subnets are /16 to /28"
        else:
            networks[name] = network
    vpc = networks.pop("vpc_cidr", None)
    for name, network in networks.items():
        if vpc and not network.subnet_of(vpc):
            yield f"{name}={network}: outside vpc_cidr={vpc}"
    for (name, network), (other, other_network) in combinations(networks.items(), 2):
        if network.overlaps(other_network):
            yield f"{name}={network}: overlaps {other}={other_network}"
