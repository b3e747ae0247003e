"""Weakens the hardening one property at a time, and prints which test notices.

`make mutants` runs it: for each weakening the tests of the templates run on templates so
weakened (the variable MUTANT, which tests/conftest.py reads). One that no test notices
is printed as alive, and the exit status is 1.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

Template = dict[str, Any]
Weaken = Callable[[Template], None]

TESTS = [f"tests/stacks/test_{room}.py" for room in ("network", "database", "service", "monitoring")]


def _resources(template: Template, kind: str, like: str = "") -> list[Any]:
    return [
        resource
        for logical_id, resource in template["Resources"].items()
        if resource["Type"] == f"AWS::{kind}" and like in logical_id
    ]


def _set(kind: str, **properties: Any) -> Weaken:
    """Give every resource of the type other properties."""
    return lambda template: [each["Properties"].update(properties) for each in _resources(template, kind)].clear()


def _drop(kind: str, *names: str, like: str = "") -> Weaken:
    """Take properties from every resource of the type."""

    def weaken(template: Template) -> None:
        for resource in _resources(template, kind, like):
            for name in names:
                resource["Properties"].pop(name, None)

    return weaken


def _remove(kind: str, like: str = "") -> Weaken:
    """Take the resources away."""

    def weaken(template: Template) -> None:
        for logical_id in [key for key, each in template["Resources"].items() if each["Type"] == f"AWS::{kind}"]:
            if like in logical_id:
                del template["Resources"][logical_id]

    return weaken


def _add(kind: str, **properties: Any) -> Weaken:
    return lambda template: template["Resources"].update(Mutant={"Type": f"AWS::{kind}", "Properties": properties})


def _outlive_less(kind: str, policy: str) -> Weaken:
    return lambda template: [each.update({policy: "Delete"}) for each in _resources(template, kind)].clear()


def _variables(**variables: str) -> Weaken:
    """Change the serving function's environment."""

    def weaken(template: Template) -> None:
        for function in _resources(template, "Lambda::Function", "Function"):
            function["Properties"]["Environment"]["Variables"].update(variables)

    return weaken


def _parameters(**parameters: str) -> Weaken:
    def weaken(template: Template) -> None:
        for group in _resources(template, "RDS::DBParameterGroup"):
            group["Properties"]["Parameters"].update(parameters)

    return weaken


def _statements(role: str, change: Callable[[dict[str, Any]], None]) -> Weaken:
    """Change every statement of the role's own policy."""

    def weaken(template: Template) -> None:
        for policy in _resources(template, "IAM::ManagedPolicy", f"{role}Policy"):
            for statement in policy["Properties"]["PolicyDocument"]["Statement"]:
                change(statement)

    return weaken


def _more(role: str, **statement: Any) -> Weaken:
    """One statement more in the role's own policy."""

    def weaken(template: Template) -> None:
        for policy in _resources(template, "IAM::ManagedPolicy", f"{role}Policy"):
            policy["Properties"]["PolicyDocument"]["Statement"].append({"Effect": "Allow", **statement})

    return weaken


def _endpoints(change: Callable[[dict[str, Any]], None]) -> Weaken:
    def weaken(template: Template) -> None:
        for endpoint in _resources(template, "EC2::VPCEndpoint"):
            for statement in endpoint["Properties"]["PolicyDocument"]["Statement"]:
                change(statement)

    return weaken


def _ingress(**properties: Any) -> Weaken:
    def weaken(template: Template) -> None:
        for group in _resources(template, "EC2::SecurityGroup"):
            group["Properties"]["SecurityGroupIngress"] = [
                {"IpProtocol": "tcp", "FromPort": 3306, "ToPort": 3306, **properties}
            ]

    return weaken


def _generated_password(template: Template) -> None:
    for secret in _resources(template, "SecretsManager::Secret"):
        secret["Properties"].pop("GenerateSecretString")
        secret["Properties"]["SecretString"] = '{"password": "known"}'


INSTANCE, GROUP, FUNCTION = "RDS::DBInstance", "Logs::LogGroup", "Lambda::Function"

