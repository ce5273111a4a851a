"""`struct lb_trace_event`, as a line for people and as JSON for programs. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Address
from typing import Any

import numpy as np

from lb import abi
from lb.trace.explain import Place
from lb.trace.packet import Packet, host, read_frame

PROGRAMS = ("forwarder", "redirector")
WRAPPED_BY_FORWARDER = frozenset({"tx_forward", "tx_forward_chain", "pass_to_self"})
ANSWERED = "tx_too_big"
NOT_GUE = "ok_not_gue"
NANOSECONDS = 1_000_000_000
PROTOCOL_NAMES = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmp6"}

NameOf = Callable[[IPv4Address], str]


@dataclass(frozen=True)
class Event:
    """A packet at the end of a program. ``time`` is Unix time, ``length`` the frame's, bytes."""

    time: float
    program: str
    counter: str
    verdict: int
    ifindex: int
    length: int
    packet: Packet


def read_event(record: bytes, boot: float) -> Event:
    """Decode a record of the ring; ``boot`` is the Unix time at which the kernel's clock was 0."""
    raw = np.frombuffer(record, dtype=abi.TRACE_EVENT, count=1)[0]
    counter, program = abi.COUNTERS[int(raw["counter"])], PROGRAMS[int(raw["program"])]
    data = raw["data"][: int(raw["captured"])].tobytes()
    if program == PROGRAMS[abi.TRACE_REDIRECTOR]:
        wrapped = counter != NOT_GUE
    else:
        wrapped = counter in WRAPPED_BY_FORWARDER
    return Event(
        time=boot + int(raw["time"]) / NANOSECONDS,
        program=program,
        counter=counter,
        verdict=int(raw["verdict"]),
        ifindex=int(raw["ifindex"]),
        length=int(raw["length"]),
        packet=read_frame(data, wrapped=wrapped, answer=counter == ANSWERED),
    )


def protocol_name(protocol: int | None) -> str:
    """Return a protocol's name, or its number."""
    return "" if protocol is None else PROTOCOL_NAMES.get(protocol, f"protocol {protocol}")


def flow_text(packet: Packet) -> str:
    """Return a packet's addresses and kind: ``198.51.100.7:40000 -> 192.0.2.10:80 tcp S``."""
    if packet.client is None or packet.vip is None:
        return "(no IP packet that could be read)"
    client, vip = str(packet.client), str(packet.vip)
    if packet.flow is not None:
        client = f"{host(packet.client)}:{packet.flow.source_port}"
        vip = f"{host(packet.vip)}:{packet.flow.destination_port}"
    words = [f"{client} -> {vip}"]
    if packet.icmp is not None and packet.flow is not None:
        words.append(protocol_name(packet.flow.protocol))
    words.append(protocol_name(packet.protocol))
    if packet.icmp is not None:
        words.append(f"{packet.icmp[0]}/{packet.icmp[1]}")
    words += [packet.flags] if packet.flags else []
    words += ["fragment"] if packet.fragment else []
    return " ".join(words)


def wrap_text(event: Event, name: NameOf) -> str:
    """Return the wrap's sender and receiver, and the hops that are left."""
    gue = event.packet.gue
    if gue is None:
        return ""
    left = gue.hops[gue.next_hop :]
    later = f", then {', '.join(name(hop) for hop in left)}" if left else ""
    if event.program == PROGRAMS[abi.TRACE_FORWARDER]:
        return f"to {name(gue.destination)}{later}"
    return f"from {name(gue.source)} to {name(gue.destination)}{later}"


def line(event: Event, place: Place | None, name: NameOf) -> str:
    """Return an event as a line for people, in local time."""
    when = datetime.fromtimestamp(event.time).astimezone().strftime("%H:%M:%S.%f")
    parts = [when, f"{event.program:10}", f"{event.counter:16}", flow_text(event.packet)]
    if place is not None:
        parts.append(f"| {place.pool} bucket {place.bucket}: {' > '.join(place.chain) or 'empty'}")
    wrap = wrap_text(event, name)
    if wrap:
        parts.append(f"| GUE {wrap}")
    parts.append(f"| {event.length} bytes")
    return " ".join(parts)


def as_data(event: Event, place: Place | None, name: NameOf) -> dict[str, Any]:
    """Return an event as data for JSON."""
    packet, gue = event.packet, event.packet.gue
    moment = datetime.fromtimestamp(event.time, tz=UTC)
    return {
        "time": moment.isoformat(timespec="microseconds"),
        "program": event.program,
        "counter": event.counter,
        "verdict": event.verdict,
        "ifindex": event.ifindex,
        "length": event.length,
        "protocol": protocol_name(packet.protocol) or None,
        "client": None if packet.client is None else str(packet.client),
        "client_port": packet.flow.source_port if packet.flow else None,
        "vip": None if packet.vip is None else str(packet.vip),
        "vip_port": packet.vip_port,
        "flags": packet.flags or None,
        "icmp": None if packet.icmp is None else list(packet.icmp),
        "fragment": packet.fragment,
        "pool": place.pool if place else None,
        "bucket": place.bucket if place else None,
        "chain": list(place.chain) if place else None,
        "gue": gue
        and {
            "source": name(gue.source),
            "destination": name(gue.destination),
            "hops": [name(hop) for hop in gue.hops],
            "next_hop": gue.next_hop,
        },
    }
