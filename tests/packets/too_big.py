"""Packets that do not fit the link once wrapped: wire.md, section 4.5."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

from tests.model import Config
from tests.model.frames import (
    C_TAG,
    ROUTER_MAC,
    S_TAG,
    SERVER_MAC,
    authentication,
    fragments_of,
    framed,
    hop_by_hop,
    icmp_error,
    icmp_packet,
    ipv4,
    ipv6,
    tcp_packet,
    udp_packet,
)
from tests.model.frames.ip import transport_checksum
from tests.packets.out import has
from tests.packets.row import Packet, Row
from tests.packets.world import (
    CLIENT,
    CLIENT6,
    DNS,
    DNS6,
    HTTP,
    HTTP6,
    NOPS,
    VIP,
    VIP6,
    config,
    here,
)

AWAY, SELF_FIRST = config(1, (2, 3)), config(1, (1, 2))
# 20 + 20 + payload + 40 is 1 byte over the MTU; the same with an IPv6 header's 40 bytes.
BIG = tcp_packet(CLIENT, 40000, VIP, 80, payload=bytes(range(256)) * 5 + bytes(141))
BIG6 = tcp_packet(CLIENT6, 40000, VIP6, 443, payload=bytes(range(256)) * 5 + bytes(121))
FITS = tcp_packet(CLIENT, 40000, VIP, 80, payload=bytes(1420))
FITS6 = tcp_packet(CLIENT6, 40000, VIP6, 443, payload=bytes(1400))
BIGGEST = tcp_packet(CLIENT, 40000, VIP, 80, payload=bytes(1460))
BIGGEST6 = tcp_packet(CLIENT6, 40000, VIP6, 443, payload=bytes(1440))
ANSWERED, DROPPED, TO_SELF, SENT = "tx_too_big", "drop_too_big", "pass_to_self", "tx_forward_chain"
TAGS: tuple[tuple[bytes, ...], ...] = ((), (C_TAG,), (S_TAG, C_TAG))


def section(name: str, here: Config, *packets: Packet, **fields: Any) -> Row:
    """A row of this section, with one packet or several."""
    return Row("forwarder", f"4.5 {name}", here, packets, **fields)


def big(fragment: int) -> bytes:
    """A frame that is 1 byte over, with these flags and offset."""
    return framed(tcp_packet(CLIENT, 40000, VIP, 80, payload=bytes(1421), fragment=fragment))


def golden_rows() -> Iterator[Row]:
    """From the table of section 4.5, IPv4's checksums by another program; MTU 1300, overhead 48."""
    macs = ROUTER_MAC + SERVER_MAC
    packet = tcp_packet(CLIENT, 40000, VIP, 80, payload=bytes(1300))
    header = bytes.fromhex("45c0021c0000400040014bdcc000020ac63364070304e98b000004e4")
    yield section("golden answer", config(1, (2, 3), mtu=1300), Packet(
        framed(packet), ANSWERED, HTTP, macs + b"\x08\x00" + header + packet[:512],
    ))  # fmt: skip
    packet = tcp_packet(CLIENT6, 40000, VIP6, 443, payload=bytes(1300))
    header = bytes.fromhex("6000000002083a40") + VIP6.packed + CLIENT6.packed
    unsummed = bytes.fromhex("02000000000004e4") + packet[:512]
    checksum = transport_checksum(VIP6, CLIENT6, 58, unsummed).to_bytes(2, "big")
    answer = header + unsummed[:2] + checksum + unsummed[4:]
    yield section("golden answer over IPv6", config(1, (2, 3), mtu=1300), Packet(
        framed(packet), ANSWERED, HTTP6, macs + b"\x86\xdd" + answer,
    ))  # fmt: skip


def answer_to(packet: bytes, tags: tuple[bytes, ...], mtu: int) -> bytes:
    """The answer, from the same table, to a packet to one of the two VIPs."""
    quote = packet[:512]
    if packet[0] >> 4 == 4:
        message = icmp_packet(VIP, CLIENT, kind=3, code=4, word=mtu, payload=quote)[20:]
        answer = ipv4(VIP, CLIENT, 1, message, tos=0xC0, identification=0, ttl=64)
    else:
        message = icmp_packet(VIP6, CLIENT6, kind=2, word=mtu, payload=quote)[40:]
        answer = ipv6(VIP6, CLIENT6, 58, message, flow_label=0, hop_limit=64)
    macs = ROUTER_MAC + SERVER_MAC
    return macs + framed(answer, tags=tags)[12:]


