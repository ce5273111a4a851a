"""Whether this process may do what a simulated network needs, found by trying it."""

from __future__ import annotations

import errno
import threading

from pyroute2 import NetlinkError

from netns import bpf
from netns.errors import NetworkError
from netns.libc import unshare_network

REMEDY = "in a container, start it privileged"
REFUSALS = frozenset({errno.EPERM, errno.EACCES})


def check_privileges() -> None:
    """Ask the kernel for BPF programs, and for a network namespace that goes at once.

    Raises:
        NetworkError: it refuses, as it does root in most containers; the line has the remedy.

    """
    refusals: list[OSError] = []

    def attempt() -> None:
        try:
            bpf.program_ids()
            unshare_network()
        except OSError as error:
            refusals.append(error)

    # A thread of its own, because unshare(2) moves the thread that calls it.
    trial = threading.Thread(target=attempt, name="privileges")
    trial.start()
    trial.join()
    if refusals:
        raise NetworkError(refused(refusals[0]))


def refused(error: Exception) -> str:
    """Return what the kernel did not do, in one line, with the remedy where it is known."""
    code = error.code if isinstance(error, NetlinkError) else getattr(error, "errno", None)
    remedy = f": {REMEDY}" if code in REFUSALS else ""
    return f"the network cannot be built here: {error}{remedy}"
