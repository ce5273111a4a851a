"""What sockets a server can have for a flow, and the shapes that packets come in."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv6Address
from typing import Any

import pytest

from tests.dataplane.socket_case import FAMILIES, Case, Family
from tests.model import SocketState
from tests.model.frames import authentication, destination_options, hop_by_hop

FREE_PORT = 40000
ANY = IPv6Address("::")
Shape = dict[str, Any]
PLAIN: Shape = {}
# the program for rare packets asks the same questions
RARE: dict[int, Shape] = {
    4: {"options": bytes((1, 1, 1, 0))},
    6: {"headers": [hop_by_hop(), authentication(), destination_options(24)]},
}
families = pytest.mark.parametrize("family", FAMILIES, ids=str)


def half_open(case: Case, family: Family) -> int:
    case.listen(family.vip)
    case.answered_syn(family, FREE_PORT, cookie=False)
    return FREE_PORT


def listening(case: Case, family: Family) -> int:
    case.listen(family.vip)
    return FREE_PORT


def nothing(case: Case, family: Family) -> int:
    return FREE_PORT


def other_port(case: Case, family: Family) -> int:
    return case.established(family) ^ 1


# what there is at the server: the model's word for it, and how to make it
TCP_STATES: dict[str, tuple[SocketState, Callable[[Case, Family], int]]] = {
    "established": (SocketState.KNOWN, Case.established),
    "TIME-WAIT": (SocketState.TIME_WAIT, Case.waiting),
    "SYN-RECV": (SocketState.REQUEST, half_open),
    "listening": (SocketState.LISTEN, listening),
    "established-for-another-port": (SocketState.LISTEN, other_port),
    "no-socket": (SocketState.NONE, nothing),
}
