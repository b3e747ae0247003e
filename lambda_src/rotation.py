"""Secrets Manager's rotation of a database user's password, between two users.

Each rotation sets a new password for the user that is not in use and makes it current. The
user in use keeps its password, so that credentials once read stay valid until the rotation
after next. The first rotation makes the users.

The stack declares what a rotation may touch (`RotationEnvironment`). A secret's value is
data that is checked against the declaration: who may write the secret gains no right by it
beyond those of the secret's own users.

The four steps are those of the Secrets Manager user guide,
https://docs.aws.amazon.com/secretsmanager/latest/userguide/rotating-secrets-lambda-function-overview.html.
Secrets Manager may repeat any of them, or run two at once: each can be repeated from any
point and has the same result.
"""

import json
import logging
import os
import re
from typing import Any, Final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from database_users import REFUSED, DatabaseUsers
from shared import schema
from shared.credentials import Credentials
from shared.database import Database
from shared.deadline import Deadline
from shared.environment import RotationEnvironment
from shared.errors import ConfigurationError, DependencyUnavailableError, InvocationError, QueryFailedError
from shared.json_object import json_object

BUDGET: Final = 50.0
"""Seconds for one step; less than the function's timeout."""
CLONE: Final = "_clone"
LONGEST_USERNAME: Final = 32
"""The longest user name in MySQL, in characters."""
EXCLUDED: Final = " %+~`#$&*()|[]{}:;<>?!'/@\"\\"
"""Characters that passwords do not contain, as in CDK's DatabaseSecret."""

EXISTS: Final = 1304  # A procedure, which before MySQL 8.0.29 cannot be made IF NOT EXISTS.

logger = logging.getLogger("rotation")


class _FinishedMeanwhileError(Exception):
    """Another invocation has made the pending version the current one."""


