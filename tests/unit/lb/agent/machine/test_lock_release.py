"""A lock that was given back is free at once, not when a thread gets round to it."""

from __future__ import annotations

import socket
import threading
import uuid

from lb.agent.machine import lock
from lb.agent.machine.lock import find_holder, interface_lock


def test_it_can_be_taken_again_at_once() -> None:
    interface = f"t{uuid.uuid4().hex[:12]}"
    for _ in range(300):
        with interface_lock(interface):
            assert find_holder(interface) is not None
        assert find_holder(interface) is None


def test_a_name_that_is_being_let_go_is_waited_for() -> None:
    """A holder stops answering before the kernel frees its name."""
    interface = f"t{uuid.uuid4().hex[:12]}"
    going = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    going.bind(lock._address("agent", interface))
    timer = threading.Timer(0.2, going.close)
    timer.start()
    try:
        with interface_lock(interface):
            assert going.fileno() == -1
    finally:
        timer.join()
        going.close()
