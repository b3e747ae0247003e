"""Mutation tests: weakens the templates and the functions' code one property at a time, and prints which test notices.

`make mutants` runs it. For each weakening of the templates their tests run on templates so
weakened (this module is then pytest's plugin, and the variable MUTANT names the weakening); for each
of the code, the code's tests run on a copy that has it. One that no test notices is printed as alive,
and the exit status is 1.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import app
from operations.commands import ROOT

Template = dict[str, Any]
Weaken = Callable[[Template], None]

TESTS = [f"tests/stacks/test_{stack}.py" for stack in ("network", "database", "service", "monitoring")]


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


def _forget_the_migrations(template: Template) -> None:
    for resource in template["Resources"].values():
        if resource["Type"] == "Custom::SmokeTest":
            resource["DependsOn"] = [each for each in resource["DependsOn"] if not each.startswith("MigrationResult")]


def _variables(**variables: str) -> Weaken:
    """Change the serving function's environment."""

    def weaken(template: Template) -> None:
        for function in _resources(template, "Lambda::Function", "Serving"):
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
    "the database's storage is not encrypted": _set(INSTANCE, StorageEncrypted=False),
    "the database's storage is encrypted with AWS's key": _drop(INSTANCE, "KmsKeyId"),
    "the database's storage is gp2": _set(INSTANCE, StorageType="gp2"),
    "the database's certificate authority is an old one": _set(INSTANCE, CACertificateIdentifier="rds-ca-2019"),
    "extended support is bought": _set(INSTANCE, EngineLifecycleSupport="open-source-rds-extended-support"),
    "the master's password is not RDS's": _set(INSTANCE, ManageMasterUserPassword=False),
    "the master's password is in the template": _set(INSTANCE, MasterUserPassword="known"),
    "the master's secret is encrypted with AWS's key": _set(
        INSTANCE, MasterUserSecret={"KmsKeyId": "alias/aws/secretsmanager"}
    ),
    "no backups": _set(INSTANCE, BackupRetentionPeriod=0),
    "backups are deleted with the instance": _set(INSTANCE, DeleteAutomatedBackups=True),
    "the instance has no deletion protection": _set(INSTANCE, DeletionProtection=False),
    "no error log": _set(INSTANCE, EnableCloudwatchLogsExports=["slowquery"]),
    "no slow-query log": _set(INSTANCE, EnableCloudwatchLogsExports=["error"]),
    "no automatic minor upgrades": _set(INSTANCE, AutoMinorVersionUpgrade=False),
    "the instance is not monitored": _set(INSTANCE, MonitoringInterval=0),
    "the database accepts connections without TLS": _parameters(require_secure_transport="0"),
    "the database accepts old TLS versions": _parameters(tls_version="TLSv1,TLSv1.1,TLSv1.2"),
    "the instance is deleted without a snapshot": _outlive_less(INSTANCE, "DeletionPolicy"),
    "a replaced instance is deleted without a snapshot": _outlive_less(INSTANCE, "UpdateReplacePolicy"),
    "the key is deleted with the stack": _outlive_less("KMS::Key", "DeletionPolicy"),
    "the secret is deleted with the stack": _outlive_less("SecretsManager::Secret", "DeletionPolicy"),
    "logs are deleted with the stack": _outlive_less(GROUP, "DeletionPolicy"),
    "the key is not rotated": _set("KMS::Key", EnableKeyRotation=False),
    "the secret's password is known": _generated_password,
    "the secret is encrypted with AWS's key": _drop("SecretsManager::Secret", "KmsKeyId"),
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
    "functions may connect anywhere": _add(
        "EC2::SecurityGroupEgress", IpProtocol="-1", CidrIp="0.0.0.0/0", GroupId="sg", FromPort=0
    ),
    "there is an internet gateway": _add("EC2::InternetGateway"),
    "there is a NAT gateway": _add("EC2::NatGateway", SubnetId="subnet"),
    "no endpoint for Parameter Store": _remove("EC2::VPCEndpoint", "SystemsManager"),
    "endpoints without private DNS names": _set("EC2::VPCEndpoint", PrivateDnsEnabled=False),
    "endpoints without a policy": _drop("EC2::VPCEndpoint", "PolicyDocument"),
    "endpoints for every account": _endpoints(lambda statement: statement.pop("Condition")),
    "endpoints for every action": _endpoints(lambda statement: statement.update(Action="secretsmanager:*")),
    "traffic is not logged": _remove("EC2::FlowLog"),
    "logs are kept for ever": _drop(GROUP, "RetentionInDays"),
    "logs are encrypted with AWS's key": _drop(GROUP, "KmsKeyId"),
    "Secrets Manager may invoke the function for any account": _drop("Lambda::Permission", "SourceAccount"),
    "environment variables are encrypted with AWS's key": _drop(FUNCTION, "KmsKeyArn"),
    "functions are not traced": _set(FUNCTION, TracingConfig={"Mode": "PassThrough"}),
    "functions are outside the VPC": _drop(FUNCTION, "VpcConfig"),
    "concurrency is not reserved": _drop(FUNCTION, "ReservedConcurrentExecutions"),
    "the function ends after 3 s": _set(FUNCTION, Timeout=3),
    "the layer is years old": _set(FUNCTION, Layers=["arn:aws:lambda:us-east-1:177933569100:layer:X:4"]),
    "the extension waits for ever for secrets": _variables(SECRETS_MANAGER_TIMEOUT_MILLIS="0"),
    "the extension waits for ever for parameters": _variables(SSM_PARAMETER_STORE_TIMEOUT_MILLIS="0"),
    "the extension logs at DEBUG": _variables(PARAMETERS_SECRETS_EXTENSION_LOG_LEVEL="debug"),
    "a password is in an environment variable": _variables(DB_PASSWORD="known"),
    "the function may decrypt anything with the key": _statements(
        "Serving", lambda statement: statement.pop("Condition", None)
    ),
    "the rotation function may decrypt anything with the key": _statements(
        "Rotation", lambda statement: statement.pop("Condition", None)
    ),
    "the function reads every secret": _more("Serving", Action="secretsmanager:GetSecretValue", Resource="*"),
    "the function reads the master's": _more(
        "Serving",
        Action="secretsmanager:GetSecretValue",
        Resource={"Fn::GetAtt": ["I", "MasterUserSecret.SecretArn"]},
    ),
    "the function reads every parameter": _more("Serving", Action="ssm:GetParameter*", Resource="*"),
    "the function writes secrets": _more("Serving", Action="secretsmanager:PutSecretValue", Resource="arn:x"),
    "rotation may do anything with secrets": _more("Rotation", Action="secretsmanager:*", Resource="*"),
    "an alarm tells nobody": _drop("CloudWatch::Alarm", "AlarmActions"),
    "a failure class has no alarm": _remove("CloudWatch::Alarm", "TLSVerificationError"),
    "a failure class is not counted": _remove("Logs::MetricFilter", "CredentialsRefusedError"),
    "the alarms' topic is not encrypted": _drop("SNS::Topic", "KmsMasterKeyId"),
    "anybody publishes to the alarms' topic": _remove("SNS::TopicPolicy"),
    "a failover is not reported": _set("RDS::EventSubscription", EventCategories=["backup"]),
    "the migration function reads the serving user's secret": _more(
        "Migration", Action="secretsmanager:GetSecretValue", Resource={"Ref": "SecretAttachment2E1B7C3B"}
    ),
    "the smoke test does not wait for the migrations": _forget_the_migrations,
    "callers get a version that no smoke test has seen": _outlive_less("Lambda::Alias", "DependsOn"),
    "a failing release is not rolled back": _drop("CodeDeploy::DeploymentGroup", "AutoRollbackConfiguration"),
    "the function's code may create network interfaces": _remove("IAM::ManagedPolicy", "DenyPolicy"),
}


