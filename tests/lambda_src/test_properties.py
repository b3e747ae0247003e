"""Any bytes from outside end in an answer or one of the errors, and never in a leak."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import errors
from shared.credentials import Credentials
from shared.environment import ServingEnvironment
from shared.frame import Frame
from shared.json_object import json_object

CANARY = "canary0password"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
)
KEYS = st.sampled_from(["host", "port", "dbname", "username", "password", "engine"])
SECRETS = st.one_of(
    st.dictionaries(KEYS, JSON | st.text().map(lambda text: text + CANARY)).map(json.dumps),
    st.text(),
    JSON.map(json.dumps),
    st.none(),
    JSON,
)


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or link.__context__


@given(SECRETS, st.none() | st.text())
def test_any_secret_is_credentials_or_a_configuration_error(secret: object, version_id: str | None) -> None:
    try:
        credentials = Credentials.parse({"SecretString": secret, "VersionId": version_id})
    except errors.ConfigurationError as error:
        for link in _chain(error):
            assert CANARY not in repr(link) + repr(vars(link))
    else:
        assert 1 <= credentials.port <= 65535
        assert credentials.host.strip()


@given(st.binary() | st.text() | JSON.map(json.dumps) | JSON)
def test_any_text_is_an_object_or_nothing(text: object) -> None:
    assert isinstance(json_object(text), dict | None)


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 10_000, '{"a":1,"a":2}', b"\xff\xfe", "\ufeff{}"])
def test_text_that_breaks_parsers_is_not_an_object(text: str | bytes) -> None:
    assert json_object(text) is None


@given(value=JSON.map(json.dumps) | st.text() | JSON)
def test_any_parameter_is_a_configuration_or_a_configuration_error(value: object) -> None:
    frame = Frame.__new__(Frame)
    frame._environment = ServingEnvironment("/x", "secret", "us-east-1", 2773)

    class Answering:
        def parameter(self, _: str) -> dict[str, Any]:
            return {"Value": value}

    frame._extension = Answering()  # type: ignore[assignment]
    try:
        assert isinstance(frame._config()["enableVersion"], bool)
    except errors.ConfigurationError:
        return


def test_errors_say_their_facts_and_loggers_can_take_them(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    error = errors.DependencyUnavailableError("x: y", operation="connect", attempts=3)
    assert str(error) == "x: y (operation=connect, attempts=3)"
    assert str(errors.QueryFailedError("z")) == "z"
    logging.getLogger("application").info("event", extra=error.facts)
