"""Any bytes from the extension end in an object or one of the errors, and never in a leak."""

import json
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local.tests.functions import CANARY
from proof.testbed import lateness
from proof.testbed.fault_servers import FaultyExtension, respond, running, send
from shared import errors
from shared.deadline import Deadline
from shared.extension import ExtensionClient

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
)


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or link.__context__


@pytest.fixture(scope="module")
def scripted() -> Iterator[FaultyExtension]:
    server = FaultyExtension({"Parameter": {}}, {})
    with running(server):
        yield server


@settings(max_examples=60, deadline=None)
@given(
    status=st.sampled_from([200, 204, 301, 400, 401, 404, 418, 500]),
    body=st.binary(max_size=300) | JSON.map(lambda value: json.dumps(value).encode()),
    raw=st.booleans(),
)
def test_any_answer_of_the_extension_is_an_object_or_one_of_the_errors_in_time(
    scripted: FaultyExtension,
    status: int,
    body: bytes,
    raw: bool,  # noqa: FBT001
) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("AWS_SESSION_TOKEN", CANARY)
        scripted.script.clear()
        scripted.script.extend([send(body) if raw else respond(status, body)] * 20 * lateness.TRIES)
        deadline = Deadline()

        def ask() -> float:
            deadline.start(0.4)
            started = time.monotonic()
            try:
                assert isinstance(ExtensionClient(deadline, scripted.port).secret("name"), dict)
            except (errors.ConfigurationError, errors.DependencyUnavailableError) as error:
                for link in _chain(error):
                    assert CANARY not in repr(link) + repr(vars(link))
            return time.monotonic() - started

        lateness.hold(0.6, ask)
