"""The database: private, encrypted, verified, Multi-AZ, with passwords that only their owners can read."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from aws_cdk.assertions import Capture, Match

from app import lasting_settings
from shared import schema
from tests.conftest import Templates

INSTANCE = "AWS::RDS::DBInstance"
PASSWORD_CHARACTERS = 30


def _instance(templates: Templates) -> dict[str, Any]:
    return templates.only(INSTANCE)


def _key(templates: Templates) -> str:
    """The logical id of the database's key."""
    (key,) = set(templates.resources("AWS::KMS::Key")) & set(templates["Database"]["Resources"])
    return key


def test_it_is_multi_az_private_and_encrypted_with_our_key(templates: Templates) -> None:
    templates.database.has_resource_properties(
        INSTANCE,
        {
            "MultiAZ": True,
            "PubliclyAccessible": False,
            "StorageEncrypted": True,
            "StorageType": "gp3",
            "KmsKeyId": {"Fn::GetAtt": [_key(templates), "Arn"]},
            "CACertificateIdentifier": "rds-ca-rsa2048-g1",
        },
    )


def test_it_is_patched_and_watched(templates: Templates) -> None:
    templates.database.has_resource_properties(
        INSTANCE, {"AutoMinorVersionUpgrade": True, "MonitoringInterval": 60, "CopyTagsToSnapshot": True}
    )


def test_its_key_is_the_secrets_too_and_every_key_is_rotated(templates: Templates) -> None:
    secrets = [each["Properties"] for each in templates.resources("AWS::SecretsManager::Secret").values()]
    assert [each["KmsKeyId"] for each in secrets] == [{"Fn::GetAtt": [_key(templates), "Arn"]}] * 2
    keys = templates.resources("AWS::KMS::Key").values()
    assert [each["Properties"]["EnableKeyRotation"] for each in keys] == [True, True]


def test_secrets_manager_calls_the_rotation_function_only_for_this_account(templates: Templates) -> None:
    templates.database.all_resources_properties(
        "AWS::Lambda::Permission",
        {"Principal": "secretsmanager.amazonaws.com", "SourceAccount": {"Ref": "AWS::AccountId"}},
    )
    templates.database.has_resource("AWS::Lambda::Permission", {})


def test_plaintext_and_old_tls_are_refused(templates: Templates) -> None:
    parameters = {"require_secure_transport": "1", "tls_version": "TLSv1.2,TLSv1.3"}
    templates.database.has_resource_properties("AWS::RDS::DBParameterGroup", {"Parameters": parameters})


def test_extended_support_is_never_bought_silently(templates: Templates, synthesise: Callable[..., Templates]) -> None:
    disabled = {"EngineLifecycleSupport": "open-source-rds-extended-support-disabled"}
    templates.database.has_resource_properties(INSTANCE, disabled)
    chosen = synthesise(engine_version="8.0", extended_support="true")
    chosen.database.has_resource_properties(INSTANCE, {"EngineLifecycleSupport": "open-source-rds-extended-support"})


def test_its_logs_are_kept_for_a_stated_time(templates: Templates) -> None:
    instance = _instance(templates)
    retentions = {
        group["Properties"].get("LogGroupName"): group["Properties"]["RetentionInDays"]
        for group in templates.resources("AWS::Logs::LogGroup").values()
    }
    for log in instance["EnableCloudwatchLogsExports"]:
        assert retentions[f"/aws/rds/instance/{instance['DBInstanceIdentifier']}/{log}"] == 90
    assert set(instance["EnableCloudwatchLogsExports"]) == {"error", "slowquery"}


DATA = (INSTANCE, "AWS::SecretsManager::Secret", "AWS::KMS::Key", "AWS::Logs::LogGroup")


