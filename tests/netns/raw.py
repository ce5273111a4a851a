"""Sending packets that no socket would send: `tests.model.frames` makes them."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence

from netns.brigade import INTERFACE, ROUTER, server_name
from netns.build import mac_address
from netns.host import Host
from netns.network import Network
from tests.model.frames import ethernet

ETHERTYPES = ((4, 0x0800), (6, 0x86DD))


def send_packets(host: Host, packets: Iterable[bytes]) -> None:
    """Send IPv4 packets as they are; the kernel routes them and fills in nothing."""

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sender:
            for packet in packets:
                sender.sendto(packet, (socket.inet_ntoa(packet[16:20]), 0))

    host.call(send)


def send_frames(host: Host, interface: str, frames: Iterable[bytes]) -> None:
    """Send Ethernet frames as they are."""

    def send() -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
            sender.bind((interface, 0))
            for frame in frames:
                sender.send(frame)

    host.call(send)


def as_by_router(network: Network, number: int, packet: bytes, tags: Sequence[bytes] = ()) -> bytes:
    """The frame in which the router would send a packet to a server."""
    name = server_name(number)
    return ethernet(
        packet,
        destination=mac(network[name], INTERFACE),
        source=mac(network[ROUTER], name),
        kind=dict(ETHERTYPES)[packet[0] >> 4],
        tags=tags,
    )


def mac(host: Host, interface: str) -> bytes:
    """An interface's MAC address."""
    return bytes.fromhex(mac_address(host, interface).replace(":", ""))
