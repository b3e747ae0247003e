"""Resource types that the local cloud accepts and that have no effect, each with the reason.

ministack refuses a template with one of them. An entry can go when ministack provides the type.
"""

from typing import Final

from ministack.core.responses import new_uuid

from local.ministack_patches import Created, Properties, provide

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