def answer_rows(packet: bytes, biggest: bytes, service: int) -> Iterator[Row]:
    """What an answer looks like, wherever the packet would have gone, and the MTU in it."""
    v = f", IPv{packet[0] >> 4}"
    for name, way in (("away", AWAY), ("self first", SELF_FIRST)):
        for tags in TAGS:
            yield section(f"{len(tags)} tags, {name}{v}", way, Packet(
                framed(packet, tags=tags), ANSWERED, service, answer_to(packet, tags, 1452)
            ))  # fmt: skip
    for depth, overhead in ((1, 36), (2, 40), (3, 44), (4, 48)):
        way = config(1, (2, 3)[:depth], depth=depth)
        yield section(f"the overhead is that of depth {depth}{v}", way, Packet(
            framed(biggest), ANSWERED, service, answer_to(biggest, (), 1500 - overhead)
        ))  # fmt: skip
    yield section(f"alone this server takes it{v}", config(1, (1,)), Packet(
        framed(packet), "pass_local", service
    ))  # fmt: skip
    rare: dict[str, Any] = (
        {"options": NOPS} if service == HTTP else {"headers": [hop_by_hop(), authentication()]}
    )
    client, vip, port = (CLIENT, VIP, 80) if service == HTTP else (CLIENT6, VIP6, 443)
    long = tcp_packet(client, 40000, vip, port, payload=bytes(1440), **rare)
    yield section(f"long headers, tags{v}", AWAY, Packet(
        framed(long, tags=[S_TAG, C_TAG]), ANSWERED, service, answer_to(long, (S_TAG, C_TAG), 1452)
    ))  # fmt: skip


FRAGMENTS6 = [
    framed(piece)
    for piece in fragments_of(udp_packet(CLIENT6, 40000, VIP6, 53, payload=bytes(4000)), 1448)
]
ABOUT = framed(icmp_error(CLIENT, tcp_packet(VIP, 80, CLIENT, 40000, payload=bytes(1421))))
ABOUT6 = framed(icmp_error(CLIENT6, tcp_packet(VIP6, 443, CLIENT6, 40000, payload=bytes(1421))))
NO_WINDOW = {"kernel": "its windows are the clock's: test_rows.py has a test of the rate"}
NO_MTU = {
    "host": "an interface's MTU is at most 65,535 in the data plane",
    "kernel": "the same, and a test run takes no frame over a page",
}


def once(packet: bytes, counter: str, service: int = HTTP) -> Packet:
    """A packet and its end."""
    return Packet(framed(packet), counter, service)


KIND_ROWS = (
    section("a byte less goes away", AWAY, once(FITS, SENT), once(FITS6, SENT, HTTP6)),
    section("a byte less goes to self", SELF_FIRST, once(FITS, TO_SELF),
            once(FITS6, TO_SELF, HTTP6)),
    *(section(f"flags {flags:#06x}", AWAY, Packet(big(flags), counter, HTTP))
      for flags, counter in ((0x4000, ANSWERED), (0xC000, ANSWERED), (0, DROPPED),
                             (0x8000, DROPPED))),
    *(section(f"flags {flags:#06x}, to self", SELF_FIRST, Packet(big(flags), counter, HTTP))
      for flags, counter in ((0x4000, ANSWERED), (0xC000, ANSWERED), (0, TO_SELF),
                             (0x8000, TO_SELF))),
    section("without DF", here(2), Packet(
        framed(udp_packet(CLIENT, 40000, VIP, 53, payload=bytes(1440), fragment=0)), DROPPED, DNS)),
    section("a first fragment is answered and a later one is not", AWAY,
            Packet(big(0x2000), DROPPED, HTTP), Packet(big(0x6000), ANSWERED, HTTP),
            Packet(big(0x4001), DROPPED, HTTP)),
    section("a first fragment is answered and a later one is not, IPv6", AWAY,
            *(Packet(piece, counter, DNS6)
              for piece, counter in zip(FRAGMENTS6, (ANSWERED, DROPPED, SENT), strict=True))),
    section("to self, a first fragment is answered and a later one goes on", SELF_FIRST,
            Packet(big(0x2000), TO_SELF, HTTP), Packet(big(0x6000), ANSWERED, HTTP),
            Packet(big(0x4001), TO_SELF, HTTP)),
    section("to self, a first fragment is answered and a later one goes on, IPv6",
            config(1, (2, 1)),
            *(Packet(piece, counter, DNS6)
              for piece, counter in zip(FRAGMENTS6, (ANSWERED, TO_SELF, TO_SELF), strict=True))),
    section("an error is never answered", AWAY, Packet(ABOUT, DROPPED, HTTP)),
    section("an error is never answered, IPv6", AWAY, Packet(ABOUT6, DROPPED, HTTP6)),
    section("to self, an error goes on", SELF_FIRST, Packet(ABOUT, TO_SELF, HTTP)),
    section("to self, an error goes on, IPv6", SELF_FIRST, Packet(ABOUT6, TO_SELF, HTTP6)),
    section("to self, a short packet is dropped", config(1, (1, 2), mtu=520),
            once(tcp_packet(CLIENT, 40000, VIP, 80, payload=bytes(471)), DROPPED)),
    *(section(f"{length} bytes{v}", config(1, (2,), mtu=520),
              Packet(framed(packet) + bytes(9), counter, service))
      for length, counter in ((511, DROPPED), (512, ANSWERED))
      for v, packet, service in (
          ("", tcp_packet(CLIENT, 40000, VIP, 80, payload=bytes(length - 40)), HTTP),
          (", IPv6", tcp_packet(CLIENT6, 40000, VIP6, 443, payload=bytes(length - 60)), HTTP6),
      )),
    section("only an answer that is sent is counted", AWAY, Packet(big(0), DROPPED, HTTP),
            once(FITS, SENT), *[once(BIG, ANSWERED)] * 64, once(BIG, DROPPED),
            once(BIG6, DROPPED, HTTP6), once(FITS, SENT), not_for=NO_WINDOW),
    section("to self, beyond the window's answers", SELF_FIRST, Packet(big(0), TO_SELF, HTTP),
            *[once(BIG, ANSWERED)] * 64, once(BIG, DROPPED), once(BIG6, DROPPED, HTTP6),
            Packet(big(0), TO_SELF, HTTP), not_for=NO_WINDOW),
)  # fmt: skip
SOURCES = {
    DROPPED: (
        *("0.0.0.0", "0.255.255.255", "127.0.0.0", "127.255.255.255", "224.0.0.0", "240.0.0.1"),
        *("255.255.255.255", "::", "::1", "ff00::", "ff02::1", "ffff::"),
    ),
    ANSWERED: (
        *("1.0.0.0", "126.255.255.255", "128.0.0.0", "223.255.255.255"),
        *("::2", "0:0:0:1::", "fe80::1", "feff::"),
    ),
}


