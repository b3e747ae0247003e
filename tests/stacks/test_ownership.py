"""The copy of the repository that deploys: CloudFormation compares it in every stack."""

from collections.abc import Callable

import aws_cdk as cdk
import pytest

from app import build
from stacks.settings import SettingsError, from_context
from tests.conftest import Templates


@pytest.mark.parametrize("owner", ["ours-1", ""])
def test_every_stack_keeps_its_owner_and_refuses_another(synthesise: Callable[..., Templates], owner: str) -> None:
    for template in synthesise(owner=owner, github_repository="owner/name").values():
        assert template["Parameters"]["Owner"]["Default"] == owner
        same, named = template["Rules"]["Ownership"]["Assertions"]
        assert same["Assert"] == {"Fn::Equals": [{"Ref": "Owner"}, owner]}
        assert named["Assert"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "Owner"}, ""]}]}


@pytest.mark.parametrize(("owner", "tag"), [("ours-1", "ours-1"), ("", None)])
def test_its_resources_are_tagged_with_it(owner: str, tag: str | None) -> None:
    app = cdk.App(context={"aws:cdk:bundling-stacks": []})
    build(app, from_context({"owner": owner}))
    assert [stack.tags.get("owner") for stack in app.synth().stacks] == [tag] * 4


@pytest.mark.parametrize("owner", ["a b", "-a", "a" * 65, "ä"])
def test_a_wrong_id_is_refused(owner: str) -> None:
    with pytest.raises(SettingsError, match="at the most 64 letters"):
        from_context({"owner": owner})
