"""Rotation between two users: there is always one current version, and its user can always log in."""

import contextlib
import json
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import botocore.exceptions
import pymysql
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import application
from database_users import DatabaseUsers
from local.mysql import RDS_MASTER_PRIVILEGES
from local.tests.aws import AWS
from local.tests.fixtures import started_server
from local.tests.functions import (
    CANARY,
    MASTER_ID,
    SECRET_ID,
    Context,
    Server,
    connection_details,
    rotation_variables,
    start_rotation,
)
from rotation import Rotation, alternate, lambda_handler
from shared import schema
from shared.credentials import Credentials
from shared.errors import ConfigurationError, CredentialsRefusedError, DependencyUnavailableError, QueryFailedError

STEPS = ("createSecret", "setSecret", "testSecret", "finishSecret")
PRIVILEGES = [
    "GRANT USAGE ON *.*",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON `dev\\_DB`.*",
    "GRANT SELECT ON `migrations\\_history`.*",
]
"""Of the serving function's users, without their names."""


def _event(step: str, token: str, secret_id: str = SECRET_ID) -> dict[str, str]:
    return {"Step": step, "SecretId": secret_id, "ClientRequestToken": token}


def _rotate(rotation: Rotation, token: str) -> None:
    for step in STEPS:
        rotation.handle(_event(step, token), 60)


def _logs_in(server: Server, value: dict[str, Any]) -> bool:
    return bool(server.execute("SELECT 1", user=value["username"], password=value["password"]))


def test_the_first_rotation_makes_both_users(aws: AWS, server: Server, rotate: Callable[[], str]) -> None:
    _, first = aws.current(SECRET_ID)
    token = rotate()
    current_token, current = aws.current(SECRET_ID)
    assert current_token == token
    assert (first["username"], current["username"]) == ("notesapp", "notesapp_clone")
    assert _logs_in(server, current)
    # Handed out before the rotation, and so valid until the one after next.
    assert _logs_in(server, first)


def test_each_rotation_gives_the_other_user_a_new_password(aws: AWS, server: Server, rotate: Callable[[], str]) -> None:
    seen = [aws.current(SECRET_ID)[1]]
    for _ in range(4):
        rotate()
        seen.append(aws.current(SECRET_ID)[1])
        assert _logs_in(server, seen[-1])
        assert _logs_in(server, seen[-2])
    assert [value["username"] for value in seen] == ["notesapp", "notesapp_clone"] * 2 + ["notesapp"]
    assert len({value["password"] for value in seen}) == 5
    with pytest.raises(Exception, match="1045"):
        _logs_in(server, seen[-3])


def test_the_serving_users_read_the_history_and_change_nothing_of_it(
    aws: AWS, server: Server, rotate: Callable[[], str]
) -> None:
    rotate()
    table = f"{schema.HISTORY}.schema_history"
    with server.session("notesapp", CANARY + "first") as execute:
        assert execute(f"SELECT COUNT(*) FROM {table}") == [(application.SCHEMA,)]
        for change in (
            f"UPDATE {table} SET finished_at = NULL",
            f"DELETE FROM {table}",
            f"INSERT INTO {table} (version, name, checksum) VALUES (9, '', '')",
            f"DROP TABLE {table}",
            *([] if server.is_mariadb else [f"SELECT * FROM {table} FOR UPDATE"]),
            f"CALL {schema.HISTORY}.lock_holder()",
        ):
            with pytest.raises(pymysql.OperationalError, match="denied"):
                execute(change)


def test_the_first_rotation_makes_what_names_the_holder_of_the_migrations_lock(
    server: Server, rotate: Callable[[], str]
) -> None:
    server.execute(f"DROP PROCEDURE {schema.HISTORY}.lock_holder")
    rotate()
    with server.session(server.master, server.master_password) as execute:
        ((_, connection),) = execute(f"SELECT GET_LOCK('{schema.LOCK}', 0), CONNECTION_ID()")
        assert execute(f"CALL {schema.HISTORY}.lock_holder()") == [(connection, server.master)]


@pytest.mark.parametrize("refusing", [False, True], ids=["", "a policy refuses the secret's password"])
def test_nobody_knows_a_password_of_a_restored_database_after_the_first_rotation(
    aws: AWS,
    server: Server,
    rotate: Callable[[], str],
    refusing: bool,  # noqa: FBT001
) -> None:
    if refusing and server.is_mariadb:
        pytest.skip("MariaDB's policies are other plugins")
    _, first = aws.current(SECRET_ID)
    old = {
        user: {"username": user, "password": f"Of-the-first-environment-{user}"}
        for user in ("notesapp", "notesapp_clone")
    }
    for value in old.values():
        server.execute("CREATE USER {username}@'%' IDENTIFIED BY '{password}' REQUIRE SSL".format(**value))
    policy = ["INSTALL COMPONENT 'file://component_validate_password'", "SET GLOBAL validate_password.length = 40"]
    if refusing:
        server.execute(*policy)
    try:
        rotate()
    finally:
        if refusing:
            server.execute("UNINSTALL COMPONENT 'file://component_validate_password'")
    for value in old.values():
        with pytest.raises(pymysql.OperationalError, match=r"1045|3118"):
            _logs_in(server, value)
    # Who was given the secret before the rotation uses it after; where it was refused, the next rotation unlocks.
    if refusing:
        rotate()
        _, first = aws.current(SECRET_ID)
    assert _logs_in(server, first)