@pytest.mark.parametrize("egress", ["endpoints", "nat"])
def test_production_data_outlives_its_stack(synthesise: Callable[..., Templates], egress: str) -> None:
    templates = synthesise(env="prod", egress=egress)
    for kind in DATA:
        for logical_id, resource in templates.resources(kind).items():
            # A first deploy that fails leaves nothing that is in the way of the next.
            kept = ("Snapshot", "Snapshot") if kind == INSTANCE else ("RetainExceptOnCreate", "Retain")
            assert (resource["DeletionPolicy"], resource["UpdateReplacePolicy"]) == kept, logical_id
    templates.database.has_resource_properties(
        INSTANCE, {"DeletionProtection": True, "DeleteAutomatedBackups": False, "BackupRetentionPeriod": 14}
    )


def test_a_dev_stack_leaves_nothing_behind(synthesise: Callable[..., Templates]) -> None:
    templates = synthesise(env="dev")
    for kind in DATA:
        assert {resource["DeletionPolicy"] for resource in templates.resources(kind).values()} == {"Delete"}
    templates.database.has_resource_properties(INSTANCE, {"DeletionProtection": False, "DeleteAutomatedBackups": True})


def test_rds_manages_the_masters_password(templates: Templates) -> None:
    key = Capture()
    templates.database.has_resource_properties(
        INSTANCE,
        {
            "ManageMasterUserPassword": True,
            "MasterUserPassword": Match.absent(),
            "MasterUserSecret": {"KmsKeyId": key},
            "KmsKeyId": {"Fn::GetAtt": [_key(templates), "Arn"]},
        },
    )
    assert key.as_object() == {"Fn::GetAtt": [_key(templates), "Arn"]}


def test_the_secrets_name_the_master_and_the_passwords_are_generated(templates: Templates) -> None:
    for secret in templates.resources("AWS::SecretsManager::Secret").values():
        generated = secret["Properties"]["GenerateSecretString"]
        assert generated["GenerateStringKey"] == "password"
        assert generated["PasswordLength"] == PASSWORD_CHARACTERS
        written = json.dumps(generated["SecretStringTemplate"])
        assert "masterarn" in written
        assert "MasterUserSecret.SecretArn" in written
    attachments = templates.resources("AWS::SecretsManager::SecretTargetAttachment").values()
    assert [each["Properties"]["TargetType"] for each in attachments] == ["AWS::RDS::DBInstance"] * 2


def test_the_rotation_function_runs_after_the_deploy_and_every_thirty_days(templates: Templates) -> None:
    templates.database.has_resource_properties(
        "AWS::SecretsManager::RotationSchedule",
        {
            "RotationRules": {"ScheduleExpression": "rate(30 days)", "Duration": "4h"},
            # Absent means true: the rotation at creation makes the users.
            "RotateImmediatelyOnUpdate": Match.absent(),
        },
    )


def test_a_rotation_changes_two_secrets_and_reads_the_masters_and_no_other(templates: Templates) -> None:
    (policy,) = [
        each["Properties"]["PolicyDocument"]
        for logical_id, each in templates.resources("AWS::IAM::ManagedPolicy").items()
        if logical_id.startswith("RotationPolicy")
    ]
    (instance,) = templates.resources(INSTANCE)
    users = [{"Ref": each} for each in sorted(templates.resources("AWS::SecretsManager::SecretTargetAttachment"))]
    steps = ["DescribeSecret", "GetSecretValue", "PutSecretValue", "UpdateSecretVersionStage"]
    on_secrets = {
        json.dumps(each["Resource"]): each["Action"]
        for each in policy["Statement"]
        if "secretsmanager:" in json.dumps(each["Action"]) and each["Resource"] != "*"
    }
    assert on_secrets == {
        json.dumps(users): [f"secretsmanager:{each}" for each in steps],
        json.dumps({"Fn::GetAtt": [instance, "MasterUserSecret.SecretArn"]}): "secretsmanager:GetSecretValue",
    }


