"""Notifies systemd: sd_notify(3) in a few lines, without its library."""

from __future__ import annotations

import socket
from collections.abc import Mapping

import structlog


def sd_notify(message: str, environment: Mapping[str, str]) -> bool:
    """Send a message such as ``READY=1`` to $NOTIFY_SOCKET; return whether that is set.

    Raises:
        OSError: it is, and the message cannot be sent.

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


def try_notify(message: str, environment: Mapping[str, str]) -> None:
    """Send a message; if that fails, only log it: forwarding does not depend on systemd."""
    try:
        sd_notify(message, environment)
    except OSError as error:
        structlog.get_logger().warning("cannot notify systemd", reason=str(error))
