"""An application of orders: what a copy's own application.py might be (proof/test_copies.py)."""

from decimal import Decimal, InvalidOperation
from typing import Any, Final

from shared.application_database import ApplicationDatabase, Transaction
from shared.errors import BadRequestError
from shared.keys import Key

SCHEMA: Final = 4
"""The schema version that this file needs: the number of a file in migrations/."""
COLUMNS: Final = ("id", "customer", "total", "ordered_at", "deliver_at")


def answer(event: Any, context: Any, config: dict[str, Any], database: ApplicationDatabase) -> object:
    """Take an order, list a customer's orders, or move credit between two customers.

    Raises:
        BadRequestError: the event is none of these, or an amount is wrong.
    """
    match event:
        case {"order": {"customer": str(customer), "total": str(total), "key": str(key)}}:
            amount = _amount(total)
            work = Key("order", key, [customer, amount])
            return database.transaction(lambda transaction: _order(transaction, customer, amount), work)
        case {"orders_of": str(customer)}:
            rows = database.rows(
                f"SELECT {', '.join(COLUMNS)} FROM customer_order WHERE customer = %s ORDER BY id",
                (customer,),
            )
            return [dict(zip(COLUMNS, row, strict=True)) for row in rows]
        case {"transfer": {"from": str(source), "to": str(target), "amount": str(total), "key": str(key)}}:
            amount = _amount(total)
            work = Key("transfer", key, [source, target, amount])
            return database.transaction(lambda transaction: _transfer(transaction, source, target, amount), work)
        case {"credit_of": str(customer)}:
            return database.row("SELECT amount FROM credit WHERE customer = %s", (customer,))
    raise BadRequestError("order, orders_of, transfer or credit_of is expected")


def _amount(text: str) -> Decimal:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        raise BadRequestError("an amount is a decimal number, as text") from None
    if not (amount.is_finite() and amount > 0):
        raise BadRequestError("an amount is above zero")
    return amount


def _order(transaction: Transaction, customer: str, total: Decimal) -> dict[str, Any]:
    _, number = transaction.execute(
        "INSERT INTO customer_order (customer, total, deliver_at) VALUES (%s, %s, NOW() + INTERVAL 1 DAY)",
        (customer, total),
    )
    transaction.execute("INSERT IGNORE INTO credit (customer, amount) VALUES (%s, 100)", (customer,))
    ((stored, ordered_at),) = transaction.rows("SELECT total, ordered_at FROM customer_order WHERE id = %s", (number,))
    return {"id": number, "total": stored, "ordered_at": ordered_at}


def _transfer(transaction: Transaction, source: str, target: str, amount: Decimal) -> dict[str, Decimal]:
    found: dict[str, Decimal] = dict(
        transaction.rows(
            "SELECT customer, amount FROM credit WHERE customer IN (%s, %s) ORDER BY customer FOR UPDATE",
            (source, target),
        )
    )
    if len(found) < 2 or found[source] < amount:
        raise BadRequestError("no such customers, or not enough credit")
    for customer, change in ((source, -amount), (target, amount)):
        found[customer] += change
        transaction.execute("UPDATE credit SET amount = amount + %s WHERE customer = %s", (change, customer))
    return found
