"""Telling systemd about us: sd_notify(3) in a few lines, without its library."""

from __future__ import annotations

import socket
from collections.abc import Mapping


def sd_notify(message: str, environment: Mapping[str, str]) -> bool:
    """Send a message as ``READY=1`` to $NOTIFY_SOCKET; return whether there was one to send to.

    Raises:
        OSError: there is one, and it does not take the message.

    """
    path = environment.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return False
    address = "\0" + path[1:] if path.startswith("@") else path
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.settimeout(1.0)
        sender.connect(address)
        sender.sendall(message.encode())
    return True