ANSWERS, APPLICATION, DATABASE, FAULTS, HANDLER, MIGRATION, ROTATION, SMOKE, TRANSACTIONS, WRITES = (
    "local/tests/test_answers.py",
    "local/tests/test_application.py",
    "local/tests/test_database.py",
    "proof/functions/test_faults.py",
    "local/tests/test_handler.py",
    "local/tests/test_migration.py",
    "local/tests/test_rotation.py",
    "tests/lambda_src/test_smoke.py",
    "local/tests/test_application_database.py",
    "proof/functions/test_transactions.py",
)
ADB = "shared/application_database.py"

CODE: dict[str, tuple[str, str, str, str]] = {
    "the certificate is not verified": (
        "shared/sockets.py",
        "    context.sslsocket_class",
        "    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE\n    context.sslsocket_class",
        DATABASE,
    ),
    "the certificate's common name is accepted as the host's name": (
        "shared/sockets.py",
        "hostname_checks_common_name = False",
        "hostname_checks_common_name = True",
        FAULTS,
    ),
    "TLS 1.0 is offered": ("shared/sockets.py", "TLSVersion.TLSv1_2", "TLSVersion.MINIMUM_SUPPORTED", DATABASE),
    "the server may ask for files": (
        "shared/database.py",
        "autocommit=True,",
        "autocommit=True, local_infile=True,",
        FAULTS,
    ),
    "a TLS failure is tried again": (
        "shared/database.py",
        "not isinstance(failure, DependencyUnavailableError)",
        "not isinstance(failure, (DependencyUnavailableError, TLSVerificationError))",
        FAULTS,
    ),
    "a refused login is tried again": (
        "shared/database.py",
        "not isinstance(failure, DependencyUnavailableError)",
        "not isinstance(failure, (DependencyUnavailableError, CredentialsRefusedError))",
        FAULTS,
    ),
    "a password is in the facts of an error": (
        "shared/database.py",
        "host=credentials.host,\n                        version",
        "host=credentials.password,\n                        version",
        FAULTS,
    ),
    "an interrupted connection is kept": (
        "shared/database.py",
        "        except BaseException:\n            # Cut off",
        "        except GeneratorExit:\n            # Cut off",
        FAULTS,
    ),
    "a connection with unread data is used": (
        "shared/database.py",
        "self._opened > AGE or has_unread(self._connection)",
        "self._opened > AGE",
        FAULTS,
    ),
    "a password is sent as Latin-1": (
        "shared/database.py",
        "credentials.password.encode()",
        "credentials.password",
        DATABASE,
    ),
    "a name look-up waits for ever": (
        "shared/sockets.py",
        "deadline.call(socket.getaddrinfo, host",
        "socket.getaddrinfo(host",
        FAULTS,
    ),
    "each address has the whole time": ("shared/sockets.py", "deadline.timeout() / (len(found) - index)", "60", FAULTS),
    "a socket waits for ever": (
        "shared/sockets.py",
        "self.deadline.timeout() if self.may_wait else 0",
        "None if self.may_wait else 0",
        FAULTS,
    ),
    "an answer may be endless": ("shared/sockets.py", "self.received > self.largest_answer", "False", FAULTS),
    "the SDK waits for ever": (
        "shared/direct_read.py",
        "deadline.call(_ask, service, api, request)",
        "_ask(service, api, request)",
        FAULTS,
    ),
    "a throttled read outlasts the deadline": (
        "shared/frame.py",
        "THROTTLE_PAUSE), direct_read.BUDGET):",
        "THROTTLE_PAUSE), -60.0):",
        FAULTS,
    ),
    "the libraries log at every level": (
        "shared/__init__.py",
        "setLevel(logging.INFO)",
        "setLevel(logging.DEBUG)",
        ROTATION,
    ),
    "an answer to another request is accepted": (
        "shared/extension.py",
        "if answer is not None and _names(answer, name):",
        "if answer is not None:",
        FAULTS,
    ),
    "an invalid token is sent": ("shared/extension.py", '"[!-~]*", token', '".*", token, re.DOTALL', FAULTS),
    "rotation accepts any user": (
        "rotation.py",
        '            "username": (username, username + CLONE),\n',
        "",
        ROTATION,
    ),
    "rotation accepts any database": (
        "rotation.py",
        '            "dbname": (self._environment.database,),\n',
        "",
        ROTATION,
    ),
    "rotation accepts any host": ("rotation.py", '            "host": (self._environment.host,),\n', "", ROTATION),
    "rotation accepts any secret": (
        "rotation.py",
        "if secret_id not in self._environment.users:",
        "if False:",
        ROTATION,
    ),
    "the serving users change the history": (
        "rotation.py",
        "users = DatabaseUsers(self._database, privileges)",
        "users = DatabaseUsers(self._database, dict.fromkeys(privileges, next(iter(privileges.values()))))",
        ROTATION,
    ),
    "a user keeps privileges that are not declared": (
        "database_users.py",
        'self._database.rows("DROP USER',
        'str("DROP USER',
        ROTATION,
    ),
    "the grant has a wildcard": ("database_users.py", 'else "_%"', 'else ""', ROTATION),
    "users may log in without TLS": ("database_users.py", " REQUIRE SSL", "", ROTATION),
    "the result is sent to any address": ("smoke.py", "if not re.fullmatch(", "if False and not re.fullmatch(", SMOKE),
    "a redirect of the result is followed": (
        "smoke.py",
        "        retries=urllib3.Retry(3, redirect=False),\n        redirect=False,\n",
        "        retries=3,\n",
        SMOKE,
    ),
    "a rollback invokes the version": ("smoke.py", '"ROLLBACK" in found["StackStatus"]', "False", SMOKE),
    "two deploys migrate at once": ("migration.py", "if not is_locked:", "if False:", MIGRATION),
    "an applied file may be changed": (
        "migration.py",
        "elif file.checksum != record.checksum:",
        "elif False:",
        MIGRATION,
    ),
    "a migration stops the application": (
        "migration.py",
        'self._database.rows(f"SET SESSION {STRICT}, {waits}")',
        "pass",
        MIGRATION,
    ),
    "data is changed twice": ("migration.py", 'self._database.rows("START TRANSACTION")', "pass", MIGRATION),
    "an error ends the session and frees the lock": (
        "migration.py",
        "keeps_session=True",
        "keeps_session=False",
        MIGRATION,
    ),
    "a changed schema is a proof": (
        "migration.py",
        "self._rehearse(record.before, migration.sql) != schema",
        "False",
        MIGRATION,
    ),
    "an edited file is a proof": ("migration.py", "record.checksum != migration.checksum or", "", MIGRATION),
    "the rehearsal may change the database": (
        "migration.py",
        "if re.search(rf",
        "if False and re.search(rf",
        MIGRATION,
    ),
    "a table without transactions is migrated": (
        "migration.py",
        'if engine not in (None, "InnoDB"):',
        "if False:",
        MIGRATION,
    ),
    "an error of the server is quoted": (
        "migration.py",
        "number in QUOTE_SQL_ONLY and said",
        "said",
        MIGRATION,
    ),
    "the function answers on an older schema": (
        "shared/frame.py",
        "if self._schema_version < self._application.SCHEMA:",
        "if False:",
        HANDLER,
    ),
    "a read is repeated on another connection within a transaction": (
        ADB,
        "if self._is_inside:",
        "if False:",
        TRANSACTIONS,
    ),
    "a transaction that failed is left open, and the next one stores it": (
        ADB,
        'self._database.rows("ROLLBACK")',
        "pass",
        TRANSACTIONS,
    ),
    "after a lock that was not had in time, the first half stays, and the next try stores it": (
        "shared/database.py",
        "was_in_transaction and isinstance(failure, QueryFailedError)",
        "was_in_transaction",
        TRANSACTIONS,
    ),
    "a statement that ends the transaction is not noticed": (
        ADB,
        "if not self._database.in_transaction:",
        "if not self._database.is_open:",
        TRANSACTIONS,
    ),
    "a refused statement that ends the transaction is not noticed": (
        "shared/database.py",
        "                with self._deadline.limit(self._query_seconds):\n                    self._connection.ping",
        "                with self._deadline.limit(self._query_seconds):\n                    dict",
        TRANSACTIONS,
    ),
    "a statement with rows that ends the transaction is not noticed": (
        "shared/database.py",
        "if was_in_transaction and cursor.description",
        "if False and cursor.description",
        TRANSACTIONS,
    ),
    "a transaction begins within another": (
        ADB,
        "            raise self._over\n        if BEGINS.match(sql):",
        "            raise self._over\n        if False:",
        TRANSACTIONS,
    ),
    "a transaction begins in a read": (
        ADB,
        'use its own statements")\n        if BEGINS.match(sql):',
        'use its own statements")\n        if False:',
        TRANSACTIONS,
    ),
    "a connection is replaced between two statements": (
        "shared/database.py",
        "        if self._connection is None:\n",
        "        if not self.is_connected:\n",
        TRANSACTIONS,
    ),
    "the server waits for a lock longer than the statement": (
        ADB,
        "LOCK_WAIT: Final = 1",
        "LOCK_WAIT: Final = 9",
        TRANSACTIONS,
    ),
    "a connection that breaks at COMMIT counts as not stored": (ADB, "if is_answer(error):", "if True:", WRITES),
    "a connection that broke before COMMIT counts as unknown": (ADB, "self._database.is_broken or ", "", TRANSACTIONS),
    "a transaction that a deadlock undid is not run again": (ADB, "TRIES: Final = 4", "TRIES: Final = 1", TRANSACTIONS),
    "an exception of the work is run again": (
        ADB,
        "may_repeat = isinstance(error, DependencyUnavailableError) and error.connection_lost",
        "may_repeat = True",
        TRANSACTIONS,
    ),
    "a lost transaction is not run again when its work hides the error": (
        ADB,
        "raise transaction.lost from None",
        "raise",
        TRANSACTIONS,
    ),
    "a write outside a transaction is accepted": (ADB, "READ COMMITTED, READ ONLY", "READ COMMITTED", TRANSACTIONS),
    "a transaction sees the past": (ADB, "LEVEL READ COMMITTED", "LEVEL REPEATABLE READ", TRANSACTIONS),
    "the session's time zone is another": (
        "shared/database.py",
        "time_zone = '+00:00'",
        "time_zone = '+02:00'",
        TRANSACTIONS,
    ),
    "what is too long is cut": (
        "shared/database.py",
        ", sql_mode = 'TRADITIONAL,ONLY_FULL_GROUP_BY'",
        "",
        TRANSACTIONS,
    ),
    "a key is asked for by a plain SELECT": (
        "shared/keys.py",
        "    inserted, _ = transaction.execute(\n",
        (
            '    inserted = not transaction.rows("SELECT 1 FROM transaction_key WHERE id = %s", (name,))\n'
            "    transaction.execute(\n"
        ),
        WRITES,
    ),
    "a key is stored before its work": (
        ADB,
        "            answer = work(transaction)\n",
        (
            "            if key:\n                transaction.commit()\n"
            "                transaction = Transaction(self._connected(), self._deadline, self._timed)\n"
            "            answer = work(transaction)\n"
        ),
        TRANSACTIONS,
    ),
    "the first caller gets another answer than the next": (
        ADB,
        "answer = json.loads(keys.store(transaction, self._function, key, answer))",
        "keys.store(transaction, self._function, key, answer)",
        TRANSACTIONS,
    ),
    "an answer is encoded after COMMIT": (
        ADB,
        "                answer = json.loads(keys.store(transaction, self._function, key, answer))\n",
        (
            "                transaction.commit()\n"
            "                transaction = Transaction(self._connected(), self._deadline, self._timed)\n"
            "                answer = json.loads(keys.store(transaction, self._function, key, answer))\n"
        ),
        TRANSACTIONS,
    ),
    "a key answers another request": ("shared/keys.py", "if stored != request:", "if False:", TRANSACTIONS),
    "two kinds of work share a key": (
        "shared/keys.py",
        "_digest([function, key.kind, key.value])",
        "_digest(key.value)",
        TRANSACTIONS,
    ),
    "the removal of old keys waits for one in use": (
        "shared/keys.py",
        " FOR UPDATE SKIP LOCKED",
        " FOR UPDATE",
        TRANSACTIONS,
    ),
    "an unknown outcome is told as a failure": (ADB, "raise self._unknown or failure", "raise failure", WRITES),
    "a failure is told as an unknown outcome": (
        ADB,
        "self._unknown = None  # The key",
        "pass  # The key",
        WRITES,
    ),
    "a bad request is an error of the function": (
        "shared/frame.py",
        "            if _is_health(event):\n                raise",
        "            if True:\n                raise",
        APPLICATION,
    ),
    "the health event reaches the application": (
        "shared/frame.py",
        "        if _is_health(event):\n            return",
        "        if False:\n            return",
        ANSWERS,
    ),
    "MySQL's sentence is told on AWS": (
        "shared/database.py",
        'if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "local":',
        "if True:",
        ANSWERS,
    ),
}
"""Each weakening of the functions' code: the file, what stands there, what takes its place, and the tests to run."""


