"""A command acts in the account and the region that an environment's settings name, and in no other."""

import sys
from collections.abc import Callable

import pytest

from app import lasting_settings
from operations import adoption, alarms, aws, destroy, invocation, logs, restore, sql
from operations.environment import command
from operations.verify import __main__ as verify
from proof.testbed import account

COMMANDS: dict[str, Callable[[], object]] = {
    "logs": lambda: command(logs.main, ["prod"]),
    "invoke": lambda: command(invocation.main, ["prod"]),
    "alarms": lambda: command(alarms.main, ["prod"]),
    "sql": lambda: command(sql.main, ["prod"]),
    "destroy": lambda: destroy.main("prod", "demoApp-prod"),
    "restore": lambda: restore.main(["prod", "--table", "note"]),
    "adoption": lambda: adoption.main(["prod", "shop"]),
    "verify": lambda: sys.exit(verify.main()),
}


@pytest.fixture(params=COMMANDS)
def run(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[], object]:
    """A command for prod, with credentials of the account 123456789012."""
    monkeypatch.setattr(sys, "argv", [request.param, "prod"])
    return COMMANDS[request.param]


def _regions(monkeypatch: pytest.MonkeyPatch, wanted: str) -> list[str]:
    """Have prod in an account's eu-west-1; the regions for which a session is made from now on."""
    asked: list[str] = []

    def session(region: str = "") -> object:
        asked.append(region)
        return account.session(
            cloudwatch__DescribeAlarms={"MetricAlarms": []},
            rds__DescribeDBInstances=account.refusal("DBInstanceNotFound"),
        )

    monkeypatch.setattr(aws, "session", session)
    context = {"prod": {"account": wanted, "region": "eu-west-1"}}
    for module in ("app", "operations.verify.__main__"):
        monkeypatch.setattr(f"{module}.lasting_context", lambda: context)
    return asked


def test_credentials_of_another_account_are_refused_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], run: Callable[[], object]
) -> None:
    _regions(monkeypatch, "210987654321")
    with pytest.raises(SystemExit) as ended:
        run()
    said = capsys.readouterr().err if ended.value.code == 2 else f"{ended.value.code}\n"
    assert said.removeprefix("prod: ") == (
        "account 123456789012: of arn:aws:iam::123456789012:user/a; prod is of account 210987654321, as its settings "
        "say: set AWS_PROFILE to one of that account\n"
    )


def test_the_region_of_the_settings_is_asked_and_what_is_not_there_is_an_error(
    monkeypatch: pytest.MonkeyPatch, run: Callable[[], object]
) -> None:
    asked = _regions(monkeypatch, "123456789012")
    with pytest.raises(SystemExit) as ended:
        run()
    assert ended.value.code
    assert asked == ["eu-west-1"]


def test_a_local_cloud_is_asked_whatever_account_and_region_the_settings_name(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = _regions(monkeypatch, "210987654321")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://127.0.0.1:1")
    aws.session_for(lasting_settings("prod"))
    assert asked == [""]


def test_an_environment_that_is_not_named_is_asked_for() -> None:
    """As in make logs ENV=."""
    with pytest.raises(SystemExit, match=r"^ENV=: expected one of dev, prod$"):
        command(logs.main, [])


def test_a_destroy_that_finds_nothing_says_where_it_looked(monkeypatch: pytest.MonkeyPatch) -> None:
    _regions(monkeypatch, "123456789012")
    with pytest.raises(SystemExit, match=r"^nothing of demoApp-prod in us-east-1 of account 123456789012$"):
        destroy.main("prod", "demoApp-prod")
