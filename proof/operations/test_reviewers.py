"""A deploy from GitHub to an environment with protected data waits for a reviewer, or is refused."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from operations import reviewers
from stacks.settings import from_context

# As in https://docs.github.com/en/rest/deployments/environments#get-an-environment, without what is not read.
REVIEWED = {"id": 3736, "type": "required_reviewers", "reviewers": [{"type": "User", "reviewer": {"login": "octocat"}}]}
WAITED = {"id": 3755, "type": "wait_timer", "wait_timer": 30}
BRANCHES = {"protected_branches": False, "custom_branch_policies": True}


@contextmanager
def _github(status: int, answer: dict[str, Any]) -> Iterator[dict[str, str]]:
    """A server that answers as GitHub's API does; the variables of a job that asks it."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            right = self.path == "/repos/owner/name/environments/prod" and self.headers["Authorization"] == "Bearer t"
            self.send_response(status if right else 404)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{server.server_port}"
        yield {"GITHUB_API_URL": address, "GITHUB_REPOSITORY": "owner/name", "GITHUB_TOKEN": "t"}
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "rules", "policy", "said"),
    [
        (200, [WAITED, REVIEWED], BRANCHES, []),
        (200, [WAITED], BRANCHES, ["has no required reviewers"]),
        (200, [{**REVIEWED, "reviewers": []}], BRANCHES, ["has no required reviewers"]),
        (200, [REVIEWED], None, ["takes any branch"]),
        (200, [], None, ["has no required reviewers", "takes any branch"]),
        (404, [], None, ["GitHub answered 404"]),
    ],
)
def test_an_environment_with_protected_data_has_reviewers_and_takes_one_branch(
    status: int, rules: list[dict[str, Any]], policy: dict[str, bool] | None, said: list[str]
) -> None:
    answer = {"name": "prod", "protection_rules": rules, "deployment_branch_policy": policy}
    with _github(status, answer) as variables:
        found = list(reviewers.faults(from_context({"env": "prod"}), variables))
    assert len(found) == len(said)
    assert all(words in fault for words, fault in zip(said, found, strict=True)), found


@pytest.mark.parametrize("context", [{"env": "dev"}, {"env": "prod", "deploy_without_reviewers": True}])
def test_nobody_is_asked_where_nobody_must_approve(context: dict[str, object]) -> None:
    assert list(reviewers.faults(from_context(context), {})) == []


def test_the_workflow_goes_on_with_the_account_or_ends(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reviewers.main("dev")
    assert capsys.readouterr().out == "account=\n"  # Any.
    settings = from_context({"env": "dev", "account": "123456789012"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("operations.reviewers.lasting_settings", lambda _: settings)
        reviewers.main("dev")
    assert capsys.readouterr().out == "account=123456789012\n"
    with _github(200, {}) as variables:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit, match="Nothing was deployed:\n  environment prod: has no required reviewers"):
            reviewers.main("prod")
    with pytest.raises(SystemExit, match="Settings refused"):
        reviewers.main("other")
