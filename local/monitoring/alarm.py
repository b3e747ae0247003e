"""The state of a metric alarm, by CloudWatch's rules.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarm-evaluation.html and
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-missing-data.html
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

EXTRA: Final = 2
"""Periods before those that are evaluated, from which values are taken for missing ones.

AWS says five for an alarm of three periods, and that the number depends on the period.
"""

_WORDS: Final = {
    "GreaterThanOrEqualToThreshold": "greater than or equal to",
    "GreaterThanThreshold": "greater than",
    "LessThanThreshold": "less than",
    "LessThanOrEqualToThreshold": "less than or equal to",
}


@dataclass(frozen=True)
class Rule:
    """What makes an alarm go off.

    Attributes:
        comparison: of PutMetricAlarm's, with a threshold.
        periods: N, the data points that are evaluated.
        breaching: M, how many of them must breach.
        missing: TreatMissingData.
    """

    comparison: str
    threshold: float
    periods: int = 1
    breaching: int = 1
    missing: str = "missing"

    @property
    def range(self) -> int:
        """How many periods are looked at, so that values of older ones take the place of missing ones."""
        return self.periods + EXTRA

    def breaches(self, value: float) -> bool:
        """Whether a value is on the alarm's side of the threshold."""
        return {
            "GreaterThanOrEqualToThreshold": value >= self.threshold,
            "GreaterThanThreshold": value > self.threshold,
            "LessThanThreshold": value < self.threshold,
            "LessThanOrEqualToThreshold": value <= self.threshold,
        }[self.comparison]

    def state(self, values: Sequence[float | None], before: str) -> str:
        """Return the state.

        Args:
            values: of the periods in the range, the oldest first; None where there is none.
            before: the state until now.
        """
        real = [self.breaches(value) for value in values if value is not None]
        evaluated = real[-self.periods :]
        lacking = self.periods - len(evaluated)
        certain = sum(evaluated)
        if certain + (lacking if self.missing == "breaching" else 0) >= self.breaching:
            return "ALARM"
        if not lacking or self.missing in ("breaching", "notBreaching") or not all(evaluated):
            return "OK"
        if self.missing == "ignore":
            return before
        if not evaluated:
            return "INSUFFICIENT_DATA"
        # All that is known breaches. It is not yet an alarm while the oldest is younger than M periods, because the
        # next value may be a good one ("premature transitions").
        oldest = next(index for index, value in enumerate(values) if value is not None)
        return "ALARM" if len(values) - oldest >= self.breaching else "OK"

    def reason(self, values: Sequence[float | None], began: Sequence[float], state: str) -> str:
        """Return the sentence that CloudWatch gives for a state.

        Args:
            values: as for `state`.
            began: when each of the periods began, in seconds since 1970.
            state: what `state` returned.
        """
        found = [(value, at) for value, at in zip(values, began, strict=True) if value is not None][-self.periods :]
        if not found:
            handled = "" if state == "INSUFFICIENT_DATA" else f" and {self.missing} was used for missing values"
            return f"Threshold Crossed: no datapoints were received for {self.periods} period(s){handled}."
        shown = ", ".join(
            f"{value} ({datetime.fromtimestamp(at, UTC):%d/%m/%y %H:%M:%S})" for value, at in reversed(found)
        )
        plural, negation = ("s", "were") if len(found) > 1 else ("", "was")
        negated = "" if state == "ALARM" else " not"
        return (
            f"Threshold Crossed: {len(found)} datapoint{plural} [{shown}] {negation}{negated} "
            f"{_WORDS[self.comparison]} the threshold ({self.threshold})."
        )
