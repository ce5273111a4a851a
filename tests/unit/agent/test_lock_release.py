"""A lock that was given back is free at once, not when a thread gets round to it."""

from __future__ import annotations

import uuid

from lb.agent.lock import InterfaceLock, find_holder


def test_it_can_be_taken_again_at_once() -> None:
    interface = f"t{uuid.uuid4().hex[:12]}"
    for _ in range(300):
        with InterfaceLock(interface):
            assert find_holder(interface) is not None
        assert find_holder(interface) is None
