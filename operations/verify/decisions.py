"""Reads the table of who may do what, decisions.toml."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

TABLES: Final = tomllib.loads(Path(__file__).with_suffix(".toml").read_text())["decisions"]
SERVING: Final = "Serving function"
"""Whom a row is about that holds for each of them."""
NAMED_BY: Final = {"secretsmanager": "SecretId", "ssm": "Name", "kms": "KeyId"}
"""The argument with which a service's calls name their resource."""


class Row(NamedTuple):
    """One decision; the file says what the fields mean."""

    role: str
    action: str
    resource: str
    decision: str
    given: Mapping[str, Any] | None = None
    context: Mapping[str, str] = {}

    @property
    def call(self) -> Mapping[str, Any] | None:
        """Arguments of the call by which a test tries it on the local cloud; None where no call is made."""
        service = self.action.partition(":")[0]
        if self.given is None or self.resource == "*" or service not in NAMED_BY:
            return self.given
        return {NAMED_BY[service]: f"{self.resource} name" if service == "ssm" else self.resource, **self.given}

    def of_each(self, serving: list[str]) -> "list[Row]":
        """The row for each serving function, if that is whom it is about."""
        if self.role != SERVING:
            return [self]
        return [
            self._replace(role=name, context={key: value.replace(SERVING, name) for key, value in self.context.items()})
            for name in serving
        ]

    @property
    def by_identity(self) -> str:
        """What the role's own policies decide.

        IAM's simulator takes a resource policy for users only, not for roles
        (https://docs.aws.amazon.com/IAM/latest/APIReference/API_SimulatePrincipalPolicy.html).
        """
        return "implicitDeny" if self.action == "secretsmanager:DeleteSecret" else self.decision


DECISIONS: Final = [
    Row(table["role"], *row)._replace(context=table.get("context", {})) for table in TABLES for row in table["rows"]
]
