"""Waiting for the kernel and for other threads: nothing is missed, whatever comes first."""

from __future__ import annotations

import errno

from lb.agent.netlink.messages import HEADER
from lb.agent.netlink.watcher import RTMGRP, Watcher
from tests.unit.lb.agent.fakes import watching

MESSAGE = HEADER.pack(HEADER.size, 24, 0, 0, 0)


def test_a_wake_before_the_wait_and_while_nobody_listens_is_not_lost() -> None:
    watcher = Watcher(RTMGRP(0))
    for _ in range(100_000):  # more than the socket can hold: nobody may hang
        watcher.wake()
    with watcher:
        assert watcher.wait(10)
        while watcher.woken():
            pass
        assert not watcher.wait(0)


def test_all_notifications_are_read_and_a_loss_is_reported() -> None:
    notifications, lost = watching(MESSAGE * 2, MESSAGE).notifications()
    assert ([one.kind for one in notifications], lost) == ([24] * 3, False)
    notifications, lost = watching(OSError(errno.ENOBUFS, "lost"), MESSAGE).notifications()
    assert ([one.kind for one in notifications], lost) == ([24], True)


def test_it_can_be_entered_again() -> None:
    watcher = Watcher(RTMGRP(0))
    for _ in range(2):
        with watcher:
            assert watcher.notifications() == ([], False)
