"""Client of the AWS Parameters and Secrets Lambda Extension.

The extension serves this execution environment alone, on localhost, and caches what it
reads; so both values are asked of it on every invocation and nothing is cached here.

Sources: https://docs.aws.amazon.com/systems-manager/latest/userguide/ps-integration-lambda-extensions.html and
https://docs.aws.amazon.com/secretsmanager/latest/userguide/retrieving-secrets_lambda.html.
"""

import os
import random
import re
import time
from collections import Counter
from functools import cache
from http.client import HTTPException
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from urllib3.connection import HTTPConnection
from urllib3.exceptions import HTTPError, NewConnectionError, ReadTimeoutError

from shared.attempts import attempts
from shared.deadline import Deadline
from shared.errors import ConfigurationError, DependencyUnavailableError
from shared.json_object import json_object
from shared.sockets import AnswerTooLargeError, DeadlineSocket, open_connection

BUDGET: Final = 3.5
"""Seconds for one value, all tries and pauses together."""
TRY: Final = 1.5
"""Seconds for one try; more than the extension's own timeout for its call to AWS."""
LARGEST: Final = 512 * 1024
"""Bytes of one answer, its headers too: a secret is at most 65,536, and JSON's escapes make them at most six times as
many."""


class UnexplainedRefusalError(ConfigurationError):
    """The extension refuses without a reason; AWS gives the reason (`direct_read`)."""


class _Refusal(NamedTuple):
    """One kind of failed try: the most tries, and the error to raise after them."""

    kind: str
    tries: int
    error: type[ConfigurationError] | type[DependencyUnavailableError]


_UNTIL_BUDGET = 1000
_NOT_YET = _Refusal("not ready", _UNTIL_BUDGET, DependencyUnavailableError)
_BROKEN = _Refusal("broken answer", 2, DependencyUnavailableError)
_SLOW = _Refusal("no answer", 2, DependencyUnavailableError)
_UPSTREAM = _Refusal("server error", _UNTIL_BUDGET, DependencyUnavailableError)
# The extension answers denied, missing and throttled in the same way, after tries of its own.
_GENERIC = _Refusal("refused without a reason", 1, UnexplainedRefusalError)
# A late answer to an earlier request: the connection cannot be used any more.
_FOREIGN = _Refusal("answer to another request", 2, DependencyUnavailableError)
_TOKEN = _Refusal("session token refused", 2, ConfigurationError)
_TOO_LARGE = _Refusal("answer too large", 1, ConfigurationError)
_FINAL = _Refusal("unexpected status", 1, ConfigurationError)


class _NoAnswerError(Exception):
    """One try has failed."""

    def __init__(self, refusal: _Refusal, **facts: object) -> None:
        self.refusal, self.facts = refusal, facts