def source_rows() -> Iterator[Row]:
    """Sources that get no answer, and those beside them."""
    for counter, sources in SOURCES.items():
        for source in map(ip_address, sources):
            vip, port, service = (VIP, 80, HTTP) if source.version == 4 else (VIP6, 443, HTTP6)
            packet = tcp_packet(source, 1, vip, port, payload=bytes(1421))
            yield section(f"from {source}", AWAY, once(packet, counter, service))
            yield section(f"from {source}, to self", SELF_FIRST, once(packet, counter, service))


def large_rows() -> Iterator[Row]:
    """Where the MTU is over 65,535 the page has one more rule, and IPv4's field ends."""
    most = 0xFFFF - 40

    def sized(size: int, fragment: int) -> bytes:
        return framed(ipv4(CLIENT, VIP, 6, BIG[20:40] + bytes(size - 40), fragment=fragment))

    for chain, counter in (((1, 2), TO_SELF), ((2, 3), SENT)):
        for flags, end in ((0x4000, ANSWERED), (0, DROPPED)):
            yield section(f"16 bits of length, {chain}, {flags:#x}", config(1, chain, mtu=1 << 17),
                          Packet(sized(most, flags), counter, HTTP),
                          Packet(sized(most + 1, flags), end, HTTP), not_for=NO_MTU)  # fmt: skip
    yield section("without DF, to self up to 16 bits of length", SELF_FIRST,
                  Packet(sized(most, 0), TO_SELF, HTTP), Packet(sized(most + 1, 0), DROPPED, HTTP),
                  not_for={"kernel": "a test run takes no frame over a page"})  # fmt: skip
    whole = tcp_packet(CLIENT, 40000, VIP, 80, payload=bytes(65535 - 40))
    whole6 = tcp_packet(CLIENT6, 40000, VIP6, 443, payload=bytes(65535 - 20))
    yield section("an MTU of 16 bits at most in IPv4", config(1, (2, 3), mtu=70000),
                  Packet(framed(whole), ANSWERED, HTTP, has(38, bytes.fromhex("0000ffff"))),
                  Packet(framed(whole6), ANSWERED, HTTP6, has(58, (70000 - 48).to_bytes(4, "big"))),
                  not_for=NO_MTU)  # fmt: skip


ROWS = (
    *golden_rows(),
    *answer_rows(BIG, BIGGEST, HTTP),
    *answer_rows(BIG6, BIGGEST6, HTTP6),
    *KIND_ROWS,
    *source_rows(),
    *large_rows(),
)
