"""What differs between environments, and what a user may choose.

One constant per environment, each field overridden by a context key of the same
name (`cdk deploy -c engine_version=8.0`), checked once and refused with every fault
named at once. Nothing is repaired silently.
"""

import difflib
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields, replace
from itertools import combinations
from typing import Any, Final

from stacks.mysql import INSTANCE_MEMORY_GIB, MYSQL_VERSIONS, RDS_SCHEMAS, RDS_USERS, name_faults

APPLICATION_USERNAME: Final = "demoapp"
"""The serving function's database user; rotation alternates it with `demoapp_clone`."""


class SettingsError(ValueError):
    """One or more settings are wrong; the message has a line for each fault."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


def setting(
    default: Any, doc: str, *, least: int | None = None, most: int | None = None, allowed: tuple[str, ...] = ()
) -> Any:
    """Declare a setting: its default, what it means, and the range or the values allowed."""
    return field(default=default, metadata={"doc": doc, "least": least, "most": most, "allowed": allowed})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that may be chosen about one environment."""

    env: str
    vpc_cidr: str = setting("172.31.0.0/16", "address range of the VPC")
    public_subnet_cidr: str = setting("172.31.3.0/24", "public subnet, made only for `egress=nat`")
    private_subnet_a_cidr: str = setting("172.31.2.0/24", "private subnet in the first zone")
    private_subnet_b_cidr: str = setting("172.31.1.0/24", "private subnet in the second zone")
    egress: str = setting(
        "endpoints",
        "how functions reach AWS: VPC endpoints and no internet, or a NAT gateway",
        allowed=("endpoints", "nat"),
    )
    database_name: str = setting("devDB", "the application's database")
    database_username: str = setting("myadmin", "the master user, whose password RDS keeps and rotates")
    engine_version: str = setting("8.4", "RDS for MySQL: a version, or a series for the newest that CDK knows")
    instance_class: str = setting("t4g.micro", "RDS instance class", allowed=tuple(INSTANCE_MEMORY_GIB))
    architecture: str = setting("arm64", "processor of the functions", allowed=("arm64", "x86_64"))
    extension_layer_arn: str = setting("", "pin the extension's layer version; empty means AWS's newest")
    parameter_ttl: int = setting(300, "seconds the extension caches the parameter", least=0, most=300)
    secret_ttl: int = setting(300, "seconds the extension caches the secret", least=0, most=300)
    reserved_concurrency: int = setting(10, "most execution environments of the function at once", least=1, most=1000)
    release: str = setting(
        "at-once",
        "how a new version takes over after its smoke test: at once, or a tenth of the traffic for five minutes first",
        allowed=("at-once", "gradual"),
    )
    alarm_email: str = setting("", "address that alarms and the database's events are mailed to; empty means nobody")
    runbook: str = setting("docs/runbook", "where alarms say their runbook is: the folder's address, as people open it")
    github_repository: str = setting("", "`owner/name` of the repository whose workflow may deploy; empty means none")
    rotation_days: int = setting(30, "days between rotations of the function's password", least=1, most=1000)

    @property
    def is_prod(self) -> bool:
        """Whether data must outlive its stack."""
        return self.env == "prod"

    @property
    def mysql_version(self) -> str:
        """The exact version: itself, or the newest of the series that `engine_version` names.

        Raises:
            IndexError: CDK knows no such version; `from_context` refuses those.
        """
        chosen = self.engine_version
        return [each for each in MYSQL_VERSIONS if each == chosen or each.startswith(f"{chosen}.")][-1]

    @property
    def is_extended_support(self) -> bool:
        """Whether the engine version has left standard support and is billed for extended support.

        5.7 left it on 2024-02-29, 8.0 on 2026-07-31 (RDS user guide, "Supported MySQL versions").
        """
        return self.engine_version.startswith(("5.", "8.0"))

    @property
    def max_connections(self) -> int:
        """The most connections that RDS lets the instance class have: {DBInstanceClassMemory/12582880}.

        RDS user guide, "Quotas and constraints". DBInstanceClassMemory is the class's memory
        less what the operating system and RDS itself take, so the true number is somewhat smaller.
        """
        return INSTANCE_MEMORY_GIB[self.instance_class] * 2**30 // 12582880

    @property
    def connections(self) -> int:
        """Connections the instance class leaves to the function: three quarters.

        A quarter is left to what RDS takes, to the rotation function and to an operator.
        """
        return self.max_connections * 3 // 4


