"""Says in seconds what would stop a deploy, all at once (`make deploy` runs it first).

It only reads. A call that the credentials do not allow is skipped: the deploy uses CDK's roles,
which may be allowed more.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from operations.aws import is_a, is_denied, listed
from stacks.deployment import ISSUER
from stacks.settings import Settings

BOOTSTRAP_VERSION: Final = "/cdk-bootstrap/hnb659fds/version"
LEAST_BOOTSTRAP: Final = 6
"""Version of the bootstrap stack that CDK's default synthesiser needs.

https://docs.aws.amazon.com/cdk/v2/guide/bootstrapping-env.html
"""
UNRESERVED: Final = 100
"""Concurrent executions that Lambda keeps unreserved.

https://docs.aws.amazon.com/lambda/latest/dg/configuration-concurrency.html
"""

Templates = Mapping[str, Mapping[str, Any]]


class Preflight:
    """The questions about one environment that is about to be deployed.

    Args:
        settings: what it is deployed with.
        templates: its templates, by the stack's name without its environment.
        session: a boto3 session, whose credentials and region are used.
    """

    def __init__(self, settings: Settings, templates: Templates, session: Any) -> None:
        self._settings = settings
        self._templates = templates
        self._session = session

    def faults(self) -> list[str]:
        """Return a sentence for each thing that would stop the deploy, with what to do about it."""
        if not self._session.region_name:
            return ["no region: set AWS_REGION, or a region in the profile"]
        try:
            self._client("sts").get_caller_identity()
        except (BotoCoreError, ClientError) as error:
            return [f"no credentials that AWS takes ({error}): aws sso login, or set AWS_PROFILE"]
        found: list[str] = []
        for question in (self._bootstrap, self._concurrency, self._names, self._engine, self._zones, self._github):
            try:
                found += question()
            except ClientError as error:
                if not is_denied(error):
                    raise
        return found

    def _client(self, service: str) -> Any:
        return self._session.client(service, config=Config(connect_timeout=5, retries={"max_attempts": 2}))

    def _is_deployed(self, stack: str) -> bool:
        name = f"{self._settings.stack_prefix}{stack}"
        try:
            (found,) = self._client("cloudformation").describe_stacks(StackName=name)["Stacks"]
        except ClientError as error:
            if not is_a(error, "ValidationError"):
                raise
            return False
        return bool(found["StackStatus"] != "REVIEW_IN_PROGRESS")

    def _new(self, kind: str) -> Iterator[Mapping[str, Any]]:
        """Properties of the resources of one type in stacks that are not deployed yet."""
        for stack, template in self._templates.items():
            properties = [each["Properties"] for each in template["Resources"].values() if each["Type"] == kind]
            if properties and not self._is_deployed(stack):
                yield from properties

    def _bootstrap(self) -> Iterator[str]:
        ssm = self._client("ssm")
        try:
            version = int(ssm.get_parameter(Name=BOOTSTRAP_VERSION)["Parameter"]["Value"])
        except ssm.exceptions.ParameterNotFound:
            version = 0
        if version < LEAST_BOOTSTRAP:
            yield f"bootstrap stack: version {version}, {LEAST_BOOTSTRAP} or later is needed: npx cdk bootstrap"

    def _concurrency(self) -> Iterator[str]:
        needed = sum(each.get("ReservedConcurrentExecutions", 0) for each in self._new("AWS::Lambda::Function"))
        free = self._client("lambda").get_account_settings()["AccountLimit"]["UnreservedConcurrentExecutions"]
        if needed and free - needed < UNRESERVED:
            yield (
                f"concurrency: the functions reserve {needed}, the account has {max(0, free - UNRESERVED)} to give: "
                "ask for a higher limit (Service Quotas, Lambda, Concurrent executions), or set reserved_concurrency=0"
            )

    def _names(self) -> Iterator[str]:
        """A name that an earlier environment's resource has kept."""
        remedy = "delete it, or import it into the stack (cdk import)"
        for name in (each.get("LogGroupName") for each in self._new("AWS::Logs::LogGroup")):
            groups = self._client("logs").describe_log_groups(logGroupNamePrefix=name)["logGroups"] if name else []
            if name in [each["logGroupName"] for each in groups]:
                yield f"log group {name}: exists already: {remedy}"
        for properties in self._new("AWS::SSM::Parameter"):
            names = self._client("ssm").get_parameters(Names=[properties["Name"]])["Parameters"]
            yield from (f"parameter {each['Name']}: exists already: {remedy}" for each in names)
        for properties in self._new("AWS::RDS::DBInstance"):
            identifier = properties["DBInstanceIdentifier"]
            instances = listed(self._client("rds"), "describe_db_instances", "DBInstances")
            if identifier in [each["DBInstanceIdentifier"] for each in instances]:
                yield f"database instance {identifier}: exists already: {remedy}"

    def _engine(self) -> Iterator[str]:
        wanted, size = self._settings.engine_version, f"db.{self._settings.instance_class}"
        operation, key = "describe_orderable_db_instance_options", "OrderableDBInstanceOptions"
        options = listed(self._client("rds"), operation, key, Engine="mysql", DBInstanceClass=size, Vpc=True)
        versions = sorted({each["EngineVersion"] for each in options if each["MultiAZCapable"]})
        if not any(f"{version}.".startswith(f"{wanted}.") for version in versions):
            offered = f"of {', '.join(versions)}" if versions else "of no version"
            yield (
                f"database: {self._session.region_name} offers {size}, Multi-AZ, with MySQL {offered}, not {wanted}: "
                "choose another instance_class or engine_version"
            )

    def _zones(self) -> Iterator[str]:
        ec2 = self._client("ec2")
        chosen = [zone for zone in self._settings.availability_zones.split(",") if zone]
        zones = ec2.describe_availability_zones(Filters=[{"Name": "opt-in-status", "Values": ["opt-in-not-required"]}])
        names = sorted(zone["ZoneName"] for zone in zones["AvailabilityZones"] if zone["State"] == "available")
        services = [f"com.amazonaws.{self._session.region_name}.{name}" for name in ("lambda", "secretsmanager", "ssm")]
        served = set(names)
        for service in ec2.describe_vpc_endpoint_services(ServiceNames=services)["ServiceDetails"]:
            served &= set(service["AvailabilityZones"])
        for zone in chosen or names[:2]:
            if zone not in served:
                yield (
                    f"zone {zone}: Lambda, Secrets Manager or Systems Manager is not served there: set "
                    f"availability_zones to two of {', '.join(sorted(served))}"
                )

    def _github(self) -> Iterator[str]:
        if not self._settings.github_repository:
            return
        providers = self._client("iam").list_open_id_connect_providers()["OpenIDConnectProviderList"]
        if not any(each["Arn"].endswith(ISSUER) for each in providers):
            yield (
                f"GitHub: the account has no identity provider for {ISSUER}: "
                f"aws iam create-open-id-connect-provider --url https://{ISSUER} --client-id-list sts.amazonaws.com"
            )
