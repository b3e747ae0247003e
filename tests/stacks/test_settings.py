"""Wrong settings are refused together, each with what is right; right ones are taken as given."""

import json
import subprocess

import pytest

from local.install import ROOT, environment
from stacks.settings import ENVIRONMENTS, SettingsError, from_context

SEED = {
    "vpc_cidr": "172.31.0.0/16",
    "public_subnet_cidr": "172.31.3.0/24",
    "private_subnet_a_cidr": "172.31.2.0/24",
    "private_subnet_b_cidr": "172.31.1.0/24",
    "database_name": "devDB",
    "database_username": "myadmin",
}


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_the_seeds_parameters_have_the_seeds_defaults(env: str) -> None:
    settings = from_context({"env": env})
    assert {name: getattr(settings, name) for name in SEED} == SEED


def test_without_a_word_it_is_dev_on_the_newest_mysql_8_4() -> None:
    settings = from_context({})
    assert (settings.env, settings.mysql_version) == ("dev", "8.4.10")


def test_every_setting_can_be_overridden() -> None:
    settings = from_context({"vpc_cidr": "10.0.0.0/16", **_subnets("10.0"), "parameter_ttl": "7", "egress": "nat"})
    assert (settings.vpc_cidr, settings.parameter_ttl, settings.egress) == ("10.0.0.0/16", 7, "nat")


def test_cdks_own_context_is_passed_over() -> None:
    from_context({"@aws-cdk/core:x": True, "aws:cdk:bundling-stacks": ["*"], "acknowledged-issue-numbers": [1]})


@pytest.mark.parametrize(
    ("version", "exact"), [("8.0", "8.0.46"), ("5.7", "5.7.44-rds.20260521"), ("8.4.9", "8.4.9"), ("8.4", "8.4.10")]
)
def test_a_series_of_mysql_means_its_newest_version(version: str, exact: str) -> None:
    assert from_context({"engine_version": version, "instance_class": "t3.micro"}).mysql_version == exact


@pytest.mark.parametrize(("version", "paid"), [("5.7", True), ("8.0", True), ("8.4", False)])
def test_versions_out_of_standard_support_are_known(version: str, paid: bool) -> None:  # noqa: FBT001
    assert from_context({"engine_version": version, "instance_class": "t3.micro"}).is_extended_support is paid


def _subnets(prefix: str) -> dict[str, str]:
    names = ("public_subnet_cidr", "private_subnet_a_cidr", "private_subnet_b_cidr")
    return {name: f"{prefix}.{number}.0/24" for number, name in enumerate(names)}


