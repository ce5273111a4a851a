"""Frames for the redirector: GUE from a hop, from an attacker, and other packets of a server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address

from tests.fuzz import packets
from tests.fuzz.damage import damaged, put
from tests.fuzz.forwarder_frames import MOST_BYTES
from tests.fuzz.mixing import Group, Maker, draw, interleave
from tests.fuzz.packets import ICMP, TCP, UDP, Flow, ethernet
from tests.fuzz.scene import BARE, OWN, PROBER, STRANGER
from tests.fuzz.traffic import ACK, ECN_TOS, FLAG_SETS, RST, SYN, Traffic

GUE_AT = 42
"""Of GUE's eight bytes in a frame without tags."""
WINDOW, SYN_WINDOW = 1 << 28, 65535
AHEAD = (
    *(0, 0, 1, -1, 1 << 31, WINDOW, WINDOW + 1, -WINDOW, -WINDOW - 1),
    *(SYN_WINDOW, SYN_WINDOW + 1),
)
"""The edges of wire.md, section 6.5."""
Aimed = tuple[Flow, tuple[int, int]]
"""A flow with a socket of this server, and its next sequence and acknowledgement number."""


@dataclass(frozen=True)
class Tunnel:
    """How a packet came: who sent it, what hops it lists, how far it is."""

    source: IPv4Address
    hops: tuple[bytes, ...]
    next_hop: int
    tos: int
    forward_syn: bool


