"""Wrong settings are refused together, each with what would be right; right ones are used unchanged."""

from collections.abc import Callable
from pathlib import Path

import botocore.session
import pytest

import app
from stacks.settings import ENVIRONMENTS, Settings, SettingsError, from_context
from stacks.settings.rds_mysql import memory_gib
from tests.conftest import Templates

LAYER = "arn:aws:lambda:us-east-1:177933569100:layer:AWS-Parameters-and-Secrets-Lambda-Extension:99"
AWS_SAMPLE = {
    "vpc_cidr": "172.31.0.0/16",
    "public_subnet_cidr": "172.31.3.0/24",
    "private_subnet_a_cidr": "172.31.2.0/24",
    "private_subnet_b_cidr": "172.31.1.0/24",
    "database_name": "devDB",
    "database_username": "myadmin",
}


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_the_aws_samples_settings_keep_their_defaults(env: str) -> None:
    settings = from_context({"env": env})
    assert {name: getattr(settings, name) for name in AWS_SAMPLE} == AWS_SAMPLE


def test_the_default_is_dev_on_mysql_8_4() -> None:
    settings = from_context({})
    assert (settings.env, settings.engine_version) == ("dev", "8.4")


def test_every_setting_can_be_overridden() -> None:
    settings = from_context({"vpc_cidr": "10.0.0.0/16", **_subnets("10.0"), "parameter_ttl": "7", "egress": "nat"})
    assert (settings.vpc_cidr, settings.parameter_ttl, settings.egress) == ("10.0.0.0/16", 7, "nat")


@pytest.mark.parametrize(("given", "protected"), [("true", True), ("false", False), (True, True), ("False", False)])
def test_protecting_data_can_be_overridden(given: object, protected: bool) -> None:  # noqa: FBT001
    assert from_context({"protect_data": given}).protect_data is protected


def test_an_environment_must_say_whether_its_data_is_protected() -> None:
    with pytest.raises(TypeError, match="protect_data"):
        Settings(env="staging")  # type: ignore[call-arg]


def test_an_environments_templates_are_made_without_its_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stacks.packaging.bundling.LocalBundling.try_bundle", lambda *_: pytest.fail("packaged"))
    assert set(app.templates(env="prod")) == {"Network", "Database", "Service", "Monitoring"}


@pytest.mark.parametrize("protect_data", [True, False])
def test_an_environment_is_added_by_one_constant(
    monkeypatch: pytest.MonkeyPatch,
    protect_data: bool,  # noqa: FBT001
) -> None:
    staging = Settings(env="staging", protect_data=protect_data)
    monkeypatch.setattr("stacks.settings.checks.ENVIRONMENTS", {**ENVIRONMENTS, "staging": staging})
    templates = Templates(app.templates(env="staging"))
    policies = {each["DeletionPolicy"] for each in templates.resources("AWS::KMS::Key").values()}
    assert policies == {"RetainExceptOnCreate" if protect_data else "Delete"}
    assert templates.only("AWS::RDS::DBInstance")["DBInstanceIdentifier"].startswith("staging-")


def test_an_environments_name_may_have_a_hyphen(monkeypatch: pytest.MonkeyPatch) -> None:
    own = Settings(env="pre-prod", protect_data=False, parameter_ttl=60)
    monkeypatch.setattr("stacks.settings.checks.ENVIRONMENTS", {**ENVIRONMENTS, "pre-prod": own})
    assert from_context({"env": "pre-prod"}).parameter_ttl == 60
    assert from_context({"env": "pre-prod", "pre-prod": {"parameter_ttl": 7}}).parameter_ttl == 7


def test_a_cdk_json_that_is_none_is_refused_with_the_files_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "cdk.json").write_text('{\n  "context": {"dev": {"parameter_ttl": 7},}\n}')
    monkeypatch.setattr("app.__file__", str(tmp_path / "app.py"))
    with pytest.raises(
        SettingsError, match=r"^Settings refused, in cdk.json or after -c:\n  cdk.json: line 2, column \d+: "
    ) as refused:
        app.lasting_settings()
    assert len(refused.value.faults) == 1