def test_a_user_in_use_keeps_its_password_in_every_later_rotation(
    aws: AWS, server: Server, rotate: Callable[[], str]
) -> None:
    rotate()
    _, current = aws.current(SECRET_ID)
    server.execute("ALTER USER notesapp_clone@'%' IDENTIFIED BY 'changed-by-hand'")
    rotate()
    assert _logs_in(server, current | {"password": "changed-by-hand"})


def test_only_user_and_password_change(aws: AWS, server: Server, rotate: Callable[[], str]) -> None:
    rotate()
    _, current = aws.current(SECRET_ID)
    changed = {"username": current["username"], "password": current["password"]}
    assert current == connection_details(server) | changed


@pytest.mark.parametrize("user", ["notesapp", "notesapp_clone"])
def test_the_users_have_four_privileges_on_one_database_and_must_use_tls(
    aws: AWS, server: Server, rotate: Callable[[], str], user: str
) -> None:
    rotate()
    assert _grants(server, user) == sorted(PRIVILEGES)
    (tls,) = server.execute(f"SELECT ssl_type FROM mysql.user WHERE user = '{user}'")
    assert tls in (("ANY",), (b"ANY",))


@pytest.mark.parametrize("repeats", [2, 3])
def test_every_step_can_be_repeated(aws: AWS, server: Server, repeats: int) -> None:
    rotation = start_rotation()
    token = aws.stage_rotation(SECRET_ID)
    for step in STEPS:
        for _ in range(repeats):
            rotation.handle(_event(step, token), 60)
    assert aws.current(SECRET_ID)[0] == token
    assert _logs_in(server, aws.current(SECRET_ID)[1])


def _grants(server: Server, user: str) -> list[str]:
    """What the user may do, each with WITH GRANT OPTION where it may hand it on."""
    grants = [row[0].partition(" TO ") for row in server.execute("SET sql_mode = ''", f"SHOW GRANTS FOR {user}@'%'")]
    return sorted(grant + " WITH GRANT OPTION" * ("GRANT OPTION" in rest) for grant, _, rest in grants)


class Crash(BaseException):
    """Ends the function at a chosen point."""


