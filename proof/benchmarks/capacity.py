"""How many execution environments an instance class has connections for, computed from AWS's formula."""

from dataclasses import replace

from proof.benchmarks import markdown
from proof.benchmarks.results import Result
from stacks.settings import ENVIRONMENTS
from stacks.settings.rds_mysql import memory_gib

CLASSES = ("t4g.micro", "t4g.small", "t4g.medium", "m7g.large", "r7g.large", "r7g.xlarge")


def measure() -> Result:
    """An instance class of each size: RDS's limit of connections, the function's part of it, and what to do beyond."""
    rows = []
    for name in CLASSES:
        settings = replace(ENVIRONMENTS["dev"], instance_class=name)
        carried = "carried" if settings.connections >= 500 else "reserved concurrency, RDS Proxy or a larger class"
        rows.append([name, memory_gib(name), f"{settings.max_connections:,}", f"{settings.connections:,}", carried])
    columns = ["instance class", "memory, GiB", "max_connections", "environments", "500 environments at once"]
    return Result(markdown.table(columns, rows))
