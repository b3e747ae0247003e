"""Tells of local connections which user of this machine opened one, and how many a server has."""

import os
import socket
import struct
from pathlib import Path
from typing import Final

TABLE: Final = Path("/proc/net/tcp")
"""Linux's table of connections. Other systems have none, and every user is accepted."""
ESTABLISHED: Final = "01"


def is_this_user(client: tuple[str, int], server: tuple[str, int]) -> bool:
    """Return whether this process's user opened the connection between the two IPv4 addresses."""
    if not TABLE.exists():
        return True
    ends = [_written(client), _written(server)]
    for line in TABLE.read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1:3] == ends:
            return int(fields[7]) == os.geteuid()
    return False


def connections(address: str, port: int) -> int | None:
    """Return how many connections a server at this IPv4 address has; None where the system does not say."""
    if not TABLE.exists():
        return None
    rows = [line.split() for line in TABLE.read_text().splitlines()[1:]]
    return sum(row[1] == _written((address, port)) and row[3] == ESTABLISHED for row in rows)


def _written(address: tuple[str, int]) -> str:
    """Return an address in the table's form: the IP address in the machine's byte order, the port in the network's."""
    (number,) = struct.unpack("=I", socket.inet_aton(address[0]))
    return f"{number:08X}:{address[1]:04X}"