MUTANTS: dict[str, Weaken] = {
    "the database is public": _set(INSTANCE, PubliclyAccessible=True),
    "the database is in one zone": _set(INSTANCE, MultiAZ=False),
    "its storage is plain": _set(INSTANCE, StorageEncrypted=False),
    "its storage has AWS's key": _drop(INSTANCE, "KmsKeyId"),
    "its storage is gp2": _set(INSTANCE, StorageType="gp2"),
    "its authority is an old one": _set(INSTANCE, CACertificateIdentifier="rds-ca-2019"),
    "extended support is bought": _set(INSTANCE, EngineLifecycleSupport="open-source-rds-extended-support"),
    "the master's password is not RDS's": _set(INSTANCE, ManageMasterUserPassword=False),
    "the master's password is in the template": _set(INSTANCE, MasterUserPassword="known"),
    "the master's secret has AWS's key": _set(INSTANCE, MasterUserSecret={"KmsKeyId": "alias/aws/secretsmanager"}),
    "no backups": _set(INSTANCE, BackupRetentionPeriod=0),
    "backups go with the instance": _set(INSTANCE, DeleteAutomatedBackups=True),
    "the instance may be deleted": _set(INSTANCE, DeletionProtection=False),
    "no error log": _set(INSTANCE, EnableCloudwatchLogsExports=["slowquery"]),
    "no slow-query log": _set(INSTANCE, EnableCloudwatchLogsExports=["error"]),
    "no minor upgrades": _set(INSTANCE, AutoMinorVersionUpgrade=False),
    "the instance is not monitored": _set(INSTANCE, MonitoringInterval=0),
    "plaintext is taken": _parameters(require_secure_transport="0"),
    "old TLS is taken": _parameters(tls_version="TLSv1,TLSv1.1,TLSv1.2"),
    "the instance goes without a snapshot": _outlive_less(INSTANCE, "DeletionPolicy"),
    "a replaced instance goes without one": _outlive_less(INSTANCE, "UpdateReplacePolicy"),
    "the key goes with the stack": _outlive_less("KMS::Key", "DeletionPolicy"),
    "the secret goes with the stack": _outlive_less("SecretsManager::Secret", "DeletionPolicy"),
    "logs go with the stack": _outlive_less(GROUP, "DeletionPolicy"),
    "the key is not rotated": _set("KMS::Key", EnableKeyRotation=False),
    "the secret's password is known": _generated_password,
    "the secret has AWS's key": _drop("SecretsManager::Secret", "KmsKeyId"),
    "no rotation": _remove("SecretsManager::RotationSchedule"),
    "rotation once a year": _set(
        "SecretsManager::RotationSchedule", RotationRules={"ScheduleExpression": "rate(365 days)"}
    ),
    "no first rotation": _set("SecretsManager::RotationSchedule", RotateImmediatelyOnUpdate=False),
    "the whole VPC reaches everything": _ingress(CidrIp="172.31.0.0/16"),
    "everybody reaches everything": _ingress(CidrIp="0.0.0.0/0"),
    "another group reaches the database": _add(
        "EC2::SecurityGroupIngress",
        IpProtocol="tcp",
        FromPort=3306,
        ToPort=3306,
        SourceSecurityGroupId="sg-other",
        GroupId={"Fn::GetAtt": ["SecurityGroupDD263621", "GroupId"]},
    ),
    "all ports of the database are open": _set("EC2::SecurityGroupIngress", FromPort=0, ToPort=65535),
    "functions may go anywhere": _add(
        "EC2::SecurityGroupEgress", IpProtocol="-1", CidrIp="0.0.0.0/0", GroupId="sg", FromPort=0
    ),
    "there is an internet gateway": _add("EC2::InternetGateway"),
    "there is a NAT gateway more": _add("EC2::NatGateway", SubnetId="subnet"),
    "no endpoint for Parameter Store": _remove("EC2::VPCEndpoint", "SystemsManager"),
    "endpoints without their names": _set("EC2::VPCEndpoint", PrivateDnsEnabled=False),
    "endpoints without a policy": _drop("EC2::VPCEndpoint", "PolicyDocument"),
    "endpoints for every account": _endpoints(lambda statement: statement.pop("Condition")),
    "endpoints for every action": _endpoints(lambda statement: statement.update(Action="secretsmanager:*")),
    "traffic is not logged": _remove("EC2::FlowLog"),
    "logs are kept for ever": _drop(GROUP, "RetentionInDays"),
    "logs have AWS's key": _drop(GROUP, "KmsKeyId"),
    "Secrets Manager calls in any account's name": _drop("Lambda::Permission", "SourceAccount"),
    "variables have AWS's key": _drop(FUNCTION, "KmsKeyArn"),
    "functions are not traced": _set(FUNCTION, TracingConfig={"Mode": "PassThrough"}),
    "functions are outside the VPC": _drop(FUNCTION, "VpcConfig"),
    "concurrency is not reserved": _drop(FUNCTION, "ReservedConcurrentExecutions"),
    "the function ends after 3 s": _set(FUNCTION, Timeout=3),
    "the layer is years old": _set(FUNCTION, Layers=["arn:aws:lambda:us-east-1:177933569100:layer:X:4"]),
    "the extension waits for ever for secrets": _variables(SECRETS_MANAGER_TIMEOUT_MILLIS="0"),
    "the extension waits for ever for parameters": _variables(SSM_PARAMETER_STORE_TIMEOUT_MILLIS="0"),
    "the extension tells everything": _variables(PARAMETERS_SECRETS_EXTENSION_LOG_LEVEL="debug"),
    "a password is in the environment": _variables(DB_PASSWORD="known"),
    "the key opens anything": _statements("Function", lambda statement: statement.pop("Condition", None)),
    "rotation's key opens anything": _statements("Rotation", lambda statement: statement.pop("Condition", None)),
    "the function reads every secret": _more("Function", Action="secretsmanager:GetSecretValue", Resource="*"),
    "the function reads the master's": _more(
        "Function", Action="secretsmanager:GetSecretValue", Resource={"Fn::GetAtt": ["I", "MasterUserSecret.SecretArn"]}
    ),
    "the function reads every parameter": _more("Function", Action="ssm:GetParameter*", Resource="*"),
    "the function writes secrets": _more("Function", Action="secretsmanager:PutSecretValue", Resource="arn:x"),
    "rotation may do anything with secrets": _more("Rotation", Action="secretsmanager:*", Resource="*"),
    "an alarm tells nobody": _drop("CloudWatch::Alarm", "AlarmActions"),
    "a failure class has no alarm": _remove("CloudWatch::Alarm", "TLSVerificationError"),
    "a failure class is not counted": _remove("Logs::MetricFilter", "CredentialsRefusedError"),
    "the alarms' topic is plain": _drop("SNS::Topic", "KmsMasterKeyId"),
    "anybody publishes to the alarms' topic": _remove("SNS::TopicPolicy"),
    "a failover is not told": _set("RDS::EventSubscription", EventCategories=["backup"]),
    "callers get a version that no smoke test has seen": _outlive_less("Lambda::Alias", "DependsOn"),
    "a bad release is not taken back": _drop("CodeDeploy::DeploymentGroup", "AutoRollbackConfiguration"),
    "the function's code makes interfaces": _remove("IAM::ManagedPolicy", "DenyPolicy"),
}


def weaken(template: Template) -> None:
    """Make the weakening that MUTANT names, if it names one."""
    if "MUTANT" in os.environ:
        MUTANTS[os.environ["MUTANT"]](template)


def main() -> None:
    """Run the tests on every mutant; exit with 1 when one lives."""
    print("| weakening | noticed by |\n|---|---|", flush=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        killers = [_report(name, killer) for name, killer in zip(MUTANTS, pool.map(_killer, MUTANTS), strict=True)]
    alive = killers.count(None)
    print(f"\n{len(MUTANTS)} weakenings, {len(MUTANTS) - alive} noticed")
    sys.exit(bool(alive))


def _killer(name: str) -> str | None:
    """The first test that notices the mutant, or None."""
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-qx", "-p", "no:cacheprovider", *TESTS, "-k", "not package"],
        env={**os.environ, "MUTANT": name},
        capture_output=True,
        text=True,
    )
    killer = re.search(r"^(?:FAILED|ERROR) \S+::(\w+)", run.stdout, re.MULTILINE)
    return killer[1] if killer else None


def _report(name: str, killer: str | None) -> str | None:
    print(f"| {name} | {f'`{killer}`' if killer else '**no test**'} |", flush=True)
    return killer


if __name__ == "__main__":
    main()