class ExtensionClient:
    """The two reads that the extension offers, bounded by the deadline."""

    def __init__(self, deadline: Deadline, port: int) -> None:
        self._deadline = deadline
        self._connection = _Connection(deadline, port)

    def parameter(self, name: str) -> dict[str, Any]:
        """Return Parameter Store's `Parameter` object (Name, Type, Value, Version, …).

        Raises:
            UnexplainedRefusalError: the extension refuses, and not for a moment.
            ConfigurationError: it cannot be read.
            DependencyUnavailableError: the extension did not answer in time.
        """
        answer = self._get("parameter", name, "/systemsmanager/parameters/get/?name=")
        parameter = answer.get("Parameter")
        if not isinstance(parameter, dict):
            raise ConfigurationError(f"parameter {name}: the answer holds no Parameter", operation="parameter")
        return parameter

    def secret(self, secret_id: str) -> dict[str, Any]:
        """Return Secrets Manager's `GetSecretValue` answer (SecretString, VersionId, …); raises as `parameter`."""
        return self._get("secret", secret_id, "/secretsmanager/get?secretId=")

    def _get(self, operation: str, name: str, path: str) -> dict[str, Any]:
        started = time.monotonic()
        failed: Counter[_Refusal] = Counter()
        with self._deadline.limit(BUDGET):
            # Pauses that double from 50 to 800 ms, with jitter of plus or minus half.
            pause = lambda tried: min(0.05 * 2 ** (tried - 1), 0.8) * random.uniform(0.5, 1.5)  # noqa: S311, E731
            for _ in attempts(self._deadline, pause, 0.05):
                try:
                    return self._try(operation, name, path + _quoted(name))
                except _NoAnswerError as error:
                    refusal, facts = error.refusal, error.facts
                failed[refusal] += 1
                if failed[refusal] == refusal.tries:
                    break
        elapsed = round((time.monotonic() - started) * 1000)
        facts |= {"attempts": failed.total(), "elapsed_ms": elapsed}
        raise refusal.error(f"{operation} {name}: {refusal.kind}", operation=operation, **facts)

    def _try(self, operation: str, name: str, path: str) -> dict[str, Any]:
        """Return the answer's object, or raise _NoAnswerError, which holds nothing else that was received."""
        try:
            with self._deadline.limit(TRY):
                status, body = self._request(operation, path)
        except (OSError, HTTPException, HTTPError) as error:
            # Class names only: the messages of these errors may quote what was received.
            links = [link for link in (error, error.__cause__, error.__context__) if link]
            cause = "/".join(dict.fromkeys(type(link).__name__ for link in links))
            if any(isinstance(link, AnswerTooLargeError) for link in links):
                raise _NoAnswerError(_TOO_LARGE, cause=cause) from None
            if isinstance(error, NewConnectionError):
                raise _NoAnswerError(_NOT_YET, cause=cause) from None
            is_late = isinstance(error, (TimeoutError, ReadTimeoutError))
            raise _NoAnswerError(_SLOW if is_late else _BROKEN, cause=cause) from None
        if status == 200:
            answer = json_object(body)
            if answer is not None and _names(answer, name):
                return answer
            self._connection.close()
            raise _NoAnswerError(_BROKEN if answer is None else _FOREIGN, status=status)
        if status == 400:
            raise _NoAnswerError(_NOT_YET if b"not ready to serve traffic" in body else _GENERIC, status=status)
        if status in (401, 403):
            raise _NoAnswerError(_TOKEN, status=status)
        raise _NoAnswerError(_UPSTREAM if status == 429 or status >= 500 else _FINAL, status=status)

    def _request(self, operation: str, path: str) -> tuple[int, bytes]:
        if not self._connection.is_connected:
            self._connection.close()
        headers = {"X-Aws-Parameters-Secrets-Token": _session_token(operation)}
        try:
            self._connection.request("GET", path, headers=headers, preload_content=False)
            response = self._connection.getresponse()
            body = response.read(decode_content=False)
        except BaseException:
            self._connection.close()
            raise
        return response.status, body


class _Connection(HTTPConnection):
    """The one kept connection, to localhost: no proxy, no redirect, so that the token goes nowhere else.

    Without urllib3's pool around it, which would take the request's target apart each time.
    """

    def __init__(self, deadline: Deadline, port: int) -> None:
        super().__init__("localhost", port)
        self._deadline = deadline

    def _new_conn(self) -> DeadlineSocket:
        try:
            return open_connection((self.host, self.port), self._deadline, LARGEST)
        except OSError as error:
            raise NewConnectionError(self, type(error).__name__) from error

    __del__ = HTTPConnection.close  # Deleting an ExtensionClient closes its socket, as in PyMySQL.


def _names(answer: dict[str, Any], name: str) -> bool:
    """Whether the answer is about the parameter or the secret of that name, or about none."""
    about = answer.get("Parameter", answer)
    if not isinstance(about, dict) or not about:
        return True
    # The name may end with a version or label, and a secret's ARN may lack its hyphen and six random characters.
    arn = str(about.get("ARN"))
    return name.removesuffix(about.get("Selector") or "") in (about.get("Name"), arn, arn[:-7])


@cache
def _quoted(name: str) -> str:
    return quote(name, safe="")


def _session_token(operation: str) -> str:
    """The function's session token, read at every call so that it is never stale.

    Under SnapStart Lambda does not put it into the environment; the SDK's credential chain finds it there
    (https://docs.aws.amazon.com/systems-manager/latest/userguide/ps-integration-lambda-extensions.html).

    Raises:
        ConfigurationError: an HTTP header cannot carry it.
    """
    token = os.environ.get("AWS_SESSION_TOKEN") or _credential_chain().get_frozen_credentials().token or ""
    if not re.fullmatch("[!-~]*", token):  # Visible ASCII; http.client's own error would quote the token.
        raise ConfigurationError("AWS_SESSION_TOKEN has characters that HTTP cannot carry", operation=operation)
    return token


@cache
def _credential_chain() -> Any:
    """The SDK's credentials, which it renews by itself."""
    import boto3

    return boto3.Session().get_credentials()
