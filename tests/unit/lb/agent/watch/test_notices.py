"""Which notifications of the kernel wake the event loop at once."""

from __future__ import annotations

import pytest

from lb.agent.attach.clsact import RTM_DELTFILTER, TCMSG
from lb.agent.netlink.links import IFADDRMSG, IFINFOMSG
from lb.agent.netlink.messages import Message
from lb.agent.vips.addresses import RTM_DELADDR
from lb.agent.watch.notices import concerns

OURS = 3


def about(kind: int, index: int) -> Message:
    if kind == RTM_DELADDR:
        body = IFADDRMSG.pack(2, 32, 0, 0, index)
    elif kind == RTM_DELTFILTER:
        body = TCMSG.pack(0, index, 0, 0, 0)
    else:
        body = IFINFOMSG.pack(0, 1, index, 0, 0)
    return Message(kind, 0, 0, 0, body)


@pytest.mark.parametrize("kind", [16, 17, RTM_DELADDR, 36, 37, 44, RTM_DELTFILTER])
@pytest.mark.parametrize(("index", "wakes"), [(OURS, True), (1, True), (7, False)])
def test_our_interface_and_lo_matter(kind: int, index: int, wakes: bool) -> None:
    assert concerns([about(16, 7), about(kind, index)], OURS) == wakes


def test_other_kinds_do_not_matter() -> None:
    assert not concerns([about(24, OURS), about(28, OURS)], OURS)
