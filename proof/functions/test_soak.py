"""Twenty thousand invocations with random faults: one connection, flat memory, no unexpected outcome."""

import logging
import random
from collections import Counter

import psutil
import pytest

from local.tests.functions import PARAMETER
from proof.functions.test_faults import FAULTS
from proof.testbed.harness import USER, Harness
from shared import direct_read
from shared.deadline import Deadline
from shared.errors import InvocationError

INVOCATIONS = 20_000
ONE_IN = 100
"""Invocations for each fault."""
SETTLED = 2_000
"""Invocations after which memory is looked at for the first time."""

# Those that cost no more than a try or two; the others wait for whole budgets.
QUICK = [fault for fault in FAULTS if fault.within <= 1.5 and fault.area != "time"]


# Those that cost seconds, among them the resolver that never answers, dead addresses and drips: each once.
SLOW = [fault for fault in FAULTS if fault.within > 1.5 and fault.area != "time"]


def _resident_kib() -> int:
    kib: int = psutil.Process().memory_info().rss // 1024
    return kib


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_soak(harness: Harness) -> None:
    logging.disable(logging.CRITICAL)
    randomness = random.Random(20_000)  # noqa: S311 - to be the same again
    outcomes: Counter[str] = Counter()
    unexplained = []
    settled = 0
    # The SDK is loaded at the first direct read, once; what is looked for is what grows with each.
    deadline = Deadline()
    deadline.start(20)
    direct_read.parameter(PARAMETER, deadline)
    try:
        for number in range(INVOCATIONS):
            fault = randomness.choice(QUICK) if randomness.randrange(ONE_IN) == 0 else None
            slow, rest = divmod(number, INVOCATIONS // len(SLOW))
            if rest == 1 and slow < len(SLOW):
                fault = SLOW[slow]
                if fault.area == "database" and not fault.warm:
                    harness.frame._database.close()  # Otherwise the kept connection does not meet it.
            if fault:
                fault.inject(harness)
            try:
                harness.invoke()
                outcome = None
            except InvocationError as error:
                outcome = type(error)
            harness.extension.requests.clear()  # Otherwise the harness itself grows.
            harness.extension.tokens.clear()
            outcomes[outcome.__name__ if outcome else "answered"] += 1
            # A fault of a new connection is not met on a kept one, and then it answers.
            if outcome not in ({None, fault.error} if fault else {None}):
                unexplained.append((number, fault, outcome))
            if fault:
                harness.heal()
                harness.frame._database._context.load_verify_locations(harness.server.certificates.ca)
            if number == SETTLED:
                settled = _resident_kib()
        grown = _resident_kib() - settled
    finally:
        logging.disable(logging.NOTSET)
    connections = harness.server.execute(f"SELECT id FROM information_schema.processlist WHERE user = '{USER}'")
    print(f"\n{INVOCATIONS} invocations: {dict(outcomes)}; {len(connections)} connection; memory grew by {grown} KiB")
    assert not unexplained
    assert len(connections) == 1
    assert grown < 8 * 1024
