"""Says in seconds what would stop a deploy, all at once (`make deploy` runs it first).

It only reads. What AWS does not let the credentials ask is named and passed over: the deploy uses CDK's roles,
which may be allowed more.
"""

from collections.abc import Iterator, Mapping
from functools import cache, cached_property
from typing import Any, Final

from aws_cdk import DefaultStackSynthesizer
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from operations import snapshots
from operations.aws import NO_ANSWER, account_fault, is_a, listed
from operations.verify.deployed import LATEST_LAYER
from operations.zones import as_setting, deployed_zones, endpoint_zones, zones_of_account
from stacks.constructs.ownership import OWNER
from stacks.deployment import ISSUER
from stacks.settings import Settings

DEFAULT_QUALIFIER: Final = DefaultStackSynthesizer.DEFAULT_QUALIFIER
LEAST_BOOTSTRAP: Final = 6
"""Version of the bootstrap stack that CDK's default synthesiser needs.

https://docs.aws.amazon.com/cdk/v2/guide/bootstrapping-env.html
"""
UNRESERVED: Final = 100
"""Concurrent executions that Lambda keeps unreserved.

https://docs.aws.amazon.com/lambda/latest/dg/configuration-concurrency.html
"""
FREE_RETENTION: Final = 1
"""Days of backups that the free plan allows, at least; RDS says "the maximum" and no number.

https://github.com/yc-software/qm/issues/352
"""

NEW: Final = ("", "REVIEW_IN_PROGRESS", "ROLLBACK_COMPLETE")
"""States of a stack that has no resources: it is not there, waits for its first change set, or was rolled back."""
READY: Final = (
    *("", "REVIEW_IN_PROGRESS", "CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE"),
    *("IMPORT_COMPLETE", "IMPORT_ROLLBACK_COMPLETE", "DELETE_COMPLETE"),
)
"""States in which CloudFormation creates or updates a stack.

https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/view-stack-events.html
"""
FIRST_DEPLOY_FAILED: Final = ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED")
"""CDK deletes such a stack and creates it anew, unless it is protected from termination."""
REMEDIES: Final[Mapping[str, str]] = {
    "CREATE_FAILED": "a deploy without rollback failed: npx cdk rollback -c env={env} {stack}",
    "UPDATE_FAILED": "a deploy without rollback failed: npx cdk rollback -c env={env} {stack}",
    "UPDATE_ROLLBACK_FAILED": 'continue the rollback: docs/operations.md, "When a rollback fails"',
    "DELETE_FAILED": "finish its destruction: npx cdk destroy -c env={env} {stack}; its events say what holds it",
    "IMPORT_ROLLBACK_FAILED": "its events say which resource could not be put back; mend it, then delete the stack",
}
"""What to do about the other states that do not end by themselves."""

TAKEN: Final = "exists already: delete it, or import it into the stack (cdk import)"

Templates = Mapping[str, Mapping[str, Any]]


