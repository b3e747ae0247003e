"""What a warm invocation takes: ours, what a user would write or pick instead, and the floor."""

import marshal
from collections import Counter
from collections.abc import Mapping
from statistics import median

from proof.benchmarks import markdown
from proof.benchmarks.results import Result
from proof.benchmarks.services import Services

ROUNDS = 5
APPROACHES = {
    "handler": ("ours: verified TLS, one deadline, both values asked each time", 300),
    "aws_sample": ("the AWS sample: a connection per invocation, TLS unverified", 40),
    "powertools": ("Powertools' parameters, cached in its own memory; a kept connection", 300),
    "secrets_cache": ("aws-secretsmanager-caching and Powertools, cached in its own memory; a kept connection", 300),
    "advanced_wrapper": ("AWS's Advanced Python Wrapper with its secrets and failover plugins; Powertools", 300),
    "plain_boto3": ("boto3 on every invocation; a kept connection", 60),
    "libraries": ("urllib3 and PyMySQL, kept alive, and nothing else", 300),
    "floor": ("the floor: two requests and a ping on bare sockets", 300),
}
WRITES = {
    "handler": ("ours, with a key: at most once", 300),
    "write_unkeyed": ("ours, without a key", 300),
    "write_by_hand": (
        "PyMySQL by hand: begin, INSERT, commit on a kept connection; no check, no deadline, no log",
        300,
    ),
}
WAITING = "waiting for the other side, and TLS"
WAITS = ("recv_into", "sendall", "_ssl._SSLSocket")
LIBRARIES = {
    "/urllib3/": "urllib3",
    "/http/": "http.client and its headers",
    "/email/": "http.client and its headers",
    "/pymysql/": "PyMySQL",
    "/json/": "json",
    "/logging/": "logging",
}


def measure(services: Services) -> Result:
    """What reads take."""
    return _compare(services, APPROACHES, "{}")


def writes(services: Services) -> Result:
    """What it takes to store a note."""
    return _compare(services, WRITES, '{"note": "hello"}')


def _compare(services: Services, approaches: Mapping[str, tuple[str, int]], event: str) -> Result:
    """Run each approach in turn, round after round; medians over the rounds, as ratios to ours."""
    p50: dict[str, list[float]] = {name: [] for name in approaches}
    p99: dict[str, list[float]] = {name: [] for name in approaches}
    cpu: dict[str, list[float]] = {name: [] for name in approaches}
    with services.extension() as environ:
        for _ in range(ROUNDS):
            for name, (_, invocations) in approaches.items():
                result = services.invoke(name, invocations, environ, event=event)
                durations = sorted(result["durations"])
                p50[name].append(median(durations))
                p99[name].append(durations[int(len(durations) * 0.99)])
                cpu[name].append(result["cpu"])
    columns = ["approach", "p50, ms", "from-to over the rounds", "p50 / ours", "p99 / ours", "CPU / ours"]
    table = markdown.table(
        columns,
        (
            [
                what,
                f"{median(p50[name]) * 1e3:.2f}",
                markdown.span([1e3 * each for each in p50[name]], 2),
                *(f"{median(each[name]) / median(each['handler']):.2f}" for each in (p50, p99, cpu)),
            ]
            for name, (what, _) in approaches.items()
        ),
    )
    return Result(table, {what: [1e3 * each for each in p50[name]] for name, (what, _) in approaches.items()})


def profile(services: Services) -> Result:
    """Return each library's share of one run of ours under cProfile, with the built-in functions that it calls."""
    with services.extension() as environ:
        written = services.package.with_name("profile")
        services.invoke("handler", 2000, environ, "-m", "cProfile", "-o", str(written))
    spent: Counter[str] = Counter()
    for (file, _, name), (_, _, own, _, callers) in marshal.loads(written.read_bytes()).items():  # noqa: S302 - ours
        if file != "~":
            spent[_library(file, services)] += own
        elif any(each in name for each in WAITS):
            spent[WAITING] += own
        else:
            for (caller, _, _), (_, _, part, _) in callers.items():
                spent[_library(caller, services)] += part
    return Result(", ".join(f"{library} {seconds / spent.total():.0%}" for library, seconds in spent.most_common()))


def _library(file: str, services: Services) -> str:
    library = next((name for part, name in LIBRARIES.items() if part in file), None)
    return library or ("our own modules" if file.startswith(str(services.package)) else "the rest")