def test_cdks_own_context_is_passed_over() -> None:
    from_context(
        {
            "@aws-cdk/core:x": True,
            "aws:cdk:bundling-stacks": ["*"],
            "acknowledged-issue-numbers": [1],
            "cli-telemetry": False,
        }
    )


@pytest.mark.parametrize("version", ["8.4", "8.4.9", "8.4.99", "9.7", "9.7.4"])
def test_the_requested_version_is_returned(synthesise: Callable[..., Templates], version: str) -> None:
    templates = synthesise(engine_version=version)
    assert templates.only("AWS::RDS::DBInstance")["EngineVersion"] == version
    family = "mysql" + ".".join(version.split(".")[:2])
    assert templates.only("AWS::RDS::DBParameterGroup")["Family"] == family


@pytest.mark.parametrize("version", ["5.7", "8.0", "8.0.46", "5.7.44-rds.20260521"])
def test_a_version_out_of_standard_support_needs_extended_support(version: str) -> None:
    context = {"engine_version": version, "instance_class": "m5.large"}
    with pytest.raises(SettingsError, match=r"left standard support on .* extended_support=true"):
        from_context(context)
    assert from_context(context | {"extended_support": "true"}).engine_version == version


@pytest.mark.parametrize("extended_support", ["true", "false"])
def test_an_upgrade_of_the_engine_leaves_extended_support_as_it_was(
    synthesise: Callable[..., Templates], extended_support: str
) -> None:
    # RDS refuses every change of it on an instance that exists.
    versions = ["8.4", "9.7", *(["8.0"] if extended_support == "true" else [])]
    sent = {
        synthesise(engine_version=version, extended_support=extended_support).only("AWS::RDS::DBInstance")[
            "EngineLifecycleSupport"
        ]
        for version in versions
    }
    assert len(sent) == 1


def test_lasting_choices_in_cdk_json_are_those_of_their_environment_and_c_overrides_them() -> None:
    lasting = {"dev": {"parameter_ttl": 7}, "prod": {"alarm_email": "oncall@example.com", "parameter_ttl": 60}}
    assert from_context(lasting).parameter_ttl == 7
    prod = from_context(lasting | {"env": "prod", "parameter_ttl": "9"})
    assert (prod.alarm_email, prod.parameter_ttl) == ("oncall@example.com", 9)


def test_wrong_lasting_choices_of_any_environment_are_refused_with_the_files_name() -> None:
    with pytest.raises(SettingsError) as refused:
        from_context({"dev": {"vpc_cdir": "10.0.0.0/16"}, "prod": {"parameter_ttl": "soon", "protect_data": 1}})
    assert refused.value.faults == [
        "cdk.json: dev.vpc_cdir=10.0.0.0/16: unknown setting; did you mean vpc_cidr?",
        "cdk.json: prod.parameter_ttl=soon: not a whole number; allowed: 0 to 300",
        "cdk.json: prod.protect_data=1: allowed: true, false",
    ]
    with pytest.raises(SettingsError, match=r"cdk.json: dev=x: not an object of settings"):
        from_context({"dev": "x"})


def test_zones_can_be_chosen(synthesise: Callable[..., Templates]) -> None:
    subnets = synthesise(availability_zones="us-east-1b,us-east-1d").resources("AWS::EC2::Subnet").values()
    assert [each["Properties"]["AvailabilityZone"] for each in subnets] == ["us-east-1b", "us-east-1d"]


@pytest.mark.parametrize("instance_class", ["t3.micro", "t4g.micro"])
def test_a_micro_class_carries_about_sixty_connections(instance_class: str) -> None:
    settings = from_context({"instance_class": instance_class})
    assert 55 <= settings.max_connections <= 62
    assert settings.connections < 50