def test_an_unrelated_change_does_not_rotate(synthesise: Callable[..., Templates]) -> None:
    before = synthesise(env="dev").resources("AWS::SecretsManager::RotationSchedule")
    after = synthesise(
        env="dev", parameter_ttl="60", reserved_concurrency="5", architecture="x86_64", instance_class="t4g.small"
    ).resources("AWS::SecretsManager::RotationSchedule")
    assert after == before


def test_the_first_rotation_waits_for_the_security_group_rules(templates: Templates) -> None:
    schedules = templates.resources("AWS::SecretsManager::RotationSchedule").values()
    assert len(schedules) == 2
    ways = [
        logical_id
        for kind in ("AWS::EC2::SecurityGroupIngress", "AWS::EC2::SecurityGroupEgress")
        for logical_id, rule in templates.resources(kind).items()
        if logical_id in templates["Database"]["Resources"]
    ]
    assert len(ways) >= 2
    assert all(set(ways) <= set(schedule["DependsOn"]) for schedule in schedules)


def test_the_stack_declares_what_a_rotation_may_touch(templates: Templates) -> None:
    (rotation,) = [
        each["Properties"]["Environment"]["Variables"]
        for each in templates.resources("AWS::Lambda::Function").values()
        if each["Properties"]["Handler"] == "rotation.lambda_handler"
    ]
    (instance,) = templates.resources(INSTANCE)
    assert rotation["DATABASE_HOST"] == {"Fn::GetAtt": [instance, "Endpoint.Address"]}
    assert rotation["DATABASE_PORT"] == {"Fn::GetAtt": [instance, "Endpoint.Port"]}
    assert rotation["DATABASE_NAME"] == _instance(templates)["DBName"]
    assert rotation["MASTER_SECRET_ARN"] == {"Fn::GetAtt": [instance, "MasterUserSecret.SecretArn"]}
    parts = rotation["ROTATED_USERS"]["Fn::Join"][1]
    declared = json.loads("".join(part if isinstance(part, str) else part["Ref"] for part in parts))
    data = ["SELECT", "INSERT", "UPDATE", "DELETE"]
    definitions = ["ALTER", "CREATE", "CREATE VIEW", "DROP", "INDEX", "REFERENCES", "SHOW VIEW"]
    name = _instance(templates)["DBName"]
    schema_user = {
        name: data + definitions,
        schema.HISTORY: ["SELECT", "INSERT", "UPDATE", "EXECUTE"],
        schema.REHEARSAL: data + definitions,
    }
    user = lasting_settings().application_username
    assert list(declared.values()) == [
        {"username": user, "privileges": {name: data, schema.HISTORY: ["SELECT"]}},
        {"username": f"{user}_schema", "privileges": schema_user},
    ]


def test_a_snapshot_brings_its_database_master_storage_and_key(
    templates: Templates, synthesise: Callable[..., Templates]
) -> None:
    made = _instance(templates)
    restored = synthesise(env="prod", snapshot="before-the-move").only(INSTANCE)
    assert restored["DBSnapshotIdentifier"] == "before-the-move"
    assert "DBSnapshotIdentifier" not in made
    # What CloudFormation's page of the resource forbids then, and the storage, of which RDS refuses less.
    assert set(made) - set(restored) == {"DBName", "MasterUsername", "KmsKeyId", "AllocatedStorage"}
    assert restored["ManageMasterUserPassword"] is True
    assert restored["StorageEncrypted"] is True


@pytest.mark.parametrize("snapshot", ["", "before-the-move"])
def test_no_change_of_the_snapshot_can_replace_the_instance(
    synthesise: Callable[..., Templates], snapshot: str
) -> None:
    """CloudFormation refuses to replace what has a name, and never deletes the data for an empty database.

    https://repost.aws/knowledge-center/cloudformation-custom-name
    """
    identifier = lasting_settings().database_identifier
    assert synthesise(snapshot=snapshot).only(INSTANCE)["DBInstanceIdentifier"] == identifier
