"""The database: private, encrypted, verified, Multi-AZ, and its passwords nobody's but its owners'."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import Templates

PASSWORD_CHARACTERS = 30


def _instance(templates: Templates) -> dict[str, Any]:
    return templates.only("AWS::RDS::DBInstance")


def _key(templates: Templates) -> str:
    """The logical id of the database's key."""
    (key,) = set(templates.resources("AWS::KMS::Key")) & set(templates["Database"]["Resources"])
    return key


def test_it_is_multi_az_private_and_encrypted_with_our_key(templates: Templates) -> None:
    instance = _instance(templates)
    assert instance["MultiAZ"] is True
    assert instance["PubliclyAccessible"] is False
    assert instance["StorageEncrypted"] is True
    assert instance["StorageType"] == "gp3"
    assert instance["KmsKeyId"] == {"Fn::GetAtt": [_key(templates), "Arn"]}
    assert instance["CACertificateIdentifier"] == "rds-ca-rsa2048-g1"


def test_it_is_patched_and_watched(templates: Templates) -> None:
    instance = _instance(templates)
    assert instance["AutoMinorVersionUpgrade"] is True
    assert instance["MonitoringInterval"] == 60
    assert instance["CopyTagsToSnapshot"] is True


def test_its_key_is_the_secrets_too_and_every_key_is_rotated(templates: Templates) -> None:
    assert templates.only("AWS::SecretsManager::Secret")["KmsKeyId"] == {"Fn::GetAtt": [_key(templates), "Arn"]}
    keys = templates.resources("AWS::KMS::Key").values()
    assert [each["Properties"]["EnableKeyRotation"] for each in keys] == [True, True]


def test_secrets_manager_calls_the_rotation_function_in_this_accounts_name_alone(templates: Templates) -> None:
    permission = templates.only("AWS::Lambda::Permission")
    assert permission["Principal"] == "secretsmanager.amazonaws.com"
    assert permission["SourceAccount"] == {"Ref": "AWS::AccountId"}


def test_plaintext_and_old_tls_are_refused(templates: Templates) -> None:
    parameters = templates.only("AWS::RDS::DBParameterGroup")["Parameters"]
    assert parameters["require_secure_transport"] == "1"
    assert parameters["tls_version"] == "TLSv1.2,TLSv1.3"


def test_extended_support_is_never_bought_silently(templates: Templates, synthesise: Callable[..., Templates]) -> None:
    assert _instance(templates)["EngineLifecycleSupport"] == "open-source-rds-extended-support-disabled"
    chosen = synthesise(engine_version="8.0")
    assert _instance(chosen)["EngineLifecycleSupport"] == "open-source-rds-extended-support"


def test_its_logs_are_kept_for_a_stated_time(templates: Templates) -> None:
    instance = _instance(templates)
    retentions = {
        group["Properties"].get("LogGroupName"): group["Properties"]["RetentionInDays"]
        for group in templates.resources("AWS::Logs::LogGroup").values()
    }
    for log in instance["EnableCloudwatchLogsExports"]:
        assert retentions[f"/aws/rds/instance/{instance['DBInstanceIdentifier']}/{log}"] == 90
    assert set(instance["EnableCloudwatchLogsExports"]) == {"error", "slowquery"}


DATA = ("AWS::RDS::DBInstance", "AWS::SecretsManager::Secret", "AWS::KMS::Key", "AWS::Logs::LogGroup")


@pytest.mark.parametrize("egress", ["endpoints", "nat"])
def test_production_data_outlives_its_stack(synthesise: Callable[..., Templates], egress: str) -> None:
    templates = synthesise(env="prod", egress=egress)
    for kind in DATA:
        for logical_id, resource in templates.resources(kind).items():
            assert resource["DeletionPolicy"] == ("Snapshot" if kind == "AWS::RDS::DBInstance" else "Retain"), (
                logical_id
            )
            assert resource["UpdateReplacePolicy"] == resource["DeletionPolicy"], logical_id
    assert _instance(templates)["DeletionProtection"] is True
    assert _instance(templates)["DeleteAutomatedBackups"] is False
    assert _instance(templates)["BackupRetentionPeriod"] >= 14


def test_a_dev_stack_leaves_nothing_behind(synthesise: Callable[..., Templates]) -> None:
    templates = synthesise(env="dev")
    for kind in DATA:
        assert {resource["DeletionPolicy"] for resource in templates.resources(kind).values()} == {"Delete"}
    assert _instance(templates)["DeletionProtection"] is False
    assert _instance(templates)["DeleteAutomatedBackups"] is True


def test_the_masters_password_is_rds_own(templates: Templates) -> None:
    instance = _instance(templates)
    assert instance["ManageMasterUserPassword"] is True
    assert "MasterUserPassword" not in instance
    assert instance["MasterUserSecret"]["KmsKeyId"] == instance["KmsKeyId"]


def test_the_secret_names_the_master_and_the_password_is_generated(templates: Templates) -> None:
    secret = templates.only("AWS::SecretsManager::Secret")
    generated = secret["GenerateSecretString"]
    assert generated["GenerateStringKey"] == "password"
    assert generated["PasswordLength"] == PASSWORD_CHARACTERS
    written = json.dumps(generated["SecretStringTemplate"])
    assert "masterarn" in written
    assert "MasterUserSecret.SecretArn" in written
    attachment = templates.only("AWS::SecretsManager::SecretTargetAttachment")
    assert attachment["TargetType"] == "AWS::RDS::DBInstance"


def test_the_function_that_rotates_is_called_after_the_deploy_and_every_thirty_days(templates: Templates) -> None:
    schedule = templates.only("AWS::SecretsManager::RotationSchedule")
    assert schedule["RotationRules"]["ScheduleExpression"] == "rate(30 days)"
    # Absent means true: the rotation at creation makes the users.
    assert schedule.get("RotateImmediatelyOnUpdate", True) is True


def test_changing_what_has_to_do_with_something_else_does_not_rotate(synthesise: Callable[..., Templates]) -> None:
    before = synthesise(env="dev").resources("AWS::SecretsManager::RotationSchedule")
    after = synthesise(
        env="dev", parameter_ttl="60", reserved_concurrency="5", architecture="x86_64", instance_class="t4g.small"
    ).resources("AWS::SecretsManager::RotationSchedule")
    assert after == before


def test_the_first_rotation_waits_for_the_way_to_the_database(templates: Templates) -> None:
    (schedule,) = templates.resources("AWS::SecretsManager::RotationSchedule").values()
    ways = [
        logical_id
        for kind in ("AWS::EC2::SecurityGroupIngress", "AWS::EC2::SecurityGroupEgress")
        for logical_id, rule in templates.resources(kind).items()
        if logical_id in templates["Database"]["Resources"]
    ]
    assert len(ways) >= 2
    assert set(ways) <= set(schedule["DependsOn"])