class Rotation:
    """The four steps of a rotation."""

    def __init__(self, environment: RotationEnvironment) -> None:
        self._environment = environment
        self._deadline = Deadline()
        self._database = Database(self._deadline, environment.region, BUDGET, keeps_session=True)
        self._client = boto3.client("secretsmanager", config=Config(connect_timeout=2, read_timeout=5))
        self._steps = {
            "createSecret": self._create_secret,
            "setSecret": self._set_secret,
            "testSecret": self._test_secret,
            "finishSecret": self._finish_secret,
        }

    def handle(self, event: dict[str, Any], remaining: float) -> None:
        """Take one step.

        Args:
            event: `Step`, `SecretId` (an ARN) and `ClientRequestToken` (the new version's id).
            remaining: seconds that the function has left.

        Raises:
            ConfigurationError: the step cannot be taken, or the server's policy refuses the password.
            InvocationError: the database or Secrets Manager failed; the step can be repeated.
        """
        self._deadline.start(min(BUDGET, remaining - 0.5))
        step, secret_id, token = (str(event.get(key, "")) for key in ("Step", "SecretId", "ClientRequestToken"))
        if step not in self._steps:
            raise ConfigurationError(f"unknown step {step!r}", allowed="/".join(self._steps))
        if secret_id not in self._environment.users:
            raise ConfigurationError(f"secret {secret_id}: not declared for rotation")
        failure: InvocationError | None = None
        try:
            stages = self._stages(secret_id, token)
            if "AWSCURRENT" not in stages:
                self._steps[step](secret_id, token)
        except _FinishedMeanwhileError:
            stages = ["AWSCURRENT"]
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            failure = DependencyUnavailableError(f"secret {secret_id}: Secrets Manager refused", step=step, code=code)
        except (BotoCoreError, TimeoutError) as error:
            facts = {"step": step, "cause": type(error).__name__}
            failure = DependencyUnavailableError(f"secret {secret_id}: Secrets Manager did not answer", **facts)
        finally:
            self._database.close()
        # Raised here, because an exception raised in the except clause would contain the SDK's error, which
        # may quote what was received.
        if failure:
            raise failure
        facts = {"step": step, "version_id": token}
        logger.info("rotation.step", extra=facts | {"already_current": "AWSCURRENT" in stages})

    def _stages(self, secret_id: str, token: str) -> list[str]:
        """Return the new version's staging labels, which include AWSPENDING or AWSCURRENT."""
        try:
            secret = self._ask("describe_secret", SecretId=secret_id)
        except self._client.exceptions.ResourceNotFoundException:
            raise ConfigurationError(f"secret {secret_id}: there is none") from None
        if not secret.get("RotationEnabled"):
            raise ConfigurationError(f"secret {secret_id}: rotation is not enabled")
        stages: list[str] = secret.get("VersionIdsToStages", {}).get(token, [])
        if not {"AWSPENDING", "AWSCURRENT"} & set(stages):
            raise ConfigurationError(
                f"secret {secret_id}: version {token} is not staged for rotation", stages="/".join(stages)
            )
        return stages

    def _create_secret(self, secret_id: str, token: str) -> None:
        """Store the next credentials as AWSPENDING, unless an earlier try has stored them."""
        value = self._current(secret_id)
        value["username"] = alternate(value["username"])
        value["password"] = self._random_password()
        try:
            version = {"ClientRequestToken": token, "VersionStages": ["AWSPENDING"]}
            self._ask("put_secret_value", SecretId=secret_id, SecretString=json.dumps(value), **version)
        except self._client.exceptions.ResourceExistsException:
            logger.info("rotation.already_created", extra={"version_id": token})

    def _random_password(self) -> str:
        """Return 40 characters of every kind and 8 special ones: what validate_password may ask for."""
        special = {"ExcludeNumbers": True, "ExcludeLowercase": True, "ExcludeUppercase": True}
        parts: tuple[dict[str, Any], ...] = ({"PasswordLength": 40}, {"PasswordLength": 8, **special})
        found = [self._ask("get_random_password", ExcludeCharacters=EXCLUDED, **part) for part in parts]
        return "".join(each["RandomPassword"] for each in found)

    def _set_secret(self, secret_id: str, token: str) -> None:
        """Set the pending user's password in the database, and create the current user if it is missing."""
        self._take_turn(token)
        current = self._current(secret_id)
        pending = self._pending(secret_id, token, current)
        self._make_history()
        _, privileges = self._environment.users[secret_id]
        users = DatabaseUsers(self._database, privileges)
        users.ensure(current["username"], current["password"], is_in_use=True)
        if self._is_first(secret_id, current):
            users.take_over(current["username"], current["password"])
        try:
            users.ensure(pending["username"], pending["password"], is_in_use=False)
            return users.set_password(pending["username"], pending["password"])
        except QueryFailedError as error:
            if error.facts.get("errno") != REFUSED:
                raise
        raise self._discarded(secret_id, token, ["the server's policy refuses the password"])

    def _take_turn(self, token: str) -> None:
        """Connect as the master, and wait for the others: none may find a user idle that another makes current."""
        self._database.connect(self._credentials(self._environment.master_secret_id))
        self._database.rows("SET SESSION wait_timeout = 60")  # The lock must not outlive a client that is gone.
        seconds = str(max(0, int(self._deadline.remaining()) - 1))
        (has_turn,) = self._database.query("SELECT GET_LOCK(%s, %s)", (token, seconds))
        if not has_turn:
            raise DependencyUnavailableError(f"version {token}: another invocation is at it", operation="lock")

    def _is_first(self, secret_id: str, current: dict[str, Any]) -> bool:
        """Whether no rotation has ended yet: each leaves the other user in the previous version.

        The users of a database that came from a snapshot have the passwords of the environment that it is from.
        """
        versions = self._ask("describe_secret", SecretId=secret_id)["VersionIdsToStages"].values()
        if not any("AWSPREVIOUS" in stages for stages in versions):
            return True
        return bool(self._value(secret_id, VersionStage="AWSPREVIOUS").get("username") == current["username"])

    def _make_history(self) -> None:
        """Make the database of the migrations' history, as the master, if it is missing."""
        try:
            for statement in schema.MAKE_HISTORY:
                self._database.rows(statement)
        except QueryFailedError as error:
            if error.facts.get("errno") != EXISTS:
                raise

    def _test_secret(self, secret_id: str, token: str) -> None:
        """Log in as the pending user and query, as the function will."""
        self._pending(secret_id, token, self._current(secret_id))
        self._database.connect(self._credentials(secret_id, VersionStage="AWSPENDING", VersionId=token))
        self._database.query("SELECT DATABASE()")

    def _finish_secret(self, secret_id: str, token: str) -> None:
        """Make the pending version the current one, in one atomic call."""
        self._take_turn(token)
        self._pending(secret_id, token, self._current(secret_id))
        versions = self._ask("describe_secret", SecretId=secret_id)["VersionIdsToStages"]
        current = [version for version, stages in versions.items() if "AWSCURRENT" in stages]
        stage = {"VersionStage": "AWSCURRENT", "MoveToVersionId": token, "RemoveFromVersionId": current[0]}
        try:
            self._ask("update_secret_version_stage", SecretId=secret_id, **stage)
        except ClientError:
            if "AWSCURRENT" not in self._stages(secret_id, token):
                raise

    def _current(self, secret_id: str) -> dict[str, Any]:
        """Return the current version's value, if it matches the declared users and database.

        Raises:
            ConfigurationError: it does not; the message names the keys at fault and no value.
        """
        value = self._value(secret_id, VersionStage="AWSCURRENT")
        faults = self._faults(secret_id, value)
        if faults:
            raise ConfigurationError(
                f"secret {secret_id}: not what this function is deployed to rotate: {', '.join(faults)}"
            )
        return value

    def _pending(self, secret_id: str, token: str, current: dict[str, Any]) -> dict[str, Any]:
        """Return the pending version's value, if only its user and password differ from the current one.

        Otherwise its label is removed, so that the next rotation can begin. Without that, Secrets
        Manager would repeat this rotation without end after the instance was replaced.

        Raises:
            ConfigurationError: more differs; the message names the keys at fault and no value.
            _FinishedMeanwhileError: the pending version is the current one by now.
        """
        pending = self._value(secret_id, VersionStage="AWSPENDING", VersionId=token)
        faults = self._faults(secret_id, pending)
        others = {key: value for key, value in pending.items() if key not in ("username", "password")}
        if others != {key: value for key, value in current.items() if key not in ("username", "password")}:
            faults.append("another database")
        if pending.get("username") != alternate(current["username"]):
            faults.append("not the other user")
        if faults:
            if "AWSCURRENT" in self._stages(secret_id, token):
                raise _FinishedMeanwhileError
            raise self._discarded(secret_id, token, faults)
        return pending

    def _discarded(self, secret_id: str, token: str, faults: list[str]) -> ConfigurationError:
        """Take the pending label from a version, so that the next rotation can begin; return the error to raise."""
        stage = {"VersionStage": "AWSPENDING", "RemoveFromVersionId": token}
        self._ask("update_secret_version_stage", SecretId=secret_id, **stage)
        return ConfigurationError(
            f"secret {secret_id}: version {token} is not usable: {', '.join(faults)}; rotate the secret again"
        )

    def _faults(self, secret_id: str, value: dict[str, Any]) -> list[str]:
        """Return the keys whose values are not the declared ones."""
        username, _ = self._environment.users[secret_id]
        declared = {
            "username": (username, username + CLONE),
            "host": (self._environment.host,),
            "port": (self._environment.port, str(self._environment.port)),
            "dbname": (self._environment.database,),
            "masterarn": (self._environment.master_secret_id,),
        }
        faults = [key for key, allowed in declared.items() if value.get(key) not in allowed]
        password = value.get("password")
        # JSON can contain a lone surrogate, which cannot be encoded.
        is_text = isinstance(password, str) and re.fullmatch("[^\ud800-\udfff]+", password)
        return faults if is_text else [*faults, "password"]

    def _credentials(self, secret_id: str, **version: str) -> Credentials:
        """Return the credentials of a secret's user, for the declared host, port and database."""
        value = self._value(secret_id, **version or {"VersionStage": "AWSCURRENT"})
        environment = self._environment
        place = {"host": environment.host, "port": environment.port, "dbname": environment.database}
        return Credentials.parse({"SecretString": json.dumps(value | place), "VersionId": version.get("VersionId")})

    def _value(self, secret_id: str, **version: str) -> dict[str, Any]:
        """Return the JSON object in a version.

        Raises:
            ConfigurationError: there is no such version, or it holds no JSON object.
        """
        try:
            answer = self._ask("get_secret_value", SecretId=secret_id, **version)
        except self._client.exceptions.ResourceNotFoundException:
            raise ConfigurationError(f"secret {secret_id}: no such version", **version) from None
        value = json_object(answer.get("SecretString"))
        if value is None:
            raise ConfigurationError(f"secret {secret_id}: not a JSON object with each key once", **version)
        return value

    def _ask(self, operation: str, **request: Any) -> dict[str, Any]:
        """Call Secrets Manager within the deadline."""
        answer: dict[str, Any] = self._deadline.call(getattr(self._client, operation), **request)
        return answer


def alternate(username: str) -> str:
    """Return the other of the two users.

    Raises:
        ConfigurationError: the other name would be too long for MySQL.
    """
    other = username.removesuffix(CLONE) if username.endswith(CLONE) else username + CLONE
    if len(other) > LONGEST_USERNAME:
        raise ConfigurationError(f"user {username}: leaves no room for {CLONE} in {LONGEST_USERNAME} characters")
    return other


_rotation = Rotation(RotationEnvironment.read(os.environ))


def lambda_handler(event: dict[str, Any], context: Any) -> None:
    """Secrets Manager's entry point; see `Rotation.handle`."""
    _rotation.handle(event, context.get_remaining_time_in_millis() / 1000)
