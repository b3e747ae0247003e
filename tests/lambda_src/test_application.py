"""The application's answers, with a fake database: change this file together with application.py."""

from types import SimpleNamespace
from typing import Any

import pytest

import application
from shared.errors import BadRequestError
from shared.keys import Key

CONFIG = {"enableVersion": True, "app": "NotesApp"}
CONTEXT = SimpleNamespace(aws_request_id="id-of-the-request")


class FakeDatabase:
    """Gives the answers in turn, and keeps what was asked."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[Any] = []

    def rows(self, sql: str, args: Any = ()) -> Any:
        self.asked.append((sql, args))
        return self.answers.pop(0)

    execute = rows

    def transaction(self, work: Any, key: Key | None = None) -> Any:
        self.asked.append(key)
        return work(self)


def _answer(event: object, *answers: Any, **config: Any) -> tuple[Any, list[Any]]:
    database: Any = FakeDatabase(*answers)
    return application.answer(event, CONTEXT, CONFIG | config, database), database.asked


@pytest.mark.parametrize("event", [{}, None, [], "text", {"other": 1}])
def test_any_other_event_is_answered_by_the_aws_samples_sentence(event: object) -> None:
    answer, _ = _answer(event, [("devDB", 3, "8.4.9")])
    sentence = 'NotesApp successfully loaded config {"enableVersion": true, "app": "NotesApp"} and connected to RDS'
    assert answer["message"] == f"{sentence} database devDB!"
    assert (answer["database"], answer["notes"], answer["serverVersion"]) == ("devDB", 3, "8.4.9")


def test_the_configuration_decides_whether_the_version_is_told() -> None:
    answer, _ = _answer({}, [("devDB", 3, "8.4.9")], enableVersion=False)
    assert set(answer) == {"message", "database", "notes"}


@pytest.mark.parametrize(
    ("event", "key"),
    [({}, CONTEXT.aws_request_id), ({"key": None}, CONTEXT.aws_request_id), ({"key": "a"}, "a"), ({"key": 0}, 0)],
)
def test_a_note_is_stored_with_its_callers_key_or_the_requests_id(event: dict[str, Any], key: object) -> None:
    answer, asked = _answer({"note": "hello", **event}, (1, 7))
    assert answer == {"stored": 7}
    assert asked == [Key("note", key, "hello"), ("INSERT INTO note (text) VALUES (%s)", ("hello",))]


def test_the_newest_notes_are_read() -> None:
    answer, ((_, args),) = _answer({"latest": 2}, [(7, "b", "now"), (6, "a", "before")])
    assert args == (2,)
    assert answer["notes"][0] == {"id": 7, "text": "b", "created_at": "now"}
    assert len(answer["notes"]) == 2


@pytest.mark.parametrize(
    "event",
    [
        *({"note": note} for note in ("", "x" * 201, 1)),
        *({"latest": latest} for latest in (0, "9", True)),
        *({"note": note, "latest": latest} for note, latest in (("a", 0), (1, 1), ("a", 1))),
    ],
)
def test_a_bad_event_is_refused(event: object) -> None:
    with pytest.raises(BadRequestError, match="either note, 1 to 200 characters, or latest, 1 to 100"):
        _answer(event)


def test_the_check_reads_the_table() -> None:
    database: Any = FakeDatabase([("devDB", 3, "8.4.9")])
    assert application.check(CONFIG, database) == 3
