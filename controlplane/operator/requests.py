"""Who requests something of the controller, when and why: for people, not a proof of anything."""

from __future__ import annotations

import os
import pwd
import socket
import time

from controlplane.domain.controller_state import MAX_REQUEST_TEXT, DrainRequest
from controlplane.domain.names import printable


def drain_request(reason: str) -> DrainRequest:
    """Return a request of the person at this machine, now."""
    return DrainRequest(operator(), time.time(), printable(reason, MAX_REQUEST_TEXT))


def operator() -> str:
    """Return ``user@host``; below sudo, the user who called it."""
    name = os.environ.get("SUDO_USER")
    if not name:
        try:
            name = pwd.getpwuid(os.getuid()).pw_name
        except KeyError:
            name = f"uid {os.getuid()}"
    return printable(f"{name}@{socket.gethostname()}", MAX_REQUEST_TEXT)


def request_text(request: DrainRequest) -> str:
    """Return what is known, to follow a verb: `` by ann@ctl at 2026-11-30 14:02:11: kernel``."""
    by = f" by {request.by}" if request.by else ""
    when = time.strftime(" at %Y-%m-%d %H:%M:%S", time.localtime(request.at)) if request.at else ""
    reason = f": {request.reason}" if request.reason else ""
    return f"{by}{when}{reason}"
