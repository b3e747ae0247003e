"""One execution environment: imports a handler, invokes it, and prints what it took as one line of JSON.

Run as a program of its own, so that nothing of the benchmarks is in what it measures.
"""

import importlib
import json
import logging
import os
import sys
import time


class Context:
    """Lambda's context object, as far as it is used."""

    @property
    def aws_request_id(self) -> str:
        """Another for each invocation."""
        return os.urandom(16).hex()

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until Lambda ends the invocation."""
        return 35_000


def _peak_memory() -> int:
    """KiB. On Linux not getrusage's, which begins with the memory of the process that this one was forked from."""
    if sys.platform != "linux":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    with open("/proc/self/status") as status:  # noqa: PTH123 - pathlib would add to the memory
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))


def main(name: str, invocations: int, event: dict[str, object]) -> None:
    """Invoke the handler so many times; the first, cold, invocation is measured apart."""
    # The log line of each invocation is part of what it costs; where it goes is not.
    logging.basicConfig(level=logging.INFO, stream=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    handler = importlib.import_module(name).lambda_handler
    imported = time.monotonic()
    context = Context()
    answer = handler(event, context)
    assert answer if event else answer["database"]
    answered = time.monotonic()
    cpu_answered = time.process_time()
    durations = []
    cpu = time.process_time()
    for _ in range(invocations):
        started = time.perf_counter()
        handler(event, context)
        durations.append(time.perf_counter() - started)
    cpu = time.process_time() - cpu
    result = {
        "imported": imported,
        "answered": answered,
        "cpu_answered": cpu_answered,
        "durations": durations,
        "cpu": cpu / invocations if invocations else 0,
        "memory_kib": _peak_memory(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3]))