class Preflight:
    """The questions about one environment that is about to be deployed.

    Args:
        settings: what it is deployed with.
        templates: its templates, by the stack's name without its environment.
        session: a boto3 session, whose credentials and region are used.
        moved: whether this copy of the repository takes the place of the one that deployed before.
    """

    def __init__(self, settings: Settings, templates: Templates, session: Any, *, moved: bool = False) -> None:
        self._settings = settings
        self._templates = templates
        self._session = session
        self._moved = moved
        self.notes: list[str] = []
        """What `faults` found out that stops nothing."""

    def faults(self) -> list[str]:
        """Return a sentence for each thing that would stop the deploy, with what to do about it."""
        if not self._session.region_name:
            return ["no region: set AWS_REGION, or a region in the profile"]
        try:
            identity = self._client("sts").get_caller_identity()
        except (BotoCoreError, ClientError) as error:
            return [f"no credentials that AWS takes ({error}): aws login, aws sso login, or another AWS_PROFILE"]
        if fault := account_fault(self._settings, identity):
            return [fault]
        found: list[str] = []
        for question in (
            *(self._owner, self._stacks, self._bootstrap, self._concurrency),
            *(self._log_groups, self._parameters, self._instances, self._snapshot),
            *(self._engine, self._subnets, self._endpoints, self._class_in_both_zones),
            *(self._layer, self._free_plan, self._github),
        ):
            try:
                found += question()
            except (ClientError, *NO_ANSWER) as error:
                self.notes.append(f"not asked, {question.__name__.strip('_').replace('_', ' ')}: {error}")
        return found

    @cache  # noqa: B019 - there is one for each run of the command
    def _client(self, service: str, **options: str) -> Any:
        config = Config(connect_timeout=5, retries={"max_attempts": 2})
        return self._session.client(service, config=config, **options)

    @cache  # noqa: B019
    def _stack(self, stack: str) -> dict[str, Any]:
        """One of the environment's stacks as CloudFormation describes it; empty when it is not there."""
        name = f"{self._settings.stack_prefix}{stack}"
        try:
            (found,) = self._client("cloudformation").describe_stacks(StackName=name)["Stacks"]
        except ClientError as error:
            if not is_a(error, "ValidationError"):
                raise
            return {}
        return dict(found)

    def _status(self, stack: str) -> str:
        return str(self._stack(stack).get("StackStatus", ""))

    def _deployed(self, stack: str) -> Mapping[str, Any]:
        """The template of a stack that is there: CloudFormation changes what differs from it."""
        name = f"{self._settings.stack_prefix}{stack}"
        found: Mapping[str, Any] = self._client("cloudformation").get_template(StackName=name)["TemplateBody"]
        return found

    def _new(self, kind: str) -> Iterator[Mapping[str, Any]]:
        """Properties of the resources of one type in stacks that are not deployed yet."""
        for stack, template in self._templates.items():
            properties = [each.get("Properties", {}) for each in template["Resources"].values() if each["Type"] == kind]
            if properties and self._status(stack) in NEW:
                yield from properties

    def _names(self, kind: str, key: str) -> list[str]:
        """The names of such resources, but for those that CloudFormation makes: they cannot be taken."""
        return [name for each in self._new(kind) if isinstance(name := each.get(key), str)]

    def _owner(self) -> Iterator[str]:
        """Stacks of these names that another copy of the repository, another application or version 0.1 made."""
        settings = self._settings
        own = {f"{settings.stack_prefix}{stack}" for stack in self._templates}
        old = {f"{settings.env.capitalize()}-{stack}" for stack in self._templates}
        stacks = listed(self._client("cloudformation"), "describe_stacks", "Stacks")
        deployed = {each["StackName"]: each.get("Parameters", []) for each in stacks}
        named = [each for name in own & set(deployed) for each in deployed[name] if each["ParameterKey"] == OWNER]
        for owner in {each["ParameterValue"] for each in named} - {settings.owner, ""}:
            if not self._moved:
                yield (
                    f"stacks {settings.stack_prefix}...: belong to {owner}, and this copy of the repository is "
                    f"{settings.owner or 'one without an id'}: set another application in cdk.json; or "
                    f'"owner": "{owner}", if it is the same copy; or MOVED=yes, if it takes the place of the other'
                )
        for name in sorted(set(deployed) - own):
            if name.lower() in {each.lower() for each in own}:
                yield f"stack {name}: named as this application's but for capitals: set another application in cdk.json"
            if name in old and not own & set(deployed):
                yield (
                    f"stack {name}: of an environment of version 0.1, whose stacks CloudFormation cannot rename: "
                    "its data moves by a snapshot (CHANGELOG.md)"
                )

    def _stacks(self) -> Iterator[str]:
        for stack in self._templates:
            name, status = f"{self._settings.stack_prefix}{stack}", self._status(stack)
            remedy = REMEDIES.get(status, "its events say why")
            if status in FIRST_DEPLOY_FAILED:
                if not self._stack(stack).get("EnableTerminationProtection"):
                    continue
                remedy = 'delete it: docs/operations.md, "When the first deploy of prod fails"'
            elif status in READY:
                continue
            elif status.endswith("_IN_PROGRESS"):
                remedy = "wait until that has ended"
            yield f"stack {name}: {status}: {remedy.format(stack=name, env=self._settings.env)}"

    def _bootstrap(self) -> Iterator[str]:
        ssm, qualifier = self._client("ssm"), self._settings.bootstrap_qualifier
        own = "" if qualifier == DEFAULT_QUALIFIER else f" --qualifier {qualifier} --toolkit-stack-name CDK-{qualifier}"
        try:
            version = int(ssm.get_parameter(Name=f"/cdk-bootstrap/{qualifier}/version")["Parameter"]["Value"])
        except ssm.exceptions.ParameterNotFound:
            version = 0
        if version < LEAST_BOOTSTRAP:
            yield f"bootstrap stack: version {version}, {LEAST_BOOTSTRAP} or later is needed: npx cdk bootstrap{own}"

    def _concurrency(self) -> Iterator[str]:
        needed = 0
        for stack, template in self._templates.items():
            if reserved := _reserved(template):
                before = {} if self._status(stack) in NEW else _reserved(self._deployed(stack))
                needed += sum(number - before.get(name, 0) for name, number in reserved.items())
        free = self._client("lambda").get_account_settings()["AccountLimit"]["UnreservedConcurrentExecutions"]
        if needed > 0 and free - needed < UNRESERVED:
            yield (
                f"concurrency: the functions reserve {needed} more, the account has {max(0, free - UNRESERVED)} "
                "to give: ask for a higher limit (Service Quotas, Lambda, Concurrent executions), or set a lower "
                "reserved_concurrency; 0 reserves none"
            )

    # A name that an earlier environment's resource has kept.

    def _log_groups(self) -> Iterator[str]:
        logs = self._client("logs")
        for name in self._names("AWS::Logs::LogGroup", "LogGroupName"):
            found = listed(logs, "describe_log_groups", "logGroups", logGroupNamePrefix=name)
            if name in [each["logGroupName"] for each in found]:
                yield f"log group {name}: {TAKEN}"

    def _parameters(self) -> Iterator[str]:
        for name in self._names("AWS::SSM::Parameter", "Name"):
            found = self._client("ssm").get_parameters(Names=[name])["Parameters"]
            yield from (f"parameter {each['Name']}: {TAKEN}" for each in found)

    def _instances(self) -> Iterator[str]:
        for identifier in self._names("AWS::RDS::DBInstance", "DBInstanceIdentifier"):
            found = listed(self._client("rds"), "describe_db_instances", "DBInstances")
            if identifier in [each["DBInstanceIdentifier"] for each in found]:
                yield f"database instance {identifier}: {TAKEN}"

    @cached_property
    def _class(self) -> str:
        return f"db.{self._settings.instance_class}"

    @cached_property
    def _options(self) -> list[dict[str, Any]]:
        """How RDS offers the instance class for a Multi-AZ instance in a VPC: an entry for each version."""
        operation, key = "describe_orderable_db_instance_options", "OrderableDBInstanceOptions"
        found = listed(self._client("rds"), operation, key, Engine="mysql", DBInstanceClass=self._class, Vpc=True)
        return [each for each in found if each["MultiAZCapable"]]

    def _is_wanted(self, option: Mapping[str, Any]) -> bool:
        return f"{option['EngineVersion']}.".startswith(f"{self._settings.engine_version}.")

    def _snapshot(self) -> Iterator[str]:
        if "Database" in self._templates:
            yield from snapshots.faults(self._settings, self._templates["Database"], self._client)

    def _engine(self) -> Iterator[str]:
        versions = sorted({each["EngineVersion"] for each in self._options})
        if not any(map(self._is_wanted, self._options)):
            offered = f"of {', '.join(versions)}" if versions else "of no version"
            yield (
                f"database: {self._session.region_name} offers {self._class}, Multi-AZ, with MySQL {offered}, "
                f"not {self._settings.engine_version}: choose another instance_class or engine_version"
            )

    @cached_property
    def _zones(self) -> list[str]:
        """The two that the deploy takes: a deployed network stays where it is."""
        ec2 = self._client("ec2")
        if "Network" in self._templates and self._status("Network") not in NEW:
            network = f"{self._settings.stack_prefix}Network"
            if zones := deployed_zones(self._client("cloudformation"), ec2, network):
                return zones
        chosen = self._settings.availability_zones
        return chosen.split(",") if chosen else zones_of_account(ec2)[:2]

    def _subnets(self) -> Iterator[str]:
        self.notes.append(f"zones: {' and '.join(self._zones)}")
        first = zones_of_account(self._client("ec2"))[:2]
        if not self._settings.availability_zones and self._zones != first:
            yield (
                f"zones: the deploy would move the subnets from {' and '.join(self._zones)} to {' and '.join(first)}: "
                f"write into cdk.json: {as_setting(self._settings.env, self._zones)}"
            )

    def _endpoints(self) -> Iterator[str]:
        for service, zones in endpoint_zones(
            self._client("ec2"), self._session.region_name, self._settings.egress
        ).items():
            yield from self._absent(service, zones, "choose others with availability_zones")

    def _class_in_both_zones(self) -> Iterator[str]:
        offered = {
            zone["Name"] for each in self._options if self._is_wanted(each) for zone in each["AvailabilityZones"]
        }
        if offered:
            yield from self._absent(self._class, offered, "choose others with availability_zones, or an instance_class")

    def _absent(self, what: str, zones: set[str], remedy: str) -> Iterator[str]:
        for zone in self._zones:
            if zone not in zones:
                yield f"zone {zone}: no {what}; there is in {', '.join(sorted(zones)) or 'no zone'}: {remedy}"

    def _layer(self) -> Iterator[str]:
        if self._settings.extension_layer_arn:
            return
        ssm, processor = self._client("ssm"), {"arm64": "arm64", "x86_64": "x86"}[self._settings.architecture]
        try:
            ssm.get_parameter(Name=LATEST_LAYER.format(processor))
        except ssm.exceptions.ParameterNotFound:
            yield (
                f"layer: AWS names none for {self._settings.architecture} in {self._session.region_name}: "
                "set architecture to the other processor, or extension_layer_arn"
            )

    def _free_plan(self) -> Iterator[str]:
        """What RDS refuses an account of the free plan, minutes into the deploy."""
        try:
            plan = self._client("freetier", region_name="us-east-1").get_account_plan_state()
        except ClientError as error:
            if not is_a(error, "ResourceNotFound"):  # An account from before the plans.
                raise
            return
        for each in self._new("AWS::RDS::DBInstance") if plan["accountPlanType"] == "FREE" else ():
            days, size = int(each.get("BackupRetentionPeriod", 1)), str(each.get("DBInstanceClass"))
            remedy = "upgrade the account's plan (Billing console)"
            if not size.endswith(".micro"):
                yield f"free plan: RDS refuses {size}: set instance_class=t4g.micro, or {remedy}"
            if days > FREE_RETENTION:
                yield f"free plan: RDS refuses {days} days of backups, which protect_data sets: {remedy}"

    def _github(self) -> Iterator[str]:
        if not self._settings.github_repository:
            return
        providers = self._client("iam").list_open_id_connect_providers()["OpenIDConnectProviderList"]
        if not any(each["Arn"].endswith(ISSUER) for each in providers):
            yield (
                f"GitHub: the account has no identity provider for {ISSUER}: "
                f"aws iam create-open-id-connect-provider --url https://{ISSUER} --client-id-list sts.amazonaws.com"
            )


def _reserved(template: Mapping[str, Any]) -> dict[str, int]:
    """What each function of a template reserves, of those that reserve any."""
    return {
        name: number
        for name, each in template["Resources"].items()
        if (number := each.get("Properties", {}).get("ReservedConcurrentExecutions"))
    }
