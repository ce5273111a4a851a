"""The sequence numbers of sockets, read and chosen (TCP_REPAIR of Linux; needs root)."""

from __future__ import annotations

import socket

TCP_REPAIR, TCP_REPAIR_QUEUE, TCP_QUEUE_SEQ = 19, 20, 21
REPAIR, NO_REPAIR_NO_PROBE = 1, -1
RECEIVE_QUEUE, SEND_QUEUE = 1, 2
RCV_NXT, SND_NXT = 1000, 2000
"""The numbers that the tests' packets have, if nothing else is said."""


def establish(
    made: socket.socket,
    here: tuple[str, int],
    there: tuple[str, int],
    *,
    rcv_nxt: int = RCV_NXT,
    snd_nxt: int = SND_NXT,
) -> None:
    """Put a new socket into ESTABLISHED without a packet; closing it sends none either."""
    made.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, REPAIR)
    for queue, number in ((SEND_QUEUE, snd_nxt), (RECEIVE_QUEUE, rcv_nxt)):
        made.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR_QUEUE, queue)
        made.setsockopt(
            socket.IPPROTO_TCP, TCP_QUEUE_SEQ, (number % (1 << 32)).to_bytes(4, "little")
        )
    made.bind(here)
    made.connect(there)


def numbers_of(connected: socket.socket) -> tuple[int, int]:
    """`rcv_nxt` and `snd_nxt` of a connection that has nothing left to send."""
    connected.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, REPAIR)
    found = []
    for queue in (RECEIVE_QUEUE, SEND_QUEUE):
        connected.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR_QUEUE, queue)
        found.append(connected.getsockopt(socket.IPPROTO_TCP, TCP_QUEUE_SEQ) % (1 << 32))
    connected.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, NO_REPAIR_NO_PROBE)
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # the end of repair clears it
    return found[0], found[1]
