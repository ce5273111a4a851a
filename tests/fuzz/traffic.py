"""IP packets of clients, of all the forms that docs/wire.md speaks of, and some that it does not.

Each function takes randomness and the scene and returns one packet, or those of one
datagram; nothing here knows which program will get them.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tests.fuzz import packets
from tests.fuzz.packets import (
    AUTHENTICATION,
    DESTINATION,
    EXTENSIONS,
    FRAGMENT,
    ICMP,
    ICMPV6,
    TCP,
    UDP,
    Extension,
    Flow,
    fragment_header,
)
from tests.fuzz.scene import Scene

ACK, SYN, RST, FIN = 0x10, 0x02, 0x04, 0x01
FLAG_SETS = (
    SYN,
    SYN,
    ACK,
    ACK,
    ACK,
    SYN | ACK,
    RST,
    RST | ACK,
    0x18,
    FIN | ACK,
    0x06,
    0,
    0x3F,
    0xC2,
)
ECN_TOS = (0, 0, 1, 2, 3, 0xB8, 0xBA, 0xFF)
SIZES = (0, 0, 0, 1, 6, 40, 200, 300, 700)
ERRORS = {4: (3, 11, 12), 6: (1, 2, 3, 4)}
ECHO = {4: 8, 6: 128}
OTHER_PROTOCOLS = (0, 1, 2, 4, 41, 43, 44, 47, 50, 51, 58, 59, 60, 132, 135, 253, 255)


@dataclass(frozen=True)
class Traffic:
    """A source of packets in one scene."""

    rng: random.Random
    scene: Scene
    noise: bytes

    @classmethod
    def of(cls, rng: random.Random, scene: Scene) -> Traffic:
        """With bytes of its own to fill payloads with."""
        return cls(rng, scene, rng.randbytes(8192))

    def filler(self, size: int) -> bytes:
        """So many bytes."""
        at = self.rng.randrange(4096)
        return self.noise[at : at + size]

    def payload(self) -> bytes:
        return self.filler(self.rng.choice(SIZES))

    def segment(self, flow: Flow, payload: bytes) -> bytes:
        """A transport segment, at times with options or a header length of its own."""
        rng = self.rng
        if flow.protocol == TCP:
            flags = rng.choice(FLAG_SETS)
            if rng.random() < 0.04:
                return packets.tcp(flow, flags, payload, data_offset=rng.randrange(16))
            options = self.filler(4 * rng.randint(1, 10)) if rng.random() < 0.1 else b""
            return packets.tcp(flow, flags, payload, options=options)
        if flow.protocol == UDP:
            length = rng.choice((0, 7, 9, 65535)) if rng.random() < 0.02 else None
            return packets.udp(flow, payload, length=length)
        return payload

    def datagram(self, flow: Flow, segment: bytes, **fields: int) -> bytes:
        """A packet around a segment, some with options or extension headers."""
        rng, tos = self.rng, self.rng.choice(ECN_TOS)
        if flow.version == 4:
            options = self.filler(4 * rng.randint(1, 10)) if rng.random() < 0.12 else b""
            return packets.ipv4(
                flow.source, flow.destination, flow.protocol, segment,
                tos=tos, options=options, fragment=rng.choice((0x4000, 0x4000, 0, 0x8000)),
                **fields,
            )  # fmt: skip
        extensions = self.extensions() if rng.random() < 0.2 else ()
        return packets.ipv6(
            flow.source, flow.destination, flow.protocol, segment, extensions=extensions,
            traffic_class=tos, flow_label=rng.getrandbits(20), **fields,
        )  # fmt: skip

    def plain(self, flow: Flow | None = None) -> bytes:
        """A packet of a flow."""
        flow = flow or self.scene.flow(self.rng)
        return self.datagram(flow, self.segment(flow, self.payload()))

    def other(self) -> bytes:
        """A packet of another protocol, to a VIP mostly."""
        flow = self.scene.flow(self.rng)._replace(protocol=self.rng.choice(OTHER_PROTOCOLS))
        return self.datagram(flow, self.payload())

    # ---- extension headers ----

    def extension(self, number: int, *, honest: bool = False) -> Extension:
        """One extension header; without `honest` some lie about their length."""
        rng = self.rng
        if number == FRAGMENT:
            # an atomic one: others are fragments, and made as such
            odd = not honest and rng.random() < 0.15
            return fragment_header(
                rng.choice((0, 1, 8191)) if odd else 0,
                more=odd and rng.random() < 0.5,
                identification=rng.randrange(16),
                reserved=rng.choice((0, 0, 0, 3, 0x3FF)),
            )
        words = (
            rng.choice((0, 0, 0, 0, 1, 2, 3)) if rng.random() < 0.95 else rng.choice((8, 30, 31))
        )
        size = (words + 2) * 4 - 2 if number == AUTHENTICATION else (words + 1) * 8 - 2
        if not honest and rng.random() < 0.05:
            words = rng.choice((0, 1, 5, 31, 32, 63, 255, words + 1))
        return Extension(number, bytes([words]) + self.filler(size))

    def extensions(self, *, honest: bool = False) -> list[Extension]:
        """A chain of them; most can be read."""
        rng = self.rng
        most = 6 if honest else 8
        count = min(rng.choice((1, 1, 1, 2, 2, 3, 4, 5, 6, 6, 7, 8)), most)
        numbers = [rng.choice(EXTENSIONS) for _ in range(count)]
        if honest or rng.random() < 0.8:
            seen = False
            for at, number in enumerate(numbers):
                if number == FRAGMENT and seen:
                    numbers[at] = DESTINATION
                seen = seen or number == FRAGMENT
        return [self.extension(number, honest=honest) for number in numbers]

    # ---- ICMP ----

    def echo(self) -> bytes:
        """An echo request to a VIP, or nearly one."""
        rng, flow = self.rng, self.scene.flow(self.rng, hit=0.95)
        kind, code = ECHO[flow.version], 0
        if rng.random() < 0.2:
            kind, code = rng.choice(
                ((kind, 1), (0, 0), (129, 0), (128, 0), (8, 0), (135, 0), (5, 1))
            )
        return self.message(flow, kind, code, self.payload())

    def message(self, flow: Flow, kind: int, code: int, payload: bytes) -> bytes:
        """A packet with an ICMP message to the flow's destination."""
        body = packets.icmp(
            flow.source, flow.destination, kind, code, payload, rest=self.rng.getrandbits(32)
        )
        protocol = ICMP if flow.version == 4 else ICMPV6
        if self.rng.random() < 0.02:
            protocol = ICMP + ICMPV6 - protocol
        return self.datagram(flow._replace(protocol=protocol), body)

    def error(self, flow: Flow | None = None) -> bytes:
        """An ICMP error from a router about a packet of a server, most of them right."""
        rng = self.rng
        flow = flow or self.scene.flow(rng, hit=0.95)
        router = self.scene.client(rng, flow.version)
        about = self.embedded(flow)
        kind = rng.choice(ERRORS[flow.version])
        if rng.random() < 0.03:
            kind = rng.choice((0, 1, 3, 4, 5, 10, 11, 12, 13, 100, 127, 128, 255))
        return self.message(flow._replace(source=router.packed), kind, rng.randrange(5), about)

    def embedded(self, flow: Flow) -> bytes:
        """What an error quotes: the answer to a flow, cut somewhere, at times wrong."""
        rng = self.rng
        back = flow.turned()
        wrong = rng.random()
        if wrong < 0.03:
            back = back._replace(source=self.scene.client(rng, flow.version).packed)
        elif wrong < 0.05:
            back = self.scene.flow(rng).turned()
        elif wrong < 0.07:
            back = back._replace(protocol=rng.choice(OTHER_PROTOCOLS))
        fields: dict[str, int] = {}
        if 0.07 < wrong < 0.1:
            fields["version"] = rng.choice((4, 6, 5, 0))
        elif 0.1 < wrong < 0.13 and back.version == 4:
            fields["ihl"] = rng.randrange(16)
        quoted = self.datagram(
            back, self.segment(back, self.filler(rng.choice((8, 40, 600)))), **fields
        )
        if 0.13 < wrong < 0.17:
            quoted = rng.choice(self.fragments(back))
        cut = rng.random()
        if cut < 0.35:
            # RFC 792: the header and 8 bytes
            return quoted[: (20 if back.version == 4 else 40) + 8]
        if cut < 0.5:
            return quoted[: rng.randrange(min(len(quoted), 120) + 1)]
        return quoted[: 548 if back.version == 4 else 1232]

    # ---- fragments ----

    def fragments(self, flow: Flow | None = None) -> list[bytes]:
        """The fragments of one datagram, in order."""
        rng = self.rng
        flow = flow or self.scene.flow(rng, hit=0.95)
        if rng.random() < 0.06:
            flow = flow._replace(protocol=rng.choice((ICMP, ICMPV6, 47, 132)))
        segment = self.segment(flow, self.filler(rng.choice((16, 64, 400, 900))))
        pieces = self.pieces(segment)
        # few identifications: some meet an earlier datagram's
        identification = rng.randrange(1 << rng.choice((2, 16)))
        if flow.version == 4:
            return self._fragments4(flow, pieces, identification)
        return self._fragments6(flow, segment, identification)

    def pieces(self, data: bytes) -> list[Piece]:
        """Data in two to five pieces of multiples of 8 bytes, the last one of any length."""
        rng = self.rng
        cuts = sorted(
            {8 * rng.randint(1, max(1, len(data) // 8)) for _ in range(rng.randint(1, 4))}
        )
        if rng.random() < 0.8:
            # a whole TCP header fits into the first
            cuts = [cut for cut in cuts if cut >= 24]
        cuts = [0, *(cut for cut in cuts if cut < len(data))]
        ends = [*cuts[1:], len(data)]
        return [
            Piece(at // 8, data[at:end], end < len(data))
            for at, end in zip(cuts, ends, strict=True)
        ]

    def _fragments4(self, flow: Flow, pieces: Sequence[Piece], identification: int) -> list[bytes]:
        rng = self.rng
        options = self.filler(4 * rng.randint(1, 10)) if rng.random() < 0.1 else b""
        reserved = rng.choice((0, 0, 0, 0, 0x4000, 0x8000))
        return [
            packets.ipv4(
                flow.source, flow.destination, flow.protocol, piece.data,
                identification=identification, options=options,
                fragment=piece.offset & 0x1FFF | 0x2000 * piece.more | reserved,
            )
            for piece in pieces
        ]  # fmt: skip

    def _fragments6(self, flow: Flow, segment: bytes, identification: int) -> list[bytes]:
        """With extension headers in front of the fragment header, and behind it in the first."""
        before = [e for e in self.some_extensions() if e.number != FRAGMENT][:2]
        inside = [e for e in self.some_extensions() if e.number != FRAGMENT][:2]
        numbers = [*(extension.number for extension in inside), flow.protocol]
        chain = b"".join(
            bytes([following]) + extension.body
            for extension, following in zip(inside, numbers[1:], strict=True)
        )
        made = []
        for piece in self.pieces(chain + segment):
            header = fragment_header(piece.offset, more=piece.more, identification=identification)
            made.append(
                packets.ipv6(
                    flow.source, flow.destination, numbers[0], piece.data,
                    extensions=[*before, header],
                )
            )  # fmt: skip
        return made

    def some_extensions(self) -> list[Extension]:
        """Seldom any."""
        return self.extensions(honest=True) if self.rng.random() < 0.2 else []

    def datagram_in_disorder(self, flow: Flow | None = None) -> list[bytes]:
        """Fragments of a datagram: in order, shuffled, without the first, some twice."""
        rng = self.rng
        made = self.fragments(flow)
        order = rng.random()
        if order < 0.15:
            rng.shuffle(made)
        elif order < 0.22:
            made = made[1:] or made
        elif order < 0.3:
            made += rng.choices(made, k=2)
        return made

    # ---- sizes ----

    def large(self, mtu: int, *, over: bool, flow: Flow | None = None) -> bytes:
        """A packet around or over what still fits once wrapped."""
        rng = self.rng
        flow = flow or self.scene.flow(rng, odd=0.15)
        overhead = rng.choice((36, 40, 44, 48))
        size = mtu - overhead + rng.choice((0, 1, 1, 2, 40) if over else (-1, 0, 0, 1))
        if over and rng.random() < 0.3:
            size = rng.randint(mtu - 36, 3300)
        head = {4: 20, 6: 40}[flow.version] + {TCP: 20, UDP: 8}.get(flow.protocol, 0)
        data = self.filler(max(0, size - head))
        whole = packets.tcp(flow, ACK, data) if flow.protocol == TCP else packets.udp(flow, data)
        if flow.version == 4:
            return packets.ipv4(
                flow.source, flow.destination, flow.protocol, whole,
                fragment=rng.choice((0x4000, 0x4000, 0x4000, 0)), tos=rng.choice(ECN_TOS),
            )  # fmt: skip
        return packets.ipv6(flow.source, flow.destination, flow.protocol, whole)


class Piece(NamedTuple):
    """A part of a datagram: its offset in units of 8 bytes, and whether another follows."""

    offset: int
    data: bytes
    more: bool
