"""What the cloud accepts in a template and leaves without effect, each with its reason."""

from typing import Final

from ministack.core.responses import new_uuid

from local.cloud import Created, Properties, provide

WITHOUT_EFFECT: Final = {
    "AWS::CodeDeploy::Application": "an alias moves to its new version at once",
    "AWS::CodeDeploy::DeploymentGroup": "an alias moves to its new version at once",
    "AWS::RDS::EventSubscription": "there is nothing here that fails over or fills up",
}


def install() -> None:
    """Teach CloudFormation to accept them."""
    for resource_type in WITHOUT_EFFECT:
        provide(resource_type, _create, _delete)


def _create(logical_id: str, props: Properties, stack: str) -> Created:
    return f"{stack}-{logical_id}-{new_uuid()[:8]}", {}


def _delete(physical_id: str, props: Properties) -> None:
    """There is nothing to delete."""
