"""Twenty thousand invocations with faults at random: one connection, flat memory, nothing unexplained."""

import logging
import random
import resource
from collections import Counter
from pathlib import Path

import pytest

from errors import ServiceError
from tests.lambda_src.test_faults import FAULTS, USER, Bench, bench

INVOCATIONS = 20_000
ONE_IN = 100
"""Invocations for each fault."""
SETTLED = 2_000
"""Invocations after which memory is looked at for the first time."""

__all__ = ["bench"]

# Those that cost no more than a try or two; the others wait for whole budgets.
QUICK = [fault for fault in FAULTS if fault.within <= 1.5 and fault.area != "time"]


def _resident_kib() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() // 1024


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_soak(bench: Bench) -> None:
    logging.disable(logging.CRITICAL)
    randomness = random.Random(20_000)  # noqa: S311 - to be the same again
    outcomes: Counter[str] = Counter()
    unexplained = []
    settled = 0
    try:
        for number in range(INVOCATIONS):
            fault = randomness.choice(QUICK) if randomness.randrange(ONE_IN) == 0 else None
            if fault:
                fault.inject(bench)
            try:
                bench.invoke()
                outcome = None
            except ServiceError as error:
                outcome = type(error)
            bench.extension.requests.clear()  # Else it is the bench that grows.
            bench.extension.tokens.clear()
            outcomes[outcome.__name__ if outcome else "answered"] += 1
            # A fault of a new connection is not met on a kept one, and then it answers.
            if outcome not in ({None, fault.error} if fault else {None}):
                unexplained.append((number, fault, outcome))
            if fault:
                bench.heal()
                bench.service._database._context.load_verify_locations(bench.server.certificates.ca)
            if number == SETTLED:
                settled = _resident_kib()
        grown = _resident_kib() - settled
    finally:
        logging.disable(logging.NOTSET)
    connections = bench.server.execute(f"SELECT id FROM information_schema.processlist WHERE user = '{USER}'")
    print(f"\n{INVOCATIONS} invocations: {dict(outcomes)}; {len(connections)} connection; memory grew by {grown} KiB")
    assert not unexplained
    assert len(connections) == 1
    assert grown < 8 * 1024