@dataclass(frozen=True)
class Tunnels:
    """A source of GUE frames."""

    traffic: Traffic
    sockets: Sequence[Aimed]

    def frames(self, count: int) -> Group:
        """So many frames for one configuration."""
        traffic, rng = self.traffic, self.traffic.rng
        makers: tuple[tuple[int, Maker], ...] = (
            (450, lambda: [self.framed(traffic.plain(self.flow()))]),
            (330, lambda: [self.framed(self.aimed(), ahead=0.85)]),
            (100, lambda: [self.framed(traffic.error(self.flow()))]),
            (60, lambda: [self.framed(self.error_aimed(), ahead=0.9)]),
            (40, lambda: [self.framed(traffic.echo())]),
            (40, lambda: [self.framed(traffic.other())]),
            (60, self.fragments),
            (40, lambda: [self.framed(self.large(), ahead=0.9)]),
            (40, lambda: [self.framed(self.nested())]),
            (50, lambda: [self.path_probe()]),
            (90, lambda: [self.wrong_field()]),
            (40, lambda: [self.damaged_inside()]),
            (50, lambda: [self.not_gue()]),
            (2, self.sweep_inside),
            (1, self.sweep_outside),
        )
        made: Group = []
        while len(made) < count:
            drawn = interleave(rng, draw(rng, makers, count - len(made)))
            made += [frame for frame in drawn if can_be_skb(frame)]
        return made[:count]

    def flow(self) -> Flow:
        """A flow to a VIP; whether to a service makes no difference here."""
        return self.traffic.scene.flow(self.traffic.rng, hit=0.95)

    def tunnel(self, ahead: float) -> Tunnel:
        """A way that a packet can have come, sometimes an impossible one."""
        rng = self.traffic.rng
        count = rng.choice((1, 1, 2, 3)) if rng.random() < ahead else rng.choice((0, 0, 0, 1, 2, 3))
        hops = [OWN + n for n in rng.sample(range(1, 7), count)]
        if hops and rng.random() < 0.1:
            hops[rng.randrange(count)] = rng.choice((OWN, STRANGER, PROBER, BARE, BARE))
        source = OWN + rng.randrange(7) if rng.random() < 0.95 else rng.choice((STRANGER, PROBER))
        done = count if count and rng.random() >= ahead else rng.randrange(max(1, count))
        return Tunnel(
            source=source,
            hops=tuple(hop.packed for hop in hops),
            next_hop=done,
            tos=rng.choice(ECN_TOS),
            forward_syn=rng.random() < 0.15,
        )

    def wrapped(self, inner: bytes, tunnel: Tunnel, **fields: int) -> bytes:
        """A frame around an inner packet."""
        config = self.traffic.scene.config
        # so that the outer packet fits a test run's page
        return ethernet(
            packets.gue(
                tunnel.source.packed, config.self_dip.packed, inner[: MOST_BYTES - 100],
                tunnel.hops, next_hop=tunnel.next_hop, tos=tunnel.tos,
                forward_syn=tunnel.forward_syn, port=config.gue_port, **fields,
            )
        )  # fmt: skip

    def framed(self, inner: bytes, *, ahead: float = 0.5) -> bytes:
        """A frame that came some way, at times padded or damaged."""
        rng = self.traffic.rng
        frame = damaged(rng, self.wrapped(inner, self.tunnel(ahead)), 0.06)
        return frame + bytes(rng.randrange(1, 20)) if rng.random() < 0.1 else frame

    # ---- probes ----

    def path_probe(self) -> bytes:
        """Another server's probe of the path to this one (wire.md, section 7.2), or almost one."""
        rng, own = self.traffic.rng, self.traffic.scene.config.self_dip.packed
        tunnel = self.tunnel(0.0)
        if rng.random() < 0.7:
            tunnel = replace(tunnel, hops=(), next_hop=0)
        source, destination, protocol, kind, code = tunnel.source.packed, own, ICMP, 8, 0
        fields: dict[str, int] = {"fragment": rng.choice((0x4000, 0x4000, 0, 0x8000, 0xC000))}
        wrong = rng.randrange(16)
        if wrong == 0:
            source = rng.choice((OWN + rng.randrange(7), PROBER, STRANGER, BARE)).packed
        elif wrong == 1:
            destination = rng.choice((OWN + rng.randrange(7), STRANGER)).packed
        elif wrong == 2:
            protocol = rng.choice((0, 2, TCP, UDP, 58))
        elif wrong == 3:
            kind, code = rng.choice(((0, 0), (3, 0), (11, 0), (128, 0), (8, 1), (8, 128), (9, 0)))
        elif wrong == 4:
            fields["fragment"] = rng.choice((0x2000, 0x6000, 0x0001, 0x1000, 0x1FFF))
        payload = self.traffic.filler(rng.choice((0, 0, 1, 36, 36, 300, 1400)))
        message = packets.icmp(source, destination, kind, code, payload, rest=rng.getrandbits(32))
        if wrong == 5:
            message = message[: rng.randrange(9)]
        options = self.traffic.filler(4 * rng.randint(1, 10)) if wrong == 6 else b""
        inner = packets.ipv4(
            source, destination, protocol, message, options=options, tos=rng.choice(ECN_TOS),
            **fields,
        )  # fmt: skip
        return damaged(rng, self.wrapped(inner, tunnel), 0.1)

    # ---- sockets ----

    def socket_flow(self) -> Aimed:
        """A flow with a socket, or one that differs from it in one field."""
        rng = self.traffic.rng
        if not self.sockets:
            return self.flow(), (1, 1)
        flow, numbers = rng.choice(self.sockets)
        if rng.random() < 0.1:
            near = (
                {"source_port": flow.source_port ^ 1},
                {"destination_port": flow.destination_port ^ 1},
                {"protocol": TCP + UDP - flow.protocol},
                {"source": flow.source[:-1] + bytes([flow.source[-1] ^ 1])},
            )
            flow = flow._replace(**rng.choice(near))
        if rng.random() < 0.1:
            numbers = (numbers[0], numbers[1] ^ 1 << rng.randrange(32))
        if rng.random() < 0.25:
            numbers = (numbers[0] + rng.choice(AHEAD), numbers[1] + rng.choice(AHEAD))
        return flow, (numbers[0] % (1 << 32), numbers[1] % (1 << 32))

    def aimed(self) -> bytes:
        """A packet of a connection that this server has."""
        rng = self.traffic.rng
        flow, numbers = self.socket_flow()
        payload = self.traffic.payload()
        if flow.protocol == TCP:
            flags = rng.choice((ACK, ACK, ACK, ACK, ACK | RST, SYN, SYN, *FLAG_SETS))
            return self.traffic.datagram(flow, packets.tcp(flow, flags, payload, numbers=numbers))
        return self.traffic.datagram(flow, self.traffic.segment(flow, payload))

    def error_aimed(self) -> bytes:
        """An ICMP error about a connection that this server has."""
        flow, _ = self.socket_flow()
        return self.traffic.error(flow)

    # ---- more than one packet ----

    def fragments(self) -> Group:
        """A datagram's fragments, all of which came the same way, or nearly so."""
        rng = self.traffic.rng
        flow = self.socket_flow()[0] if rng.random() < 0.4 else self.flow()
        tunnel = self.tunnel(0.8)
        made = []
        for packet in self.traffic.datagram_in_disorder(flow):
            this = tunnel if rng.random() < 0.93 else self.tunnel(0.6)
            made.append(damaged(rng, self.wrapped(packet, this), 0.03))
        return made

    # ---- wrong ones ----

    def large(self) -> bytes:
        """So that the outer packet is about as large as the link allows, or larger."""
        config, rng = self.traffic.scene.config, self.traffic.rng
        return self.traffic.large(config.mtu, over=rng.random() < 0.5, flow=self.flow())

    def nested(self) -> bytes:
        """GUE inside GUE: to this server, to a VIP, from anyone."""
        rng, config = self.traffic.rng, self.traffic.scene.config
        flow = self.flow()
        vip = flow.destination if flow.version == 4 else config.self_dip.packed
        to = rng.choice((config.self_dip.packed, vip, vip))
        source = rng.choice((OWN, OWN + 1, STRANGER)).packed
        inner = packets.gue(source, to, self.traffic.plain(flow), port=config.gue_port)
        return inner if rng.random() < 0.8 else packets.gue(source, to, inner, port=config.gue_port)

    def wrong_field(self) -> bytes:
        """One field of UDP, GUE or private data has another value."""
        rng = self.traffic.rng
        frame = self.wrapped(self.traffic.plain(self.flow()), self.tunnel(0.5))
        at = rng.choice((38, 39, 40, 41, *range(GUE_AT, GUE_AT + 8), *range(GUE_AT, GUE_AT + 8)))
        new = rng.choice((frame[at] ^ 1 << rng.randrange(8), rng.choice((0, 1, 2, 3, 4, 5, 255))))
        return put(frame, at, bytes([new]))

    def damaged_inside(self) -> bytes:
        """A wrap that is right around a packet that is not."""
        rng = self.traffic.rng
        make: Callable[[], bytes] = rng.choice((self.traffic.plain, self.traffic.error))
        inner = damaged(rng, ethernet(make()), 1.0)[14:]
        return self.wrapped(inner, self.tunnel(0.5), proto=rng.choice((4, 4, 41)) if not inner else
                            41 if inner[0] >> 4 == 6 else 4)  # fmt: skip

    def not_gue(self) -> bytes:
        """What R1 lets by: another port or address, options, fragments, tags, other protocols."""
        rng, traffic = self.traffic.rng, self.traffic
        kind = rng.random()
        if kind < 0.4:
            return damaged(rng, ethernet(traffic.plain()), 0.3)
        frame = self.wrapped(traffic.plain(self.flow()), self.tunnel(0.5))
        if kind < 0.5:
            tag = rng.choice((b"\x81\x00", b"\x88\xa8")) + rng.randbytes(2)
            return frame[:12] + tag + frame[12:]
        changes = (
            *((20, b"\x20\x00"), (20, b"\x00\x01"), (20, b"\x60\x00"), (20, b"\x80\x00")),
            *((14, b"\x46"), (14, b"\x55"), (23, b"\x06"), (33, b"\x02"), (36, b"\x17\xc1")),
            *((12, b"\x86\xdd"), (12, b"\x08\x06"), (24, b"\xff\xff")),
        )
        return put(frame, *rng.choice(changes))

    def sweep_inside(self) -> Group:
        """An inner packet of every length, with outer and inner length fields that fit it."""
        rng, traffic = self.traffic.rng, self.traffic
        flow = self.flow()
        makers: tuple[Callable[[], bytes], ...] = (
            lambda: traffic.plain(flow),
            lambda: traffic.error(flow),
            lambda: rng.choice(traffic.fragments(flow)),
        )
        packet, tunnel = rng.choice(makers)(), self.tunnel(0.7)
        made = []
        for end in range(min(len(packet), 140)):
            inner = packet[:end]
            if packet[0] >> 4 == 4 and end >= 4:
                inner = inner[:2] + end.to_bytes(2, "big") + inner[4:]
            elif packet[0] >> 4 == 6 and end >= 40:
                inner = inner[:4] + (end - 40).to_bytes(2, "big") + inner[6:]
            made.append(self.wrapped(inner, tunnel, proto=4 if packet[0] >> 4 == 4 else 41))
        return made

    def sweep_outside(self) -> Group:
        """A frame cut at every offset; its length fields stay, or only the outer ones follow."""
        frame = self.wrapped(self.traffic.plain(self.flow()), self.tunnel(0.5))
        ends = range(34, min(len(frame), 130))
        if self.traffic.rng.random() < 0.5:
            return [frame[:end] for end in ends]
        made = []
        for end in ends:
            lengths = put(frame[:end], 16, (end - 14).to_bytes(2, "big"))
            made.append(put(lengths, 38, (end - 34).to_bytes(2, "big")))
        return made


def can_be_skb(frame: bytes) -> bool:
    """Whether every kernel's BPF_PROG_TEST_RUN makes a socket buffer of a frame.

    Newer ones refuse an IP packet shorter than its header; the host-compiled headers see those.
    """
    least = {b"\x08\x00": 34, b"\x86\xdd": 54}.get(frame[12:14], 14)
    return least <= len(frame) <= MOST_BYTES
