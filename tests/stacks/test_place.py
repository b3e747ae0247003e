"""An environment's account and region: given later, they change nothing, and a synthesis still asks nobody."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import pytest

from app import build
from stacks.settings import SettingsError, from_context
from tests.conftest import Templates

PLACE = {"account": "210987654321", "region": "eu-west-3"}
PSEUDO = {
    "AWS::AccountId": PLACE["account"],
    "AWS::Region": PLACE["region"],
    "AWS::Partition": "aws",
    "AWS::URLSuffix": "amazonaws.com",
}


def _there(value: Any) -> Any:
    """What CloudFormation makes of a template's value in that account and region."""
    if isinstance(value, list):
        return [_there(each) for each in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"Ref"} and value["Ref"] in PSEUDO:
        return PSEUDO[value["Ref"]]
    if value.keys() == {"Fn::Sub"} and isinstance(value["Fn::Sub"], str):
        return re.sub(r"\$\{(AWS::\w+)\}", lambda match: PSEUDO[match[1]], value["Fn::Sub"])
    if value.keys() == {"Fn::Join"} and value["Fn::Join"][0] == "":
        parts: list[Any] = [""]
        for part in _there(value["Fn::Join"][1]):
            if isinstance(part, str) and isinstance(parts[-1], str):
                parts[-1] += part
            else:
                parts.append(part)
        return parts[0] if len(parts) == 1 else {"Fn::Join": ["", [part for part in parts if part != ""]]}
    # The order of a policy's statements' resources is that of their text, which names no difference.
    made = {key: _there(each) for key, each in value.items()}
    for key in ("Resource", "Action"):
        if isinstance(made.get(key), list):
            made[key] = sorted(made[key], key=json.dumps)
    return made


@pytest.mark.parametrize("egress", ["endpoints", "nat"])
@pytest.mark.parametrize("given", [PLACE, *({key: value} for key, value in PLACE.items())], ids="-".join)
def test_given_later_it_changes_nothing_that_is_deployed(
    synthesise: Callable[..., Templates], given: dict[str, str], egress: str
) -> None:
    """No zone, no replacement, no new version: the templates say the same there, though not in the same words."""
    before = synthesise(env="prod", egress=egress, github_repository="owner/name")
    after = synthesise(env="prod", egress=egress, github_repository="owner/name", **given)
    assert before != after
    for stack in before:
        assert _there(before[stack]) == _there(after[stack]), stack


def test_the_stacks_go_there_and_a_synthesis_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    app = cdk.App(context={"aws:cdk:bundling-stacks": []})
    build(app, from_context(PLACE))
    made = app.synth()
    environments = [stack.environment for stack in made.stacks]
    assert {(each.account, each.region) for each in environments} == {("210987654321", "eu-west-3")}
    assert "missing" not in json.loads((Path(made.directory) / "manifest.json").read_text())
    assert not [stack for stack in made.stacks if "dummy1" in json.dumps(stack.template)]


@pytest.mark.parametrize(("name", "value"), [("account", "prod"), ("account", "12345678901"), ("region", "Paris")])
def test_a_wrong_place_is_refused(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"{name}={value}: not an? {name}, as"):
        from_context({name: value})


def test_the_region_of_the_settings_needs_root_certificates() -> None:
    with pytest.raises(SettingsError, match=r"us-gov-west-1: rds-root-certificates.pem has no root certificate"):
        from_context({"region": "us-gov-west-1"}, "us-east-1")
