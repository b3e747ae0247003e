"""The settings of each environment.

One constant per environment. A context key of the same name overrides each field
(`cdk deploy -c engine_version=8.0`); `stacks/settings/checks.py` checks the result.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import aws_cdk as cdk

from stacks.settings.rds_mysql import TAKEN_MEMORY_MIB, memory_gib


def setting(default: Any, doc: str, *, allowed: tuple[str, ...] | range = ()) -> Any:
    """Declare a setting: its default, what it means, and the values allowed if not all of its type are."""
    return field(default=default, metadata={"doc": doc, "allowed": allowed})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that may be chosen about one environment."""

    env: str
    # Without a default, which mypy sees of dataclasses' own function alone.
    protect_data: bool = field(
        metadata={"doc": "whether database, secret, keys and logs outlive their stack", "allowed": ()}
    )
    application: str = setting(
        "demoApp", "the application's name, one for all environments; chosen before the first deploy and never changed"
    )
    owner: str = setting(
        "", "the copy of the repository that deploys, one for all environments; the first `make deploy` writes it"
    )
    account: str = setting("", "AWS account it is deployed to; empty means that of the credentials")
    region: str = setting("", "region it is deployed to; empty means that of the shell")
    vpc_cidr: str = setting("172.31.0.0/16", "address range of the VPC")
    public_subnet_cidr: str = setting("172.31.3.0/24", "public subnet, made only for `egress=nat`")
    private_subnet_a_cidr: str = setting("172.31.2.0/24", "private subnet in the first zone")
    private_subnet_b_cidr: str = setting("172.31.1.0/24", "private subnet in the second zone")
    availability_zones: str = setting("", "two zones by name, as us-east-1a,us-east-1b; empty means the first two")
    egress: str = setting(
        "endpoints",
        "how functions reach AWS: VPC endpoints and no internet, or a NAT gateway",
        allowed=("endpoints", "nat"),
    )
    database_name: str = setting("devDB", "the application's database")
    database_username: str = setting("myadmin", "the master user, whose password RDS keeps and rotates")
    snapshot: str = setting(
        "", "name or ARN of the snapshot that a new environment's data comes from; chosen once, and never changed"
    )
    engine_version: str = setting("8.4", "RDS for MySQL: a series, of which RDS takes its default, or an exact version")
    extended_support: bool = setting(
        default=False, doc="whether RDS may bill extended support; chosen when the instance is made, and never changed"
    )
    instance_class: str = setting(
        "t4g.micro", "RDS instance class; family and size say how many connections it carries"
    )
    architecture: str = setting("arm64", "processor of the functions", allowed=("arm64", "x86_64"))
    extension_layer_arn: str = setting("", "pin the extension's layer version; empty means AWS's newest")
    parameter_ttl: int = setting(300, "seconds the extension caches the parameter", allowed=range(301))
    secret_ttl: int = setting(300, "seconds the extension caches the secret", allowed=range(301))
    reserved_concurrency: int = setting(
        10, "execution environments kept for the function; 0 keeps none, for any function", allowed=range(1001)
    )
    release: str = setting(
        "at-once",
        "how a new version takes over after its smoke test: at once, or a tenth of the traffic for five minutes first",
        allowed=("at-once", "gradual"),
    )
    alarm_email: str = setting("", "address that alarms and the database's events are mailed to; empty means nobody")
    runbook: str = setting("docs/runbook", "where alarms say their runbook is: the folder's address, as people open it")
    github_repository: str = setting(
        "", "repository whose workflow may deploy, as `owner/name` or `owner@ID/name@ID`; empty means none"
    )
    deploy_without_reviewers: bool = setting(
        default=False, doc="whether GitHub may deploy, with `protect_data`, though its environment has no reviewers"
    )
    bootstrap_qualifier: str = setting(
        "hnb659fds",
        "the `--qualifier` of `cdk bootstrap`; with one for each environment, dev's role changes no stack of prod",
    )
    # https://docs.aws.amazon.com/secretsmanager/latest/userguide/rotate-secrets_schedule.html
    rotation_days: int = setting(30, "days between rotations of the function's password", allowed=range(1, 1000))

    @property
    def stack_prefix(self) -> str:
        """How the names of the environment's stacks begin, as orders-dev-."""
        return f"{self.application}-{self.env}-"

    @property
    def place(self) -> cdk.Environment:
        """The account and region of the stacks; what is empty is known when they are deployed."""
        return cdk.Environment(account=self.account or None, region=self.region or None)

    @property
    def application_username(self) -> str:
        """The serving function's database user; rotation alternates it with one whose name ends with _clone."""
        return self.application.lower()

    @property
    def schema_username(self) -> str:
        """The migration function's database user; rotation alternates it with one whose name ends with _clone."""
        return f"{self.application.lower()}_schema"

    @property
    def database_identifier(self) -> str:
        """The database instance's name, which RDS keeps in small letters."""
        return f"{self.env}-{self.application.lower()}"

    @property
    def config_path(self) -> str:
        """The name of the application's parameter below its environment."""
        return f"{self.application}/app_config"

    @property
    def parameter_name(self) -> str:
        """The application's parameter."""
        return f"/{self.env}/{self.config_path}"

    @property
    def app_config(self) -> str:
        """What the parameter holds at first: the AWS sample's JSON, in which the name begins with a capital."""
        return f'{{"enableVersion":true,"version":1,"app":"{self.application[0].upper()}{self.application[1:]}"}}'

    @property
    def metric_namespace(self) -> str:
        """Where the metrics of the functions' logs are."""
        return f"{self.application}/{self.env}"

    @property
    def removal_policy(self) -> cdk.RemovalPolicy:
        """What happens to data when its resource is removed from the stack.

        Protected data is retained, but not after a failed first deploy: its name would block the
        next one.
        """
        return cdk.RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE if self.protect_data else cdk.RemovalPolicy.DESTROY

    @property
    def series(self) -> str:
        """The series of the engine version, as 8.4."""
        return ".".join(self.engine_version.split(".")[:2])

    @property
    def max_connections(self) -> int:
        """The most connections that RDS lets the instance class have: {DBInstanceClassMemory/12582880}.

        https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/CHAP_Limits.html
        """
        memory = memory_gib(self.instance_class) * 2**30 - TAKEN_MEMORY_MIB * 2**20
        return memory // 12582880

    @property
    def connections(self) -> int:
        """Connections for the serving function: three quarters of the maximum.

        The rest is for RDS itself, the other functions and an operator.
        """
        return self.max_connections * 3 // 4


ENVIRONMENTS: Final[Mapping[str, Settings]] = {
    each.env: each
    for each in (
        Settings(env="dev", protect_data=False),
        Settings(
            env="prod", protect_data=True, instance_class="m7g.large", reserved_concurrency=100, release="gradual"
        ),
    )
}
