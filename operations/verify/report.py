"""What a check is, and what it found."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from botocore.exceptions import ClientError

from operations.aws import NO_ANSWER, is_denied
from operations.verify.deployed import Deployed

PASSED, FAILED, UNCHECKED = "passed", "failed", "not checked"
SIGNS: Final[Mapping[str, str]] = {PASSED: "✓", FAILED: "✗", UNCHECKED: "-"}


class CheckFailedError(Exception):
    """The environment is not as promised; the message has what was found and what was expected."""

    def __init__(self, found: object, expected: object) -> None:
        super().__init__(f"found {found}; expected {expected}")


class NotCheckableError(Exception):
    """The check cannot be made here; the message has the reason."""


@dataclass(frozen=True)
class Check:
    """One check: its name, the promise that it shows, and the function that makes it."""

    name: str
    promise: str
    run: Callable[[Deployed], str]
    loud: bool


@dataclass(frozen=True)
class Result:
    """What one check found."""

    name: str
    status: str
    found: str
    seconds: float

    def __str__(self) -> str:
        return f"{SIGNS[self.status]} {self.name}: {self.found}"


def check(promise: str, *, loud: bool = False) -> Callable[[Callable[[Deployed], str]], Check]:
    """Make a check of a function, named as the function with hyphens.

    The function returns what it found, or raises CheckFailedError or NotCheckableError. A loud
    check changes something and puts it back, or takes minutes.
    """
    return lambda function: Check(function.__name__.replace("_", "-"), promise, function, loud)


def expect(found: object, expected: object, what: str = "") -> None:
    """Raise CheckFailedError unless the two are equal."""
    if found != expected:
        raise CheckFailedError(f"{what} {found}".strip(), expected)


def run(checks: Sequence[Check], deployed: Deployed) -> Iterator[Result]:
    """Make the checks one after the other; a failed one stops none of the others."""
    for each in checks:
        started = time.monotonic()
        try:
            status, found = PASSED, each.run(deployed)
        except CheckFailedError as error:
            status, found = FAILED, str(error)
        except NotCheckableError as error:
            status, found = UNCHECKED, str(error)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            status = UNCHECKED if is_denied(error) else FAILED
            found = f"{error.operation_name} answered {code}: {error.response['Error'].get('Message', '')}"
        except NO_ANSWER as error:
            status, found = UNCHECKED, f"AWS did not answer: {error}"
        except Exception as error:  # noqa: BLE001 - what AWS described is not what the check expects to read
            status, found = FAILED, f"found what the check cannot read ({error!r}); expected {each.promise}"
        yield Result(each.name, status, found, round(time.monotonic() - started, 1))


def as_json(deployed: Deployed, results: Sequence[Result], at: str) -> dict[str, Any]:
    """Return the report for machines; `versions` is empty where they cannot be described."""
    try:
        versions = deployed.versions
    except Exception:  # noqa: BLE001 - the checks say what is wrong; the report of them is not lost
        versions = {}
    return {
        "account": deployed.account,
        "region": deployed.region,
        "environment": deployed.settings.env,
        "at": at,
        "versions": versions,
        "checks": [asdict(result) for result in results],
    }
