"""What a memory size gives and costs: a cold start, a warm invocation and the price of a million, computed.

Lambda gives a function a share of a processor by its memory, a whole one at 1,769 MB
(https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html). The processor time and the waiting are
measured here with a whole processor; a smaller share makes the first longer and not the second.
"""

import math
from statistics import median

from proof.benchmarks import markdown
from proof.benchmarks.results import Result
from proof.benchmarks.services import Services
from proof.cost import TABLE

ROUNDS = 5
INVOCATIONS = 300
SIZES = (128, 256, 512, 1024, 1769)
"""MB; more than the last gives a second processor, which one invocation at a time does not use."""
WHOLE = 1769
PRICES = {name: entry["price"] for name, entry in TABLE["prices"].items()}


def measure(services: Services) -> Result:
    """Measure ours with a whole processor, and compute the sizes."""
    with services.extension() as environ:
        runs = [services.invoke("handler", INVOCATIONS, environ) for _ in range(ROUNDS)]
    cold_cpu = median(run["cpu_answered"] for run in runs)
    cold_waiting = max(0, median(run["answered"] - run["started"] for run in runs) - cold_cpu)
    warm_cpu = median(run["cpu"] for run in runs)
    warm_waiting = max(0, median(median(run["durations"]) for run in runs) - warm_cpu)
    rows = []
    cold: dict[str, list[float]] = {}
    for size in SIZES:
        share = size / WHOLE
        first, warm = cold_cpu / share + cold_waiting, warm_cpu / share + warm_waiting
        cold[f"{size} MB"] = [1000 * first]
        rows.append(
            [
                f"{size}",
                f"{share:.2f}",
                f"{1000 * first:.0f}",
                f"{_price(first, size) - PRICES['Lambda, million requests']:.2f}",
                f"{1000 * warm:.1f}",
                f"{_price(warm, size):.2f}",
            ]
        )
    columns = [
        *("memory, MB", "share of a processor", "first answer, ms", "a million cold starts, USD"),
        *("a warm invocation, ms", "a million warm invocations, USD"),
    ]
    measured = (
        f"Measured with a whole processor: {1000 * cold_cpu:.0f} ms of processor time and {1000 * cold_waiting:.0f} ms "
        f"of waiting to the first answer, {1000 * warm_cpu:.2f} and {1000 * warm_waiting:.2f} ms in a warm invocation."
    )
    return Result(f"{markdown.table(columns, rows)}\n\n{measured}", cold)


def _price(seconds: float, size: int) -> float:
    """Return USD for a million invocations; Lambda rounds each up to a millisecond."""
    billed = math.ceil(seconds * 1000) / 1000
    return float(
        PRICES["Lambda, million requests"] + 1_000_000 * billed * size / 1024 * PRICES["Lambda, Arm, GB-second"]
    )
