"""An application of orders, made by editing application.py, its test and migrations/ alone, deploys and answers."""

import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import operations.aws
from local.cloud import LocalCloud
from local.tests.fixtures import local_cloud
from operations.application import copy_application
from operations.commands import ROOT, environment

ORDERS = ROOT / "proof" / "orders"
Ask = Callable[[object], Any]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the application, with that of the orders in its place."""
    folder = copy_application(tmp_path_factory.mktemp("orders"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    shutil.copytree(ROOT / "tests", folder / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ORDERS / "application.py", folder / "lambda_src")
    shutil.copy(ORDERS / "tests.py", folder / "tests" / "lambda_src" / "test_application.py")
    for migration in ORDERS.glob("*.sql"):
        shutil.copy(migration, folder / "migrations")
    return folder


@pytest.fixture(scope="module")
def orders(tree: Path) -> Iterator[LocalCloud]:
    with local_cloud("orders") as cloud:
        cloud.bootstrap()
        cloud.deploy(root=tree)
        yield cloud


@pytest.fixture
def ask(orders: LocalCloud) -> Ask:
    client, name = orders.client("lambda"), orders.outputs("Service")["FunctionName"]

    def ask(event: object) -> Any:
        result = operations.aws.invoke(client, name, event)
        assert not result["error"], result["answer"]
        return result["answer"]

    return ask


def test_its_tests_and_those_of_the_functions_pass(tree: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/lambda_src"]
    run = subprocess.run(command, cwd=tree, env=environment() | {"PYTEST_ADDOPTS": ""}, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout


def _order(ask: Ask, customer: str, total: str = "12.50", key: str = "") -> Any:
    return ask({"order": {"customer": customer, "total": total, "key": key or str(uuid.uuid4())}})


def test_an_order_that_comes_twice_is_taken_once_and_listed_with_the_others(ask: Ask) -> None:
    first = _order(ask, "ada", key="1")
    assert first["total"] == "12.50"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", first["ordered_at"])
    assert _order(ask, "ada", key="1") == first
    _order(ask, "ada", "1234567890.99")
    listed = ask({"orders_of": "ada"})
    assert [each["total"] for each in listed] == ["12.50", "1234567890.99"]
    assert listed[0]["ordered_at"] == first["ordered_at"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", listed[0]["deliver_at"])
    assert ask({"orders_of": "nobody"}) == []


def test_a_wrong_order_is_told_to_the_caller(ask: Ask) -> None:
    told = _order(ask, "ada", "much")
    assert told == {"errorType": "BadRequestError", "errorMessage": "an amount is a decimal number, as text"}
    _order(ask, "ada", key="2")
    assert "another request" in _order(ask, "ada", "1", key="2")["errorMessage"]


def test_transfers_at_once_and_delivered_twice_lose_and_make_nothing(ask: Ask) -> None:
    for customer in ("carol", "dave"):
        _order(ask, customer)
    events = [
        {"transfer": {"from": source, "to": target, "amount": "0.10", "key": f"{source}{number}"}}
        for number in range(10)
        for source, target in (("carol", "dave"), ("dave", "carol"))
    ]
    with ThreadPoolExecutor(4) as callers:
        answers = list(callers.map(ask, events * 2))
    assert not [answer for answer in answers if "errorType" in answer]
    assert ask({"credit_of": "carol"}) == ask({"credit_of": "dave"}) == ["100.00"]
    too_much = ask({"transfer": {"from": "carol", "to": "dave", "amount": "100.01", "key": "x"}})
    assert too_much["errorMessage"] == "no such customers, or not enough credit"
