"""Tells of local connections whose they are, by user and by process, and how many a server has."""

import ctypes
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

TABLE: Final = Path("/proc/net/tcp")
"""Linux's table of connections. Other systems have none, and every user is accepted."""
TELLS_PROCESSES: Final = TABLE.exists() and os.access("/proc/1/stat", os.R_OK)
"""Whether the system tells which process has a connection: not where `/proc` hides others' (hidepid, proc(5))."""
ESTABLISHED: Final = "01"
SET_DUMPABLE: Final = 4
SET_CHILD_SUBREAPER: Final = 36


def set_process(option: int, value: int) -> None:
    """Set an option of this process (prctl(2), Linux).

    Without `SET_DUMPABLE` others of the same user do not get at its memory and descriptors. With `SET_CHILD_SUBREAPER`
    descendants whose parents end become its children.
    """
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def is_this_user(client: tuple[str, int], server: tuple[str, int]) -> bool:
    """Return whether this process's user opened the connection between the two IPv4 addresses."""
    if not TABLE.exists():
        return True
    fields = _entry(client, server)
    return bool(fields) and int(fields[7]) == os.geteuid()


def ancestors(client: tuple[str, int], server: tuple[str, int], likely: Iterable[int] = ()) -> list[int] | None:
    """Return the process that opened the connection and its ancestors, up to a child of this process.

    Children of this process that are likely to have it are looked at first: to look at all takes long where many run.
    Empty if no descendant of this process opened it. None if nobody is seen to have it: it has gone, or goes from
    process to process. A descendant that hides what it has open is taken for the one that did.
    """
    fields = _entry(client, server)
    if not fields:
        return None
    hidden = None
    for pid, line in _candidates(likely):
        try:
            for each in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(FileNotFoundError):  # It has been closed.
                    if str(each.readlink()) == f"socket:[{fields[9]}]":
                        return line
        except PermissionError:
            hidden = line or hidden
        except FileNotFoundError:  # It has ended.
            continue
    return hidden


def _candidates(likely: Iterable[int]) -> Iterator[tuple[int, list[int]]]:
    yield from ((pid, [pid]) for pid in likely)
    yield from sorted(_lines(), key=lambda each: not each[1])  # Descendants first: they are few.


def _lines() -> Iterator[tuple[int, list[int]]]:
    """Give each process, the newest first, with the ancestors that it has below this one; itself among them."""
    parents = {}
    for each in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # It may have ended.
            # The name before the state is in brackets, and may have spaces and brackets itself.
            parents[int(each.parent.name)] = int(each.read_text().rpartition(")")[2].split()[1])
    for pid in sorted(parents, reverse=True):
        line = [pid]
        while line[-1] in parents and line[-1] not in line[:-1]:
            line.append(parents[line[-1]])
        if not line[-1]:  # The first process has no parent. Another's that is missing has just ended.
            yield pid, line[: line.index(os.getpid())] if os.getpid() in line else []


def _entry(client: tuple[str, int], server: tuple[str, int]) -> list[str]:
    """Return the table's fields of the client's end, or none."""
    ends = [_written(client), _written(server)]
    return next((fields for fields in _entries() if fields[1:3] == ends), [])


def _entries() -> Iterator[list[str]]:
    return (line.split() for line in TABLE.read_text().splitlines()[1:])


def connections(address: str, port: int) -> int | None:
    """Return how many connections a server at this IPv4 address has; None where the system does not say."""
    if not TABLE.exists():
        return None
    return sum(row[1] == _written((address, port)) and row[3] == ESTABLISHED for row in _entries())


def _written(address: tuple[str, int]) -> str:
    """Return an address in the table's form: the IP address in the machine's byte order, the port in the network's."""
    (number,) = struct.unpack("=I", socket.inet_aton(address[0]))
    return f"{number:08X}:{address[1]:04X}"