SECOND_EDITS: dict[str, tuple[str, str, str]] = {
    "after a lock that was not had in time, the first half stays, and the next try stores it": (
        ADB,
        "transaction.roll_back()\n            if transaction.lost and",
        "isinstance(error, DependencyUnavailableError) or transaction.roll_back()\n            if transaction.lost and",
    )
}
"""What is taken out as well, where two places hold the promise."""


def pytest_configure() -> None:
    """Weaken every template that the tests synthesise, as MUTANT says."""
    synthesise = app.templates

    def weakened(**context: str) -> dict[str, Template]:
        templates = synthesise(**context)
        for template in templates.values():
            MUTANTS[os.environ["MUTANT"]](template)
        return templates

    app.templates = weakened


def main() -> None:
    """Run the tests on every mutant; exit with 1 when no test notices one."""
    print("| weakening | noticed by |\n|---|---|", flush=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        killers = [
            _report(name, killer)
            for names, find in ((MUTANTS, _killer), (CODE, _code_killer))
            for name, killer in zip(names, pool.map(find, names), strict=True)
        ]
    alive = killers.count(None)
    print(f"\n{len(killers)} weakenings, {len(killers) - alive} noticed")
    sys.exit(bool(alive))


def _killer(name: str) -> str | None:
    """The first test that notices the weakened templates, or None."""
    return _first_failure([*TESTS, "-p", "proof.weakenings"], {"MUTANT": name})


def edits(name: str) -> list[tuple[str, str, str]]:
    """A file of lambda_src/, what is taken out and what comes in; one or two of these."""
    return [CODE[name][:3], *([SECOND_EDITS[name]] if name in SECOND_EDITS else [])]


def _code_killer(name: str) -> str | None:
    """The first test that notices the weakened code, or None."""
    with tempfile.TemporaryDirectory() as folder:
        copy = shutil.copytree(ROOT / "lambda_src", Path(folder) / "lambda_src")
        for file, old, new in edits(name):
            source = (copy / file).read_text()
            if source.count(old) != 1:
                raise ValueError(f"{name}: {file} has this {source.count(old)} times: {old}")
            (copy / file).write_text(source.replace(old, new))
        return _first_failure([CODE[name][-1], "-o", f"pythonpath={ROOT} {copy}", "--timeout=30"], {})


def _first_failure(arguments: list[str], variables: dict[str, str]) -> str | None:
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-qx", "-p", "no:cacheprovider", *arguments],
        cwd=ROOT,
        env={**os.environ, **variables},
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
