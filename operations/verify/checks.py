"""All checks by name, in the order in which they run."""

from typing import Final

from operations.verify import ageing, database, function, loud, monitoring, network, permissions, stacks
from operations.verify.report import Check

_ALL: Final = {
    check.name: check
    for module in (function, stacks, network, database, permissions, monitoring, loud, ageing)
    for check in vars(module).values()
    if isinstance(check, Check)
}
CHECKS: Final = {name: check for name, check in _ALL.items() if not check.loud}
"""Read only."""
LOUD_CHECKS: Final = {name: check for name, check in _ALL.items() if check.loud}
"""Each runs only when it is asked for."""
