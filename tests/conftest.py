"""Fixtures for all tests: the templates, and one deployed local cloud."""

import fcntl
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import pytest
from aws_cdk.assertions import Template

import tools.templates
from local.cloud import LocalCloud
from tests.mutations import weaken
from tools import assemblies
from tools.commands import LOCAL, ROOT, environment, isolate

isolate()
# As in Lambda: the functions read their variables when they are imported.
for name, value in {
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "ENV": "dev",
    "APP_CONFIG_PATH": "demoApp/app_config",
    "CREDS_PATH": "arn:aws:secretsmanager:us-east-1:123456789012:secret:app-AbCdEf",
    "DATABASE_HOST": "localhost",
    "DATABASE_PORT": "3306",
    "DATABASE_NAME": "dev_DB",
    "MASTER_SECRET_ARN": "arn:aws:secretsmanager:us-east-1:123456789012:secret:rds!db-GhIjKl",
    "ROTATED_USERS": '{"arn": {"username": "demoapp", "privileges": ["SELECT"]}}',
}.items():
    os.environ.setdefault(name, value)

ASSEMBLIES = LOCAL / f"test-assemblies-{os.getppid() if 'PYTEST_XDIST_WORKER' in os.environ else os.getpid()}"
"""By the id of the process that started the workers, which removes it at the end."""
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

    @cached_property
    def network(self) -> Template:
        """The network's template, for aws_cdk.assertions."""
        return Template.from_json(self["Network"])

    @cached_property
    def database(self) -> Template:
        """The database's template, for aws_cdk.assertions."""
        return Template.from_json(self["Database"])

    def only(self, kind: str) -> dict[str, Any]:
        """The properties of the one resource of the type."""
        (resource,) = self.resources(kind).values()
        properties: dict[str, Any] = resource["Properties"]
        return properties


@cache
def _synthesise(**context: str) -> Templates:
    templates = Templates(tools.templates.synthesise(**context))
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


def assembly(*context: str) -> Path:
    """The folder that `cdk synth` writes with these settings, as `egress=nat`; made once for all workers."""
    folder = ASSEMBLIES / ("-".join(context).replace("/", "_") or "dev")
    ASSEMBLIES.mkdir(exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        inputs = assemblies.digest(ROOT, context)
        if not folder.exists() and not assemblies.restore(inputs, folder):
            options = [f"--output={folder}", *(f"--context={each}" for each in context)]
            subprocess.run(["cdk", "synth", "--quiet", *options], cwd=ROOT, env=environment(), check=True)
            assemblies.keep(inputs, folder)
    return folder


def copied(assembly: Path, target: Path) -> Path:
    """A copy of an assembly, without the lock files and archives that a deploy from it makes and removes meanwhile."""
    without = shutil.ignore_patterns("*.lock", ".cache")
    return Path(shutil.copytree(assembly, target, ignore=without, dirs_exist_ok=True))


@pytest.fixture(scope="session")
def synthesised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a real synthesis of dev has written, for tests that write into it."""
    return copied(assembly(), tmp_path_factory.mktemp("synthesised") / "dev")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what is deployed, to edit."""
    for name in ("app.py", "cdk.json"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("stacks", "lambda_src", "migrations"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def edit(file: Path, old: str, new: str) -> None:
    """Replace text that must be in the file."""
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Remove what the workers shared, when all of them have ended."""
    if not hasattr(session.config, "workerinput"):
        shutil.rmtree(ASSEMBLIES, ignore_errors=True)


def pytest_xdist_auto_num_workers() -> int:
    """One worker more than processors: a fifth of the time the tests wait for deadlines."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, so that no worker is left alone with one at the end.

    The checks of a deployed environment are the first of them: on a cloud in which other tests have
    made functions fail, its alarms are in alarm for minutes.
    """
    first = ("tests/local/test_verify.py", "tests/local/")
    items.sort(key=lambda item: [not item.nodeid.startswith(place) for place in first])


@contextmanager
def local_cloud(name: str, **start: int) -> Iterator[LocalCloud]:
    """Start an emulated cloud of the tests' own, with `LocalCloud.start`'s arguments; end and remove it."""
    cloud = LocalCloud(LOCAL / f"test-{os.getpid()}-{name}")  # Each of pytest's workers has its own.
    try:
        cloud.start(**start)
        yield cloud
    finally:
        cloud.stop()
        shutil.rmtree(cloud.folder)


@pytest.fixture(scope="session")
def cloud() -> Iterator[LocalCloud]:
    """The application, deployed by the real CDK to an emulated cloud of the tests' own."""
    with local_cloud("shared") as cloud:
        cloud.bootstrap()
        cloud.deploy(assembly=assembly())
        yield cloud
