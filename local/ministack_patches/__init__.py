"""Patches of ministack, the local AWS emulator: a module for each service; `__main__` serves.

They run in a virtual environment of their own (`requirements/cloud.txt`), with ministack
pinned to the version whose inner names they use.
"""

from collections.abc import Callable
from typing import Any

from ministack.services.cloudformation import provisioners

Properties = dict[str, Any]
Created = tuple[str, dict[str, Any]]
"""A resource's physical id, which `Ref` gives, and its attributes for `Fn::GetAtt`."""


def provide(
    resource_type: str,
    create: Callable[[str, Properties, str], Created],
    delete: Callable[[str, Properties], None],
    update: Callable[[str, Properties, Properties, str], Created] | None = None,
) -> None:
    """Teach CloudFormation a resource type; without `update` a change replaces the resource."""

    def replace(physical_id: str, old: Properties, new: Properties, stack: str, logical_id: str) -> Created:
        created = create(logical_id, new, stack)
        delete(physical_id, old)
        return created

    handler: dict[str, Any] = {"create": create, "delete": delete, "update": update or replace}
    if update is None:
        handler["update_with_logical_id"] = True
    provisioners._RESOURCE_HANDLERS[resource_type] = handler
