"""Connections on VIPs are counted; listeners, other addresses and our own checks are not."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import IPv4Address

import pytest

from lb.agent.sockets import count_connections

VIP = IPv4Address("127.0.0.77")


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as held:
        yield held


def connect(stack: ExitStack, listener: socket.socket, source: str) -> None:
    port = listener.getsockname()[1]
    caller = socket.create_connection((str(VIP), port), 2, source_address=(source, 0))
    stack.enter_context(caller)
    stack.enter_context(listener.accept()[0])


def test_only_connections_from_elsewhere_to_a_vip_count(stack: ExitStack) -> None:
    listener = stack.enter_context(socket.create_server((str(VIP), 0)))
    assert count_connections([VIP]) == 0
    connect(stack, listener, "127.0.0.1")
    assert count_connections([VIP]) == 1
    connect(stack, listener, str(VIP))
    assert count_connections([VIP]) == 1, "a server's own check is no client"
    assert count_connections([IPv4Address("127.0.0.78")]) == 0
    assert count_connections([]) == 0


def test_dual_stack_listeners_count_too(stack: ExitStack) -> None:
    listener = stack.enter_context(
        socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    )
    connect(stack, listener, "127.0.0.1")
    assert count_connections([VIP]) == 1


def test_many_sockets_take_several_messages(stack: ExitStack) -> None:
    listener = stack.enter_context(socket.create_server((str(VIP), 0), backlog=500))
    for _ in range(400):
        connect(stack, listener, "127.0.0.1")
    assert count_connections([VIP]) == 400
