"""What several rooms' tests share: the templates, and one deployed local cloud."""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

import aws_cdk as cdk
import pytest

from app import build
from local.install import LOCAL, ROOT
from local.running import LocalCloud
from stacks.settings import from_context
from tests.mutants import weaken

# As Lambda has it: clients are made when rotation.py is imported.
os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")

ENVIRONMENTS = ("dev", "prod")
EGRESSES = ("endpoints", "nat")

Resource = Mapping[str, Any]


class Templates(dict[str, dict[str, Any]]):
    """The finished templates of one synthesis, by the stack's name without its environment."""

    def resources(self, kind: str) -> dict[str, Resource]:
        """All resources of the type, in all stacks, by logical id."""
        return {
            logical_id: resource
            for template in self.values()
            for logical_id, resource in template["Resources"].items()
            if resource["Type"] == kind
        }

    def only(self, kind: str) -> dict[str, Any]:
        """The properties of the one resource of the type."""
        (resource,) = self.resources(kind).values()
        properties: dict[str, Any] = resource["Properties"]
        return properties


@cache
def _synthesise(**context: str) -> Templates:
    flags = json.loads((ROOT / "cdk.json").read_text())["context"]
    # Code is not packaged here: what is in the package has a test of its own.
    app = cdk.App(context=flags | context | {"aws:cdk:bundling-stacks": []})
    build(app, from_context(context))
    templates = Templates({stack.stack_name.partition("-")[2]: stack.template for stack in app.synth().stacks})
    for template in templates.values():
        weaken(template)
    return templates


@pytest.fixture(scope="session")
def synthesise() -> Callable[..., Templates]:
    """Synthesise with settings as keywords; the same settings once only."""
    return _synthesise


@pytest.fixture(scope="session", params=[(env, egress) for env in ENVIRONMENTS for egress in EGRESSES], ids="-".join)
def templates(request: pytest.FixtureRequest) -> Templates:
    """The templates of both environments with both egress modes, one after the other."""
    env, egress = request.param
    return _synthesise(env=env, egress=egress)


@pytest.fixture(scope="session")
def cloud() -> Iterator[LocalCloud]:
    """The application, deployed by the real CDK to an emulated cloud of the tests' own."""
    cloud = LocalCloud(LOCAL / f"test-{os.getpid()}")  # Each of pytest's workers has its own.
    try:
        cloud.start()
        cloud.bootstrap()
        cloud.deploy()
        yield cloud
    finally:
        cloud.stop()
        shutil.rmtree(cloud.folder)