class Effects:
    """Counts the effects of a rotation, and ends it before or after the chosen one."""

    def __init__(self, rotation: Rotation, crash_at: int, *, after: bool) -> None:
        self.count = 0
        self._crash_at = crash_at
        self._after = after
        for owner, names in (
            (rotation._client, ("put_secret_value", "update_secret_version_stage")),
            (rotation._database, ("rows",)),
        ):
            for name in names:
                setattr(owner, name, self._counted(getattr(owner, name)))

    def _counted(self, effect: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            self.count += 1
            if self.count == self._crash_at and not self._after:
                raise Crash
            is_last = self.count == self._crash_at
            try:
                return effect(*args, **kwargs)
            finally:
                if is_last:
                    raise Crash

        return counted


EFFECTS = 26
"""Of a rotation; a test counts them."""


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("crash_at", range(1, EFFECTS + 1))
def test_after_a_crash_anywhere_the_retry_ends_well(
    aws: AWS,
    server: Server,
    crash_at: int,
    after: bool,  # noqa: FBT001
) -> None:
    first_token, first = aws.current(SECRET_ID)
    token = aws.stage_rotation(SECRET_ID)
    rotation = start_rotation()
    Effects(rotation, crash_at, after=after)
    with pytest.raises(Crash):
        _rotate(rotation, token)
    # Whatever has happened, what everybody reads is whole: a version from before, or the new one.
    assert aws.current(SECRET_ID)[0] in (first_token, token)
    _rotate(start_rotation(), token)
    current_token, current = aws.current(SECRET_ID)
    assert current_token == token
    assert _logs_in(server, current)
    assert _logs_in(server, first)
    assert _grants(server, current["username"]) == sorted(PRIVILEGES)


def test_every_effect_of_a_rotation_is_interrupted_once(aws: AWS) -> None:
    rotation = start_rotation()
    effects = Effects(rotation, 0, after=False)
    _rotate(rotation, aws.stage_rotation(SECRET_ID))
    assert effects.count == EFFECTS


@pytest.mark.parametrize("attempt", range(5))
def test_two_invocations_at_once_leave_one_current_version(aws: AWS, server: Server, attempt: int) -> None:
    token = aws.stage_rotation(SECRET_ID)
    failures: list[BaseException] = []

    def take(step: str, barrier: threading.Barrier, rotation: Rotation) -> None:
        barrier.wait()
        try:
            rotation.handle(_event(step, token), 60)
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    pair = (start_rotation(), start_rotation())
    for step in STEPS:
        barrier = threading.Barrier(2)
        threads = [threading.Thread(target=take, args=(step, barrier, rotation)) for rotation in pair]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failures
    assert [token for token, stages in aws.stages(SECRET_ID).items() if "AWSCURRENT" in stages] == [token]
    assert _logs_in(server, aws.current(SECRET_ID)[1])


@pytest.mark.parametrize("step", ["setSecret", "finishSecret"])
def test_a_doubled_step_waits_for_the_other_invocation_and_no_longer_than_its_deadline(
    aws: AWS, server: Server, step: str
) -> None:
    token = aws.stage_rotation(SECRET_ID)
    rotation = start_rotation()
    for before in STEPS[: STEPS.index(step)]:
        rotation.handle(_event(before, token), 60)
    with server.session(server.master, server.master_password) as execute:
        execute(f"SELECT GET_LOCK('{token}', 0)")
        there = accounts(server), aws.current(SECRET_ID)
        with pytest.raises(DependencyUnavailableError, match=f"version {token}: another invocation is at it"):
            rotation.handle(_event(step, token), 5)
        assert (accounts(server), aws.current(SECRET_ID)) == there
    _rotate(rotation, token)


def test_a_step_with_less_than_a_second_left_does_not_wait_for_ever(
    aws: AWS, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MySQL takes negative seconds for no limit."""
    token = aws.stage_rotation(SECRET_ID)
    rotation = start_rotation()
    rotation.handle(_event("createSecret", token), 60)
    connect = rotation._database.connect

    def connect_late(credentials: Credentials) -> None:
        connect(credentials)
        monkeypatch.setattr(rotation._deadline, "remaining", lambda: 0.9)

    monkeypatch.setattr(rotation._database, "connect", connect_late)
    with server.session(server.master, server.master_password) as execute:
        execute(f"SELECT GET_LOCK('{token}', 0)")
        with pytest.raises(DependencyUnavailableError, match="another invocation is at it"):
            rotation.handle(_event("setSecret", token), 60)


def test_the_server_ends_the_session_of_an_invocation_that_is_gone(aws: AWS) -> None:
    rotation = start_rotation()
    with mock.patch.object(rotation._database, "close", autospec=True):
        token = aws.stage_rotation(SECRET_ID)
        for step in STEPS[:2]:
            rotation.handle(_event(step, token), 60)
    assert rotation._database.query("SELECT @@wait_timeout") == (60,)


@pytest.mark.parametrize("step", STEPS)
def test_a_step_of_a_rotation_that_another_invocation_finishes_meanwhile_is_done(
    aws: AWS, server: Server, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = aws.stage_rotation(SECRET_ID)
    first, second = start_rotation(), start_rotation()
    for before in STEPS[: STEPS.index(step)]:
        first.handle(_event(before, token), 60)
    stages = second._stages
    left = list(STEPS[STEPS.index(step) :])

    def stages_before_the_first_has_finished(secret_id: str, token: str) -> list[str]:
        found = stages(secret_id, token)
        while left:
            first.handle(_event(left.pop(0), token), 60)
        return found

    monkeypatch.setattr(second, "_stages", stages_before_the_first_has_finished)
    second.handle(_event(step, token), 60)
    assert [token for token, stages in aws.stages(SECRET_ID).items() if "AWSCURRENT" in stages] == [token]
    assert _logs_in(server, aws.current(SECRET_ID)[1])


@pytest.mark.parametrize(
    ("event", "message"),
    [
        (_event("createsecret", "?"), "unknown step 'createsecret'"),
        ({}, "unknown step ''"),
        (
            _event("createSecret", "?", "arn:nobody"),
            "arn:nobody: not declared for rotation",
        ),
        (_event("createSecret", "not-staged"), "version not-staged is not staged for rotation"),
        (_event("setSecret", "?", SECRET_ID + "-not-rotated"), "rotation is not enabled"),
    ],
)
def test_an_invalid_event_is_refused_and_changes_nothing(aws: AWS, event: dict[str, str], message: str) -> None:
    aws.add_secret(SECRET_ID + "-not-rotated", {})
    before = json.dumps(aws.secrets, default=sorted)
    with pytest.raises(ConfigurationError, match=message):
        start_rotation().handle(event, 60)
    assert json.dumps(aws.secrets, default=sorted) == before


@pytest.mark.parametrize("stages", ["AWSPREVIOUS", "CUSTOM"])
def test_a_version_with_another_label_is_refused(aws: AWS, stages: str) -> None:
    token = aws.stage_rotation(SECRET_ID)
    aws.secrets[SECRET_ID][token]["Stages"] = {stages}
    with pytest.raises(ConfigurationError, match=f"not staged for rotation .stages={stages}"):
        start_rotation().handle(_event("finishSecret", token), 60)


def test_a_step_for_the_current_version_does_nothing(aws: AWS, rotate: Callable[[], str]) -> None:
    token = rotate()
    before = json.dumps(aws.secrets, default=sorted)
    _rotate(start_rotation(), token)
    assert json.dumps(aws.secrets, default=sorted) == before


def test_setting_before_creating_is_refused(aws: AWS) -> None:
    token = aws.stage_rotation(SECRET_ID)
    with pytest.raises(ConfigurationError, match="no such version"):
        start_rotation().handle(_event("setSecret", token), 60)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"host": "elsewhere"}, "host, another database"),
        ({"dbname": "mysql"}, "dbname, another database"),
        ({"masterarn": "arn:other"}, "masterarn, another database"),
        ({"engine": "mariadb"}, "another database"),
        ({"username": "myadmin"}, "username, not the other user"),
        ({"username": "notesapp"}, "not the other user"),
        ({"password": 1}, "password"),
        ({"password": "\ud800"}, "password"),
    ],
)
@pytest.mark.parametrize("step", STEPS[1:])
def test_a_pending_version_with_other_details_is_refused_and_the_next_rotation_begins(
    aws: AWS, server: Server, changed: dict[str, Any], message: str, step: str
) -> None:
    token = aws.stage_rotation(SECRET_ID)
    rotation = start_rotation()
    rotation.handle(_event("createSecret", token), 60)
    pending = aws.secrets[SECRET_ID][token]
    pending["SecretString"] = json.dumps(json.loads(pending["SecretString"]) | changed)
    before = accounts(server)
    with pytest.raises(ConfigurationError, match=f"is not usable: {message}; rotate the secret again"):
        rotation.handle(_event(step, token), 60)
    assert accounts(server) == before
    assert aws.stages(SECRET_ID)[token] == set()
    _rotate(rotation, aws.stage_rotation(SECRET_ID))
    assert _logs_in(server, aws.current(SECRET_ID)[1])


def test_a_missing_master_secret_is_named(aws: AWS) -> None:
    aws.secrets.pop(MASTER_ID)
    token = aws.stage_rotation(SECRET_ID)
    rotation = start_rotation()
    rotation.handle(_event("createSecret", token), 60)
    with pytest.raises(ConfigurationError, match="rds!db-GhIjKl: no such version"):
        rotation.handle(_event("setSecret", token), 60)


@pytest.mark.parametrize("text", [CANARY, "[]", '{"username": "a", "username": "b"}', ""])
def test_a_broken_secret_is_named_and_never_quoted(aws: AWS, text: str) -> None:
    token = aws.stage_rotation(SECRET_ID)
    rotation = start_rotation()
    rotation.handle(_event("createSecret", token), 60)
    (version,) = aws.secrets[MASTER_ID].values()
    version["SecretString"] = text
    with pytest.raises(ConfigurationError, match="not a JSON object with each key once") as refused:
        rotation.handle(_event("setSecret", token), 60)
    assert CANARY not in repr(refused.value) + repr(refused.value.__context__)


def test_a_secret_without_a_current_version_is_a_configuration_error(aws: AWS) -> None:
    token = aws.stage_rotation(SECRET_ID)
    rotation = start_rotation()
    rotation.handle(_event("createSecret", token), 60)
    for version in aws.secrets[SECRET_ID].values():
        version["Stages"].discard("AWSCURRENT")
    for step in STEPS[1:]:
        with pytest.raises(ConfigurationError, match=r"no such version .VersionStage=AWSCURRENT"):
            rotation.handle(_event(step, token), 60)


def accounts(server: Server) -> dict[str, Any]:
    """All accounts of the server, each with its password's hash and its grants."""
    rows = server.execute("SELECT user, host, authentication_string FROM mysql.user")
    return {f"{user}@{host}": (word, server.execute(f"SHOW GRANTS FOR '{user}'@'{host}'")) for user, host, word in rows}


HOSTILE = st.sampled_from(
    ["mysql", "myadmin", "myadmin_clone", "administrator", "root", "sys", "%", "", "notesapp'@'%", "`", MASTER_ID]
) | st.text(max_size=40)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changed=st.dictionaries(
        st.sampled_from(["host", "port", "dbname", "username", "masterarn", "password", "engine"]),
        HOSTILE | st.none() | st.integers() | st.booleans() | st.lists(HOSTILE, max_size=2),
        min_size=1,
    ),
    stage=st.sampled_from(["AWSCURRENT", "AWSPENDING"]),
)
def test_who_may_put_the_secret_gains_nothing(aws: AWS, server: Server, changed: dict[str, Any], stage: str) -> None:
    server.execute("DROP USER IF EXISTS notesapp@'%', notesapp_clone@'%'")
    aws.secrets.pop(SECRET_ID)
    details = connection_details(server)
    aws.add_secret(SECRET_ID, details | (changed if stage == "AWSCURRENT" else {}))
    token = aws.stage_rotation(SECRET_ID)
    if stage == "AWSPENDING":
        value = details | {"username": "notesapp_clone"} | changed
        aws.secrets[SECRET_ID][token]["SecretString"] = json.dumps(value)
    before = accounts(server)
    with contextlib.suppress(ConfigurationError):
        _rotate(start_rotation(), token)
    after = accounts(server)
    made = {name: after.pop(f"{name}@%") for name in ("notesapp", "notesapp_clone") if f"{name}@%" in after}
    # Every account that was there is as it was; those made have the four privileges and no more.
    assert after == before
    for _, grants in made.values():
        assert sorted(row[0].partition(" TO ")[0] for row in grants) == sorted(PRIVILEGES)


@pytest.mark.parametrize("user", ["notesapp", "notesapp_clone"])
@pytest.mark.parametrize(
    "grant",
    [
        f"GRANT {RDS_MASTER_PRIVILEGES} ON *.* TO {{}}@'%' WITH GRANT OPTION",
        "GRANT CREATE ON `dev\\_DB`.* TO {}@'%'",
        "GRANT SELECT ON mysql.* TO {}@'%'",
        "GRANT operators TO {}@'%'",
    ],
)
def test_users_that_exist_with_more_have_exactly_their_privileges_afterwards(
    aws: AWS, server: Server, user: str, grant: str
) -> None:
    server.execute("CREATE ROLE IF NOT EXISTS operators")
    server.execute(f"CREATE USER {user}@'%' IDENTIFIED BY 'x'", grant.format(user))
    # The first makes the idle one anew, the second the one that was in use.
    for _ in range(2):
        _rotate(start_rotation(), aws.stage_rotation(SECRET_ID))
    assert _grants(server, user) == sorted(PRIVILEGES)
    server.execute("DROP ROLE operators")


def test_a_user_that_the_master_may_not_drop_stays_and_fails_the_rotation(aws: AWS, server: Server) -> None:
    if server.is_mariadb:
        pytest.skip("MariaDB has no SYSTEM_USER privilege")
    server.execute("CREATE USER notesapp_clone@'%' IDENTIFIED BY 'x'", "GRANT ALL ON *.* TO notesapp_clone@'%'")
    before = accounts(server)
    with pytest.raises(QueryFailedError, match="1227"):
        _rotate(start_rotation(), aws.stage_rotation(SECRET_ID))
    assert accounts(server)["notesapp_clone@%"] == before["notesapp_clone@%"]


def test_a_rotation_does_not_touch_the_user_in_use(aws: AWS, server: Server, rotate: Callable[[], str]) -> None:
    rotate()
    rotate()
    _, in_use = aws.current(SECRET_ID)
    before = len(server.general_log())
    rotate()
    statements = [line for line in server.general_log()[before:].splitlines() if f"'{in_use['username']}'@" in line]
    assert [line for line in statements if "FROM mysql.user" not in line and "SHOW GRANTS" not in line] == []


def test_a_refused_login_of_the_master_is_a_credentials_error(aws: AWS) -> None:
    aws.set_current(MASTER_ID, {"username": "myadmin", "password": CANARY + "wrong"})
    token = aws.stage_rotation(SECRET_ID)
    rotation = start_rotation()
    rotation.handle(_event("createSecret", token), 60)
    with pytest.raises(CredentialsRefusedError) as refused:
        rotation.handle(_event("setSecret", token), 60)
    assert CANARY not in str(refused.value)


def test_secrets_managers_refusal_names_the_step_and_the_code(aws: AWS, monkeypatch: pytest.MonkeyPatch) -> None:
    rotation = start_rotation()
    token = aws.stage_rotation(SECRET_ID)

    def denied(**_: object) -> None:
        raise botocore.exceptions.ClientError({"Error": {"Code": "AccessDeniedException"}}, "GetRandomPassword")

    monkeypatch.setattr(rotation._client, "get_random_password", denied)
    with pytest.raises(Exception, match=r"refused \(step=createSecret, code=AccessDeniedException\)"):
        rotation.handle(_event("createSecret", token), 60)


def test_a_finish_that_is_refused_because_it_was_done_before_is_done(
    aws: AWS, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answer was lost, and the SDK asked again."""
    token, rotation = aws.stage_rotation(SECRET_ID), start_rotation()
    for step in STEPS[:3]:
        rotation.handle(_event(step, token), 60)
    move = rotation._client.update_secret_version_stage

    def moved_before(**request: Any) -> None:
        move(**request)
        raise botocore.exceptions.ClientError(
            {"Error": {"Code": "InvalidRequestException"}}, "UpdateSecretVersionStage"
        )

    monkeypatch.setattr(rotation._client, "update_secret_version_stage", moved_before)
    rotation.handle(_event("finishSecret", token), 60)
    assert "AWSCURRENT" in aws.stages(SECRET_ID)[token]
    assert _logs_in(server, aws.current(SECRET_ID)[1])


def test_a_promotion_that_is_refused_is_an_error(aws: AWS, monkeypatch: pytest.MonkeyPatch) -> None:
    rotation = start_rotation()
    token = aws.stage_rotation(SECRET_ID)
    for step in STEPS[:-1]:
        rotation.handle(_event(step, token), 60)

    def refused(**_: object) -> None:
        raise botocore.exceptions.ClientError({"Error": {"Code": "InternalServiceError"}}, "UpdateSecretVersionStage")

    monkeypatch.setattr(rotation._client, "update_secret_version_stage", refused)
    with pytest.raises(Exception, match=r"step=finishSecret, code=InternalServiceError"):
        rotation.handle(_event("finishSecret", token), 60)


def test_lambda_calls_the_entry_point(aws: AWS, monkeypatch: pytest.MonkeyPatch) -> None:
    token = aws.stage_rotation(SECRET_ID)
    monkeypatch.setattr("rotation._rotation", start_rotation())
    for step in STEPS:
        lambda_handler(_event(step, token), Context())
    assert aws.current(SECRET_ID)[0] == token


def test_no_password_reaches_a_log(
    aws: AWS, server: Server, rotate: Callable[[], str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for _ in range(2):
        rotate()
    passwords = {json.loads(version["SecretString"])["password"] for version in aws.secrets[SECRET_ID].values()}
    assert len(passwords) == 3
    statements = server.general_log()
    assert "ALTER USER 'notesapp'" in statements
    ours = "".join(record.getMessage() + repr(vars(record)) for record in caplog.records)
    assert "rotation.step" in ours
    for password in passwords | {server.master_password}:
        assert password not in ours
        if not server.is_mariadb:  # MariaDB logs statements as they were sent; MySQL removes passwords.
            assert password not in statements


@pytest.mark.parametrize(("user", "other"), [("notesapp", "notesapp_clone"), ("notesapp_clone", "notesapp")])
def test_the_two_users_alternate(user: str, other: str) -> None:
    assert alternate(user) == other


def test_a_name_too_long_for_its_clone_is_refused() -> None:
    assert alternate("a" * 26) == "a" * 26 + "_clone"
    with pytest.raises(ConfigurationError, match="leaves no room for _clone in 32 characters"):
        alternate("a" * 27)


def test_with_partial_revokes_the_databases_name_is_taken_literally(aws: AWS, server: Server) -> None:
    if server.is_mariadb:
        pytest.skip("MariaDB has no partial_revokes")
    server.execute("SET GLOBAL partial_revokes = ON")
    try:
        _rotate(start_rotation(), aws.stage_rotation(SECRET_ID))
        assert "GRANT SELECT, INSERT, UPDATE, DELETE ON `dev_DB`.*" in _grants(server, "notesapp_clone")
        user = aws.current(SECRET_ID)[1]
        server.execute("USE dev_DB", user=user["username"], password=user["password"])
    finally:
        server.execute("SET GLOBAL partial_revokes = OFF")


def _answers(**variables: str) -> mock.Mock:
    """A server whose settings and grants are these."""
    server = mock.Mock()
    grants = variables.pop("grants", "").splitlines()
    server.rows.side_effect = lambda sql, _=(): (
        list(variables.items()) if sql.startswith("SHOW VARIABLES") else [(each,) for each in grants]
    )
    return server


@pytest.mark.parametrize(("partial_revokes", "name"), [("ON", "dev_DB"), ("OFF", "dev\\_DB")])
def test_a_databases_name_has_no_wildcards_however_the_server_reads_it(partial_revokes: str, name: str) -> None:
    server = _answers(partial_revokes=partial_revokes, lower_case_table_names="0")
    assert DatabaseUsers(server, {"dev_DB": ["SELECT"]})._allowed == {f"`{name}`.*": {"SELECT"}}


DOCUMENTED = {
    "macOS's MySQL 9.7, lower_case_table_names=2": (
        {"lower_case_table_names": "2"},
        "GRANT USAGE ON *.* TO `notesapp`@`%`\nGRANT SELECT ON `devdb`.* TO `notesapp`@`%`",
    ),
    "RDS's MySQL 8.0, whose users have the old plugin": (
        {"lower_case_table_names": "0", "partial_revokes": "OFF"},
        "GRANT USAGE ON *.* TO `notesapp`@`%`\nGRANT SELECT ON `devDB`.* TO `notesapp`@`%`",
    ),
    "RDS's MySQL 5.7, lower_case_table_names=1": (
        {"lower_case_table_names": "1"},
        "GRANT USAGE ON *.* TO `notesapp`@`%`\nGRANT SELECT ON `devdb`.* TO `notesapp`@`%`",
    ),
}
"""What servers that cannot be had here answer, by their manuals and reports: variables and SHOW GRANTS. Never run."""


@pytest.mark.parametrize("documented", DOCUMENTED)
def test_a_user_whose_grants_are_right_is_left_alone_by_their_documented_answers(documented: str) -> None:
    variables, grants = DOCUMENTED[documented]
    server = _answers(**variables, grants=grants)
    DatabaseUsers(server, {"devDB": ["SELECT"]}).ensure("notesapp", "x", is_in_use=False)
    verbs = {call.args[0].split()[0] for call in server.rows.call_args_list}
    assert verbs == {"SET", "SHOW", "SELECT"}


def test_a_user_of_the_old_plugin_gets_the_new_one() -> None:
    """By its name, as ALTER USER keeps the old one; where the server has none, as MySQL 5.7, by no name."""
    server = _answers(lower_case_table_names="0", grants="1")
    DatabaseUsers(server, {}).set_password("notesapp", "x")
    assert server.rows.call_args.args[0].startswith("ALTER USER %s@'%%' IDENTIFIED WITH caching_sha2_password BY %s")
    server = _answers(lower_case_table_names="0")
    DatabaseUsers(server, {}).set_password("notesapp", "x")
    assert server.rows.call_args.args[0].startswith("ALTER USER %s@'%%' IDENTIFIED BY %s REQUIRE SSL WITH MAX_")


SETTINGS = {
    "ANSI_QUOTES": ["SET GLOBAL sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PIPES_AS_CONCAT'"],
    "no sql_mode": ["SET GLOBAL sql_mode = ''"],
    "password_history": ["SET GLOBAL password_history = 5"],
    "mandatory_roles": ["CREATE ROLE IF NOT EXISTS everybody", "SET GLOBAL mandatory_roles = 'everybody'"],
    "validate_password": [
        "INSTALL COMPONENT 'file://component_validate_password'",
        "SET GLOBAL validate_password.policy = STRONG, GLOBAL validate_password.length = 40",
        "SET GLOBAL validate_password.special_char_count = 6, GLOBAL validate_password.number_count = 1",
    ],
}
UNDO = {
    "password_history": ["SET GLOBAL password_history = DEFAULT"],
    "mandatory_roles": ["SET GLOBAL mandatory_roles = ''", "DROP ROLE everybody"],
    "validate_password": ["UNINSTALL COMPONENT 'file://component_validate_password'"],
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_rotation_works_whatever_the_servers_settings(
    aws: AWS, server: Server, rotate: Callable[[], str], setting: str
) -> None:
    if server.is_mariadb and setting not in ("ANSI_QUOTES", "no sql_mode"):
        pytest.skip("MariaDB has other settings for it")
    server.execute(*SETTINGS[setting])
    try:
        _rotates_without_a_refused_login(aws, server, rotate)
    finally:
        server.execute(*UNDO.get(setting, ["SET GLOBAL sql_mode = DEFAULT"]))


def _rotates_without_a_refused_login(aws: AWS, server: Server, rotate: Callable[[], str]) -> None:
    """After each of four rotations the last two versions log in, and no user was dropped."""
    before = len(server.general_log())
    rotate()
    seen = [aws.current(SECRET_ID)[1]]
    for _ in range(3):
        rotate()
        seen.append(aws.current(SECRET_ID)[1])
        assert all(_logs_in(server, value) for value in seen[-2:])
        assert _grants(server, seen[-1]["username"]) == [each.replace("dev\\_DB", _scope(server)) for each in ALL]
    assert "DROP USER" not in server.general_log()[before:]


ALL = sorted(PRIVILEGES)


def _scope(server: Server) -> str:
    folds = server.execute("SELECT @@lower_case_table_names")[0][0]
    return "dev\\_db" if folds else "dev\\_DB"


def test_rotation_works_where_names_are_kept_in_small_letters(
    aws: AWS, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    if server.is_mariadb:
        pytest.skip("made for MySQL's data folder")
    with started_server("small", "--lower-case-table-names=1") as small:
        for name, value in rotation_variables(small).items():
            monkeypatch.setenv(name, value)
        aws.secrets.pop(SECRET_ID)
        aws.add_secret(SECRET_ID, connection_details(small))
        with mock.patch("shared.database.ROOT_CERTIFICATES", _bundle(small)):
            rotation = start_rotation()
        _rotates_without_a_refused_login(aws, small, lambda: _rotated(aws, rotation))


def _bundle(server: Server) -> Path:
    file = server.mysql.folder.parent / "bundle.pem"
    file.write_text(f"# us-east-1\n{server.certificates.ca.read_text()}")
    return file


def _rotated(aws: AWS, rotation: Rotation) -> str:
    token = aws.stage_rotation(SECRET_ID)
    _rotate(rotation, token)
    return token


@pytest.mark.parametrize(
    "state",
    [
        "ALTER USER {}@'%' ACCOUNT LOCK",
        "ALTER USER {}@'%' WITH MAX_QUERIES_PER_HOUR 1",
        "ALTER USER {}@'%' WITH MAX_USER_CONNECTIONS 1 MAX_CONNECTIONS_PER_HOUR 1",
        "GRANT USAGE ON *.* TO {}@'%' WITH GRANT OPTION",
        "GRANT SELECT ON `dev\\_DB`.* TO {}@'%' WITH GRANT OPTION",
        "GRANT ALL ON `dev\\_DB`.* TO {}@'%'",
        "GRANT EXECUTE ON PROCEDURE mysql.rds_kill TO {}@'%'",
        "GRANT SELECT (user) ON mysql.user TO {}@'%'",
    ],
)
@pytest.mark.parametrize("user", ["notesapp", "notesapp_clone"])
def test_users_in_a_state_that_somebody_left_are_right_after_two_rotations(
    aws: AWS, server: Server, rotate: Callable[[], str], state: str, user: str
) -> None:
    """The idle one after one; the one in use is not dropped, and has its turn in the next."""
    rotate()
    server.execute(state.format(user))
    in_use = aws.current(SECRET_ID)[1]
    before = len(server.general_log())
    rotate()
    assert f"DROP USER '{in_use['username']}'@" not in server.general_log()[before:]
    rotate()
    for name in ("notesapp", "notesapp_clone"):
        assert _grants(server, name) == ALL
    rotate()
    for value in (aws.current(SECRET_ID)[1],):
        for _ in range(3):
            assert _logs_in(server, value)


def test_a_password_that_the_server_refuses_is_thrown_away_and_the_next_rotation_begins(
    aws: AWS, server: Server
) -> None:
    if server.is_mariadb:
        pytest.skip("MariaDB has another plugin")
    server.execute(
        "INSTALL COMPONENT 'file://component_validate_password'", "SET GLOBAL validate_password.length = 100"
    )
    rotation = start_rotation()
    try:
        token = aws.stage_rotation(SECRET_ID)
        with pytest.raises(ConfigurationError, match="the server's policy refuses the password; rotate the secret ag"):
            _rotate(rotation, token)
        assert aws.stages(SECRET_ID)[token] == set()
    finally:
        server.execute("UNINSTALL COMPONENT 'file://component_validate_password'")
    assert _logs_in(
        server,
        {"username": "notesapp_clone"} | json.loads(aws.secrets[SECRET_ID][_rotated(aws, rotation)]["SecretString"]),
    )


def test_an_error_of_the_server_while_a_user_is_made_is_raised(aws: AWS, monkeypatch: pytest.MonkeyPatch) -> None:
    for verb in ("CREATE USER", "ALTER USER", "CREATE DATABASE"):
        rotation = start_rotation()
        rows = rotation._database.rows

        def failing(
            sql: str, args: tuple[str, ...] = (), verb: str = verb, rows: Callable[..., Any] = rows
        ) -> list[tuple[Any, ...]]:
            if sql.startswith(verb):
                raise QueryFailedError("x", errno=1)
            found: list[tuple[Any, ...]] = rows(sql, args)
            return found

        monkeypatch.setattr(rotation._database, "rows", failing)
        with pytest.raises(QueryFailedError, match="errno=1"):
            _rotate(rotation, aws.stage_rotation(SECRET_ID))


def test_a_view_outlives_the_rotations_of_its_definer_and_its_being_made_anew(aws: AWS, server: Server) -> None:
    """By the privileges that RDS's master has: MySQL drops no definer, and the master takes the view over."""
    server.execute("USE dev_DB", "CREATE TABLE seen_table (id INT)", "INSERT INTO seen_table VALUES (7)")
    rotation = start_rotation()
    try:
        _rotated(aws, rotation)
        server.execute("GRANT CREATE VIEW, SHOW VIEW ON `dev\\_DB`.* TO notesapp@'%'")
        with server.session("notesapp", CANARY + "first") as execute:
            execute("USE dev_DB", "CREATE SQL SECURITY INVOKER VIEW seen AS SELECT id FROM seen_table")
            execute("CREATE VIEW `seen``too` AS SELECT id FROM seen")
        for _ in range(3):
            _rotated(aws, rotation)
            value = aws.current(SECRET_ID)[1]
            read = server.execute(
                "SELECT * FROM dev_DB.`seen``too`", user=value["username"], password=value["password"]
            )
            assert read == [(7,)]
        if not server.is_mariadb:
            views = server.execute(
                "SELECT definer, security_type FROM information_schema.views WHERE table_schema='dev_DB'"
            )
            assert views == [("myadmin@%", "INVOKER")] * 2
    finally:
        server.execute("USE dev_DB", "DROP VIEW IF EXISTS seen, `seen``too`", "DROP TABLE seen_table")


@pytest.mark.parametrize("error", [TimeoutError(), botocore.exceptions.ReadTimeoutError(endpoint_url="https://x")])
def test_no_answer_from_secrets_manager_is_a_transient_error(
    aws: AWS, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    rotation = start_rotation()
    monkeypatch.setattr(rotation._client, "describe_secret", mock.Mock(side_effect=error))
    with pytest.raises(DependencyUnavailableError, match=r"did not answer \(step=createSecret, cause="):
        rotation.handle(_event("createSecret", "?"), 60)


def test_a_deleted_secret_is_a_configuration_error(aws: AWS) -> None:
    aws.secrets.pop(SECRET_ID)
    with pytest.raises(ConfigurationError, match="there is none"):
        start_rotation().handle(_event("createSecret", "?"), 60)