@pytest.mark.parametrize(
    ("context", "fault"),
    [
        ({"env": "stage"}, "env=stage: unknown environment; allowed: dev, prod"),
        ({"vpc_cdir": "10.0.0.0/16"}, "vpc_cdir=10.0.0.0/16: unknown setting; did you mean vpc_cidr?"),
        ({"vpc_cidr": "everywhere"}, "vpc_cidr=everywhere: not an IPv4 address range"),
        ({"vpc_cidr": "172.31.0.1/16"}, "vpc_cidr=172.31.0.1/16: not in the form"),
        ({"vpc_cidr": "172.16.0.0/12"}, "vpc_cidr=172.16.0.0/12: a VPC and its subnets are /16 to /28"),
        ({"private_subnet_a_cidr": "10.0.0.0/24"}, "outside vpc_cidr=172.31.0.0/16"),
        ({"private_subnet_a_cidr": "172.31.1.0/25"}, "overlaps private_subnet_b_cidr=172.31.1.0/24"),
        ({"private_subnet_a_cidr": "172.31.2.0/29"}, "a VPC and its subnets are /16 to /28"),
        ({"database_name": "1st"}, "database_name=1st: a letter, then letters, digits"),
        ({"database_name": "a" * 65}, "64 in all at the most"),
        ({"database_name": "Select"}, "database_name=Select: a reserved word of MySQL"),
        ({"database_name": "information_schema"}, "database_name=information_schema: a reserved word"),
        ({"database_name": "mysql"}, "database_name=mysql: taken by RDS"),
        ({"database_username": "a" * 17}, "16 in all at the most"),
        ({"database_username": "rdsadmin"}, "database_username=rdsadmin: taken by RDS"),
        ({"database_username": "demoapp"}, "database_username=demoapp: taken by RDS or by this application"),
        ({"database_username": "table"}, "database_username=table: a reserved word"),
        (
            {"engine_version": "16.1"},
            "engine_version=16.1: not a version of RDS for MySQL that CDK knows; allowed: 5.7",
        ),
        ({"engine_version": "5.7"}, "MySQL 5.7 does not run on Graviton; allowed: t3.micro"),
        ({"parameter_ttl": "301"}, "parameter_ttl=301: allowed: 0 to 300"),
        ({"secret_ttl": "-1"}, "secret_ttl=-1: not a whole number; allowed: 0 to 300"),
        ({"secret_ttl": "soon"}, "secret_ttl=soon: not a whole number"),
        ({"reserved_concurrency": "64"}, "and t4g.micro carries 63"),
        ({"reserved_concurrency": "0"}, "reserved_concurrency=0: allowed: 1 to 1000"),
        ({"egress": "vpn"}, "egress=vpn: allowed: endpoints, nat"),
        ({"architecture": "mips"}, "architecture=mips: allowed: arm64, x86_64"),
        ({"instance_class": "m1.tiny"}, "instance_class=m1.tiny: allowed: t3.micro"),
        ({"extension_layer_arn": "latest"}, "extension_layer_arn=latest: not a layer version's ARN"),
        ({"release": "slowly"}, "release=slowly: allowed: at-once, gradual"),
        ({"alarm_email": "me"}, "alarm_email=me: not a mail address, as oncall@example.com"),
        ({"github_repository": "name"}, "github_repository=name: not a repository, as owner/name"),
        ({"rotation_days": "0"}, "rotation_days=0: allowed: 1 to 1000"),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_right(context: dict[str, str], fault: str) -> None:
    with pytest.raises(SettingsError) as refused:
        from_context(context)
    assert any(fault in each for each in refused.value.faults), refused.value.faults


def test_admin_is_a_name_and_no_reserved_word() -> None:
    assert from_context({"database_username": "admin"}).database_username == "admin"


def test_all_faults_are_named_at_once_without_a_traceback_or_a_template(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    out = tmp_path_factory.mktemp("out") / "cdk.out"
    context = ("-c", "vpc_cdir=10.0.0.0/16", "-c", "database_name=1st")
    refused = subprocess.run(
        ["cdk", "synth", *context, "--output", out], cwd=ROOT, env=environment(), capture_output=True, text=True
    )
    assert refused.returncode == 1
    assert "vpc_cdir=10.0.0.0/16: unknown setting; did you mean vpc_cidr?" in refused.stderr
    assert "database_name=1st: a letter" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not list(out.glob("*.template.json"))


@pytest.mark.parametrize("context", [(), ("-c", "env=prod", "-c", "egress=nat")], ids=["dev", "prod-nat"])
def test_a_synth_has_nothing_to_say(context: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> None:
    out = tmp_path_factory.mktemp("out")
    env = {key: value for key, value in environment().items() if not key.startswith("AWS_")}
    done = subprocess.run(
        ["cdk", "synth", "--quiet", *context, "--output", out], cwd=ROOT, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0
    said = [line for line in (done.stdout + done.stderr).splitlines() if not line.startswith("Bundling asset")]
    assert said[0].startswith("Successfully synthesized to")
    assert said[1].startswith("Supply a stack id")
    assert len(said) == 2
    assert json.loads((out / "validation-report.json").read_text())["pluginReports"] == []
