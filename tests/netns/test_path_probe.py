"""An echo request from DIP to DIP inside the encapsulation: the stack answers it as usual."""

from __future__ import annotations

import socket
from contextlib import ExitStack

import pytest

from netns.brigade import CLIENT_MTU, ENCAPSULATION_BYTES, dip
from netns.polling import wait_until
from tests.model.frames import gue_packet, icmp_packet
from tests.netns.raw import send_packets
from tests.netns.stage import Stage

PROBER, PROBED = 2, 1
WRAP, HEADERS = 36, 28
ECHO_REPLY = 0
SMALL, FULL_SIZE = 64, CLIENT_MTU + ENCAPSULATION_BYTES - WRAP


@pytest.mark.parametrize("length", [SMALL, FULL_SIZE], ids=["small", "full size"])
def test_a_path_probe_is_answered(stage: Stage, length: int) -> None:
    probe = icmp_packet(dip(PROBER), dip(PROBED), word=length, payload=bytes(length - HEADERS))
    wrapped = gue_packet(dip(PROBER), dip(PROBED), probe)
    prober = stage.host(PROBER)
    before = stage.counters()
    with ExitStack() as stack:
        with prober.entered():
            replies = stack.enter_context(
                socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
            )
        replies.setblocking(False)

        def answered() -> bool:
            try:
                reply, (source, _) = replies.recvfrom(4096)
            except BlockingIOError:
                return False
            kind, rest = reply[20], reply[24:]
            return (kind, source, rest) == (ECHO_REPLY, str(dip(PROBED)), probe[24:])

        send_packets(prober, [wrapped])
        wait_until(answered, "the echo reply")
    # The reply has this probe's bytes; agents probe, too.
    assert stage.grown(before, PROBED)["accept_path_probe"] >= 1
    assert stage.grown(before, PROBER)["ok_not_gue"] >= 1


def test_an_echo_request_in_another_name_is_not_answered(stage: Stage) -> None:
    """Neither to the one whose name it has, nor to the sender."""
    probe = icmp_packet(dip(3), dip(PROBED))
    before = stage.counters()
    send_packets(stage.host(PROBER), [gue_packet(dip(PROBER), dip(PROBED), probe)])
    wait_until(lambda: stage.grown(before, PROBED)["drop_not_vip"] == 1, "it is dropped")