ENVIRONMENTS: Final[Mapping[str, Settings]] = {
    "dev": Settings(env="dev"),
    "prod": Settings(env="prod", instance_class="m7g.large", reserved_concurrency=100, release="gradual"),
}


def from_context(context: Mapping[str, Any]) -> Settings:
    """Return the settings of the environment that the context chooses (`env`, default dev).

    Keys that hold `:`, `@` or `-` belong to CDK itself and are passed over.

    Raises:
        SettingsError: naming every fault, with what would be right.
    """
    given = {key: value for key, value in context.items() if not re.search("[:@-]", key)}
    faults: list[str] = []
    env = str(given.pop("env", "dev"))
    if env not in ENVIRONMENTS:
        faults.append(f"env={env}: unknown environment; allowed: {', '.join(ENVIRONMENTS)}")
    base = ENVIRONMENTS.get(env, ENVIRONMENTS["dev"])
    known = {each.name: each for each in fields(Settings) if each.name != "env"}
    overrides: dict[str, Any] = {}
    for key, value in given.items():
        if key not in known:
            nearest = difflib.get_close_matches(key, [*known, "env"], n=1, cutoff=0)[0]
            faults.append(f"{key}={value}: unknown setting; did you mean {nearest}?")
        elif known[key].type is int and not re.fullmatch("[0-9]+", str(value)):
            faults.append(f"{key}={value}: not a whole number; {_allowed(known[key])}")
        else:
            overrides[key] = int(value) if known[key].type is int else str(value)
    settings = replace(base, **overrides)
    faults += _faults(settings, known)
    if faults:
        raise SettingsError(faults)
    return settings


def _allowed(declared: Field[Any]) -> str:
    if declared.metadata["allowed"]:
        return f"allowed: {', '.join(declared.metadata['allowed'])}"
    return f"allowed: {declared.metadata['least']} to {declared.metadata['most']}"


def _faults(settings: Settings, known: Mapping[str, Field[Any]]) -> list[str]:
    faults = []
    for name, declared in known.items():
        value = getattr(settings, name)
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
        RDS_USERS | {APPLICATION_USERNAME, f"{APPLICATION_USERNAME}_clone"},
    )
    series = list(dict.fromkeys(".".join(version.split(".")[:2]) for version in MYSQL_VERSIONS))
    if settings.engine_version not in [*series, *MYSQL_VERSIONS]:
        faults.append(
            f"engine_version={settings.engine_version}: not a version of RDS for MySQL that CDK knows; "
            f"allowed: {', '.join(series)}, or an exact one of these that aws-cdk-lib lists, as {MYSQL_VERSIONS[-1]}"
        )
    if settings.engine_version.startswith("5.") and not settings.instance_class.startswith("t3."):
        faults.append(
            f"instance_class={settings.instance_class}: MySQL 5.7 does not run on Graviton; "
            f"allowed: {', '.join(name for name in INSTANCE_MEMORY_GIB if name.startswith('t3.'))}"
        )
    if settings.extension_layer_arn and not re.fullmatch(
        r"arn:aws[\w-]*:lambda:[\w-]+:\d{12}:layer:[\w-]+:\d+", settings.extension_layer_arn
    ):
        faults.append(
            f"extension_layer_arn={settings.extension_layer_arn}: not a layer version's ARN, as "
            "arn:aws:lambda:us-east-1:177933569100:layer:AWS-Parameters-and-Secrets-Lambda-Extension-Arm64:99"
        )
    if settings.github_repository and not re.fullmatch(r"[\w.-]+/[\w.-]+", settings.github_repository):
        faults.append(f"github_repository={settings.github_repository}: not a repository, as owner/name")
    if settings.alarm_email and not re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+", settings.alarm_email):
        faults.append(f"alarm_email={settings.alarm_email}: not a mail address, as oncall@example.com")
    if settings.instance_class in INSTANCE_MEMORY_GIB and settings.reserved_concurrency > settings.connections:
        faults.append(
            f"reserved_concurrency={settings.reserved_concurrency}: each execution environment holds one "
            f"connection, and {settings.instance_class} carries {settings.connections}; "
            f"allowed: 1 to {settings.connections}, or a larger instance_class"
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
