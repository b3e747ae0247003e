"""How many execution environments each instance class has connections for, computed from AWS's formula."""

from dataclasses import replace

from proof.benchmarks import markdown
from proof.benchmarks.results import Result
from stacks.settings import ENVIRONMENTS
from stacks.settings.rds_mysql import INSTANCE_MEMORY_GIB


def measure() -> Result:
    """Each instance class: RDS's limit of connections, the function's part of it, and what to do beyond."""
    rows = []
    for name, memory in sorted(INSTANCE_MEMORY_GIB.items(), key=lambda item: (item[1], item[0])):
        settings = replace(ENVIRONMENTS["dev"], instance_class=name)
        carried = "carried" if settings.connections >= 500 else "reserved concurrency, RDS Proxy or a larger class"
        rows.append([name, memory, f"{settings.max_connections:,}", f"{settings.connections:,}", carried])
    columns = ["instance class", "memory, GiB", "max_connections", "environments", "500 environments at once"]
    return Result(markdown.table(columns, rows))
