"""Runs a command in a network namespace whose name servers never answer, or answer that the name does not exist.

It changes no file: the machine's own name servers get their addresses on the new network's
loopback interface.
"""

import fcntl
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path


def command(*arguments: str, record: str = "") -> list[str]:
    """Return the command line that runs another one there; Linux alone has such networks.

    With `record`, the path of a file, each question is written there and answered: no such name.
    """
    # A user without privileges has those in a user namespace, and stays the same user.
    own_user = [] if os.geteuid() == 0 else ["--map-current-user", "--keep-caps"]
    namespace = ["unshare", "--net", *own_user]
    return [*namespace, sys.executable, __file__, record, *arguments]


def is_possible() -> bool:
    """Whether a process here may have a network of its own."""
    if sys.platform != "linux" or not shutil.which("unshare"):
        return False
    return not subprocess.run(command("true"), capture_output=True).returncode


def main() -> int:
    """Bring up loopback, bind the name servers, and run the command that follows."""
    if [name for _, name in socket.if_nameindex()] != ["lo"]:
        sys.exit("this is the machine's own network; run the command that silent_resolver.command() returns")
    record, *arguments = sys.argv[1:]
    configuration = Path("/etc/resolv.conf")
    text = configuration.read_text() if configuration.exists() else ""
    # Without a name server the system asks 127.0.0.1 (resolv.conf(5)).
    servers = re.findall(r"^nameserver\s+([\d.]+)\s*$", text, re.MULTILINE) or ["127.0.0.1"]
    for number, address in enumerate(servers, 1):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            if not address.startswith("127."):  # SIOCSIFADDR (netdevice(7)).
                packed = struct.pack("16sHH4s8x", f"lo:{number}".encode(), socket.AF_INET, 0, socket.inet_aton(address))
                fcntl.ioctl(control, 0x8916, packed)
            fcntl.ioctl(control, 0x8914, struct.pack("16sh14x", b"lo", 1))  # SIOCSIFFLAGS with IFF_UP.
        resolver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        resolver.bind((address, 53))
        threading.Thread(target=_receive, args=(resolver, record), daemon=True).start()
    return subprocess.run(arguments).returncode


def _receive(resolver: socket.socket, record: str) -> None:
    while True:
        question, client = resolver.recvfrom(4096)
        if record:
            with Path(record).open("a") as file:
                file.write(_name(question) + "\n")
            # The question again, as a response with the code 3, no such name (RFC 1035, section 4.1.1,
            # https://www.rfc-editor.org/rfc/rfc1035).
            resolver.sendto(question[:2] + b"\x81\x83" + question[4:], client)


def _name(question: bytes) -> str:
    """The name asked for (https://www.rfc-editor.org/rfc/rfc1035, section 4.1.2)."""
    labels, position = [], 12
    while size := question[position]:
        labels.append(question[position + 1 : position + 1 + size].decode())
        position += 1 + size
    return ".".join(labels)


if __name__ == "__main__":
    sys.exit(main())
