"""The tests of the application of orders where it is deployed, as they stand in its local/tests/test_application.py."""

import re
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import operations.aws
from local.cloud import LocalCloud

Ask = Callable[[object], Any]


@pytest.fixture
def ask(cloud: LocalCloud, outputs: dict[str, str]) -> Ask:
    client = cloud.client("lambda")

    def ask(event: object) -> Any:
        result = operations.aws.invoke(client, outputs["FunctionName"], event)
        assert not result["error"], result["answer"]
        return result["answer"]

    return ask


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
