"""The tests of the application of orders, as they stand in its tests/lambda_src/test_application.py."""

from decimal import Decimal
from typing import Any

import pytest

import application
from shared.errors import BadRequestError


class FakeDatabase:
    """Gives the answers in turn, and keeps what was asked."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[Any] = []

    def rows(self, sql: str, args: Any = ()) -> Any:
        self.asked.append((sql, args))
        return self.answers.pop(0)

    execute = row = rows

    def transaction(self, work: Any, key: Any = None) -> Any:
        self.asked.append(key)
        return work(self)


def _answer(event: object, *answers: Any) -> Any:
    database: Any = FakeDatabase(*answers)
    return application.answer(event, None, {}, database)


def test_an_order_is_taken() -> None:
    event = {"order": {"customer": "ada", "total": "12.50", "key": "1"}}
    answer = _answer(event, (1, 7), (1, 0), [(Decimal("12.50"), "now")])
    assert answer == {"id": 7, "total": Decimal("12.50"), "ordered_at": "now"}


def test_credit_moves_from_one_customer_to_another_and_no_further_than_it_reaches() -> None:
    event = {"transfer": {"from": "ada", "to": "bob", "amount": "5", "key": "1"}}
    rows = [("ada", Decimal(9)), ("bob", Decimal(1))]
    assert _answer(event, rows, (1, 0), (1, 0)) == {"ada": Decimal(4), "bob": Decimal(6)}
    with pytest.raises(BadRequestError, match="not enough credit"):
        _answer(event, [("ada", Decimal(4)), ("bob", Decimal(1))])


@pytest.mark.parametrize("total", ["", "x", "-1", "0", "NaN", "Infinity"])
def test_a_wrong_amount_is_refused(total: str) -> None:
    with pytest.raises(BadRequestError, match="an amount is"):
        _answer({"order": {"customer": "ada", "total": total, "key": "1"}})


@pytest.mark.parametrize("event", [None, {}, {"order": {}}, {"order": {"customer": "ada"}}, {"orders_of": 7}])
def test_another_event_is_refused(event: object) -> None:
    with pytest.raises(BadRequestError, match="is expected"):
        _answer(event)
