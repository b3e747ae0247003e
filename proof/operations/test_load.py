"""The load counts every invocation, however it ends."""

import threading
from itertools import count

import pytest

from operations.load import ANSWERED, Load


def test_each_invocation_is_counted_by_its_end_and_an_exception_stops_no_caller() -> None:
    numbers, enough = count(), threading.Event()

    def invoke() -> str | None:
        number = next(numbers)
        if number == 100:
            enough.set()
        if number % 3 == 1:
            raise ConnectionResetError
        return "RequestError" if number % 3 == 2 else None

    with Load(invoke, callers=3) as load:
        assert enough.wait(20)
    assert set(load.outcomes) == {ANSWERED, "RequestError", "ConnectionResetError"}
    assert load.made == next(numbers) >= 100
    assert load.failed == load.made - load.outcomes[ANSWERED] == len(load.failed_at)


def test_the_load_ends_when_its_block_fails() -> None:
    before = threading.active_count()
    with pytest.raises(ValueError, match="of the block"), Load(lambda: None, callers=2):
        raise ValueError("of the block")
    assert threading.active_count() == before
