"""Sending packets that no socket would send: `tests.model.frames` makes them."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Iterable, Sequence

from netns.brigade import INTERFACE, ROUTER, server_name
from netns.build import mac_address
from netns.host import Host
from netns.network import Network
from tests.model.frames import ethernet

ETHERTYPES = ((4, 0x0800), (6, 0x86DD))
REFUSED_SECONDS = 5.0


def send_packets(host: Host, packets: Iterable[bytes]) -> None:
    """Send IPv4 packets as they are; the kernel routes them and fills in nothing."""

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sender:
            for packet in packets:
                sender.sendto(packet, (socket.inet_ntoa(packet[16:20]), 0))

    host.call(send)


def send_frames(host: Host, interface: str, frames: Iterable[bytes]) -> None:
    """Send Ethernet frames as they are, no faster than the other end takes them.

    A veth whose peer has an XDP program queues 256 frames for it; while that queue is full,
    the kernel may refuse a frame with ENOBUFS. For 5 s the frame is sent again.
    """

    def send() -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
            sender.bind((interface, 0))
            for frame in frames:
                send_frame(sender, frame, time.monotonic() + REFUSED_SECONDS)

    host.call(send)


def send_frame(sender: socket.socket, frame: bytes, give_up_at: float) -> None:
    """Send a frame, again and again while the device's queue is full."""
    while True:
        try:
            sender.send(frame)
            return
        except OSError as error:
            if error.errno != errno.ENOBUFS or time.monotonic() > give_up_at:
                raise
            time.sleep(0.001)


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
