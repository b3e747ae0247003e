"""Tells which user of this machine opened a local connection."""

import os
import socket
import struct
from pathlib import Path
from typing import Final

TABLE: Final = Path("/proc/net/tcp")
"""Linux's table of connections. Other systems have none, and every user is accepted."""


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


def _written(address: tuple[str, int]) -> str:
    """Return an address in the table's form: the IP address in the machine's byte order, the port in the network's."""
    (number,) = struct.unpack("=I", socket.inet_aton(address[0]))
    return f"{number:08X}:{address[1]:04X}"