@pytest.mark.parametrize(
    ("instance_class", "gib"),
    [
        ("t4g.micro", 1),
        ("t3.medium", 4),
        ("m5.large", 8),
        ("m8g.48xlarge", 768),
        ("r6i.xlarge", 32),
        ("x2g.4xlarge", 256),
    ],
)
def test_family_and_size_give_a_classs_memory(instance_class: str, gib: int) -> None:
    assert memory_gib(instance_class) == gib


def _subnets(prefix: str) -> dict[str, str]:
    names = ("public_subnet_cidr", "private_subnet_a_cidr", "private_subnet_b_cidr")
    return {name: f"{prefix}.{number}.0/24" for number, name in enumerate(names)}


@pytest.mark.parametrize(
    ("context", "fault"),
    [
        ({"env": "stage"}, f"env=stage: unknown environment; allowed: {', '.join(ENVIRONMENTS)}"),
        ({"vpc_cdir": "10.0.0.0/16"}, "vpc_cdir=10.0.0.0/16: unknown setting; did you mean vpc_cidr?"),
        (
            {"reserved-concurrency": "0"},
            "reserved-concurrency=0: unknown setting; did you mean reserved_concurrency?",
        ),
        ({"ENV": "prod"}, "ENV=prod: unknown setting; did you mean env?"),
        ({"team": "me"}, "team=me: unknown setting; stacks/settings/settings.py has each setting"),
        ({"flavour": "x"}, "flavour=x: unknown setting; stacks/settings/settings.py has each setting"),
        ({"database_name": None}, "database_name=null: not a text; without it the default holds"),
        ({"parameter_ttl": None}, "parameter_ttl=null: not a whole number; allowed: 0 to 300"),
        ({"alarm_email": ["a@b.c"]}, 'alarm_email=["a@b.c"]: not a text'),
        ({"runbook": True}, "runbook=true: not a text"),
        ({"prodd": {"parameter_ttl": 7}}, "unknown environment; did you mean prod?"),
        ({"quux": {}}, "unknown environment; stacks/settings/settings.py has each environment"),
        ({"vpc_cidr": "everywhere"}, "vpc_cidr=everywhere: not an IPv4 address range"),
        ({"vpc_cidr": "172.31.0.1/16"}, "vpc_cidr=172.31.0.1/16: not in the form"),
        ({"vpc_cidr": "172.16.0.0/12"}, "vpc_cidr=172.16.0.0/12: a VPC and its subnets are /16 to /28"),
        ({"private_subnet_a_cidr": "10.0.0.0/24"}, "outside vpc_cidr=172.31.0.0/16"),
        ({"private_subnet_a_cidr": "172.31.1.0/25"}, "overlaps private_subnet_b_cidr=172.31.1.0/24"),
        ({"private_subnet_a_cidr": "172.31.2.0/29"}, "a VPC and its subnets are /16 to /28"),
        ({"database_name": "1st"}, "database_name=1st: a letter, then letters, digits"),
        ({"database_name": "a" * 65}, "64 in all at the most"),
        ({"database_name": "information_schema"}, "database_name=information_schema: taken by RDS"),
        ({"database_name": "Performance_Schema"}, "database_name=Performance_Schema: taken by RDS"),
        ({"database_name": "mysql"}, "database_name=mysql: taken by RDS"),
        ({"database_username": "a" * 17}, "16 in all at the most"),
        ({"database_username": "rdsadmin"}, "database_username=rdsadmin: taken by RDS"),
        ({"database_username": "demoapp"}, "database_username=demoapp: taken by RDS or by this application"),
        (
            {"engine_version": "16.1"},
            "engine_version=16.1: not a version of RDS for MySQL; allowed: 5.7",
        ),
        ({"engine_version": "5.7"}, "MySQL 5.7 does not run on Graviton; allowed: a family of other processors"),
        ({"parameter_ttl": "301"}, "parameter_ttl=301: allowed: 0 to 300"),
        ({"secret_ttl": "-1"}, "secret_ttl=-1: not a whole number; allowed: 0 to 300"),
        ({"secret_ttl": "soon"}, "secret_ttl=soon: not a whole number"),
        ({"reserved_concurrency": "46"}, "and t4g.micro carries 45"),
        ({"reserved_concurrency": "1001"}, "reserved_concurrency=1001: allowed: 0 to 1000"),
        ({"availability_zones": "us-east-1a"}, "availability_zones=us-east-1a: not two different zones"),
        ({"availability_zones": "us-east-1a,us-east-1a"}, "not two different zones"),
        ({"snapshot": "rds:dev-2026-11-22"}, "snapshot=rds:dev-2026-11-22: not a manual snapshot's name or ARN"),
        ({"snapshot": "before--the-move"}, "snapshot=before--the-move: not a manual snapshot's name or ARN"),
        ({"engine_version": "8.4.x"}, "engine_version=8.4.x: not a version of RDS for MySQL"),
        ({"github_repository": "o@1/n"}, "as owner/name or owner@ID/name@ID"),
        ({"egress": "vpn"}, "egress=vpn: allowed: endpoints, nat"),
        ({"architecture": "mips"}, "architecture=mips: allowed: arm64, x86_64"),
        *(
            ({"instance_class": name}, f"instance_class={name}: not a family and a size, as t4g.micro or m7g.large")
            for name in ("t4g", "foo", "m1.tiny", "m7g.0xlarge", "db.t4g.micro")
        ),
        ({"extension_layer_arn": "latest"}, "extension_layer_arn=latest: not a layer version's ARN"),
        (
            {"extension_layer_arn": LAYER, "region": "eu-central-1"},
            f"extension_layer_arn={LAYER}: the functions are in eu-central-1; allowed: a layer of their region",
        ),
        (
            {"extension_layer_arn": LAYER, "architecture": "arm64"},
            f"extension_layer_arn={LAYER}: AWS's for x86_64; allowed: that for arm64, or architecture=x86_64",
        ),
        (
            {"extension_layer_arn": LAYER.replace("Extension", "Extension-Arm64"), "architecture": "x86_64"},
            "-Arm64:99: AWS's for arm64; allowed: that for x86_64, or architecture=arm64",
        ),
        ({"extension_layer_arn": LAYER, "architecture": "mips"}, "architecture=mips: allowed: arm64, x86_64"),
        ({"release": "slowly"}, "release=slowly: allowed: at-once, gradual"),
        ({"alarm_email": "me"}, "alarm_email=me: not a mail address, as oncall@example.com"),
        ({"github_repository": "name"}, "github_repository=name: not a repository, as owner/name or"),
        ({"protect_data": "yes"}, "protect_data=yes: allowed: true, false"),
        ({"rotation_days": "0"}, "rotation_days=0: allowed: 1 to 999"),
        ({"rotation_days": "1000"}, "rotation_days=1000: allowed: 1 to 999"),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_right(context: dict[str, str], fault: str) -> None:
    with pytest.raises(SettingsError) as refused:
        from_context(context)
    assert any(fault in each for each in refused.value.faults), refused.value.faults


def test_a_layer_of_the_functions_region_and_processor_is_allowed_and_so_is_one_of_ones_own() -> None:
    context = {"extension_layer_arn": LAYER, "architecture": "x86_64"}
    own = LAYER.replace("AWS-Parameters-and-Secrets-Lambda-Extension", "mine-Arm64")
    for given in (context, context | {"region": "us-east-1"}, context | {"extension_layer_arn": own}):
        assert from_context(given)
    with pytest.raises(SettingsError, match="the functions are in eu-central-1; allowed: a layer of their region"):
        from_context(context, "eu-central-1")


def test_a_region_without_root_certificates_is_refused() -> None:
    for region in botocore.session.get_session().get_available_regions("rds"):
        assert from_context({}, region)
    with pytest.raises(SettingsError, match=r"us-gov-west-1: rds-root-certificates.pem has no .*`make certificates`"):
        from_context({}, "us-gov-west-1")


def test_admin_is_an_allowed_username() -> None:
    assert from_context({"database_username": "admin"}).database_username == "admin"
