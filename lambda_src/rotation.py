"""Secrets Manager's rotation of the application user's password, between two users.

Each rotation sets a new password for the user that is not in use and hands it out; the
user in use keeps its own. So credentials once read stay valid until the rotation after
next. The first rotation makes the users.

The four steps are those of the Secrets Manager user guide, "Lambda functions for
rotation". Secrets Manager may repeat any of them, or run two at once: each can be
repeated from any point and comes to the same end.
"""

import json
import logging
from hashlib import sha1
from typing import Any, Final

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from credentials import Credentials
from database import Database
from deadline import Deadline
from errors import ConfigurationError, DependencyUnavailableError

BUDGET: Final = 50.0
"""Seconds for one step; less than the function's timeout."""
PRIVILEGES: Final = "SELECT, INSERT, UPDATE, DELETE"
CLONE: Final = "_clone"
LONGEST_USERNAME: Final = 32
"""Characters that MySQL keeps of a user name."""
EXCLUDED: Final = " %+~`#$&*()|[]{}:;<>?!'/@\"\\"
"""Characters kept out of passwords, as CDK's DatabaseSecret does."""

logger = logging.getLogger("demoapp.rotation")


class Rotation:
    """The four steps, with one client for Secrets Manager and no connection kept."""

    def __init__(self) -> None:
        self._deadline = Deadline()
        self._database = Database(self._deadline)
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
            ConfigurationError: the step cannot be taken as asked; nothing was changed.
            ServiceError: the database or Secrets Manager failed; the step can be repeated.
        """
        self._deadline.start(min(BUDGET, remaining - 0.5))
        step, secret_id, token = (str(event.get(key, "")) for key in ("Step", "SecretId", "ClientRequestToken"))
        if step not in self._steps:
            raise ConfigurationError(f"unknown step {step!r}", allowed="/".join(self._steps))
        try:
            stages = self._stages(secret_id, token)
            if "AWSCURRENT" not in stages:
                self._steps[step](secret_id, token)
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            raise DependencyUnavailableError(
                f"secret {secret_id}: Secrets Manager refused", step=step, code=code
            ) from None
        finally:
            self._database.close()
        logger.info(
            "rotation.step",
            extra={"step": step, "version_id": token, "already_current": "AWSCURRENT" in stages},
        )

    def _stages(self, secret_id: str, token: str) -> list[str]:
        """The new version's stages, AWSPENDING or AWSCURRENT among them."""
        try:
            secret = self._client.describe_secret(SecretId=secret_id)
        except self._client.exceptions.ResourceNotFoundException:
            raise ConfigurationError(f"secret {secret_id}: there is none") from None
        if not secret.get("RotationEnabled"):
            raise ConfigurationError(f"secret {secret_id}: rotation is not enabled")
        stages: list[str] = secret["VersionIdsToStages"].get(token, [])
        if not {"AWSPENDING", "AWSCURRENT"} & set(stages):
            raise ConfigurationError(
                f"secret {secret_id}: version {token} is not staged for rotation", stages="/".join(stages)
            )
        return stages

    def _create_secret(self, secret_id: str, token: str) -> None:
        """Store the next credentials as AWSPENDING; those that another try has stored stay."""
        value = self._value(secret_id, VersionStage="AWSCURRENT")
        value["username"] = alternate(value["username"])
        value["password"] = self._client.get_random_password(PasswordLength=32, ExcludeCharacters=EXCLUDED)[
            "RandomPassword"
        ]
        try:
            self._client.put_secret_value(
                SecretId=secret_id,
                ClientRequestToken=token,
                SecretString=json.dumps(value),
                VersionStages=["AWSPENDING"],
            )
        except self._client.exceptions.ResourceExistsException:
            logger.info("rotation.already_created", extra={"version_id": token})

    def _set_secret(self, secret_id: str, token: str) -> None:
        """Make the database agree with AWSPENDING, and with AWSCURRENT where it has no such user."""
        current = self._value(secret_id, VersionStage="AWSCURRENT")
        pending = self._value(secret_id, VersionStage="AWSPENDING", VersionId=token)
        if pending != current | {key: pending[key] for key in ("username", "password")}:
            raise ConfigurationError(f"secret {secret_id}: version {token} is for another database")
        if pending["username"] != alternate(current["username"]):
            raise ConfigurationError(f"secret {secret_id}: version {token} is not for the other user")
        master = self._read(str(current.get("masterarn")), VersionStage="AWSCURRENT")
        if not master:
            raise ConfigurationError(f"secret {secret_id}: its masterarn names no secret")
        # The master's secret holds a user and a password only.
        master["SecretString"] = json.dumps(current | json.loads(master["SecretString"]))
        self._database.connect(Credentials.parse(master))
        (version,) = self._database.query("SELECT VERSION()")
        identified = "IDENTIFIED BY PASSWORD %s" if "MariaDB" in version else "IDENTIFIED BY %s"
        database = quoted_for_grant(current["dbname"])
        for verb, user in (
            ("CREATE USER IF NOT EXISTS", current),
            ("CREATE USER IF NOT EXISTS", pending),
            ("ALTER USER", pending),
        ):
            account = (user["username"], "%")
            # MySQL blots passwords out of the statements it logs; MariaDB does not, but takes the hash.
            word = native_hash(user["password"]) if "MariaDB" in version else user["password"]
            self._database.query(f"{verb} %s@%s {identified} REQUIRE SSL", (*account, word))
            self._database.query(f"GRANT {PRIVILEGES} ON {database}.* TO %s@%s", account)

    def _test_secret(self, secret_id: str, token: str) -> None:
        """Log in and ask, as the function will."""
        pending = self._read(secret_id, VersionStage="AWSPENDING", VersionId=token)
        self._database.connect(Credentials.parse(pending or {}))
        self._database.query("SELECT DATABASE()")

    def _finish_secret(self, secret_id: str, token: str) -> None:
        """Make AWSPENDING the version that everybody reads: one call, done or not done."""
        versions = self._client.describe_secret(SecretId=secret_id)["VersionIdsToStages"]
        current = next(version for version, stages in versions.items() if "AWSCURRENT" in stages)
        try:
            self._client.update_secret_version_stage(
                SecretId=secret_id,
                VersionStage="AWSCURRENT",
                MoveToVersionId=token,
                RemoveFromVersionId=current,
            )
        except ClientError:
            if "AWSCURRENT" not in self._stages(secret_id, token):
                raise

    def _read(self, secret_id: str, **version: str) -> dict[str, Any] | None:
        """A version's `GetSecretValue` answer; None when there is none."""
        try:
            answer: dict[str, Any] = self._client.get_secret_value(SecretId=secret_id, **version)
        except self._client.exceptions.ResourceNotFoundException:
            return None
        return answer

    def _value(self, secret_id: str, **version: str) -> dict[str, Any]:
        """The connection details that a version holds, and whatever else stands with them."""
        answer = self._read(secret_id, **version)
        if not answer:
            raise ConfigurationError(f"secret {secret_id}: no such version", **version)
        Credentials.parse(answer)
        value: dict[str, Any] = json.loads(answer["SecretString"])
        return value


def alternate(username: str) -> str:
    """The other of the two users.

    Raises:
        ConfigurationError: MySQL would not take a name of that length.
    """
    other = username.removesuffix(CLONE) if username.endswith(CLONE) else username + CLONE
    if len(other) > LONGEST_USERNAME:
        raise ConfigurationError(f"user {username}: leaves no room for {CLONE} in {LONGEST_USERNAME} characters")
    return other


def native_hash(password: str) -> str:
    """The password as mysql_native_password stores it (MariaDB knowledge base, "PASSWORD")."""
    return "*" + sha1(sha1(password.encode()).digest()).hexdigest().upper()  # noqa: S324 - MariaDB's own


def quoted_for_grant(database: str) -> str:
    """The database's name as a GRANT takes it: quoted, and with its wildcards _ and % escaped."""
    escaped = database.replace("`", "``").replace("_", "\\_").replace("%", "\\%")
    return f"`{escaped.replace('%', '%%')}`"  # %% because PyMySQL formats the statement.


_rotation = Rotation()


def lambda_handler(event: dict[str, Any], context: Any) -> None:
    """Secrets Manager's entry point; see `Rotation.handle`."""
    _rotation.handle(event, context.get_remaining_time_in_millis() / 1000)
