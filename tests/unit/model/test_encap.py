"""The bytes of the wrap: an independent dissector, and the way back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from tests.model import SameSocket, forward, redirect
from tests.model.frames import (
    SERVER_MAC,
    framed,
    tcp_packet,
    udp_packet,
)
from tests.packets.world import (
    CLIENT,
    DNS,
    DNS6,
    HTTP,
    HTTP6,
    KEY,
    VIP,
    config,
    dip,
    flow,
    mac,
)

CHAINS = st.lists(st.integers(2, 4), min_size=1, max_size=3, unique=True).map(tuple)


def _wrapped(packet: bytes, chain: tuple[int, ...], *, padding: bytes = b"") -> bytes:
    """The frame that server 1 sends."""
    result = forward(framed(packet) + padding, config(1, chain))
    assert result.frame is not None
    return result.frame


@given(chain=CHAINS, tos=st.integers(0, 255), port=st.integers(0, 65535))
def test_another_dissector_reads_the_same(chain: tuple[int, ...], tos: int, port: int) -> None:
    packet = tcp_packet(CLIENT, port, VIP, 80, tos=tos)
    wrapped = _wrapped(packet, chain)
    frame = Ether(wrapped)
    assert (frame.dst, frame.src) == (mac(chain[0]).hex(":"), SERVER_MAC.hex(":"))
    outer, udp = frame[IP], frame[UDP]
    assert (outer.version, outer.ihl, outer.tos, outer.id) == (4, 5, tos, 0)
    assert (str(outer.flags), outer.frag, outer.ttl, outer.proto) == ("DF", 0, 64, 17)
    assert outer.len == len(packet) + 36 + 4 * (len(chain) - 1) == len(wrapped) - 14
    assert (outer.src, outer.dst) == (str(dip(1)), str(dip(chain[0])))
    assert (udp.dport, udp.len, udp.chksum) == (6080, outer.len - 20, 0)
    assert udp.sport == 0x8000 | flow(HTTP, port).hash(KEY) >> 48
    checksum = outer.chksum
    del outer.chksum
    assert IP(bytes(outer)).chksum == checksum


MAKERS = {HTTP: tcp_packet, HTTP6: tcp_packet, DNS: udp_packet, DNS6: udp_packet}


@given(
    chain=CHAINS,
    tos=st.integers(0, 255),
    payload=st.binary(max_size=60),
    service=st.sampled_from(list(MAKERS)),
    padding=st.binary(max_size=20),
)
def test_what_is_accepted_is_what_was_wrapped(
    chain: tuple[int, ...], tos: int, payload: bytes, service: int, padding: bytes
) -> None:
    one = flow(service)
    packet = MAKERS[service](
        one.source,
        one.source_port,
        one.destination,
        one.destination_port,
        tos=tos,
        payload=payload,
    )
    frame = _wrapped(packet, chain, padding=padding)
    is_udp = service in {DNS, DNS6}
    order = chain[::-1] if is_udp else chain
    for server in order[:-1] if is_udp else ():
        on = redirect(frame, config(server), SameSocket())
        assert (on.verdict, on.counter) == ("redirect", "pass_on")
        assert on.frame is not None
        frame = on.frame
    end = redirect(frame, config(order[-1] if is_udp else order[0]), SameSocket())
    assert end.verdict == "ok"
    assert end.frame is not None
    kind = b"\x08\x00" if service in {HTTP, DNS} else b"\x86\xdd"
    assert end.frame == frame[:12] + kind + packet + padding
